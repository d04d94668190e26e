"""Are there as many GPUs as the command asks for?"""

from __future__ import annotations

from vllm_guard import nvml
from vllm_guard.frozen import replace
from vllm_guard.model import Finding
from vllm_guard.probes import parallel
from vllm_guard.probes.vllm import torch_build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.nvml import Device, Survey
    from vllm_guard.probes import Context
    from vllm_guard.probes.parallel import Sizes

TITLE = "the GPUs, and how many are needed"

_URI = "https://docs.vllm.ai/en/latest/serving/parallelism_scaling/"


def check(context: Context) -> Iterator[Finding]:
    survey = nvml.survey(context.host)
    if survey is None:
        yield Finding("gpus", "skip", "GPUs", nvml.NO_DRIVER)
        return
    if survey.problem or not survey.devices:
        yield _silent(survey)
        return
    yield from map(_partly, (device for device in survey.devices if device.problems))
    names = ", ".join(sorted({device.name for device in survey.devices if device.name}))
    fact = f"{len(survey.devices)} x {names or 'unnamed'}, driver {survey.driver or 'unknown'}"
    yield Finding("gpus", "ok", "GPUs", fact)
    if not context.is_server:
        return
    sizes = parallel.sizes(context)
    if context.has("--device-ids"):
        yield Finding("gpu-count", "skip", "--device-ids", "chooses the devices, and is not read")
    elif sizes is None:
        yield Finding("gpu-count", "unknown", "GPUs", "a parallel size is no positive number")
    else:
        yield from _counted(context, survey.devices, sizes)


def _silent(survey: Survey) -> Finding:
    if "mismatch" in survey.problem:
        fix = (
            "reboot, or reload the driver's modules: the driver was upgraded under a running kernel"
        )
    else:
        fix = "`nvidia-smi` says more; in a container: --gpus all, and start it again"
    fact = survey.problem or "NVML lists no device"
    return Finding("gpus", "warn", "GPUs", f"NVML does not answer: {fact}", fix=fix)


def _partly(device: Device) -> Finding:
    fact = f"NVML does not tell {'; '.join(device.problems)}"
    fix = f"nvidia-smi -q -i {device.index}"
    return Finding("gpu-unknown", "unknown", f"GPU {device.index}", fact, fix=fix)


def _counted(context: Context, devices: tuple[Device, ...], sizes: Sizes) -> Iterator[Finding]:
    value = context.env.get("CUDA_VISIBLE_DEVICES")
    seen = nvml.visible(devices, value)
    if seen is None:
        fact = "names MIG instances: how many of them there are is not counted"
        yield Finding("gpu-count", "unknown", f"CUDA_VISIBLE_DEVICES={value}", fact)
        return
    models = {device.name for device in devices}
    mixed = len(models) > 1 and (len(seen) < len(devices) or sizes.here < len(seen))
    if mixed and context.env.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        fact = f"{', '.join(sorted(models))}: CUDA numbers the fastest first, nvidia-smi by the PCI bus"
        fix = "CUDA_DEVICE_ORDER=PCI_BUS_ID"
        yield Finding("gpu-order", "note", "GPUs", fact, fix=fix)
    finding = _count(context, len(seen), sizes)
    if finding.status in ("warn", "fail") and len(devices) >= sizes.here:
        finding = replace(finding, fix="unset CUDA_VISIBLE_DEVICES, or name as many in it")
    yield finding


def _count(context: Context, count: int, sizes: Sizes) -> Finding:
    value = context.env.get("CUDA_VISIBLE_DEVICES")
    how = "" if value is None else f" with CUDA_VISIBLE_DEVICES={value}"
    fact = f"{count} visible{how}; {sizes.here} needed{_product(sizes)}"
    if count >= sizes.here and context.has("--config"):
        return Finding("gpu-count", "skip", "--config", "may ask for more, and is not read")
    if count >= sizes.here:
        return Finding("gpu-count", "ok", "GPUs", fact)
    if not parallel.on_this_node(context):
        return Finding("gpu-count", "skip", "GPUs", f"{fact}; Ray or torchrun may have the others")
    status: Status = "fail" if _refused(context, count, sizes) else "warn"
    fix = f"--tensor-parallel-size {max(1, count)}, or --nnodes and --distributed-executor-backend"
    return Finding("gpu-count", status, "GPUs", fact, fix=fix, uri=_URI)


def _product(sizes: Sizes) -> str:
    if sizes.nodes > 1:
        return f": {sizes.world} workers on {sizes.nodes} nodes"
    return f": {sizes.engines} engines of {sizes.world}" if sizes.engines > 1 else ""


def _refused(context: Context, count: int, sizes: Sizes) -> bool:
    """Will vLLM refuse? From 0.13 on it does (`ParallelConfig`), on CUDA; before, it turned to Ray.

    A file of --config may say something else, and so may another executor.
    """
    if context.has("--config", "--distributed-executor-backend", "--headless"):
        return False
    if sizes.nodes > 1 or not 1 <= count < sizes.world:
        return False
    return (torch_build.kind(context) or ("",))[0] == "cuda" and _has_the_check(context)


def _has_the_check(context: Context) -> bool:
    """Does the installed source hold the refusal?"""
    target = context.target
    if target is None or target.vllm is None:
        return False
    from vllm_guard.target.words import head

    source = head(f"{target.vllm.package}/config/parallel.py", 1 << 20)
    return b"available GPUs (" in source and b"is larger than the number of" in source
