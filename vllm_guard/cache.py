"""Results that are costly to compute and cheap to check, kept between runs.

An entry is a `marshal` file holding its key beside the value: it is used only when the key (the very
bytes parsed, or the identity of the file read) is equal, so a stale or foreign entry is never served.
A cache that cannot be read or written costs time, nothing else.
"""

from __future__ import annotations

import marshal
import os

from vllm_guard import __version__, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FORMAT = 4  #: a marshal version that every Python from 3.4 on reads
_NAME_MAX = 200


def remember(name: str, key: Any, compute: Callable[[], Any]) -> Any:
    """`compute()`, or what it gave for the same `key` (a marshal-able value) in an earlier run."""
    entry = _entry_path(name)
    known = _read(entry)
    if known is not None and known[0] == (__version__, key):
        return known[1]
    value = compute()
    _write(entry, ((__version__, key), value))
    return value


def identity(path: str) -> tuple[int, ...]:
    """What changes when a file does: device, inode, size, mtime and ctime (ns). Raises OSError."""
    info = os.stat(path)
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _entry_path(name: str) -> str:
    file = name.replace("%", "%25").replace("/", "%2F")[-_NAME_MAX:]
    return os.path.join(paths.base_dir("cache", os.environ), file)


def _read(path: str) -> Any:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            return None
        return marshal.loads(paths.read_fd(fd, info.st_size))  # noqa: S302  (only this user can write it)
    except (OSError, EOFError, ValueError, TypeError):
        return None
    finally:
        os.close(fd)


def _write(path: str, entry: Any) -> None:
    try:
        paths.make_private(os.path.dirname(path))
        paths.write_private(path, marshal.dumps(entry, _FORMAT))
    except OSError:
        return
