"""The journal of activated shells: what is not one is refused, and the old ones go."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.kit import PATIENCE, guard, guard_env, start
from vllm_guard import journal, tree
from vllm_guard.journal import SHELL, Activation
from vllm_guard.model import Change, EnvPlan

IDS = [
    "",
    "x",
    "../../../etc/passwd",
    "A" * 16,
    "0" * 15,
    "0" * 17,
    f"{'0' * 16}\n",
    "/",
    "\udcff",
    "0" * 16,
]


@pytest.mark.parametrize("shell_id", IDS)
def test_an_id_that_is_none_is_an_error_in_one_line(shell_id: str) -> None:
    env = guard_env(VGUARD_SHELL=shell_id)

    done = guard("env", "deactivate", env=env)
    shown = guard("env", "show", "NONE", env=env)

    assert (done.returncode, done.stdout) == (2, b"")
    assert [line.split(b": ")[1] for line in done.stderr.splitlines()] in (
        [b"error"],
        [b"error", b"hint"],
    )
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1].startswith(b"note shell-active: VGUARD_SHELL: ")
    assert guard("env", "audit", env=env).returncode == 0
    assert guard("env", "activate", "debug", env=env).returncode == 0


ID = "0123456789abcdef"


def activation(
    *changes: Change, shell_id: str = ID, owner: tuple[int, str] = (1, "")
) -> Activation:
    return Activation(shell_id, "2026-01-01T00:00:00Z", ("p",), owner, EnvPlan(changes))


def written(document: object) -> Path:
    """A file that lies where the journal of ID should."""
    file = Path(os.environ["HOME"], f".local/state/vllm-guard/shells/{ID}.json")
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    file.chmod(0o600)
    return file


GOOD = {
    "id": ID,
    "since": "s",
    "profiles": [],
    "owner": [1, "1"],
    "plan": {"changes": [{"name": "A", "before": "1", "after": None, "why": "", "origin": ""}]},
}
ROW = GOOD["plan"]["changes"][0]  # type: ignore[index]
BROKEN = {
    "empty": b"",
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "a list": [],
    "null": None,
    "another id": {**GOOD, "id": "f" * 16},
    "no plan": {k: v for k, v in GOOD.items() if k != "plan"},
    "owner": {**GOOD, "owner": 1},
    "a number": {**GOOD, "plan": {"changes": [{**ROW, "before": 1}]}},
    "a NUL": {**GOOD, "plan": {"changes": [{**ROW, "before": "a\0b"}]}},
    "no name": {**GOOD, "plan": {"changes": [{"before": "1"}]}},
    "more": {**GOOD, "plan": {"changes": [{**ROW, "more": 1}]}},
    "code for a name": {**GOOD, "plan": {"changes": [{**ROW, "name": "A;touch pwned;B"}]}},
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_journal_is_an_error_in_one_line(what: str) -> None:
    written(BROKEN[what])

    done = guard("env", "deactivate", "--shell", "sh", env=guard_env(VGUARD_SHELL=ID))

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"vllm-guard: error: ")


def test_the_good_one_is_good() -> None:
    written(GOOD)

    done = guard("env", "deactivate", "--shell", "sh", env=guard_env(VGUARD_SHELL=ID))

    assert (done.returncode, done.stdout, done.stderr) == (0, b"export A='1'\n", b"")


def _link(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _open_to_all(file: Path) -> None:
    file.chmod(0o666)


def _foreign(file: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(file, 12345, 12345)


@pytest.mark.parametrize("spoil", [_link, _fifo, _folder, _open_to_all, _foreign])
def test_a_foreign_journal_is_not_read(spoil) -> None:
    spoil(written(GOOD))

    done = guard("env", "deactivate", env=guard_env(VGUARD_SHELL=ID))

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"vllm-guard: error: ")


def test_a_journal_that_names_itself_is_no_endless_stack() -> None:
    loop = {**ROW, "name": SHELL, "before": ID, "after": ID}
    written({**GOOD, "plan": {"changes": [loop]}})

    assert guard("env", "show", "NONE", env=guard_env(VGUARD_SHELL=ID)).returncode == 0


def test_shells_that_activate_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    for number in range(journal.KEPT + 20):
        journal.write(activation(shell_id=f"{number:016x}"), env)
    both = guard_env(XDG_STATE_HOME=str(tmp_path))

    running = [start("env", "activate", "-e", "A=1", env=both) for _ in range(8)]
    ended = [shell.communicate(timeout=PATIENCE) for shell in running]

    assert [shell.returncode for shell in running] == [0] * 8
    assert all(b"VGUARD_SHELL=" in out and not err for out, err in ended)


def test_the_last_journals_are_kept_and_those_of_living_shells(tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    me = os.getpid()
    living = tree.stat(me)
    assert living
    ids = [f"{number:016x}" for number in range(journal.KEPT + 10)]
    for index, shell_id in enumerate(ids):
        owner = (me, living["start"]) if index == 3 else (me, "0")
        journal.write(activation(shell_id=shell_id, owner=owner), env)
        file = tmp_path / "vllm-guard/shells" / f"{shell_id}.json"
        os.utime(file, ns=(index, index))

    journal.write(activation(shell_id="f" * 16), env)

    kept = {file.stem for file in (tmp_path / "vllm-guard/shells").iterdir()}
    assert kept == {ids[3], *ids[11:], "f" * 16}
