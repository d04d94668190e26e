"""Completion: the files are what is generated, and real shells on a terminal complete with them.

What a shell would run after TAB is asked of the shell: `vllm-guard` is a function there that shows its words.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
import tomli

from dev.completion import names, tree, writing
from tests.kit import GUARD, ROOT, guard, guard_env, pages, plant_marker
from tests.test_shells import START
from tests.test_terminal import Screen, screen
from vllm_guard.commands.completion import FILES

SHOW = {
    "bash": "vllm-guard() { printf '<%s>' \"$@\"; echo; }",
    "zsh": "vllm-guard() { printf '<%s>' \"$@\"; echo; }",
    "fish": "function vllm-guard; printf '<%s>' $argv; echo; end; function fish_prompt; end; "
    "set fish_autosuggestion_enabled 0",  # it would show of its own what TAB is to insert
}
LOADER = {"bash": (), "zsh": ("autoload -U compinit", "compinit -D -u"), "fish": ()}
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
#: A command with a completion of its own.
SERVER = {
    "bash": f"source {BASH_COMPLETION}; complete -W 'serve chat --port' server",
    "zsh": "compdef '_arguments --port 1:verb:\"(serve chat)\"' server",
    "fish": "complete -c server -f -a 'serve chat'; complete -c server -l port",
}
HOSTILE = (
    "with space",
    "sub $(touch pwned)",
    "tick `touch pwned`",
    "quote's",
    'double"quote',
    "semi;touch pwned",
    "back\\slash",
    "{a,b}*?~",
)
UNPRINTABLE = ("qz-new\nline", "qz-esc\x1b[2Jape", "qz-bell\x07", "qz-tab\tname", "qz-csi\x9b31m")
PAGE = ROOT / "docs/completion.md"
LIMIT = 0.15  #: seconds from TAB to what it inserted

shells = pytest.mark.parametrize("shell", SHOW)


class Prompt:
    """An interactive shell on a terminal that has loaded our completion."""

    def __init__(self, terminal: Screen) -> None:
        self.terminal = terminal
        self.steps = 0

    def do(self, command: str) -> None:
        """Type a command and wait until it has ended."""
        self.steps += 1
        self.terminal.type(f"{command}\r")
        self.terminal.type(f"echo en''ded-{self.steps}-\r")
        self.terminal.until(f"ended-{self.steps}-")

    def words(self, keys: str) -> list[str]:
        """The words of `vllm-guard` that the shell runs after these keys."""
        seen = len(self.terminal.lines.seen)
        self.do(f"vllm-guard {keys}")
        text = self.terminal.lines.seen[seen:].decode(errors="replace")
        (line,) = re.findall(r"(?:^|[\r\n])(<[^\r\n]*>)\r*\n", text)
        return line[1:-1].split("><")


@contextmanager
def prompt(shell: str, folder: Path, *words: str, setup: Sequence[str] = ()) -> Iterator[Prompt]:
    """`words` stand before those that start the shell; `setup` loads it in another way."""
    load = setup or (*LOADER[shell], f"source {ROOT}/completions/{FILES[shell]}")
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    with screen(*words, *START[shell], LC_ALL="C.UTF-8", NO_COLOR="1") as terminal:
        running = Prompt(terminal)
        for command in (f"cd {folder}", SHOW[shell], *load):
            running.do(command)
        yield running
        terminal.type("exit\r")
        terminal.ended()
    assert not (folder / "pwned").exists()


@pytest.fixture
def repository(clean_world: Path) -> Path:
    """A clone of a stranger's repository; the cursor is in a folder of it."""
    inner = clean_world / "repo" / "inner"
    (clean_world / "repo" / ".git").mkdir(parents=True)
    inner.mkdir()
    return inner


def write_profiles(folder: Path, *stems: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (folder / f"{stem}.toml").write_text('schema = 1\nsummary = "s"\n')


# ---- the files


def test_the_files_are_what_is_generated() -> None:
    for path, text in writing.texts().items():
        assert path.read_text() == text, f"{path.name}: run `make completions`"


def test_every_file_belongs_to_a_shell() -> None:
    assert {path.name for path in (ROOT / "completions").iterdir()} == set(FILES.values())


@pytest.mark.parametrize("shell", FILES)
def test_the_program_prints_the_file(shell) -> None:
    done = guard("completion", shell)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (ROOT / "completions" / FILES[shell]).read_bytes()


def test_every_verb_and_flag_stands_in_every_file() -> None:
    verbs = list(tree.walk(tree.read()))
    flags = {word for verb in verbs for flag in verb.flags for word in flag.words}
    short = {f"-s {word[1:]} " if len(word) == 2 else f"-l {word[2:]}" for word in flags}
    texts = {path.name: path.read_text() for path in writing.texts()}

    assert {"--profile", "-n", "--help", "-h", "--version", "--strict"} <= flags
    for name, text in texts.items():
        words = short if name.endswith("fish") else flags
        assert [word for word in words if word not in text] == [], name
    for verb in verbs:
        where = " ".join(verb.path)
        assert f"'{' ' if where else ''}{where}')" in texts["vllm-guard.bash"]


def test_the_ids_are_those_of_the_program() -> None:
    known = names.named()

    assert {"gpu-memory", "collective"} <= set(known["check"])
    assert {"flag-unknown", "model-cached", "service-link"} <= set(known["finding"])
    assert {*known["finding"], "engine-core-failed"} <= set(known["log"])


# ---- as the page says


#: What a new shell says of `vllm-guard` when its user did what the page says.
LOADED = {
    "bash": (
        f"source {BASH_COMPLETION}; _completion_loader vllm-guard; complete -p vllm-guard",
        "complete -F _vllm_guard ",
    ),
    "zsh": ("source ~/.zshrc; print $_comps[vllm-guard]", "_vllm-guard"),
    "fish": ("complete -C 'vllm-guard profile sh'", "show\t"),
}


@shells
def test_what_the_page_says_makes_a_new_shell_complete(shell, clean_world) -> None:
    if not shutil.which(shell) or (shell == "bash" and not BASH_COMPLETION.exists()):
        pytest.skip(f"{shell}, or its completions, are not installed")
    (steps,) = (b for b in pages.fenced(PAGE.read_text(), "bash") if f"completion {shell} >" in b)
    program = clean_world / "vllm-guard"  # fish completes only what is there
    program.write_text(f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n')
    program.chmod(0o755)
    env = guard_env(PATH=f"{clean_world}:{os.environ['PATH']}")
    subprocess.run(["bash", "-ec", steps], env=env, check=True)

    ask, said = LOADED[shell]
    words = [shell, "-ic", ask] if shell == "zsh" else [shell, "-c", ask]
    told = subprocess.run(words, env=env, capture_output=True, text=True, check=False)

    assert told.stdout.startswith(said), told.stderr


# ---- what is completed


@shells
def test_words_of_ours_are_completed(shell, repository) -> None:
    with prompt(shell, repository) as typed:
        for keys, words in {
            "prof\tsh\tdeb\t": "profile show debug",
            "run --preflight qu\t": "run --preflight quick",
            "run --preflight=qu\t": "run --preflight=quick",
            "-p de\t": "-p debug",
            "--profile de\t-p sin\t": "--profile debug -p single-process",
            "-p debug --dry\t": "-p debug --dry-run",
            "env diff --shell k8\t": "env diff --shell k8s",
            "env activate deb\ttra\t": "env activate debug trace",
            "completion pow\t": "completion powershell",
            "doctor --only coll\t": "doctor --only collective",
            "run --ignore service-l\t": "run --ignore service-link",
            "explain service-l\t": "explain service-link",
            "explain engine-core-f\t": "explain engine-core-failed",
            "report --format htm\t": "report --format html",
            "run --keep HOM\t": "run --keep HOME",
            "profile no-su\t": "profile no-su",
            "profile show no-su\t": "profile show no-su",
        }.items():
            assert typed.words(keys) == words.split(), keys


@shells
def test_the_commands_own_completion_takes_over(shell, repository) -> None:
    if shell == "bash" and not BASH_COMPLETION.exists():
        pytest.skip("the package bash-completion is not installed")
    with prompt(shell, repository) as typed:
        typed.do(SERVER[shell])
        for keys, words in {
            "-p debug -- server se\t": "-p debug -- server serve",
            "-- server cha\t": "-- server chat",
            "run -p debug server se\t": "run -p debug server serve",
            "run -p debug -- server se\t": "run -p debug -- server serve",
            "doctor -- server serve --po\t": "doctor -- server serve --port",
            "run printe\t": "run printenv",
        }.items():
            assert typed.words(keys) == words.split(), keys


def test_without_bash_completion_commands_and_files_are_completed(repository) -> None:
    (repository / "zz.py").touch()

    with prompt("bash", repository) as typed:
        assert typed.words("-- printe\t") == ["--", "printenv"]
        assert typed.words("run cat zz\t") == ["run", "cat", "zz.py"]


@shells
def test_files_are_completed_where_one_is_meant(shell, repository) -> None:
    (repository / "zz.py").touch()
    (repository / "sub").mkdir()
    write_profiles(repository / "sub", "mine")
    with prompt(shell, repository) as typed:
        for keys, words in {
            "check zz\t": "check zz.py",
            "explain zz\t": "explain zz.py",
            "fix --write zz\t": "fix --write zz.py",
            "run --json zz\t": "run --json zz.py",
            "-p sub/mi\t": "-p sub/mine.toml",
        }.items():
            assert typed.words(keys) == words.split(), keys


@shells
def test_runs_are_completed(shell, repository) -> None:
    run_id = "20261124-143015-c3f7f3a9c2e"
    plant_marker(run_id)

    with prompt(shell, repository) as typed:
        assert typed.words("runs show 2026\t") == ["runs", "show", run_id]


@shells
def test_profiles_of_the_user_and_the_repository_are_completed(
    shell, repository, clean_world
) -> None:
    write_profiles(clean_world / "home/.config/vllm-guard/profiles", "users-own")
    write_profiles(repository.parent / "profiles", "repos-first")
    write_profiles(repository.parent / ".vllm-guard", "repos-second")
    write_profiles(clean_world / "profiles", "strangers")  # above the border
    write_profiles(clean_world / "home" / "profiles", "at-home")
    (clean_world / "home" / "work").mkdir()
    (clean_world / "home" / "link").symlink_to(repository)

    with prompt(shell, repository) as typed:
        for stem in ("users-own", "repos-first", "repos-second"):
            assert typed.words(f"-p {stem[:-2]}\t") == ["-p", stem]
        assert typed.words("-p strang\t") == ["-p", "strang"]
        typed.do("cd ~/link")
        assert typed.words("-p repos-f\t") == ["-p", "repos-first"]
        typed.do("cd ~/work")
        assert typed.words("-p at-ho\t") == ["-p", "at-ho"]
        typed.do("mkdir ~/.git")  # dotfiles
        assert typed.words("-p at-ho\t") == ["-p", "at-home"]


def test_all_profiles_are_offered_once(repository) -> None:
    write_profiles(repository / "profiles", "zz-mine", "debug", *UNPRINTABLE)
    known = [*names.named()["profile"], "zz-mine"]

    with prompt("bash", repository) as typed:
        assert typed.words("profile check \x1b*") == ["profile", "check", *known]
    with prompt("fish", repository) as typed:
        typed.do("complete -C 'vllm-guard profile check ' > offered")
    assert (repository / "offered").read_text().split() == known


#: How a new shell is told where the wheel has put its files.
SHARE = {
    "bash": f"export XDG_DATA_DIRS={{}}; source {BASH_COMPLETION}",
    "zsh": "fpath=({}/zsh/site-functions $fpath); autoload -U compinit; compinit -D -u",
    "fish": "set fish_complete_path {}/fish/vendor_completions.d",
}


@shells
def test_shells_load_what_the_wheel_installs(shell, repository, clean_world) -> None:
    if shell == "bash" and not BASH_COMPLETION.exists():
        pytest.skip("the package bash-completion is not installed")
    project = tomli.loads((ROOT / "pyproject.toml").read_text())
    for source, place in project["tool"]["hatch"]["build"]["targets"]["wheel"][
        "shared-data"
    ].items():
        (clean_world / place).parent.mkdir(parents=True)
        shutil.copyfile(ROOT / source, clean_world / place)

    with prompt(shell, repository, setup=[SHARE[shell].format(clean_world / "share")]) as typed:
        for _ in range(2):  # the first TAB loads it
            assert typed.words("profile sh\tdeb\t") == ["profile", "show", "debug"]


OPTIONS = {
    "bash": "set -fu; shopt -s failglob dotglob nocaseglob; IFS=e; GLOBIGNORE='*'",
    "zsh": "setopt noglob ksh_arrays sh_word_split nounset no_match",
    "fish": "set -g fish_features qmark-noglob",
}


@shells
def test_the_users_own_options_do_not_matter(shell, repository) -> None:
    write_profiles(repository / "profiles", "mine-own", ".hidden")

    with prompt(shell, repository) as typed:
        typed.do(OPTIONS[shell])
        for keys, words in {
            "-p mine\t": "-p mine-own",
            "-p .hid\t": "-p .hid",
            "runs sh\t--js\t": "runs show --json",
        }.items():
            assert typed.words(keys) == words.split(), keys


# ---- a stranger's repository


def hostile(folder: Path) -> None:
    """Profiles that must be neither opened nor run, whatever they are called."""
    write_profiles(folder, *HOSTILE, *UNPRINTABLE, *(f"many-{i:03}" for i in range(300)))
    (folder / "big.toml").write_bytes(b"[" * (32 << 10))
    (folder / ("long-" + "x" * 240 + ".toml")).touch()
    os.mkfifo(folder / "fifo.toml")
    (folder / "dangling.toml").symlink_to("/nowhere")
    (folder / "folder.toml").mkdir()


@shells
def test_awkward_names_are_offered_harmlessly(shell, repository) -> None:
    hostile(repository / "profiles")

    with prompt(shell, repository) as typed:
        for name in HOSTILE:
            beginning = re.match(r"\w+|\{", name)[0].replace("{", "\\{")
            assert typed.words(f"-p {beginning}\t") == ["-p", name]


@shells
def test_words_before_the_cursor_are_not_evaluated(shell, repository) -> None:
    trick = "x[$(touch pwned)]"

    with prompt(shell, repository) as typed:
        for before in (f"-p '{trick}'", f"run -e '{trick}=1'", f"profile check '{trick}'"):
            verb = "" if "check" in before else "-p "
            assert typed.words(f"{before} {verb}deb\t")[-1] == "debug"
        assert typed.words(f"'{trick}' deb\t") == [trick, "deb"]


@shells
def test_names_that_a_terminal_cannot_show_are_not_offered(shell, repository) -> None:
    hostile(repository / "profiles")

    with prompt(shell, repository) as typed:
        for name in UNPRINTABLE:
            beginning = re.match(r"[a-z-]+", name)[0]
            assert typed.words(f"-p {beginning}\t") == ["-p", beginning]
        assert b"\x1b[2Jape" not in typed.terminal.lines.seen


def test_in_open_quotes_only_what_is_harmless_there_is_offered(repository) -> None:
    write_profiles(repository / "profiles", "with space", "sub $(touch pwned)")

    with prompt("bash", repository) as typed:
        assert typed.words('-p "wit\t') == ["-p", "with space"]
        assert typed.words('-p "su\t"') == ["-p", "su"]


def start_of(shell: str) -> float:
    """Seconds until a new shell without our completion has run its first command."""
    begun = time.monotonic()
    with screen(*START[shell], NO_COLOR="1") as terminal:
        terminal.type("echo sta''rted\r")
        terminal.until("started")
        taken = time.monotonic() - begun
        terminal.type("exit\r")
        terminal.ended()
    return taken


def shown(seconds: list[float]) -> str:
    return " ".join(f"{1000 * value:.1f}" for value in sorted(seconds))


@shells
def test_tab_is_fast_in_a_hostile_repository(shell, repository) -> None:
    hostile(repository / "profiles")
    starts, taken = [], []

    with prompt(shell, repository) as typed:
        for _ in range(5):
            starts.append(start_of(shell))
            typed.terminal.type("vllm-guard -p vllm-s")
            typed.terminal.until("vllm-s")
            begun = time.monotonic()
            typed.terminal.type("\t")
            typed.terminal.until("ampling")
            taken.append(time.monotonic() - begun)
            typed.terminal.type("\r")
            typed.terminal.until("<vllm-sampling>")

    print(f"{shell}: TAB {shown(taken)} ms; start of the shell {shown(starts)} ms")
    assert median(taken) < LIMIT, taken


def may_trace() -> bool:
    words = ["strace", "-f", "-o", "/dev/null", "true"]
    return bool(shutil.which("strace")) and subprocess.run(words, check=False).returncode == 0


@shells
def test_tab_runs_nothing_and_opens_no_file_of_a_repository(shell, repository, clean_world) -> None:
    if not may_trace():
        pytest.skip("strace is not installed, or may not trace")
    hostile(repository / "profiles")
    log = clean_world / "calls"
    trace = ("strace", "-f", "-qq", "-s", "512", "-e", "trace=execve,open,openat", "-o", str(log))

    with prompt(shell, repository, *trace) as typed:
        typed.words("-p debu\t")  # loads what the shell itself loads
        typed.do(f"echo > {clean_world}/begun")
        for keys in (
            "-p vllm-s\t",
            "-p big\t",
            "-p fif\t",
            "-p with\t",
            "pro\tsh\t",
            "run --ign\t",
        ):
            typed.words(keys)
        typed.do(f"echo > {clean_world}/ended")
    calls = log.read_text().partition("/begun")[2].partition("/ended")[0].splitlines()
    opened = [call for call in calls if "open" in call and str(repository.parent) in call]

    assert [call for call in calls if "execve(" in call] == []
    assert [call for call in opened if "O_DIRECTORY" not in call] == []
    assert opened, "the folder of the profiles was listed"
