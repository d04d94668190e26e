"""After the end: what of a run is still there, and away with it, where it is provably the run's own."""

from __future__ import annotations

import os
import stat

from vllm_guard import tree
from vllm_guard.model import Finding
from vllm_guard.record import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from dataclasses import dataclass

    from vllm_guard.record import Marker
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

TOKEN = "VGUARD_RUN_ID"  # noqa: S105  (the name of a variable)
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True)
class Swept:
    """What a sweep removed."""

    processes: int
    segments: int
    private: bool


def clean(survivors: Iterable[int], segments: Iterable[str], private: str) -> tuple[Finding, ...]:
    """Remove what the run left on disk and in memory; a finding for each thing that stays."""
    findings = [
        Finding(
            "left-behind",
            "warn",
            f"process {pid}",
            "survived SIGKILL: the kernel holds it",
            fix=f"look at /proc/{pid}/wchan; a reboot ends it",
        )
        for pid in survivors
    ]
    remove_segments(segments)
    if private:
        remove_tree(private)
        if os.path.exists(private):
            findings.append(
                Finding("left-behind", "warn", private, "not removed", fix=f"rm -r {private}")
            )
    return tuple(findings)


def remove_segments(segments: Iterable[str]) -> int:
    """Unlink files of /dev/shm that only processes of the run had mapped; returns how many."""
    mine = [path for path in segments if _is_mine(path)]
    if not mine:
        return 0
    others = tree.mapped_segments(tree.all_pids())
    removed = [path for path in mine if path not in others]
    for path in removed:
        os.unlink(path)
    return len(removed)


def sweep(marker: Marker) -> Swept:
    """End and remove what is left of a dead run: processes that carry its id and started after it."""
    segments: set[str] = set()
    ended: set[int] = set()
    rest = tagged(marker)
    while rest:
        segments |= tree.mapped_segments(rest)
        ended |= set(rest)
        tree.send(rest, signal.SIGKILL)
        _wait_gone(rest)
        rest = [pid for pid in tagged(marker) if pid not in ended]
    count = remove_segments(segments)
    private = os.path.isdir(marker.private) and os.stat(marker.private).st_uid == os.geteuid()
    if private:
        remove_tree(marker.private)
    return Swept(len(ended), count, private)


def tagged(marker: Marker) -> list[int]:
    """Living processes of this user that carry the run's id and are no older than its guard."""
    word = f"{TOKEN}={marker.run_id}".encode()
    found = []
    for pid in tree.all_pids():
        info = tree.stat(pid)
        if info is None or info["state"] in "ZX" or int(info["start"]) < int(marker.guard[1]):
            continue
        if word in _environ(pid):
            found.append(pid)
    return found


def _environ(pid: int) -> list[bytes]:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return []
        with open(f"/proc/{pid}/environ", "rb") as file:
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


def _is_mine(path: str) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid()
