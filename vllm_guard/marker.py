"""The marker of a run that is under way: who runs it, where, and what may be removed if they die.

Lines of `WORD VALUE`; the keeper's comes again when it is known. The state folder may lie on a file system
that several hosts or containers share: only where a marker was made is it known who is alive.
"""

from __future__ import annotations

import os

from vllm_guard import cgroup, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from dataclasses import dataclass
    from typing import Literal

    #: A process: its pid and start time.
    Process = tuple[int, str]
    State = Literal["running", "dead", "elsewhere"]
else:
    from vllm_guard.frozen import dataclass


@dataclass(frozen=True)
class Place:
    """Where pids mean something."""

    host: str  #: machine-id and name: a reboot changes neither, two hosts rarely share both
    boot: str
    namespace: str  #: inode of the pid namespace; used again only when that namespace is gone


@dataclass(frozen=True)
class Marker:
    """Who was running a run."""

    run_id: str
    guard: Process
    keeper: Process  #: (0, "0") before its start
    private: str  #: the folder it may have; empty for none
    cgroup: str  #: the same
    place: Place
    present: frozenset[int]  #: inodes that were in /dev/shm before it

    @property
    def state(self) -> State:
        """`dead`: neither guard nor keeper is there any more."""
        here, there = place(), self.place
        if not (here.boot and there.boot) or here.host != there.host:
            return "elsewhere"
        if here.boot != there.boot:
            return "dead"
        if here.namespace != there.namespace:
            return "elsewhere"
        alive = tree.is_alive(*self.guard) or tree.is_alive(*self.keeper)
        return "running" if alive else "dead"


def place() -> Place:
    """Where this process is; without `boot` where /proc cannot be read."""
    host = f"{_line('/etc/machine-id') or '-'} {os.uname().nodename}"
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return Place(host, "", "")
    return Place(host, _line("/proc/sys/kernel/random/boot_id"), str(namespace))


def text(private: str, contained: str, present: Iterable[int]) -> bytes:
    """The marker of a run of this process, before its keeper is started."""
    here = place()
    lines = (
        f"guard {_process(os.getpid())}",
        "keeper 0 0",
        f"private {private}",
        f"cgroup {contained}",
        f"host {here.host}",
        f"boot {here.boot}",
        f"pidns {here.namespace}",
        f"shm {' '.join(map(str, present))}",
    )
    return os.fsencode("\n".join((*lines, "")))


def keeper_line(pid: int) -> bytes:
    """What is added when the keeper has been started."""
    return f"keeper {_process(pid)}\n".encode()


def parse(run_id: str, content: bytes) -> Marker | None:
    """The marker with this text; None if it is none of ours."""
    lines = os.fsdecode(content).split("\n")[:-1]  # the last one ended, or is half written
    try:
        rows = dict(line.split(" ", 1) for line in lines)
        return Marker(
            run_id,
            _as_process(rows["guard"]),
            _as_process(rows["keeper"]),
            _named(rows["private"], f"vg-{run_id}"),
            _of_cgroups(_named(rows["cgroup"], f"vllm-guard-{run_id}")),
            Place(rows["host"], rows["boot"], rows["pidns"]),
            frozenset(map(int, rows["shm"].split())),
        )
    except (ValueError, KeyError):
        return None


def _process(pid: int) -> str:
    info = tree.stat(pid)
    return f"{pid} {info['start'] if info else '?'}"


def _as_process(words: str) -> Process:
    pid, start = words.split(" ")
    return int(pid), str(int(start))


def _named(path: str, name: str) -> str:
    """That path, if it is absolute, means what it says, and ends with the name."""
    good = os.path.isabs(path) and os.path.normpath(path) == path
    return path if good and os.path.basename(path) == name else ""


def _of_cgroups(path: str) -> str:
    root = cgroup.root()
    return path if root and path.startswith(f"{root}/") else ""


def _line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read(256)).strip().replace("\n", " ")
    except OSError:
        return ""
