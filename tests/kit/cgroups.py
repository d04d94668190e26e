"""Real cgroups with a limit, below the one that the tests run in."""

from __future__ import annotations

import os
from pathlib import Path

from tests.kit import wait_for
from vllm_guard import cgroup


def memory(limit: int) -> Path | None:
    """One that may use so many bytes."""
    found = _limited(b"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", limit)
    return found or _limited(b"", "/sys/fs/cgroup", "memory.max", limit)


def pids(limit: int) -> Path | None:
    """One that may have so many processes and threads."""
    found = _limited(b"pids", "/sys/fs/cgroup/pids", "pids.max", limit)
    return found or _limited(b"", "/sys/fs/cgroup", "pids.max", limit)


def remove(folder: Path) -> None:
    """Once all that lived in it have ended."""
    wait_for(lambda: not (folder / "cgroup.procs").read_text(), f"an empty {folder}")
    folder.rmdir()


def _limited(controller: bytes, mount: str, file: str, limit: int) -> Path | None:
    """A new cgroup; None where that may not be, or has no such controller."""
    folder = Path(mount + cgroup.own(controller).rstrip("/"), f"vgtest-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / file).write_text(str(limit))
    except OSError:
        folder.rmdir()
        return None
    return folder
