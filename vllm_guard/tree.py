"""The process tree of one run: see it, end it. Standard library only; used by keeper and guard alike.

Whoever calls this is a subreaper, so every process of the run is its descendant, whatever it did with
sessions and double forks, and every one of them becomes its child before the end.
"""

from __future__ import annotations

import errno
import os
import select
import time

from vllm_guard import cgroup, segments
from vllm_guard.segments import all_pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping
    from dataclasses import dataclass

    from vllm_guard.segments import Segment
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass


#: Fields of /proc/PID/stat, by proc(5), counted behind the name.
_STAT = dict(state=0, ppid=1, faults=9, user=11, system=12, threads=17, start=19, pages=21)  # noqa: C408  (a table)


@dataclass(frozen=True)
class Limits:
    """Seconds each step of the end may take."""

    settle: float = 0.3  #: processes that end by themselves with the command
    term: float = 5.0  #: from SIGTERM to SIGKILL
    tracker: float = 2.0  #: resource trackers unlink shared memory when everybody else is gone
    kill: float = 10.0  #: from SIGKILL until we give up on what the kernel will not let die
    storm: float = 0.5  #: of killing one by one what forks on, before its cgroup is killed


@dataclass(frozen=True)
class Ended:
    """What `end` had to do."""

    left_behind: int  #: processes that outlived the command
    killed: int
    survivors: tuple[int, ...]  #: pids that nothing could end
    segments: tuple[Segment, ...]  #: files of /dev/shm that ended processes held


class Reaper:
    """Owns every wait of its process: two owners would steal each other's children."""

    def __init__(self, wakeup: int) -> None:
        self._poll = select.poll()
        self._poll.register(wakeup, select.POLLIN)
        self._wakeup = wakeup
        self.empty = False  #: there is no child left
        self.ended: dict[int, int | None] = {}  #: of the pids that were put here: wait status
        self._orders = self._urgent = -1
        self.hurried = False  #: the urgent byte came

    def reap(self) -> list[tuple[int, int]]:
        """(pid, status) of every change up to now; signals coalesce, so always to exhaustion."""
        changes: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                self.empty = True
                return changes
            if pid == 0:
                return changes
            changes.append((pid, status))
            first = self.ended.get(pid, status) is None  # later ones have taken over the number
            if first and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
                self.ended[pid] = status

    def heed(self, orders: int, urgent: int) -> None:
        """Let a wait end at once when this byte comes from that descriptor."""
        self._orders, self._urgent = orders, urgent
        self._poll.register(orders, select.POLLIN)

    def wait_until_empty(self, seconds: float) -> bool:
        """Reap until no child is left, for at most so long."""
        deadline = time.monotonic() + seconds
        while True:
            self.reap()
            left = deadline - time.monotonic()
            if self.empty or left <= 0:
                return self.empty
            ready = dict(self._poll.poll(left * 1000))
            drain(self._wakeup)
            if self._orders in ready and self._hear_orders():
                return self.empty

    def _hear_orders(self) -> bool:
        orders = os.read(self._orders, 256)
        self.hurried = self._urgent in orders
        if self.hurried or not orders:  # told for good, or nobody is there to tell
            self._poll.unregister(self._orders)
        return self.hurried


def end(reaper: Reaper, limits: Limits, contained: str = "") -> Ended:
    """End every descendant of this process: settle, TERM, KILL all but trackers, trackers, KILL.

    `contained`: the cgroup that they are in, or empty.
    """
    if reaper.wait_until_empty(limits.settle):
        return Ended(0, 0, (), ())
    left = without_trackers(descendants())
    shared = segments.of(left)
    send(left, signal.SIGTERM)
    send(left, signal.SIGCONT)
    if reaper.wait_until_empty(0.0 if reaper.hurried else limits.term):
        return Ended(len(left), 0, (), tuple(shared))
    killed = _kill_all(reaper, limits, shared, contained)
    return Ended(len(left), killed, tuple(descendants()), tuple(shared))


def _kill_all(reaper: Reaper, limits: Limits, shared: set[Segment], contained: str) -> int:
    """Trackers die last: they unlink the shared memory of the others when those are gone."""
    killed: set[int] = set()
    start = time.monotonic()
    give_up = start + limits.kill
    by_one = start + limits.storm if contained else give_up
    while not reaper.empty and time.monotonic() < by_one:
        victims = without_trackers(descendants())
        if not victims:
            break
        shared |= segments.of(set(victims) - killed)
        killed |= set(victims)
        send(victims, signal.SIGKILL)
        reaper.wait_until_empty(0.05)
    if not reaper.wait_until_empty(limits.tracker if time.monotonic() < by_one else 0):
        cgroup.kill(contained)
        send(descendants(), signal.SIGKILL)
        reaper.wait_until_empty(max(0.0, give_up - time.monotonic()))
    return len(killed)


def descendants() -> dict[int, str]:
    """Every living process below this one, parents before their children: pid -> start time."""
    children: dict[int, dict[int, str]] = {}
    for pid in all_pids():
        info = stat(pid)
        if info is not None and not is_dead(info):
            children.setdefault(int(info["ppid"]), {})[pid] = info["start"]
    found: dict[int, str] = {}
    queue = [os.getpid()]
    while queue:
        below = children.get(queue.pop(0), {})
        found |= below
        queue += below
    return found


def ancestry() -> set[int]:
    """Ourselves and the processes above us."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        info = stat(pid)
        pid = int(info["ppid"]) if info else 0
    return found


def stat(pid: int) -> Mapping[str, str] | None:
    """What the kernel says of a process; None when it is gone.

    State, parent, threads; start (clock ticks since boot), time used by itself and for it by the kernel
    (clock ticks), memory in use (pages), major page faults.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return {name: fields[place].decode() for name, place in _STAT.items()}


def is_dead(info: Mapping[str, str]) -> bool:
    """Is this `stat` that of a zombie? Not while threads are left: then only the main one has ended."""
    return info["state"] in "ZX" and int(info["threads"]) <= 1


def is_alive(pid: int, start: str) -> bool:
    """Is that very process (pids are reused, start times are not) still there, and not a zombie?"""
    info = stat(pid)
    return info is not None and info["start"] == start and not is_dead(info)


def send(processes: Mapping[int, str], number: int) -> None:
    """A signal to each of these (pid -> start time); one that is gone is as good as told.

    By pidfd where the kernel has them: the number of a process may be somebody else's by now.
    """
    for pid, start in processes.items():
        assert pid > 1, "0, 1 and negative pids are other people's"
        try:
            fd = os.pidfd_open(pid)
        except OSError:  # gone; or refused, or older than Linux 5.3
            fd = -1
        try:
            if not is_alive(pid, start):
                continue
            if fd < 0:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
        except (ProcessLookupError, PermissionError):
            continue
        finally:
            if fd >= 0:
                os.close(fd)


def send_group(pgid: int, number: int) -> None:
    """A signal to a process group."""
    assert pgid > 1, "0, 1 and negative groups are other people's"
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        return


def send_one(pid: int, number: int) -> None:
    """A signal to a child that has not been waited for yet."""
    assert pid > 1, "0, 1 and negative pids are other people's"
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def milliseconds_until(moment: float) -> float:
    """For poll(2), whose longest time is 24 days; `moment` is monotonic."""
    return min(max(0.0, (moment - time.monotonic()) * 1000), 2.0**31 - 1)


def drain(fd: int) -> bytes:
    """What a non-blocking pipe holds now."""
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""
    except OSError as error:
        if error.errno == errno.EIO:  # a pty whose other side is gone
            return b""
        raise


def without_trackers(processes: Mapping[int, str]) -> dict[int, str]:
    """All but multiprocessing's resource trackers."""
    return {pid: start for pid, start in processes.items() if not _is_tracker(pid)}


def _is_tracker(pid: int) -> bool:
    """CPython starts it as `python -c 'from multiprocessing.resource_tracker import main;main(N)'`."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"multiprocessing.resource_tracker import main" in file.read()
    except OSError:
        return False
