"""The machine in some lines: what vLLM's `collect-env` tells of it, and what it leaves out."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from vllm_guard import nvml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.host import Host

_GIB = 1 << 30
_SHM = "/dev/shm"  # noqa: S108  (looked at only)
#: Files that a container has, by who makes it.
_CONTAINERS = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman"}


def lines(host: Host) -> Iterator[tuple[str, str]]:
    """Label and text of each fact; what cannot be told is left out."""
    system = dict(
        row.split("=", 1) for row in (host.text("/etc/os-release") or "").splitlines() if "=" in row
    )
    yield "system", system.get("PRETTY_NAME", platform.system()).strip('"')
    yield "kernel", f"{host.word('/proc/sys/kernel/osrelease')} {platform.machine()}"
    if host.glibc():
        yield "glibc", host.glibc()
    yield "CPUs", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} usable"
    yield from _memory(host)
    yield from _limits(host)
    yield from _gpus(host)
    inside = [name for path, name in _CONTAINERS.items() if host.exists(path)]
    if inside or os.environ.get("KUBERNETES_SERVICE_HOST"):
        yield "container", ", ".join(inside) or "Kubernetes"


def _memory(host: Host) -> Iterator[tuple[str, str]]:
    memory, limit, shared = host.memory(), host.memory_limit(), host.space(_SHM)
    if memory:
        yield (
            "host memory",
            f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB available",
        )
    if limit:
        yield "cgroup limit", f"{limit.limit / _GIB:.1f} GiB, {limit.used / _GIB:.1f} in use"
    if shared:
        yield _SHM, f"{shared.free / _GIB:.2f} of {shared.total / _GIB:.2f} GiB free"


def _limits(host: Host) -> Iterator[tuple[str, str]]:
    for label, name in (("open files", "Max open files"), ("locked memory", "Max locked memory")):
        found = host.limits(name)
        if found:
            yield label, " of at most ".join("no limit" if n is None else str(n) for n in found)


def _gpus(host: Host) -> Iterator[tuple[str, str]]:
    found = nvml.survey(host)
    if found is None:
        return
    if found.problem:
        yield "NVML", found.problem
    if found.driver:
        newest = ".".join(map(str, found.cuda or ()))
        yield "NVIDIA driver", f"{found.driver}, for CUDA up to {newest or 'unknown'}"
    for device in found.devices:
        if device.total is not None and device.free is not None:
            free = f"{device.free / _GIB:.1f} of {device.total / _GIB:.1f} GiB free"
            yield f"GPU {device.index}", f"{device.name}, {free}"
