"""The share of a memory node that each worker of a CPU vLLM takes, by its `v1/worker/cpu_worker.py`."""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass

    from vllm_guard.host import Host
    from vllm_guard.probes import Context
    from vllm_guard.target.install import VllmInstall
else:
    from vllm_guard.frozen import dataclass

SPACE = "VLLM_CPU_KVCACHE_SPACE"  #: whole GiB for the KV cache of each worker, instead of the share
_GIB = 1 << 30
_SHARE = ("--gpu-memory-utilization", "--device-memory-utilization")
_NODES = "/sys/devices/system/node"
#: Where vLLM looks for a limit, and for what is used of it: cgroup v2, v1.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
_REFUSAL = b"is less than desired CPU memory utilization"
_AVAILABLE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
_OWN = _GIB  #: bytes that its processes have taken themselves before they look; rather more
_SPARE = 0.9  #: of what is available, for a share that will start


@dataclass(frozen=True)
class Node:
    """What vLLM counts as the memory of the host: that of one NUMA node, or of a container within it."""

    number: str
    total: int  #: bytes
    available: int


@dataclass(frozen=True)
class Share:
    """What a worker will take of it."""

    node: Node
    share: float

    @property
    def wanted(self) -> int:
        return int(self.node.total * self.share)

    @property
    def is_too_much(self) -> bool:
        return self.wanted > self.node.available - _OWN


def taken(context: Context, install: VllmInstall) -> Share | None:
    """The share; None where this vLLM takes none, or what it takes is not known."""
    explicit = context.env.get(SPACE) or context.has("--kv-cache-memory-bytes")
    if explicit or not models.says(install, _REFUSAL, "v1/worker/cpu_worker.py"):
        return None
    node, word = _node(context.host), context.flag(*_SHARE)
    default = models.utilization(install)
    try:
        share = default if word is None else float(word)
    except ValueError:
        return None
    return Share(node, share) if node and share and 0 < share <= 1 else None


def too_much(share: Share, weights: int) -> Finding:
    """What to say of a share that is not available; `weights` in bytes, 0 where they are not known."""
    node = share.node
    fact = f"vLLM takes {_place.gib(share.wanted)}, {share.share:g} of {_place.gib(node.total)}"
    fact += f", and does not start with less; {_place.gib(node.available)} available"
    space = max(1, (node.available - _OWN - weights) // 2 // _GIB)
    fitting = int(100 * _SPARE * (node.available - _OWN) / node.total) / 100
    fix = f"{SPACE}={space}, or {_SHARE[0]} {max(fitting, 0.01):g}"
    return Finding("model-memory", "warn", f"memory node {node.number}", fact, fix=fix)


def _node(host: Host) -> Node | None:
    """The memory node of the first CPU, as `get_memory_node_info` of vLLM counts it."""
    number = _first(host, "Mems_allowed_list")
    rows = (
        line.split() for line in (host.text(f"{_NODES}/node{number}/meminfo") or "").splitlines()
    )
    sizes = {
        row[2].rstrip(":"): int(row[3]) << 10 for row in rows if len(row) > 3 and row[3].isdigit()
    }
    if not {"MemTotal", *_AVAILABLE} <= sizes.keys():
        return None
    total, available = sizes["MemTotal"], sum(sizes[name] for name in _AVAILABLE)
    limits = ((host.word(limit), host.word(used)) for limit, used in _CGROUPS)
    limit, used = next(((a, b) for a, b in limits if a.isdigit()), ("", ""))
    if limit and int(limit) < total:
        total = int(limit)
        available = max(0, min(available, total - int(used or 0)))
    return Node(number, total, available)


def _first(host: Host, name: str) -> str:
    """The first number of a list in /proc/self/status; "0" where it has none."""
    lines = (host.text("/proc/self/status") or "").splitlines()
    words = next((line.split() for line in lines if line.startswith(name + ":")), [])
    number = words[1].partition(",")[0].partition("-")[0] if len(words) > 1 else ""
    return number if number.isdigit() else "0"
