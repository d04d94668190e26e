"""The files of /dev/shm that a run makes: seen when they are made. Standard library only.

A process that has ended no longer tells what it had mapped, and a name such as `psm_47559172` tells
nothing. So whoever watches over a run looks, at each file that appears, whether a process of the run
holds it: then it is the run's, and may be removed when the run is over. What was there before the start
is not the run's, whoever holds it and whatever it is called by now. Files are known by their inode:
a semaphore is mapped under a name that no longer exists (sem_open(3) of glibc links it to its own).
"""

from __future__ import annotations

import os
import stat

from vllm_guard import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    #: A file or folder of /dev/shm: inode and path. The inode tells whether it is still the same file.
    Segment = tuple[int, str]

_F_NOTIFY = 1026  #: <linux/fcntl.h>; importing `fcntl` for it costs 0.3 ms before every launch
_DN_CREATE, _DN_RENAME, _DN_MULTISHOT = 0x4, 0x10, -(1 << 31)  #: the last one is the sign bit
SHM = "/dev/shm/"  # noqa: S108  (the folder itself is the subject)


def present() -> frozenset[int]:
    """The inodes of all that is in /dev/shm now."""
    return frozenset(inode for inode, _ in _segments())


class Watch:
    """Files of /dev/shm that were not `present` before."""

    def __init__(self, before: frozenset[int]) -> None:
        self._before = before
        self.claimed: set[Segment] = set()
        self.unclaimed: set[Segment] = (
            set()
        )  #: folders, and what nobody of the run was seen to hold

    def claim(self, pids: Callable[[], Iterable[int]]) -> set[Segment]:
        """Look what is new; returns the new files that one of these processes holds."""
        new = {s for s in _segments() if s[0] not in self._before and s not in self.claimed}
        new = {segment for segment in new if _kind(segment)}
        if not new:
            return set()
        inodes = held(pids())
        found = {s for s in new if s[0] in inodes and _kind(s) == stat.S_IFREG}
        self.claimed |= found
        self.unclaimed = (self.unclaimed | new) - found
        return found


def notify() -> int:
    """A descriptor; while it is open, this process gets SIGIO for each new name in /dev/shm.

    F_NOTIFY of fcntl(2), not inotify, whose end takes the kernel up to 16 ms, at the end of every
    launch. Where the kernel has it not, or there is no such folder, nothing is seen before the end.
    """
    try:
        fd = os.open(SHM, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    libc.call("fcntl", fd, _F_NOTIFY, _DN_CREATE | _DN_RENAME | _DN_MULTISHOT)
    return fd


def abandoned(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Those of these that are this user's, still there, and held by no process, nor is what is in them."""
    mine = {segment: _inodes(segment) for segment in segments if _kind(segment)}
    others = held(all_pids()) if mine else set()
    return (segment for segment in sorted(mine) if not mine[segment] & others)


def _inodes(segment: Segment) -> set[int]:
    """Its own, and of all that is in it."""
    inode, path = segment
    if _kind(segment) == stat.S_IFREG:
        return {inode}
    paths = (os.path.join(f, name) for f, _, names in os.walk(path) for name in names)
    return {inode, *(os.lstat(below).st_ino for below in paths if os.path.lexists(below))}


def of(pids: Iterable[int]) -> set[Segment]:
    """The files of /dev/shm that these processes hold."""
    inodes = held(pids)
    found = (segment for segment in _segments() if segment[0] in inodes)
    return {s for s in found if _kind(s) == stat.S_IFREG} if inodes else set()


def held(pids: Iterable[int]) -> set[int]:
    """The inodes of files of /dev/shm that these processes have mapped or open.

    Of this /dev/shm: a container has its own, with inodes of the same numbers.
    """
    try:
        device = os.stat(SHM).st_dev
    except OSError:
        return set()
    folders = (folder_of(pid) for pid in pids)
    return {i for folder in folders for i in (*_mapped(folder, device), *_open(folder, device))}


def folder_of(pid: int) -> str:
    """Where /proc tells what a process holds; a main thread that ended before the others holds nothing."""
    folder = f"/proc/{pid}"
    try:
        os.readlink(f"{folder}/exe")
    except FileNotFoundError:  # it has no memory any more
        others = [name for name in _names(f"{folder}/task") if name != str(pid)]
        return f"{folder}/task/{others[0]}" if others else folder
    except OSError:
        return folder
    return folder


def _segments() -> Iterator[Segment]:
    """All that is in /dev/shm."""
    for name in _names(SHM):
        try:
            yield os.lstat(SHM + name).st_ino, SHM + name
        except OSError:  # it is gone already
            continue


def _kind(segment: Segment) -> int:
    """S_IFREG or S_IFDIR of what is still the same file or folder, and this user's; else 0."""
    inode, path = segment
    try:
        info = os.lstat(path)
    except OSError:
        return 0
    kind = stat.S_IFMT(info.st_mode)
    mine = info.st_ino == inode and info.st_uid == os.geteuid()
    return kind if mine and kind in (stat.S_IFREG, stat.S_IFDIR) else 0


def all_pids() -> list[int]:
    """Every process there is."""
    return [int(name) for name in _names("/proc") if name.isdigit()]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _mapped(folder: str, device: int) -> Iterator[int]:
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}".encode()
    try:
        with open(f"{folder}/maps", "rb") as file:
            for line in file:
                if b" /dev/shm/" in line:
                    _, _, _, found, inode, _ = line.split(
                        None, 5
                    )  # address perms offset dev inode path
                    if found == wanted:
                        yield int(inode)
    except OSError:
        return


def _open(folder: str, device: int) -> Iterator[int]:
    for name in _names(f"{folder}/fd"):
        file = f"{folder}/fd/{name}"
        try:
            if os.readlink(file).startswith(SHM):
                info = os.stat(file)
                if info.st_dev == device:
                    yield info.st_ino
        except OSError:
            continue
