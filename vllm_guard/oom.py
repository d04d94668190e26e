"""The kernel's out-of-memory killer: how often it has struck where this process is accounted."""

from __future__ import annotations

from vllm_guard import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

#: Controller, where its cgroups lie, counter and limit (cgroup-v2.rst, cgroup-v1/memory.rst; Linux 4.13).
_KINDS = (
    (b"", "/sys/fs/cgroup", "memory.events", "memory.max"),
    (b"memory", "/sys/fs/cgroup/memory", "memory.oom_control", "memory.limit_in_bytes"),
)
_HOST = "/proc/vmstat"
_UNLIMITED = 1 << 60  #: bytes; v1 says "no limit" with the largest number of pages there is


@dataclass(frozen=True)
class Kills:
    """A count of processes that were killed for want of memory."""

    path: str  #: the file that says `oom_kill N`
    count: int
    limit: int | None = None  #: bytes that the memory cgroup may use, if it has a limit

    @property
    def since(self) -> int:
        """How many more there are by now."""
        return (_count(self.path) or 0) - self.count


def read() -> Kills | None:
    """The count of our memory cgroup, or the host's where no cgroup counts; None without either."""
    for path, limit in (*_of_cgroups(), (_HOST, "")):
        count = _count(path)
        if count is not None:
            return Kills(path, count, _limit(limit))
    return None


def _of_cgroups() -> Iterator[tuple[str, str]]:
    """Counters and limits; in a container our cgroup may be seen as the mount itself."""
    for controller, mount, counter, limit in _KINDS:
        own = cgroup.own(controller)
        if own:
            for folder in (mount + own.rstrip("/"), mount):
                yield f"{folder}/{counter}", f"{folder}/{limit}"


def _count(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return next((int(line[9:]) for line in file if line.startswith("oom_kill ")), None)
    except OSError:
        return None


def _limit(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None
