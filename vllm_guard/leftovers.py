"""After the end: what of a run is still there, and away with it, where it is provably the run's own."""

from __future__ import annotations

import os

from vllm_guard import cgroup, tree
from vllm_guard.model import Finding
from vllm_guard.record import remove_tree
from vllm_guard.segments import abandoned, all_pids, folder_of, of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from dataclasses import dataclass

    from vllm_guard.record import Marker, Shelf
    from vllm_guard.segments import Segment
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

TOKEN = "VGUARD_RUN_ID"  # noqa: S105  (the name of a variable)
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True)
class Removed:
    """What `remove` did."""

    segments: int = 0  #: files of /dev/shm
    freed: int = 0  #: bytes they held
    stays: tuple[str, ...] = ()  #: what could not be removed


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    processes: int
    segments: int
    private: bool


def remove(segments: Iterable[Segment], private: str, contained: str) -> Removed:
    """Remove what a run left: its cgroup, its own folder, and shared memory nobody holds."""
    held = contained and not cgroup.remove(contained)
    removed = _remove_segments(segments)
    if private:
        remove_tree(private)
    stays = [private] if private and os.path.lexists(private) else []
    return Removed(len(removed), sum(removed.values()), (*stays, *([contained] if held else [])))


def findings(
    survivors: Iterable[int], stays: Iterable[str], strays: Iterable[str]
) -> tuple[Finding, ...]:
    """A finding for each thing that is still there, with what removes it.

    `strays`: shared memory that appeared meanwhile; whose it is could not be seen.
    """
    processes = (
        Finding(
            "left-behind",
            "warn",
            f"process {pid}",
            "survived SIGKILL: the kernel holds it",
            fix=f"look at /proc/{pid}/wchan; a reboot ends it",
        )
        for pid in survivors
    )
    files = (
        Finding("left-behind", "warn", path, "not removed", fix=f"{_remover(path)} {path}")
        for path in stays
    )
    unclear = (
        Finding(
            "shared-memory",
            "note",
            path,
            "appeared during the run; no process holds it, and whose it was could not be seen",
            fix=f"rm {path}",
        )
        for path in strays
    )
    return (*processes, *files, *unclear)


def _remover(path: str) -> str:
    return "rmdir" if path.startswith("/sys/") else "rm -r"


def _remove_segments(segments: Iterable[Segment]) -> dict[str, int]:
    """Unlink the run's files of /dev/shm that no process holds any more; path -> bytes."""
    removed = {}
    for _, path in abandoned(segments):
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
        except OSError:
            continue
        removed[path] = size
    return removed


def sweep_dead(shelf: Shelf) -> Iterator[Finding]:
    """Sweep every run whose guard and keeper are both gone; a finding for each."""
    for marker in shelf.markers():
        if marker.is_dead:
            swept = sweep(marker)
            shelf.unmark(marker.run_id)
            yield Finding(
                "dead-run",
                "note",
                f"run {marker.run_id}",
                f"its guard was killed; ended {swept.processes} processes, "
                f"removed {swept.segments} files of /dev/shm "
                f"and {'its' if swept.private else 'no'} private folder",
            )


def sweep(marker: Marker) -> Swept:
    """End and remove what is left of a dead run: processes of its cgroup, or with its id and not older."""
    contained = marker.cgroup if os.path.isdir(marker.cgroup) else ""
    ended, segments = _end_all(lambda: tagged(marker.run_id, marker.guard[1], contained))
    private = os.path.isdir(marker.private) and os.stat(marker.private).st_uid == os.geteuid()
    removed = remove(segments, marker.private if private else "", contained)
    return Swept(len(ended), removed.segments, private)


def end_group(pgid: int, run_id: str) -> tuple[set[int], set[Segment]]:
    """End what is left of a run whose orphans do not become ours: its group, and what carries its id."""
    me = tree.stat(os.getpid())
    if me is None:
        tree.send_group(pgid, signal.SIGKILL)
        return set(), set()
    shared = of(tagged(run_id, me["start"]))  # a process that has ended no longer tells
    tree.send_group(pgid, signal.SIGKILL)
    ended, more = _end_all(lambda: tagged(run_id, me["start"]))
    return ended, shared | more


def _end_all(look: Callable[[], Mapping[int, str]]) -> tuple[set[int], set[Segment]]:
    """SIGKILL to what `look` finds until it finds nothing new; their pids and files of /dev/shm."""
    segments: set[Segment] = set()
    ended: set[int] = set()
    while new := {pid: start for pid, start in look().items() if pid not in ended}:
        segments |= of(new)
        ended.update(new)
        tree.send(new, signal.SIGKILL)
        _wait_gone(new)
    return ended, segments


def tagged(run_id: str, since: str, contained: str = "") -> dict[int, str]:
    """Living processes in the run's cgroup, and those of this user that carry its id and are not older.

    pid -> start time; `since`: the start time of its guard, in clock ticks after boot.
    """
    word = f"{TOKEN}={run_id}".encode()
    inside = set(cgroup.pids(contained))
    found = {}
    for pid in all_pids():
        info = tree.stat(pid)
        if info is None or tree.is_dead(info) or int(info["start"]) < int(since):
            continue
        if pid in inside or word in _environ(pid):
            found[pid] = info["start"]
    return found


def _environ(pid: int) -> list[bytes]:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return []
        with open(f"{folder_of(pid)}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _wait_gone(pids: Iterable[int]) -> None:
    """Wait for the death of processes that are not our children, by pidfd."""
    import select
    import time

    deadline = time.monotonic() + _SWEEP_SECONDS
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(fd)
