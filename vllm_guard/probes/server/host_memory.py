"""Is there memory on the host for what is loaded through it?"""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.probes import places
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.host import Limit, Memory
    from vllm_guard.probes import Context

TITLE = "memory of the host"

_GIB = 1 << 30
_LEAST = 2 << 30  #: bytes; Python, torch and vLLM alone take about one for each process


def check(context: Context) -> Iterator[Finding]:
    memory, limit = context.host.memory(), context.host.memory_limit()
    if memory is None:
        yield Finding("host-memory", "unknown", "memory", "/proc/meminfo does not tell")
        return
    if limit is not None:
        yield _cgroup(limit)
    if context.flag("--load-format") == "dummy":
        yield Finding("host-memory", "skip", "memory", "dummy weights: nothing is loaded")
        return
    size = sum(places.weights(context).values())
    if not size:
        yield _least(memory)
        return
    yield _weights(context, memory, limit, size)


def _cgroup(limit: Limit) -> Finding:
    fact = f"{limit.used / _GIB:.1f} of {limit.limit / _GIB:.1f} GiB in use"
    if limit.left >= _LEAST:
        return Finding("cgroup-memory", "ok", limit.path, fact)
    fix = "docker run --memory, Kubernetes resources.limits.memory, Slurm --mem: raise it"
    return Finding("cgroup-memory", "warn", limit.path, f"{fact}: too little for vLLM", fix=fix)


def _least(memory: Memory) -> Finding:
    fact = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB available"
    if memory.available + memory.swap < _LEAST:
        fact += f", {memory.swap / _GIB:.1f} GiB of swap free: too little for vLLM"
        fix = "`ps aux --sort -rss | head` shows who has it"
        return Finding("host-memory", "warn", "memory", fact, fix=fix)
    return Finding("host-memory", "ok", "memory", fact)


def _weights(context: Context, memory: Memory, limit: Limit | None, size: int) -> Finding:
    """On the CPU the weights stay in memory; for a GPU they pass through the page cache."""
    available, where = memory.available + memory.swap, "memory and swap"
    if limit is not None and limit.left < available:
        available, where = limit.left, limit.path
    fact = f"{_place.gib(available)} available; the weights are {_place.gib(size)}"
    if size <= available:
        return Finding("host-memory", "ok", where, fact)
    vllm = context.target.vllm if context.target else None
    if vllm is not None and vllm.is_for_cpu:
        fix = "a smaller or quantised model, or more memory"
        return Finding("host-memory", "warn", where, f"{fact}, and stay there", fix=fix)
    fact += ": they cannot stay in the page cache, so each start reads the disk"
    return Finding("host-memory", "note", where, fact)
