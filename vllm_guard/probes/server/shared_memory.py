"""Room in /dev/shm for the message queues between engine and workers."""

from __future__ import annotations

import os

from vllm_guard.model import Finding
from vllm_guard.segments import SHM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "shared memory"

#: Measured on vLLM 0.32: a 160 MiB broadcast queue and 240 MiB for the answers, for one worker.
_NEEDED_MIB = 400
_URI = "https://docs.vllm.ai/en/latest/deployment/docker/"


def check(_context: Context) -> Iterator[Finding]:
    try:
        info = os.statvfs(SHM)
    except OSError as error:
        yield Finding("shm-missing", "warn", SHM, str(error.strerror), uri=_URI)
        return
    free = info.f_bavail * info.f_frsize >> 20
    if free >= _NEEDED_MIB:
        yield Finding("shm-size", "ok", SHM, f"{free} MiB free")
        return
    yield Finding(
        "shm-size",
        "warn",
        SHM,
        f"{free} MiB free; vLLM maps about {_NEEDED_MIB} MiB there for one worker",
        fix="docker run --shm-size=16g (or --ipc=host); elsewhere: mount -o remount,size=16g /dev/shm",
        uri=_URI,
    )
