"""Is there as much free memory on each GPU as vLLM will ask for, and if not, who has it?"""

from __future__ import annotations

from vllm_guard import nvml
from vllm_guard.frozen import replace
from vllm_guard.model import Finding
from vllm_guard.probes import parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.host import Host
    from vllm_guard.nvml import Device
    from vllm_guard.probes import Context

TITLE = "free memory of the GPUs"

_GIB = 1 << 30
_DEFAULT = 0.9  #: of vLLM up to 0.19; later ones say it in config/cache.py
_SOURCE_MAX = 1 << 20
_MOST_NAMED = 3
_URI = "https://docs.vllm.ai/en/latest/configuration/conserving_memory/"


def check(context: Context) -> Iterator[Finding]:
    survey, sizes = nvml.survey(context.host), parallel.sizes(context)
    if survey is None or sizes is None or context.has("--device-ids"):
        return
    devices = nvml.visible(survey.devices, context.env.get("CUDA_VISIBLE_DEVICES"))
    if not devices:
        return
    if context.has("--kv-cache-memory-bytes"):
        fact = "says how much of the GPUs is used: their free memory is not judged"
        yield Finding("gpu-memory", "skip", "--kv-cache-memory-bytes", fact)
        return
    share = _share(context)
    if share is None:
        fact = "is no number between 0 and 1"
        yield Finding("gpu-memory", "unknown", "--gpu-memory-utilization", fact)
        return
    if context.is_server:
        yield from (_judged(context.host, device, share) for device in devices[: sizes.here])
        return
    for device in devices:  # a script has its own idea of which, and how much
        finding = _judged(context.host, device, share)
        yield replace(finding, status="note") if finding.status == "warn" else finding


def _share(context: Context) -> float | None:
    """`--gpu-memory-utilization`, or what the installed vLLM takes without it."""
    try:
        share = float(context.flag("--gpu-memory-utilization") or _default(context))
    except ValueError:
        return None
    return share if 0 < share <= 1 else None


def _default(context: Context) -> float:
    target = context.target
    if target is None or target.vllm is None:
        return _DEFAULT
    import re

    from vllm_guard.target.words import head

    source = head(f"{target.vllm.package}/config/cache.py", _SOURCE_MAX)
    found = re.search(rb"gpu_memory_utilization: float = (?:Field\(default=)?([\d.]+)", source)
    return float(found[1]) if found else _DEFAULT


def _judged(host: Host, device: Device, share: float) -> Finding:
    subject = f"GPU {device.index}"
    if device.total is None or device.free is None:
        return Finding("gpu-memory", "unknown", subject, "NVML does not tell its memory")
    if device.mig:
        return Finding("gpu-memory", "unknown", subject, "is divided by MIG: not judged as a whole")
    wanted = share * device.total
    fact = (
        f"{device.free / _GIB:.1f} of {device.total / _GIB:.1f} GiB free; vLLM asks for "
        f"{wanted / _GIB:.1f} (gpu-memory-utilization {share:g})"
    )
    if device.free >= wanted:
        return Finding("gpu-memory", "ok", subject, fact)
    who, fix = _holders(host, device, device.free / device.total)
    return Finding("gpu-memory", "warn", subject, f"{fact}{who}", fix=fix, uri=_URI)


def _holders(host: Host, device: Device, free: float) -> tuple[str, str]:
    """Who has the memory, and what frees it."""
    lower = f"--gpu-memory-utilization {int(free * 100) / 100:g}"
    holders = sorted((device.holders or {}).items(), key=lambda item: -item[1])
    if not holders:
        return "; NVML names no process here: another container may have it", lower
    named = [_named(host, pid, size) for pid, size in holders[:_MOST_NAMED]]
    orphans = [pid for pid, _ in holders if _is_orphan(host, pid)]
    more = f" and {len(holders) - _MOST_NAMED} more" if len(holders) > _MOST_NAMED else ""
    fix = f"kill {' '.join(map(str, orphans))}" if orphans else f"end it, or {lower}"
    return f"; held by {', '.join(named)}{more}", fix


def _named(host: Host, pid: int, size: int) -> str:
    process = host.process(pid)
    if process is None:
        return f"process {pid} of another container ({size / _GIB:.1f} GiB)"
    orphan = "orphaned " if _is_orphan(host, pid) else ""
    return f"{orphan}{_short(process.title)}, pid {pid} ({size / _GIB:.1f} GiB)"


def _short(title: str) -> str:
    """The program and what it runs; its options may hold secrets."""
    words = title.split()
    until = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join(words[: min(3, until)])[:80]


def _is_orphan(host: Host, pid: int) -> bool:
    """A part of vLLM whose API server has ended: its title, and init as its parent."""
    process = host.process(pid)
    return process is not None and process.parent == 1 and process.title.startswith("VLLM::")
