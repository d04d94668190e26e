"""A user's file replaced by another text: whole or not at all, with its mode, owner and attributes."""

from __future__ import annotations

import contextlib
import os
import stat

from vllm_guard import paths

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def overwrite(path: str, old: bytes, new: bytes) -> None:
    """Put `new` in the place of `old`; links are followed. OSError: the file is as it was.

    Also where it is not `old` any more, may not be written, its owner cannot be kept, or it has other
    names (hard links), which would keep the old text.
    """
    real = os.path.realpath(path)
    if not os.access(real, os.W_OK):
        raise PermissionError(None, "it may not be written", path)
    if paths.peek(real, len(old) + 1) != old:
        raise OSError(None, "it was changed meanwhile", path)
    links = os.stat(real).st_nlink
    if links > 1:
        raise OSError(None, f"it has {links} names (hard links): only one would be changed", path)
    folder, name = os.path.split(real)
    beside = os.path.join(folder, f".{name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # of a process that had our id, and died here
    fd = os.open(beside, _FLAGS, paths.PRIVATE_FILE)
    try:
        with contextlib.closing(os.fdopen(fd, "wb", buffering=0)):
            paths.write_all(fd, new)
            _take_after(real, fd)
            os.fsync(fd)
        os.replace(beside, real)
    except BaseException:
        os.unlink(beside)
        raise


def _take_after(path: str, fd: int) -> None:
    """Owner, mode and extended attributes (access lists are some) of that file."""
    info = os.stat(path)
    mine = os.fstat(fd)
    if (info.st_uid, info.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(fd, info.st_uid, info.st_gid)
    for name in os.listxattr(path):
        with contextlib.suppress(OSError):  # those of security modules are set by them
            os.setxattr(fd, name, os.getxattr(path, name))
    os.fchmod(fd, stat.S_IMODE(info.st_mode))
