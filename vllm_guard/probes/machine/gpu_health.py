"""Is a GPU ill, slowed down, divided or closed to this command?"""

from __future__ import annotations

from vllm_guard import nvml
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_guard.model import Status
    from vllm_guard.nvml import Device
    from vllm_guard.probes import Context

TITLE = "the health of the GPUs"

#: Bits of nvmlClocksEventReason* that mean trouble; being idle, or at its power limit, is none.
_SLOWED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
#: Xid errors that a program causes (illegal address, abort, its end); all others speak of the device.
_OF_PROGRAMS = {"13", "31", "43", "45", "68", "69"}
_XIDS = "https://docs.nvidia.com/deploy/xid-errors/"


def check(context: Context) -> Iterator[Finding]:
    survey = nvml.survey(context.host)
    if survey is None or survey.problem:
        return
    devices = nvml.visible(survey.devices, context.env.get("CUDA_VISIBLE_DEVICES"))
    for device in survey.devices if devices is None else devices:
        yield from _device(device)
    yield from _log(context.host.kernel_log())


def _device(device: Device) -> Iterator[Finding]:
    subject, number = f"GPU {device.index}", device.index
    if device.uncorrected:
        fact = f"{device.uncorrected} uncorrected memory errors since the driver was loaded"
        fix = f"nvidia-smi -q -d ECC,ROW_REMAPPER -i {number}; then nvidia-smi -r -i {number}"
        yield Finding("gpu-ecc", "warn", subject, fact, fix=fix, uri=_XIDS)
    why = [name for bit, name in _SLOWED.items() if (device.slowed or 0) & bit]
    if why:
        fix = f"nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER -i {number}"
        yield Finding("gpu-slowed", "warn", subject, f"is slowed down: {', '.join(why)}", fix=fix)
    if device.mig:
        fact = "MIG is on: CUDA shows one instance of it, with a part of the memory"
        fix = f"CUDA_VISIBLE_DEVICES=MIG-UUID (`nvidia-smi -L`), or nvidia-smi -i {number} -mig 0"
        yield Finding("gpu-mig", "note", subject, fact, fix=fix)
    yield from _mode(device)


def _mode(device: Device) -> Iterator[Finding]:
    subject, fix = f"GPU {device.index}", f"nvidia-smi -i {device.index} -c DEFAULT"
    if device.mode == nvml.PROHIBITED:
        fact = "compute mode PROHIBITED: no process can use it"
        yield Finding("gpu-compute-mode", "warn", subject, fact, fix=fix)
    elif device.mode == nvml.EXCLUSIVE and device.holders:
        fact = f"compute mode EXCLUSIVE_PROCESS, and process {min(device.holders)} has it"
        yield Finding("gpu-compute-mode", "warn", subject, fact, fix=fix)
    elif device.mode == nvml.EXCLUSIVE:
        fact = "compute mode EXCLUSIVE_PROCESS: one process at a time"
        yield Finding("gpu-compute-mode", "note", subject, fact, fix=fix)


def _log(lines: Iterable[str] | None) -> Iterator[Finding]:
    if lines is None:
        fact = "may not be read by this user: Xid errors were not looked for"
        yield Finding("gpu-xid", "skip", "kernel log", fact, fix="sudo dmesg | grep Xid")
        return
    found = [line[line.index("NVRM: Xid") :].strip() for line in lines if "NVRM: Xid" in line]
    grave = [line for line in found if _number(line) not in _OF_PROGRAMS]
    if found:
        last = (grave or found)[-1]
        kind = f"{len(grave)} of the device" if grave else "all caused by programs"
        fact = f"{len(found)} Xid errors since the log begins, {kind}; the last: {last}"
        status: Status = "warn" if grave else "note"
        yield Finding("gpu-xid", status, "kernel log", fact, fix="dmesg | grep Xid", uri=_XIDS)


def _number(line: str) -> str:
    """`NVRM: Xid (PCI:0000:3b:00): 79, pid=...` -> 79."""
    return line.partition("): ")[2].partition(",")[0].strip()
