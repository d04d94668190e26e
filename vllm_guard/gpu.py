"""The memory of the GPUs, by NVML: how much is in use, and which processes have it.

NVML is NVIDIA's management library, read through its own Python binding (`nvidia-ml-py`). What one device or
one field does not tell is left out; the others are told all the same.
"""

from __future__ import annotations

import os

from vllm_guard.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

_DEVICES = ("/dev/nvidiactl", "/dev/dxg")  #: one is there wherever NVML can answer; dxg: WSL 2
_SLACK = 64 << 20  #: bytes by which the driver's own use varies


@dataclass(frozen=True)
class Gpu:
    """One device at one moment."""

    index: int  #: NVML's, in the order of the PCI bus
    used: int  #: bytes
    holders: Mapping[int, int]  #: pid -> bytes, as far as NVML tells them


def read(host: Host = Host()) -> tuple[Gpu, ...]:  # noqa: B008  (frozen)
    """Every device that answers; none where there is no NVIDIA driver."""
    if not has_driver(host):
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_devices(pynvml))
    finally:
        pynvml.nvmlShutdown()


class Meter:
    """Looks again and again: NVML is opened once, at the first look, which takes some ms, and left open."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: dict[int, Any] = {}
        self._opened = False

    def busy(self) -> bool:
        """Does a device compute? NVML's utilisation, of the last second or less; also by others."""
        self._open()
        for device in self._devices.values():
            try:
                if self._nvml.nvmlDeviceGetUtilizationRates(device).gpu:
                    return True
            except self._nvml.NVMLError:  # a part of one (MIG) does not tell
                continue
        return False

    def used(self) -> dict[str, int]:
        """Bytes in use, by the index of the device; one that does not answer is left out."""
        self._open()
        found = {}
        for index, device in self._devices.items():
            try:
                found[str(index)] = self._nvml.nvmlDeviceGetMemoryInfo(device).used
            except self._nvml.NVMLError:
                continue
        return found

    def _open(self) -> None:
        """Where there is a driver; without one, nothing is ever in use."""
        if self._opened or not has_driver(Host()):
            return
        self._opened = True
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError:
            return
        for index in range(count):
            try:
                self._devices[index] = pynvml.nvmlDeviceGetHandleByIndex(index)
            except pynvml.NVMLError:  # a lost device, or one that this user may not see
                continue


def has_driver(host: Host) -> bool:
    """Is there an NVIDIA driver, so that NVML may be asked?"""
    return any(map(host.exists, _DEVICES))


def unexplained(before: Sequence[Gpu], after: Sequence[Gpu]) -> Iterator[tuple[Gpu, int]]:
    """Devices with more in use than before by more than living processes explain, and how many bytes."""
    known = {gpu.index: gpu for gpu in before}
    for gpu in after:
        if gpu.index not in known:
            continue
        old = known[gpu.index]
        grown = sum(
            size - old.holders.get(pid, 0) for pid, size in gpu.holders.items() if _lives(pid)
        )
        rest = gpu.used - old.used - grown
        if rest > _SLACK:
            yield gpu, rest


def _devices(nvml: Any) -> Iterator[Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
        except nvml.NVMLError:  # a lost device, or one that this user may not see
            continue
        yield Gpu(index, memory.used, _holders(nvml, device))


def _holders(nvml: Any, device: Any) -> dict[int, int]:
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(device)
    except nvml.NVMLError:
        return {}
    return {process.pid: process.usedGpuMemory or 0 for process in processes}


def _lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
