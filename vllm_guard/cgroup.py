"""A cgroup of the run's own, where this user was given a place for one. Standard library only.

One write ends all that is in it, however fast it forks and whatever it did with sessions, and a cgroup that
can be removed proves that nothing is left (cgroups(7); `cgroup.kill` needs Linux 5.14). Without one, and
for everything but that last blow, the keeper does the work.
"""

from __future__ import annotations

import os
import select
import sys
import time

from vllm_guard import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator
else:
    import _signal as signal

_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  #: v2 alone, or beside v1 (systemd's hybrid)
_SYS_CLONE3 = 435  #: the same on every architecture but alpha
_CLONE_INTO_CGROUP = 0x200000000  #: <linux/sched.h>, Linux 5.7
_DELEGATED = "user.delegate"
_DEAD_AFTER = 2.0  #: seconds from `cgroup.kill` until we give up on what does not die


def place(run_id: str) -> str:
    """Where the run's cgroup is to be made: below our own, if that was delegated to us; else empty."""
    mounted, ours = root(), own()
    if not mounted or not ours.startswith("/") or ours.startswith("/.."):
        return ""
    above = mounted + ours.rstrip("/")
    return f"{above}/vllm-guard-{run_id}" if _is_delegated(above, ours) else ""


def root() -> str:
    """Where cgroup v2 is mounted; empty where it is not."""
    return next((m for m in _MOUNTS if os.path.exists(f"{m}/cgroup.controllers")), "")


def own(controller: bytes = b"") -> str:
    """The cgroup of this process as its namespace sees it, of v2 or of a v1 controller; empty without one."""
    try:
        with open("/proc/self/cgroup", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    rows = (line.split(b":", 2) for line in lines)
    return next((os.fsdecode(path) for _, names, path in rows if names == controller), "")


def fork_into(path: str) -> int:
    """Make the cgroup and fork straight into it: 0 in the child, -1 (and no cgroup) where that fails.

    By clone3(2), for moving a process into a cgroup waits 5 to 30 ms for every CPU of the machine. As after
    vfork(2), the child should do little but execute: the C library has not heard of the fork.
    """
    try:
        os.mkdir(path, 0o700)
    except OSError:
        return -1
    pid = _clone_into(path) if os.path.exists(f"{path}/cgroup.kill") else -1
    if pid < 0:
        os.rmdir(path)
    return pid


def _clone_into(path: str) -> int:
    _delegate(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # no descriptor is left
        return -1
    fields = (_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, fd)  # struct clone_args
    arguments = b"".join(int(field).to_bytes(8, sys.byteorder) for field in fields)
    pid = libc.call("syscall", _SYS_CLONE3, arguments, len(arguments))
    if pid != 0:
        os.close(fd)
    return pid


def kill(path: str) -> None:
    """SIGKILL to all that is in the cgroup or in one below it."""
    try:
        with open(f"{path}/cgroup.kill", "wb", buffering=0) as file:
            file.write(b"1")
    except OSError:
        return


def remove(path: str) -> bool:
    """End what is still in the cgroup and remove it; False when something in it does not die."""
    if _remove_folders(path):
        return True
    kill(path)
    _wait_until_empty(path)
    return _remove_folders(path)


def pids(path: str) -> Iterator[int]:
    """The processes in the cgroup and in those below it, zombies not counted."""
    for folder, _, _ in os.walk(path):
        try:
            with open(f"{folder}/cgroup.procs", "rb") as file:
                yield from map(int, file.read().split())
        except OSError:  # it was removed meanwhile
            continue


def _is_delegated(folder: str, ours: str) -> bool:
    """May we have cgroups below it? A user may where it is his; root may write anywhere, but a service
    manager owns what it has not marked as delegated (systemd.io, "Control Group APIs and Delegation").
    The root of a container's namespace is the container's.
    """
    try:
        if os.stat(folder).st_uid != os.geteuid() or not os.access(
            f"{folder}/cgroup.procs", os.W_OK
        ):
            return False
        return os.geteuid() != 0 or ours == "/" or os.getxattr(folder, _DELEGATED) == b"1"
    except OSError:
        return False


def _delegate(path: str) -> None:
    """Say that the command may have cgroups below it: a guard in it will."""
    try:
        os.setxattr(path, _DELEGATED, b"1")
    except OSError:
        return


def _remove_folders(path: str) -> bool:
    """Remove the cgroup and those that its own processes made in it."""
    try:
        os.rmdir(path)
    except OSError:
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue
    return not os.path.lexists(path)


def _wait_until_empty(path: str) -> None:
    deadline = time.monotonic() + _DEAD_AFTER
    try:
        with open(f"{path}/cgroup.events", "rb", buffering=0) as file:
            poll = select.poll()
            poll.register(file, select.POLLPRI)
            while b"populated 1" in os.pread(file.fileno(), 4096, 0):
                left = deadline - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    return
    except OSError:
        return
