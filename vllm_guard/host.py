"""The machine as its files tell it: /proc, /sys, /dev, /etc, below a root that may be a described machine.

What the kernel tells by system calls only, a described machine says in its file `/.calls`, one call a line:
`space PATH TOTAL FREE` (bytes), `address INTERFACE ADDRESS`, `glibc VERSION`. What is not told is None or
empty, and never a guess.
"""

from __future__ import annotations

import errno
import os

from vllm_guard import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

_CALLS = "/.calls"
_FILE_MAX = 4 << 20
_LOG_MAX = 16 << 20  #: bytes of the kernel log; its ring is smaller nearly everywhere
_UNLIMITED = 1 << 60  #: bytes; cgroup v1 says "no limit" with the largest number of pages there is
_IPC_LOCK = 14  #: CAP_IPC_LOCK in <linux/capability.h>
#: Where a controller's cgroups lie: v2, and v1 with the names that it has there.
_MEMORY = (
    ("", "/sys/fs/cgroup", "memory.max", "memory.current"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_PIDS = (
    ("", "/sys/fs/cgroup", "pids.max", "pids.current"),
    ("pids", "/sys/fs/cgroup/pids", "pids.max", "pids.current"),
)


@dataclass(frozen=True)
class Memory:
    """Bytes of /proc/meminfo."""

    total: int
    available: int
    swap: int  #: free


@dataclass(frozen=True)
class Limit:
    """How much a cgroup may use, and how much it does."""

    path: str  #: the file that sets it
    limit: int
    used: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class Space:
    """Bytes of a file system."""

    total: int
    free: int


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mounts."""

    source: str
    point: str
    kind: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Port:
    """A port of an InfiniBand or RoCE device."""

    device: str
    number: str
    state: str  #: "ACTIVE", "DOWN"
    link: str  #: "InfiniBand", or "Ethernet" for RoCE
    gids: tuple[str, ...]  #: those that are set


@dataclass(frozen=True)
class Process:
    """Who a process is."""

    pid: int
    parent: int
    title: str  #: its words, as /proc has them


@dataclass(frozen=True)
class Host:
    """One machine; every path is an absolute one on it."""

    root: str = ""

    def exists(self, path: str) -> bool:
        return os.path.exists(self.root + path)

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.root + path))
        except OSError:
            return []

    def text(self, path: str) -> str | None:
        """The content of a small file; None where it cannot be read."""
        try:
            content = paths.peek(self.root + path, _FILE_MAX)
        except (OSError, ValueError):
            return None
        return content.decode("utf-8", "replace")

    def word(self, path: str) -> str:
        """The content without the white space around it; empty where it cannot be read."""
        return (self.text(path) or "").strip()

    def calls(self, name: str) -> Iterator[list[str]]:
        """What a described machine says of a system call."""
        rows = (line.split() for line in (self.text(_CALLS) or "").splitlines())
        return (row[1:] for row in rows if row[:1] == [name])

    def memory(self) -> Memory | None:
        rows = (line.split() for line in (self.text("/proc/meminfo") or "").splitlines())
        sizes = {row[0]: int(row[1]) << 10 for row in rows if len(row) > 1 and row[1].isdigit()}
        if not {"MemTotal:", "MemAvailable:"} <= sizes.keys():
            return None
        return Memory(sizes["MemTotal:"], sizes["MemAvailable:"], sizes.get("SwapFree:", 0))

    def memory_limit(self) -> Limit | None:
        """The tightest limit of this process's memory cgroup and those above it; None without one."""
        return self._tightest(_MEMORY)

    def pids_limit(self) -> Limit | None:
        """The same for processes and threads."""
        return self._tightest(_PIDS)

    def _tightest(self, kinds: tuple[tuple[str, str, str, str], ...]) -> Limit | None:
        found = []
        for controller, mount, limit, used in kinds:
            for folder in self._cgroups(controller, mount):
                most, now = self.word(f"{folder}/{limit}"), self.word(f"{folder}/{used}")
                if most.isdigit() and int(most) < _UNLIMITED:
                    path = f"{folder}/{limit}"
                    found.append(Limit(path, int(most), int(now) if now.isdigit() else 0))
        return min(found, key=lambda limit: limit.left, default=None)

    def _cgroups(self, controller: str, mount: str) -> Iterator[str]:
        """Our cgroup and those above it; in a container ours may be seen as the mount itself."""
        rows = (line.split(":", 2) for line in (self.text("/proc/self/cgroup") or "").splitlines())
        own = [row[2] for row in rows if len(row) == 3 and controller in row[1].split(",")]
        path = own[0].rstrip("/") if own else None
        while path:
            yield mount + path
            path = path.rpartition("/")[0]
        if path is not None:
            yield mount

    def space(self, path: str) -> Space | None:
        """The file system that holds the path, or the nearest folder above it that exists."""
        if self.root:
            told = [row for row in self.calls("space") if _is_below(path, row[0])]
            row = max(told, key=lambda row: len(row[0]), default=None)
            return Space(int(row[1]), int(row[2])) if row else None
        try:
            info = os.statvfs(self.nearest(path))
        except OSError:
            return None
        return Space(info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize)

    def glibc(self) -> str:
        """The version of the C library; empty where that is not glibc."""
        if self.root:
            return next((row[0] for row in self.calls("glibc")), "")
        try:
            return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
        except (ValueError, OSError):
            return ""

    def nearest(self, path: str) -> str:
        """The path, or the first folder above it that exists."""
        while path not in ("/", "") and not self.exists(path):
            path = os.path.dirname(path)
        return path or "/"

    def mounts(self) -> tuple[Mount, ...]:
        rows = (line.split() for line in (self.text("/proc/self/mounts") or "").splitlines())
        return tuple(
            Mount(row[0], row[1].replace("\\040", " "), row[2], tuple(row[3].split(",")))
            for row in rows
            if len(row) > 3
        )

    def mount_of(self, path: str) -> Mount | None:
        """What the path is mounted from; of several at one place the last covers the others."""
        real = path if self.root else os.path.realpath(path)
        holding = [mount for mount in self.mounts() if _is_below(real, mount.point)]
        longest = max((len(mount.point) for mount in holding), default=0)
        return next((m for m in reversed(holding) if len(m.point) == longest), None)

    def limits(self, name: str) -> tuple[int | None, int | None] | None:
        """Soft and hard limit of this process ("Max open files"); inside, None is unlimited."""
        for line in (self.text("/proc/self/limits") or "").splitlines():
            if line.startswith(name + "  "):
                soft, hard = line[len(name) :].split()[:2]
                return _number(soft), _number(hard)
        return None

    def may_lock(self) -> bool:
        """Has this process CAP_IPC_LOCK?"""
        lines = (self.text("/proc/self/status") or "").splitlines()
        masks = [line.split()[1] for line in lines if line.startswith("CapEff:")]
        return bool(masks) and bool(int(masks[0], 16) >> _IPC_LOCK & 1)

    def process(self, pid: int) -> Process | None:
        stat = self.text(f"/proc/{pid}/stat")
        if stat is None:
            return None
        fields = stat.rpartition(")")[2].split()
        title = (self.text(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
        name = stat.partition("(")[2].rpartition(")")[0]
        return Process(pid, int(fields[1]) if len(fields) > 1 else 0, title or name)

    def kernel_log(self) -> list[str] | None:
        """The lines of the kernel's ring; None where this user may not read it (`dmesg_restrict`)."""
        try:
            fd = os.open(self.root + "/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return _records(fd).decode("utf-8", "replace").splitlines()
        except OSError:
            return None
        finally:
            os.close(fd)

    def rdma(self) -> tuple[Port, ...]:
        """The ports of InfiniBand and RoCE devices."""
        above = "/sys/class/infiniband"
        folders = (
            (device, number, f"{above}/{device}/ports/{number}")
            for device in self.names(above)
            for number in self.names(f"{above}/{device}/ports")
        )
        return tuple(
            Port(
                device,
                number,
                self.word(f"{folder}/state").rpartition(" ")[2],
                self.word(f"{folder}/link_layer"),
                self._gids(f"{folder}/gids"),
            )
            for device, number, folder in folders
        )

    def _gids(self, folder: str) -> tuple[str, ...]:
        gids = (self.word(f"{folder}/{name}") for name in self.names(folder)[:16])
        return tuple(gid for gid in gids if gid.strip("0:"))


def _is_below(path: str, folder: str) -> bool:
    return folder in ("/", path) or path.startswith(folder.rstrip("/") + "/")


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def _records(fd: int) -> bytes:
    """All that is there now. /dev/kmsg gives one record a read; EPIPE: one was overwritten meanwhile."""
    chunks: list[bytes] = []
    size = 0
    while size < _LOG_MAX:
        try:
            chunk = os.read(fd, 8192)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.EPIPE:
                continue
            raise
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
