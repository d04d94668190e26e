"""The threat model, T1 to T28: SECURITY.md names a test for each; those that are nobody else's are here."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit import PATIENCE, ROOT, guard, guard_env
from tests.kit.repository import HEAD, NOBODY, write
from vllm_guard import profiles, tree, trust
from vllm_guard.errors import GUARD_FAILED, GuardError

EVIL = HEAD + '[env]\nLD_PRELOAD = "./evil.so"\n'
SAFE = HEAD + '[env]\nNCCL_DEBUG = "INFO"\n'
SECURITY = (ROOT / "SECURITY.md").read_text()
STRACE = shutil.which("strace")
MODULES = sorted((ROOT / "vllm_guard").rglob("*.py"))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a repository."""
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def refused(name: str) -> str:
    """The message with which a launch under this profile would end."""
    try:
        found = trust.refusal(profiles.load_profile(name, os.environ), os.environ)
    except GuardError as error:
        found = error
    assert found is not None, f"{name} is not refused"
    assert found.exit_code == GUARD_FAILED
    return found.message


# ---- the table


def test_every_threat_has_its_row_and_every_test_that_a_row_names_is_there() -> None:
    rows = re.findall(r"^\| (T\d+) \| (.+) \| (.+) \| (.+) \|$", SECURITY, re.MULTILINE)

    assert [id_ for id_, *_ in rows] == [f"T{number}" for number in range(1, 29)]
    for id_, _threat, _closed, named in rows:
        tests = re.findall(r"`(test_\w+)\.py::(test_\w+)`", named)
        assert tests, f"{id_} names no test"
        for file, name in tests:
            text = (ROOT / f"tests/{file}.py").read_text()
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{id_}: {file}::{name}"


# ---- T3: read once


def test_what_is_hashed_is_what_is_used_though_the_file_flips(repository: Path) -> None:
    """However the file is swapped meanwhile, no reading has one text's digest and another's parts."""
    path = repository / "profiles/p.toml"
    write(repository, {"profiles/p.toml": SAFE})
    texts = {hashlib.sha256(text.encode()).hexdigest(): text for text in (SAFE, EVIL)}
    done = threading.Event()

    def flip() -> None:
        while not done.is_set():
            for text in (EVIL, SAFE):
                path.with_suffix(".new").write_text(text)
                path.with_suffix(".new").replace(path)

    writer = threading.Thread(target=flip)
    writer.start()
    met: Counter[str] = Counter()
    try:
        deadline = time.monotonic() + PATIENCE
        while min(met[text] for text in texts.values()) < 100:
            profile = profiles.load_profile("p", os.environ)
            text = texts[profile.digest]
            assert any(trust.reasons(profile)) is (text == EVIL)
            met[text] += 1
            assert time.monotonic() < deadline
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif(STRACE is None, reason="there is no strace")
def test_a_profile_is_opened_once(repository: Path, tmp_path: Path) -> None:
    write(repository, {"profiles/p.toml": SAFE})
    opened = traced(tmp_path, "-p", "p", "--", "true")

    assert [path for path in opened if path.endswith("profiles/p.toml")] == [
        f"{repository}/profiles/p.toml"
    ]


def traced(folder: Path, *words: str) -> list[str]:
    """The paths that the guard and all it starts open."""
    log, program = folder / "trace", folder / "vllm-guard"
    program.write_text("from vllm_guard import cli\ncli.main()\n")  # `-m` would look in this folder
    command = [str(STRACE), "-f", "-qq", "-o", str(log), "-e", "trace=open,openat"]
    done = subprocess.run(
        [*command, sys.executable, str(program), *words],
        env=guard_env(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    if b"ptrace" in done.stderr and not log.exists():
        pytest.skip("ptrace is not permitted")
    return re.findall(r'open(?:at)?\((?:[A-Z_]+, )?"([^"]+)"', log.read_text())


# ---- T5: looking at a hostile repository


def hostile(repository: Path) -> None:
    folder = repository / ".vllm-guard"
    write(repository, {".vllm-guard/evil.toml": EVIL, "vllm-guard.toml": 'profiles = ["evil"]\n'})
    write(repository, {".vllm-guard/bomb.toml": "a." * 15_000 + "a = 1\n"})
    write(repository, {".vllm-guard/title\x1b]0;x\x07.toml": HEAD})
    os.mkfifo(folder / "fifo.toml")
    with (folder / "huge.toml").open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    "words",
    [("--help",), ("profile", "list"), ("profile", "list", "--json"), ("completion", "bash")],
    ids=" ".join,
)
def test_looking_does_not_hang_execute_or_drive_the_terminal(
    words: tuple[str, ...], repository: Path
) -> None:
    hostile(repository)

    done = guard(*words, timeout=10)

    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.skipif(STRACE is None, reason="there is no strace")
@pytest.mark.parametrize("words", [("--help",), ("profile", "--help"), ("completion", "bash")])
def test_help_opens_nothing_of_the_repository(
    words: tuple[str, ...], repository: Path, tmp_path: Path
) -> None:
    hostile(repository)

    assert [path for path in traced(tmp_path, *words) if path.startswith(str(repository))] == []


# ---- T6: whose is it


def given_away(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def for_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o022)


def for_a_group(path: Path) -> None:
    os.chown(path, -1, NOBODY)
    path.chmod(path.stat().st_mode | 0o020)


@as_root
@pytest.mark.parametrize("place", ["profiles", "profiles/p.toml"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (given_away, f"belongs to uid {NOBODY}, not to you or root"),
        (for_all, "can be written by other users"),
        (for_a_group, "can be written by other users"),
    ],
)
def test_what_others_own_or_can_write_is_refused_though_it_is_safe(
    change: Callable[[Path], None], said: str, place: str, repository: Path
) -> None:
    write(repository, {"profiles/p.toml": SAFE})
    change(repository / place)

    assert refused("p") == f"{repository / place} {said}"


@as_root
def test_a_users_own_group_is_nobody_else(repository: Path) -> None:
    write(repository, {"profiles/p.toml": SAFE})
    for place in ("profiles", "profiles/p.toml"):
        (repository / place).chmod(0o775)

    assert trust.refusal(profiles.load_profile("p", os.environ), os.environ) is None


@as_root
def test_a_profile_in_a_shared_folder_above_is_refused_and_beyond_a_mount_not_found(
    clean_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(clean_world, {"shared/.vllm-guard/p.toml": SAFE, "shared/mine/x": ""})
    shared = clean_world / "shared"
    given_away(shared / ".vllm-guard")
    monkeypatch.chdir(shared / "mine")
    assert "belongs to uid" in refused("p")

    mount = f"mount -t tmpfs none {shared}/mine && cd {shared}/mine && exec {sys.executable} -m vllm_guard"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} -p p -- true"],
        env=guard_env(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip("mounting is not permitted")
    assert (done.returncode, b"no such profile: p" in done.stderr) == (2, True)


@as_root
def test_root_refuses_a_path_of_another_users_file(tmp_path: Path) -> None:
    write(tmp_path, {"theirs.toml": SAFE})
    given_away(tmp_path / "theirs.toml")

    assert "belongs to uid" in refused(str(tmp_path / "theirs.toml"))


@as_root
def test_a_strangers_defaults_in_a_shared_folder_above_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {".git/x": "", "vllm-guard.toml": 'profiles = ["evil"]\n', "mine/x": ""})
    given_away(tmp_path / "vllm-guard.toml")
    monkeypatch.chdir(tmp_path / "mine")

    done = guard("--", "echo", "runs")

    assert (done.returncode, done.stdout) == (0, b"runs\n")
    assert b"warn repository-defaults: " in done.stderr
    assert b"not used: " in done.stderr


# ---- T7: what is no file


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def stdin(path: Path) -> None:
    path.symlink_to("/proc/self/fd/0")


def outside(path: Path) -> None:
    (path.parents[2] / "outside.toml").write_text(SAFE)
    path.symlink_to("../../outside.toml")


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize("plant", [fifo, zero, stdin, outside, folder, sparse])
def test_what_is_no_file_of_the_repository_is_refused_at_once(
    plant: Callable[[Path], None], repository: Path
) -> None:
    path = repository / "profiles/p.toml"
    path.parent.mkdir()
    plant(path)
    begun = time.process_time()

    for name in ("p", "./profiles/p.toml"):
        assert str(path.name) in refused(name)
    assert time.process_time() - begun < 0.2


def test_a_folder_of_profiles_that_is_a_link_is_refused(repository: Path, tmp_path: Path) -> None:
    write(tmp_path, {"outside/p.toml": SAFE})
    (repository / "profiles").symlink_to(tmp_path / "outside")

    assert "is a symbolic link" in refused("p")


# ---- T8, T9: values, and paths that look alike


def test_a_value_arrives_byte_for_byte(repository: Path) -> None:
    value = "a\n$(touch x)`id`%s~/\\x é\t"
    text = HEAD + '[env]\nMINE = "a\\n$(touch x)`id`%s~/\\\\x é\\t"\n'
    write(repository, {"profiles/p.toml": text})
    trust.allow(profiles.load_profile("p", os.environ), os.environ)

    done = guard(
        "-p", "p", "--", sys.executable, "-S", "-c", "import os; print(os.environ['MINE'])"
    )

    assert done.stdout.decode() == value + "\n"
    assert not (repository / "x").exists()


# ---- T10, T11: links where the guard writes


@pytest.mark.parametrize("planted", ["trust", "decision"])
def test_a_link_where_a_decision_is_kept_is_not_followed(
    planted: str, repository: Path, tmp_path: Path
) -> None:
    write(repository, {"profiles/p.toml": EVIL})
    profile = profiles.load_profile("p", os.environ)
    victim = tmp_path / "victim"
    state = Path(os.environ["HOME"], ".local/state/vllm-guard")
    state.mkdir(parents=True, mode=0o700)
    if planted == "trust":
        victim.mkdir()
        (state / "trust").symlink_to(victim)
        with pytest.raises(GuardError):
            trust.allow(profile, os.environ)
        assert list(victim.iterdir()) == []
    else:
        victim.write_text("untouched")
        (state / "trust").mkdir(mode=0o700)
        (state / "trust" / f"{trust.key(profile)}.allow").symlink_to(victim)
        assert "not allowed" in refused("p")
        trust.allow(profile, os.environ)
        assert victim.read_text() == "untouched"
        assert trust.refusal(profile, os.environ) is None


@as_root
def test_a_decision_of_another_user_does_not_count(repository: Path) -> None:
    write(repository, {"profiles/p.toml": EVIL})
    profile = profiles.load_profile("p", os.environ)
    trust.allow(profile, os.environ)
    assert trust.refusal(profile, os.environ) is None

    given_away(
        Path(os.environ["HOME"], f".local/state/vllm-guard/trust/{trust.key(profile)}.allow")
    )
    assert "not allowed" in refused("p")


@pytest.mark.parametrize("name", ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"])
def test_a_relative_xdg_folder_is_ignored_and_nothing_is_written_here(
    name: str, repository: Path
) -> None:
    write(repository, {"here/vllm-guard/profiles/p.toml": EVIL})
    before = sorted(repository.rglob("*"))

    done = guard("-p", "p", "--", "true", env=guard_env(**{name: "here"}))
    guard("--", "true", env=guard_env(**{name: "here"}))

    assert done.returncode == 2
    assert sorted(repository.rglob("*")) == before


# ---- T20, T21, T26: whom a signal reaches


@pytest.mark.parametrize("pid", [1, 0, -1, -2])
def test_no_signal_goes_to_everybody_to_init_or_to_a_group_by_mistake(pid: int) -> None:
    for call in (tree.send_one, tree.send_group):
        with pytest.raises(AssertionError):
            call(pid, 0)
    with pytest.raises(AssertionError):
        tree.send({pid: "0"}, 0)


def test_a_number_that_is_another_process_by_now_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        info = tree.stat(other.pid)
        assert info is not None
        tree.send({other.pid: str(int(info["start"]) - 1)}, 9)
        alive = other.poll() is None
        other.kill()

    assert alive


# ---- T23: nobody plugs in


def test_no_entry_points_of_other_packages_are_loaded() -> None:
    def names(path: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.Name, ast.Attribute)):
                yield node.id if isinstance(node, ast.Name) else node.attr
            elif isinstance(node, ast.ImportFrom):
                yield from (alias.name for alias in node.names)

    outside = [path for path in MODULES if "inside" not in path.parts]
    found = [path for path in outside if {"entry_points", "iter_entry_points"} & set(names(path))]

    assert len(outside) > 100
    assert found == []


# ---- T4, T24: a repository cannot loosen anything or send a token away


@pytest.mark.parametrize(
    "name", ["HF_ENDPOINT", "HTTPS_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
)
@pytest.mark.parametrize("value", ['"https://evil.example"', "false"])
def test_where_a_token_goes_is_asked_about(name: str, value: str, repository: Path) -> None:
    write(repository, {"profiles/p.toml": HEAD + f"[env]\n{name} = {value}\n"})

    assert f"{name}, which can open or redirect the network" in refused("p")
