"""What the processes of a run use, looked at again and again, cheaply: of /proc only what is new is read."""

from __future__ import annotations

import os

from vllm_guard import tree
from vllm_guard.segments import all_pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")  #: seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    rss: int  #: bytes, those that it shares included
    cpu: float  #: seconds, since its start
    #: Bytes that it fetched from disks: read(2) and mapped files; 0 where that is not told.
    read: int
    asked: int  #: bytes that it got by read(2), from whatever; 0 where that is not told
    faults: int  #: times that it waited for a page of a mapped file, on whatever file system, or of swap
    stopped: bool  #: by SIGSTOP, Ctrl-Z or the like


@dataclass(frozen=True)
class Counters:
    """All living processes of a run at one moment: by their pids."""

    processes: Mapping[int, Process]

    @property
    def rss(self) -> int:
        """Bytes; what several share is counted for each."""
        return sum(process.rss for process in self.processes.values())

    @property
    def cpu(self) -> float:
        """Seconds."""
        return sum(process.cpu for process in self.processes.values())

    @property
    def read(self) -> int:
        """Bytes from disks."""
        return sum(process.read for process in self.processes.values())

    @property
    def asked(self) -> int:
        """Bytes by read(2)."""
        return sum(process.asked for process in self.processes.values())

    @property
    def faults(self) -> int:
        """Major page faults."""
        return sum(process.faults for process in self.processes.values())

    @property
    def stopped(self) -> set[int]:
        """The pids of those that are stopped."""
        return {pid for pid, process in self.processes.items() if process.stopped}


class Tree:
    """Finds the processes below `root`, which is not counted; an orphan becomes a child of the root."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._known: set[int] = set()  #: every process there was at the last look
        self._ours: set[int] = set()

    def read(self) -> Counters:
        """Look now."""
        pids = set(all_pids())
        self._ours &= pids
        self._adopt(pids - self._known)
        self._known = pids
        found = {pid: process for pid in sorted(self._ours) if (process := _process(pid))}
        return Counters(found)

    def _adopt(self, new: set[int]) -> None:
        """Add those of the new processes whose parent is the run's."""
        parents = {pid: int(info["ppid"]) for pid in new if (info := tree.stat(pid))}
        while born := {p for p, above in parents.items() if above in self._ours | {self._root}}:
            self._ours |= born
            for pid in born:
                del parents[pid]


def _process(pid: int) -> Process | None:
    info = tree.stat(pid)
    if info is None or tree.is_dead(info):
        return None
    ticks = int(info["user"]) + int(info["system"])
    read, asked = _read_bytes(pid)
    return Process(
        rss=int(info["pages"]) * _PAGE,
        cpu=round(ticks * _TICK, 2),
        read=read,
        asked=asked,
        faults=int(info["faults"]),
        stopped=info["state"] == "T",
    )


def _read_bytes(pid: int) -> tuple[int, int]:
    """`read_bytes` and `rchar` of proc(5): only who may trace a process is told."""
    try:
        with open(f"/proc/{pid}/io", "rb") as file:
            words = file.read().split()
    except OSError:
        words = []
    if not words:  # it has just ended, or is not ours to trace
        return 0, 0
    return int(words[words.index(b"read_bytes:") + 1]), int(words[words.index(b"rchar:") + 1])
