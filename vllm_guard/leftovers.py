"""After the end: what of a run is still there, and away with it, where it is provably the run's own."""

from __future__ import annotations

import os

from vllm_guard import cgroup, tree
from vllm_guard.model import Finding
from vllm_guard.segments import abandoned, all_pids, folder_of, of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from dataclasses import dataclass

    from vllm_guard.marker import Marker
    from vllm_guard.record import Shelf
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
    survivors: tuple[int, ...]  #: processes that nothing could end
    stays: tuple[str, ...]  #: what could not be removed
    spared: int  #: this process and those above it, as far as they are of the run


def remove(
    segments: Iterable[Segment], private: str, contained: str, present: frozenset[int]
) -> Removed:
    """Remove what a run left: its cgroup, its own folder, and shared memory nobody holds.

    `present`: the inodes that were in /dev/shm before it; they are never removed.
    """
    stays = [contained] if contained and not cgroup.remove(contained) else []
    removed, held = _remove_segments(segment for segment in segments if segment[0] not in present)
    if private and not _remove_folder(private):
        stays.append(private)
    return Removed(len(removed), sum(removed.values()), (*stays, *held))


def _remove_folder(path: str) -> bool:
    from vllm_guard import folders

    return folders.remove(path)


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
        Finding("left-behind", "warn", path, "not removed", fix=_remover(path)) for path in stays
    )
    unclear = (
        Finding(
            "shared-memory",
            "note",
            path,
            "appeared during the run; no process holds it, and whose it was could not be seen",
            fix=f"rm {'-r ' * os.path.isdir(path)}{path}",
        )
        for path in strays
    )
    return (*processes, *files, *unclear)


def system_v(since: float) -> Iterator[Finding]:
    """System V shared memory of this user that was made after that time, by a process that has ended.

    Linux keeps it until somebody removes it; only its own table tells of it (proc(5), sysvipc).
    """
    for row in _rows("/proc/sysvipc/shm"):
        made, creator, attached = int(row["ctime"]), int(row["cpid"]), int(row["nattch"])
        mine = (
            int(row["cuid"]) == os.geteuid() and made >= int(since) and creator
        )  # 0: of a container
        if mine and not attached and not os.path.exists(f"/proc/{creator}"):
            yield Finding(
                "shared-memory",
                "note",
                f"System V segment {row['shmid']}",
                f"appeared during the run; process {creator}, which made it, has ended",
                fix=f"ipcrm -m {row['shmid']}",
            )


def _rows(path: str) -> list[dict[str, str]]:
    """A table of /proc whose first line names the columns."""
    try:
        with open(path, "rb") as file:
            names, *rows = (line.split() for line in file.read().decode().splitlines())
    except (OSError, ValueError):
        return []
    return [dict(zip(names, row, strict=True)) for row in rows]


def _remover(path: str) -> str:
    """The command that removes it."""
    if path.startswith("/sys/"):
        return f"rmdir {path}"
    from vllm_guard import folders

    unmount = "".join(f"umount {point}; " for point in folders.mounts(path))
    return f"{unmount}rm -r {path}"


def _remove_segments(segments: Iterable[Segment]) -> tuple[dict[str, int], list[str]]:
    """Unlink the run's files of /dev/shm that no process holds any more; path -> bytes, and what stays."""
    removed, stays = {}, []
    for _, path in abandoned(segments):
        try:
            size = os.lstat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError:
            stays.append(path)
            continue
        removed[path] = size
    return removed, stays


def sweep_dead(shelf: Shelf) -> Iterator[Finding]:
    """Sweep every run whose guard and keeper are both gone; a finding for each, and for what stays.

    While something stays the marker does, too: the next sweep tries again.
    """
    for marker in shelf.markers():
        if marker.state != "dead":
            continue
        swept = sweep(marker)
        shelf.mask_logs(marker.run_id)
        left = findings(swept.survivors, swept.stays, ())
        if not left and not swept.spared:
            shelf.unmark(marker.run_id)
        spared = f"; left alone: {swept.spared} that this process belongs to" * bool(swept.spared)
        yield Finding(
            "dead-run",
            "note",
            f"run {marker.run_id}",
            f"its guard was killed; ended {swept.processes} processes{spared}, "
            f"removed {swept.segments} files of /dev/shm "
            f"and {'its' if swept.private else 'no'} private folder",
        )
        yield from left


def sweep(marker: Marker) -> Swept:
    """End and remove what is left of a dead run: processes of its cgroup, or with its id and not older.

    Not this process and those above it: while they live they may need its folder, and are in its cgroup.
    """
    from vllm_guard import folders

    contained = marker.cgroup if os.path.isdir(marker.cgroup) else ""
    us = tree.ancestry()

    def look() -> dict[int, str]:
        found = tagged(marker.run_id, marker.guard[1], contained)
        return {pid: start for pid, start in found.items() if pid not in us}

    ended, segments = _end_all(look)
    left = tagged(marker.run_id, marker.guard[1], contained)
    spared = us.intersection(left)
    private = marker.private if folders.is_ours(marker.private) else ""
    if spared:
        private = contained = ""
    removed = remove(segments, private, contained, marker.present)
    return Swept(
        len(ended.difference(left)),
        removed.segments,
        bool(private) and private not in removed.stays,
        tuple(set(left) - spared),
        removed.stays,
        len(spared),
    )


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


def end_tagged(run_id: str) -> None:
    """End whatever carries the id of this run, wherever it has gone."""
    me = tree.stat(os.getpid())
    if me is not None:
        _end_all(lambda: tagged(run_id, me["start"]))


def _end_all(look: Callable[[], Mapping[int, str]]) -> tuple[set[int], set[Segment]]:
    """SIGKILL to what `look` finds until it finds nothing new; their pids and files of /dev/shm.

    Trackers die last: they unlink what the others had registered, and no longer held.
    """
    segments: set[Segment] = set()
    ended: set[int] = set()

    def new() -> dict[int, str]:
        return {pid: start for pid, start in look().items() if pid not in ended}

    while victims := tree.without_trackers(new()):
        segments |= of(victims)
        ended.update(victims)
        tree.send(victims, signal.SIGKILL)
        _wait_gone(victims, _SWEEP_SECONDS)
    trackers = new()
    _wait_gone(trackers, tree.Limits.tracker)
    tree.send(trackers, signal.SIGKILL)
    _wait_gone(trackers, _SWEEP_SECONDS)
    return ended.union(trackers), segments


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


def _wait_gone(processes: Mapping[int, str], seconds: float) -> None:
    """Wait for the death of processes that are not our children, by pidfd where the kernel has them."""
    import select
    import time

    deadline = time.monotonic() + seconds
    for pid, start in processes.items():
        try:
            fd = os.pidfd_open(pid)
        except OSError:  # gone; or refused
            while tree.is_alive(pid, start) and time.monotonic() < deadline:
                time.sleep(0.01)
            continue
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(fd)
