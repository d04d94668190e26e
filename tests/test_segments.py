"""Files of /dev/shm: whose they are, and which of them may be removed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, Lines, children, gone, guard, guard_env, start

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
    if victim == "both":
        os.kill(keeper, signal.SIGSTOP)
        process.kill()
    os.kill(process.pid if victim == "guard" else keeper, signal.SIGKILL)
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
