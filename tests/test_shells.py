"""`vllm-guard env activate | deactivate | clean`, in real interactive shells on a terminal, byte for byte."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit import GUARD, ROOT, guard, guard_env
from tests.test_commands import on_a_terminal
from tests.test_terminal import Screen, screen
from vllm_guard.journal import SHELL

#: How an interactive shell without its user's files is started, and how it evaluates what a command prints.
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-fi"],
    "dash": ["dash", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
EVALUATE = {"fish": "{} | source"}
NOISE = {"_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES"}  #: what shells change themselves

AWKWARD = {
    "QUOTES": 'it\'s "x" \\ $(touch pwned) `touch pwned` !! $HOME',
    "NEWLINES": "\na\n\nb\n",
    "BYTES": "\udcff\udc80 \udcc3(",
    "NOTHING": "",
    "LEADING": "-n --x",
    "SOME_PATH": "a::b:",
    "GONE": "x",
    "TAKEN": "back\\slash\\",
}
PROFILE = r"""
schema = 1
summary = "s"
[env]
QUOTES = "'\"$(touch pwned)`touch pwned`!\\"
NEWLINES = "\n\u00e9\u2028\n"
BYTES = "text"
NOTHING = "something"
LEADING = ""
SOME_PATH = ":c:"
TAKEN = false
MADE = "-e\n'"
MADE_EMPTY = ""
"""
MADE = {
    "QUOTES": "'\"$(touch pwned)`touch pwned`!\\",
    "NEWLINES": "\n\u00e9\u2028\n",
    "BYTES": "text",
    "NOTHING": "something",
    "LEADING": "",
    "SOME_PATH": ":c:",
    "MADE": "-e\n'",
    "MADE_EMPTY": "",
}


@pytest.fixture
def path(clean_world: Path) -> str:
    """A PATH on which `vllm-guard` is the one of this checkout."""
    program = clean_world / "bin" / "vllm-guard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


@pytest.fixture
def profile(tmp_path: Path) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(PROFILE)
    return str(file)


class Shell:
    """An interactive shell on a terminal."""

    def __init__(self, name: str, terminal: Screen, folder: Path) -> None:
        self.name = name
        self.terminal = terminal
        self.folder = folder
        self.steps = 0

    def do(self, command: str) -> str:
        """Type a command, wait until it has ended; what the screen showed."""
        self.steps += 1
        seen = len(self.terminal.lines.seen)
        self.terminal.type(f"{command}\r")
        self.terminal.type(f"echo en''ded-{self.steps}-\r")
        self.terminal.until(f"ended-{self.steps}-")
        return self.terminal.lines.seen[seen:].decode(errors="replace")

    def evaluate(self, words: str) -> str:
        """Evaluate what `vllm-guard WORDS` prints, as this shell's users do."""
        return self.do(EVALUATE.get(self.name, 'eval "$({})"').format(f"vllm-guard {words}"))

    def set(self, name: str, value: str) -> None:
        self.do(f"set -gx {name} {value}" if self.name == "fish" else f"export {name}={value}")

    def unset(self, name: str) -> None:
        self.do(f"set -e {name}" if self.name == "fish" else f"unset {name}")

    def held(self) -> dict[str, str]:
        """The environment that this shell gives to a command."""
        file = self.folder / f"env-{self.steps}"
        self.do(f"env -0 > {file}")
        entries = (os.fsdecode(entry) for entry in file.read_bytes().split(b"\0") if entry)
        pairs = (entry.partition("=") for entry in entries)
        return {name: value for name, _, value in pairs if name not in NOISE}


@contextmanager
def started(name: str, folder: Path, **env: str) -> Iterator[Shell]:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    with screen(*START[name], LC_ALL="C.UTF-8", NO_COLOR="1", **env) as terminal:
        running = Shell(name, terminal, folder)
        running.do(f"cd {folder}")
        yield running
        terminal.type("exit\r")
        terminal.ended()
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("name", START)
def test_a_profile_is_set_and_all_is_as_it_was_afterwards(
    name: str, path: str, profile: str, clean_world: Path
) -> None:
    with started(name, clean_world, PATH=path, **AWKWARD) as shell:
        before = shell.held()
        shell.evaluate(f'env activate {profile} -e "COPY=$BYTES" --unset GONE')
        active = shell.held()
        shell.evaluate("env deactivate")
        after = shell.held()

    expected = {**before, **MADE, "COPY": AWKWARD["BYTES"], SHELL: active[SHELL]}
    assert active == {n: v for n, v in expected.items() if n not in {"TAKEN", "GONE"}}
    assert before.items() >= AWKWARD.items()
    assert after == before


@pytest.mark.parametrize("name", START)
def test_activations_are_a_stack(name: str, path: str, profile: str, clean_world: Path) -> None:
    with started(name, clean_world, PATH=path, **AWKWARD) as shell:
        states = [shell.held()]
        for words in (profile, "debug -e BYTES=other", "clean"):
            shell.evaluate(f"env activate {words}")
            states.append(shell.held())
        undone = []
        for _ in states[1:]:
            shell.evaluate("env deactivate")
            undone.append(shell.held())
        said = shell.do("vllm-guard env deactivate || echo refu''sed")

    assert undone == states[-2::-1]
    assert len({state.get(SHELL) for state in states}) == 4
    assert states[2]["NCCL_DEBUG"] == "TRACE"
    assert "NCCL_DEBUG" not in states[3]
    assert "error: nothing is active in this shell" in said
    assert "refused" in said


@pytest.mark.parametrize("name", START)
def test_what_was_changed_by_hand_is_left_alone_and_said(
    name: str, path: str, profile: str, clean_world: Path
) -> None:
    with started(name, clean_world, PATH=path, **AWKWARD) as shell:
        before = shell.held()
        shell.evaluate(f"env activate {profile}")
        shell.set("QUOTES", "mine")
        shell.set("TAKEN", "again")
        shell.unset("BYTES")
        shell.unset("MADE")  # which is what it was
        said = shell.evaluate("env deactivate")
        after = shell.held()

    expected = {**before, "QUOTES": "mine", "TAKEN": "again"}
    del expected["BYTES"]
    assert after == expected
    for variable in ("QUOTES", "TAKEN", "BYTES"):
        assert f"note variable-changed: {variable}: " in said
    assert "MADE: " not in said


@pytest.mark.parametrize("name", START)
def test_clean_unsets_the_residue_and_nothing_else(name: str, path: str, clean_world: Path) -> None:
    left = {"NCCL_DEBUG": "TRACE", "CUDA_LAUNCH_BLOCKING": "1"}
    links = {"VLLM_SERVICE_HOST": "10.0.0.1", "VLLM_PORT": "tcp://10.0.0.1:80"}
    with started(name, clean_world, PATH=path, VLLM_CACHE_ROOT="/x", **left, **links) as shell:
        before = shell.held()
        said = shell.evaluate("env clean")
        after = shell.held()
        again = shell.evaluate("env clean")

    assert before.items() - after.items() == {**left, **links}.items()
    assert after.items() <= before.items()
    assert "vllm-guard: unsets 4 variables: " in said
    assert "nothing was left behind" in again


def test_clean_leaves_what_a_profile_has_set(path: str, clean_world: Path) -> None:
    with started("bash", clean_world, PATH=path, CUDA_LAUNCH_BLOCKING="1") as shell:
        shell.evaluate("env activate debug")
        shell.evaluate("env clean")
        held = shell.held()

    assert held["NCCL_DEBUG"] == "TRACE"
    assert "CUDA_LAUNCH_BLOCKING" not in held, "the profile found it as it wanted it"


@pytest.mark.parametrize("name", START)
def test_the_shell_that_calls_is_recognised(name: str, path: str, clean_world: Path) -> None:
    with started(name, clean_world, PATH=path, SHELL="/bin/pwsh") as shell:
        shell.do(f"vllm-guard env activate -e 'A=a\nb' > {clean_world}/code")

    written = {
        "bash": b"export A=$'a\\012b'\n",
        "zsh": b"export A=$'a\\012b'\n",
        "dash": b"export A='a\nb'\n",
        "fish": b"set -gx A 'a'\\X0a'b'\n",
    }
    assert (clean_world / "code").read_bytes().startswith(written[name])


@pytest.mark.parametrize(
    ("shell", "begins"),
    [
        ("/usr/bin/fish", b"set -gx A "),
        ("/opt/pwsh", b"$env:A = "),
        ("/bin/ksh", b"export A='a\nb'"),
        ("/bin/tcsh", b"export A='a\nb'"),
        (None, b"export A='a\nb'"),
    ],
)
def test_where_no_shell_calls_it_is_the_users_own(shell: str | None, begins: bytes) -> None:
    done = guard("env", "activate", "-e", "A=a\nb", env=guard_env(SHELL=shell))

    assert done.stdout.startswith(begins)


def test_on_a_terminal_it_says_how_to_use_it() -> None:
    env = guard_env(NO_COLOR="1", SHELL="/bin/bash")

    shown = on_a_terminal("env", "activate", "debug", env=env)
    fish = on_a_terminal("env", "activate", "debug", "--shell", "fish", env=env)

    assert b'hint: to apply it: eval "$(vllm-guard env activate debug)"\r\n' in shown
    assert b"export NCCL_DEBUG='TRACE'\r\n" in shown
    assert b"apply it: vllm-guard env activate debug --shell fish | source\r\n" in fish


# ---- what goes wrong


def journals() -> list[Path]:
    return sorted(Path(os.environ["HOME"], ".local/state/vllm-guard/shells").glob("*"))


def sh(code: bytes, then: str = "env -0", **env: str) -> dict[str, str]:
    """The environment after the code, in a shell that started with this one and `env`."""
    script = os.fsdecode(code) + then
    done = subprocess.run(
        ["sh", "-c", script], env=guard_env(**env), capture_output=True, check=True
    )
    entries = (os.fsdecode(entry).partition("=") for entry in done.stdout.split(b"\0"))
    return {name: value for name, _, value in entries if name}


def activated(*words: str, **env: str) -> dict[str, str]:
    """The environment of a shell in which that was activated."""
    done = guard("env", "activate", "--shell", "sh", *words, env=guard_env(**env))
    assert done.returncode == 0, done.stderr
    return sh(done.stdout, **env)


def test_the_journal_is_private_and_not_in_the_environment() -> None:
    secret = "s3cr3t-before"
    held = activated("-e", "HF_TOKEN=after", "-e", "BYTES=\udcff", HF_TOKEN=secret)
    (file,) = journals()

    assert secret not in " ".join(held.values())
    assert file.stem == held[SHELL]
    assert len(held[SHELL]) == 16
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert json.loads(file.read_bytes())["plan"]["changes"][1]["after"] == "\udcff"


def test_what_is_required_and_missing_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('schema = 1\nsummary = "s"\n[env]\nB = "1"\nMINE = { required = "make one" }\n')

    done = guard("env", "activate", str(file))

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"fail variable-required: MINE: " in done.stderr
    assert journals() == []


def test_flags_are_named_since_no_variable_can_say_them() -> None:
    done = guard("env", "activate", "eager", "dummy-weights")

    assert done.returncode == 0
    assert b"note engine-options-apart: --enforce-eager --load-format dummy: " in done.stderr
    assert b"enforce" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no profile given"),
        (["debgu"], "did you mean debug?"),
        (["-e", "A-B=1"], "cannot name the variable 'A-B'"),
        (["-e", "$(id)=1"], "cannot name the variable"),
        (["-e", "VGUARD_SHELL=1"], "vllm-guard's own"),
        (["debug", "--shell", "tcsh"], "'tcsh' is not one of"),
        (["-e", "A=\udcff", "--shell", "powershell"], "powershell cannot hold the value of A"),
    ],
)
def test_a_mistaken_activation_is_status_2_and_prints_no_code(words: list[str], said: str) -> None:
    done = guard("env", "activate", *words)

    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert journals() == []


def test_what_cannot_be_undone_is_not_done() -> None:
    done = guard("env", "activate", "--shell", "powershell", "-e", "A=1", env=guard_env(A="\udcff"))

    assert (done.returncode, done.stdout) == (2, b"")
    assert journals() == []


def test_without_a_journal_nothing_is_done(clean_world: Path) -> None:
    (clean_world / "file").touch()
    env = guard_env(XDG_STATE_HOME=f"{clean_world}/file")

    done = guard("env", "activate", "debug", env=env)

    assert (done.returncode, done.stdout) == (125, b"")
    assert b"error: no journal can be kept: " in done.stderr


def test_a_profile_that_moves_the_state_folder_can_be_undone(clean_world: Path) -> None:
    moved = activated("-e", f"XDG_STATE_HOME={clean_world}/elsewhere", "-e", "A=1")

    done = guard("env", "deactivate", "--shell", "sh", env=guard_env(**moved))

    assert done.returncode == 0
    assert sh(done.stdout, **moved).keys() & {"XDG_STATE_HOME", "A", SHELL} == set()


# ---- where one is


def test_show_and_audit_end_with_the_profiles_that_are_active() -> None:
    outer = activated("debug", CUDA_LAUNCH_BLOCKING="1")
    inner = activated("eager", "-e", "PYTHONDEVMODE=1", **outer)
    env = guard_env(**inner)

    shown = guard("env", "show", env=env).stdout.decode().splitlines()
    audit = guard("env", "audit", env=env).stdout.decode().splitlines()
    document = json.loads(guard("env", "show", "--json", env=env).stdout)

    assert shown[-1] == audit[-1]
    assert shown[-1].startswith(
        "note shell-active: profiles debug, eager: active in this shell since 20"
    )
    assert [f["id"] for f in document["findings"]] == ["shell-active"]
    assert "note active-in-shell: NCCL_DEBUG=TRACE: set by the active profile debug" in audit
    assert "note active-in-shell: PYTHONDEVMODE=1: set when this shell was activated" in audit
    assert any(line.startswith("warn debug-left-on: CUDA_LAUNCH_BLOCKING=1") for line in audit)


def test_what_was_changed_by_hand_is_residue_again() -> None:
    env = guard_env(**{**activated("debug", NCCL_DEBUG="WARN"), "NCCL_DEBUG": "INFO"})

    audit = guard("env", "audit", env=env).stdout.decode()

    assert "debug-left-on: NCCL_DEBUG=INFO" in audit
    assert "active-in-shell: VLLM_LOGGING_LEVEL=DEBUG" in audit


def test_inside_a_run_its_id_and_level_are_said() -> None:
    env = guard_env(PYTHONPATH=str(ROOT))

    once = guard("--", *GUARD, "env", "show", "NONE", env=env).stdout.decode()
    twice = guard("--", *GUARD, "-q", "--", *GUARD, "env", "audit", env=env).stdout.decode()
    (first, *_) = sorted(os.listdir(Path(os.environ["HOME"], ".local/state/vllm-guard/runs")))

    last = once.splitlines()[-1]
    assert last == f"note inside-run: {first}: this is inside that run of vllm-guard, level 1"
    assert twice.splitlines()[-1].endswith("level 2")


def test_outside_nothing_is_said_of_either() -> None:
    assert b"shell-active" not in guard("env", "show").stdout
    assert b"inside-run" not in guard("env", "audit").stdout


def test_a_service_link_whose_name_is_no_name_is_never_code() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_$(touch pwned)_SERVICE_HOST": "x"}

    done = guard("env", "clean", "--shell", "sh", env=env)

    assert (done.returncode, done.stdout) == (0, b"")
    assert (
        b"note variable-name: VLLM_$(touch pwned)_SERVICE_HOST: no shell can name it" in done.stderr
    )
    assert b"nothing to unset" in done.stderr
