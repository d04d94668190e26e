"""Files of /dev/shm: whose they are, and which of them may be removed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, Lines, children, gone, guard, guard_env, kill_at_once, start

SHM = Path("/dev/shm")


@pytest.fixture
def older() -> Iterator[Path]:
    """A file that is there before the run."""
    path = SHM / f"vgtest-{os.urandom(4).hex()}"
    path.write_text("x")
    yield path
    path.unlink(missing_ok=True)


HOLD = 'exec 3<"$0"; mv "$0" "$0.new"; mv "$0.new" "$0"; echo held >&2; sleep 61'


def test_a_file_that_was_there_before_stays_whoever_held_it(older: Path) -> None:
    """Renaming it back and forth makes it look new to whoever knows it by name."""
    guard("--", "sh", "-c", f"({HOLD}) & sleep 0.3", str(older))

    assert older.exists()


@pytest.mark.parametrize("victim", ["guard", "keeper", "both"])
def test_a_file_that_was_there_before_outlives_also_the_death_of_ours(
    older: Path, victim: str
) -> None:
    process = start("--", "sh", "-c", HOLD, str(older))
    assert process.stderr is not None
    Lines(process.stderr.fileno()).until(b"held")
    (keeper,) = children(process.pid)
    (command,) = children(keeper)
    kill_at_once(*{"guard": [process.pid], "keeper": [keeper]}.get(victim, [keeper, process.pid]))
    process.communicate(timeout=PATIENCE) if victim != "both" else process.wait(PATIENCE)
    if victim == "both":
        assert b"ended 2 processes, removed 0 files" in guard("--", "true").stderr
        process.communicate(timeout=PATIENCE)

    gone([command])
    assert older.exists()


def test_a_file_of_another_dev_shm_with_the_same_inode_keeps_nothing(tmp_path: Path) -> None:
    """As a container beside us has one; the first file of every tmpfs has the same number."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    fresh = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm; exec "$@"', "sh"]
    hold = "exec 3>/dev/shm/first; echo held; read line"
    other = subprocess.Popen(
        [*fresh, "sh", "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    Lines(other.stdout.fileno()).until(b"held")
    script = (
        "(exec 3>/dev/shm/first; sleep 61) & until [ -e /dev/shm/first ]; do :; done; sleep 0.1"
    )
    inner = ['"$@"; ls /dev/shm', "sh", *GUARD, "--", "sh", "-c", script]
    done = subprocess.run(
        [*fresh, "sh", "-c", *inner],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    other.communicate(b"\n", timeout=PATIENCE)

    assert done.stdout == b""


def test_a_new_folder_in_dev_shm_is_named_unless_it_is_in_use() -> None:
    left, used = (SHM / f"vgtest-{os.urandom(4).hex()}" for _ in range(2))
    keep = f"mkdir {used}; exec 3>{used}/file; echo held; read line"
    other = subprocess.Popen(["sh", "-c", f"read line; {keep}"], stdin=-1, stdout=-1)
    process = start(
        "--", "sh", "-c", f"mkdir {left}; touch {left}/file; echo made; read line", stdin=-1
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"made")
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write(b"\n")
    other.stdin.flush()
    Lines(other.stdout.fileno()).until(b"held")
    _, err = process.communicate(b"\n", timeout=PATIENCE)
    other.communicate(b"\n", timeout=PATIENCE)

    assert f"note shared-memory: {left}: ".encode() in err
    assert f"rm -r {left}".encode() in guard("runs", "show", "--json").stdout
    assert str(used).encode() not in err
    for path in (left, used):
        (path / "file").unlink()
        path.rmdir()


def test_a_new_folder_that_a_process_of_the_run_held_is_named_once() -> None:
    left = SHM / f"vgtest-{os.urandom(4).hex()}"
    result = guard("--", "sh", "-c", f"mkdir {left}; (exec 3<{left}; sleep 61) & sleep 0.1")
    left.rmdir()

    assert result.stderr.count(b"note shared-memory") == 1
    assert b"left behind: 1 thing" in result.stderr


def test_system_v_shared_memory_that_nobody_has_any_more_is_named() -> None:
    """IPC_PRIVATE, 64 KiB; that of the test itself, which lives, is not."""
    made = "libc.shmget(0, 65536, 0o600)"
    libc = ctypes.CDLL(None)
    script = f"import ctypes; libc = ctypes.CDLL(None); print({made})"
    mine = libc.shmget(0, 65536, 0o600)
    result = guard("--", sys.executable, "-c", script)
    number = int(result.stdout)
    for segment in (mine, number):
        libc.shmctl(segment, 0, None)  # IPC_RMID

    assert f"note shared-memory: System V segment {number}: appeared".encode() in result.stderr
    assert b"left behind: 1 thing" in result.stderr
    assert f"ipcrm -m {number}".encode() in guard("runs", "show", "--json").stdout
