"""A folder of a run: made, and removed with all that is in it. Standard library only.

Loaded only where there is one to remove, and for the private folder before the start: the keeper removes
that also when our own files are gone.
"""

from __future__ import annotations

import os
import stat

from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ESCAPES = {b"\\040": b" ", b"\\011": b"\t", b"\\012": b"\n", b"\\134": b"\\"}  #: proc(5)


def make(path: str) -> None:
    """Make the run's private folder, mode 0700. Raises GuardError where that fails."""
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        hint = "set TMPDIR to a folder that you may write, with room"
        raise GuardError(f"cannot make the folder {path}: {error.strerror}", hint) from None


def is_ours(path: str) -> bool:
    """Is it a folder, no link to one, and this user's?"""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid()


def remove(path: str) -> bool:
    """`rm -r` of a folder of this user's, within its file system; False when something is left of it.

    What is mounted below it is not the run's, not even where it is a part of the same file system.
    """
    if is_ours(path):
        above, name = os.path.split(os.path.realpath(path))
        try:
            fd = os.open(above, _OPEN)
        except OSError:
            return False
        try:
            _remove(name, fd, above, mounts(path))
        except RecursionError:
            return False
        finally:
            os.close(fd)
    return not os.path.lexists(path)


def mounts(path: str) -> list[str]:
    """The mount points at that folder and below, the deepest first."""
    folder = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            points = [_unescaped(line.split(b" ", 5)[4]) for line in file]
    except OSError:
        return []
    return sorted({p for p in points if f"{p}/".startswith(f"{folder}/")}, reverse=True)


def _remove(name: str, fd: int, above: str, spared: Collection[str]) -> None:
    """Remove what has that name in the open folder `above`; by descriptors, so that no link leads astray."""
    path = f"{above}/{name}"
    try:
        info = os.lstat(name, dir_fd=fd)
        if path in spared or info.st_dev != os.fstat(fd).st_dev:
            return
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=fd)
            return
        inner = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=fd)
        try:
            for below in os.listdir(inner):
                _remove(below, inner, path, spared)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=fd)
    except OSError:  # it stays, and is reported
        return


def _unescaped(point: bytes) -> str:
    for escape, char in _ESCAPES.items():
        point = point.replace(escape, char)
    return os.fsdecode(point)
