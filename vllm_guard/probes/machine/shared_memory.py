"""Room in /dev/shm for the message queues between engine and workers, and what others left there."""

from __future__ import annotations

import os
import stat

from vllm_guard.model import Finding
from vllm_guard.segments import SHM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.host import Host
    from vllm_guard.probes import Context

TITLE = "shared memory"

#: Measured on vLLM 0.32: a 160 MiB broadcast queue and 240 MiB for the answers, for one worker.
_NEEDED_MIB = 400
_STALE_MIB = 64  #: less than that is not worth reading what every process has mapped
_OURS = ("psm_", "nccl-", "torch_", "VLLM", "vllm")  #: Python's, NCCL's, torch's and vLLM's names
_LOOK_SECONDS = 0.1
_URI = "https://docs.vllm.ai/en/latest/deployment/docker/"


def check(context: Context) -> Iterator[Finding]:
    host = context.host
    space = host.space(SHM) if host.exists(SHM) else None
    if space is None or not os.access(host.root + SHM, os.W_OK):
        fact = "is not there" if space is None else "this user cannot write there"
        fix = "mount -t tmpfs -o size=16g tmpfs /dev/shm; in a container: --shm-size=16g"
        yield Finding("shm-missing", "warn", SHM, fact, fix=fix, uri=_URI)
        return
    free = space.free >> 20
    if free >= _NEEDED_MIB:
        yield Finding("shm-size", "ok", SHM, f"{free} MiB free")
    else:
        yield Finding(
            "shm-size",
            "warn",
            SHM,
            f"{free} MiB free; vLLM maps about {_NEEDED_MIB} MiB there for one worker",
            fix="docker run --shm-size=16g (or --ipc=host); elsewhere: mount -o remount,size=16g /dev/shm",
            uri=_URI,
        )
    yield from _stale(host)


def _stale(host: Host) -> Iterator[Finding]:
    """Segments that no process which this user can see has mapped."""
    sizes = _segments(host)
    if sum(sizes.values()) >> 20 < _STALE_MIB:
        return
    mapped = _mapped(host)
    if mapped is None:
        fact = f"{len(sizes)} segments: whether a process has them was not seen in time"
        yield Finding("shm-stale", "unknown", SHM, fact)
        return
    left = {name: size for name, size in sizes.items() if name not in mapped}
    total = sum(left.values()) >> 20
    if total >= _STALE_MIB:
        names = sorted(left)
        shown = " ".join(SHM + name for name in names[:3]) + " ..." * (len(names) > 3)
        fact = f"{len(left)} segments of {total} MiB that no process here has mapped"
        fix = f"`fuser -v {shown}`, then rm {shown}"
        yield Finding("shm-stale", "note", SHM, fact, fix=fix)


def _segments(host: Host) -> dict[str, int]:
    """The files of this user with names of ours, and the bytes that they take."""
    found = {}
    for name in host.names(SHM):
        if not name.startswith(_OURS):
            continue
        try:
            info = os.lstat(host.root + SHM + name)
        except OSError:  # it is gone already
            continue
        if stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid():
            found[name] = info.st_blocks * 512
    return found


def _mapped(host: Host) -> set[str] | None:
    """The names in /dev/shm that processes have mapped; None where there are too many to look at."""
    import time

    deadline = time.monotonic() + _LOOK_SECONDS
    found: set[str] = set()
    for pid in filter(str.isdigit, host.names("/proc")):
        if time.monotonic() > deadline:
            return None
        lines = (host.text(f"/proc/{pid}/maps") or "").splitlines()
        found |= {line.partition(f" {SHM}")[2] for line in lines}
    return found
