"""How the GPUs of a tensor-parallel group reach each other, and what vLLM remembers about it."""

from __future__ import annotations

from vllm_guard import nvml
from vllm_guard.model import Finding
from vllm_guard.probes import parallel, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.nvml import Device, Link
    from vllm_guard.probes import Context

TITLE = "the links between the GPUs"

#: NVML_P2P_STATUS_*
_STATUS = {
    1: "the chipset does not support it",
    2: "the GPU does not support it",
    3: "the I/O hub's topology does not support it",
    4: "disabled by a driver setting",
    5: "not supported",
}
_BETWEEN_SOCKETS = 50  #: NVML_TOPOLOGY_SYSTEM
_OFF = ("NCCL_P2P_DISABLE", "1")


def check(context: Context) -> Iterator[Finding]:
    survey, sizes = nvml.survey(context.host), parallel.sizes(context)
    if survey is None or sizes is None or sizes.world < 2 or context.has("--device-ids"):
        return
    devices = nvml.visible(survey.devices, context.env.get("CUDA_VISIBLE_DEVICES"))
    if devices is None or len(devices) < 2 or survey.links is None:
        return
    pairs = _pairs(devices[: sizes.here], survey.links)
    yield _access(context, pairs)
    yield from _remembered(context, devices, survey.links)


def _pairs(
    devices: tuple[Device, ...], links: Mapping[tuple[int, int], Link]
) -> dict[tuple[int, int], Link]:
    used = {device.index for device in devices}
    return {pair: link for pair, link in links.items() if used.issuperset(pair)}


def _access(context: Context, pairs: Mapping[tuple[int, int], Link]) -> Finding:
    without = {pair: link.p2p for pair, link in pairs.items() if link.p2p}
    untold = [pair for pair, link in pairs.items() if link.p2p is None]
    far = [pair for pair, link in pairs.items() if link.distance == _BETWEEN_SOCKETS]
    if without:
        pair, status = next(iter(without.items()))
        fact = f"no P2P between {len(without)} of {len(pairs)} pairs: {_STATUS.get(status or 0, 'unknown')}"
        slower = "NCCL goes through host memory"
        off = context.env.get(_OFF[0]) == _OFF[1]
        fix = "" if off else "nvidia-smi topo -p2p r; where it hangs: -p p2p-off"
        return Finding("gpu-p2p", "note", _words(pair), f"{fact}; {slower}", fix=fix)
    if untold:
        return Finding("gpu-p2p", "unknown", _words(untold[0]), "NVML does not tell")
    if far:
        fact = f"P2P for all {len(pairs)} pairs; {len(far)} of them between CPU sockets"
        return Finding("gpu-p2p", "ok", _words(far[0]), fact)
    return Finding("gpu-p2p", "ok", "GPUs", f"P2P for all {len(pairs)} pairs")


def _remembered(
    context: Context, devices: tuple[Device, ...], links: Mapping[tuple[int, int], Link]
) -> Iterator[Finding]:
    """The vLLM test of P2P is made once: its answer, in numbers of visible devices, is kept."""
    key = context.env.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(len(devices))))
    path = f"{places.vllm_cache(context.env)}/gpu_p2p_access_cache_for_{key}.json"
    text = context.host.text(path)
    if text is None:
        return
    import json

    try:
        known = json.loads(text)
        told = {pair: known[f"{pair[0]}->{pair[1]}"] for pair in _local(len(devices))}
    except (ValueError, KeyError, TypeError):
        fact = f"does not name all {len(devices)} devices: vLLM fails on it"
        yield Finding("gpu-p2p-cache", "warn", path, fact, fix=f"rm {path}")
        return
    for (one, other), can in told.items():
        pair = sorted((devices[one].index, devices[other].index))
        link = links.get((pair[0], pair[1]))
        if link is not None and link.p2p is not None and can and link.p2p:
            fact = f"says that {_words((one, other))} reach each other; NVML says that they do not"
            yield Finding("gpu-p2p-cache", "warn", path, fact, fix=f"rm {path}")
            return


def _local(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(count) if i != j)


def _words(pair: tuple[int, int]) -> str:
    return f"GPUs {pair[0]} and {pair[1]}"
