"""The GPUs of this host by NVML, field by field: what one device or one field does not tell is left out.

`gpu` compares their memory before and after a run; this is the wider look, once, before one.
"""

from __future__ import annotations

from vllm_guard import gpu
from vllm_guard.host import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

PROHIBITED, EXCLUSIVE = 2, 3  #: compute modes of <nvml.h>
_SILENT = (
    3,
    4,
    13,
)  #: not supported, no permission, function not found: an older or smaller device
_surveys: dict[str, Survey | None] = {}


@dataclass(frozen=True)
class Device:
    """One GPU; None is what it did not tell."""

    index: int  #: NVML's, in the order of the PCI bus
    name: str = ""
    uuid: str = ""
    total: int | None = None  #: bytes
    free: int | None = None
    holders: Mapping[int, int] | None = None  #: pid -> bytes
    capability: tuple[int, int] | None = None
    uncorrected: int | None = None  #: memory errors since the driver was loaded
    slowed: int | None = None  #: the bits of nvmlClocksEventReason*
    mig: bool | None = None
    mode: int | None = None  #: the compute mode
    problems: tuple[str, ...] = ()  #: what failed, and how


@dataclass(frozen=True)
class Link:
    """Between two devices."""

    p2p: int | None  #: NVML_P2P_STATUS_* for reading; 0 is OK
    distance: int | None  #: NVML_TOPOLOGY_*; 30 passes the host bridge, 50 goes between sockets


@dataclass(frozen=True)
class Survey:
    """What NVML says of the whole host."""

    driver: str = ""
    cuda: tuple[int, int] | None = None  #: the newest CUDA that the driver supports
    devices: tuple[Device, ...] = ()
    links: Mapping[tuple[int, int], Link] | None = None
    problem: str = ""  #: why NVML answers nothing


#: Why nothing is known of GPUs where `survey` is None.
NO_DRIVER = "no NVIDIA driver here (/dev/nvidiactl)"


def survey(host: Host) -> Survey | None:
    """What there is; None where there is no NVIDIA driver. Asked once: several probes look at it."""
    if host.root not in _surveys:
        _surveys[host.root] = _survey(host)
    return _surveys[host.root]


def count(host: Host) -> int | None:
    """How many there are; None where that cannot be told."""
    found = survey(host)
    return len(found.devices) or None if found else None


def visible(devices: tuple[Device, ...], value: str | None) -> tuple[Device, ...] | None:
    """The devices that CUDA shows with this CUDA_VISIBLE_DEVICES, in its order; None where that is not known.

    CUDA reads the list up to the first entry that names no device; one named twice leaves none.
    """
    if value is None:
        return devices
    if "MIG-" in value:
        return None
    found: list[Device] = []
    for item in value.split(","):
        device = _named(devices, item.strip())
        if device is None:
            break
        if device in found:
            return ()
        found.append(device)
    return tuple(found)


def _named(devices: tuple[Device, ...], item: str) -> Device | None:
    numbered = {str(index): device for index, device in enumerate(devices)}
    if item in numbered:
        return numbered[item]
    named = [d for d in devices if item.startswith("GPU-") and d.uuid.startswith(item)]
    return named[0] if len(named) == 1 else None


def _survey(host: Host) -> Survey | None:
    if not gpu.has_driver(host):
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Survey(problem=str(error))
    try:
        return _read(pynvml)
    except pynvml.NVMLError as error:
        return Survey(problem=str(error))
    finally:
        pynvml.nvmlShutdown()


def _read(nvml: Any) -> Survey:
    handles: dict[int, Any] = {}
    devices = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:  # a lost device, or one that this user may not see
            devices.append(Device(index, problems=(f"handle: {error}",)))
        else:
            devices.append(_device(nvml, index, handles[index]))
    cuda = _told(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Survey(
        _told(nvml, nvml.nvmlSystemGetDriverVersion) or "",
        (cuda // 1000, cuda % 1000 // 10) if cuda else None,
        tuple(devices),
        dict(_links(nvml, handles)),
    )


def _told(nvml: Any, ask: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None


def _device(nvml: Any, index: int, handle: Any) -> Device:
    problems: list[str] = []

    def told(field: str, ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(handle, *arguments)
        except nvml.NVMLError as error:
            if error.value not in _SILENT:
                problems.append(f"{field}: {error}")
            return None

    memory = told("memory", nvml.nvmlDeviceGetMemoryInfo)
    processes = told("processes", nvml.nvmlDeviceGetComputeRunningProcesses)
    mig = told("MIG mode", nvml.nvmlDeviceGetMigMode)
    slowed = told("clocks", nvml.nvmlDeviceGetCurrentClocksEventReasons)
    if slowed is None:  # the name before driver 535
        slowed = _told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return Device(
        index,
        told("name", nvml.nvmlDeviceGetName) or "",
        told("UUID", nvml.nvmlDeviceGetUUID) or "",
        memory.total if memory else None,
        memory.free if memory else None,
        None if processes is None else {p.pid: p.usedGpuMemory or 0 for p in processes},
        told("capability", nvml.nvmlDeviceGetCudaComputeCapability),
        told("ECC", nvml.nvmlDeviceGetTotalEccErrors, 1, 0),  # uncorrected, volatile
        slowed,
        None if mig is None else bool(mig[0]),
        told("compute mode", nvml.nvmlDeviceGetComputeMode),
        tuple(problems),
    )


def _links(nvml: Any, handles: Mapping[int, Any]) -> Iterator[tuple[tuple[int, int], Link]]:
    for one, first in handles.items():
        for other, second in handles.items():
            if one < other:
                p2p = _told(nvml, nvml.nvmlDeviceGetP2PStatus, first, second, 0)  # reading
                distance = _told(nvml, nvml.nvmlDeviceGetTopologyCommonAncestor, first, second)
                yield (one, other), Link(p2p, distance)
