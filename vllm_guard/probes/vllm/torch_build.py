"""Was the installed torch built for this machine: its driver, its GPUs, its C library?"""

from __future__ import annotations

import os

from vllm_guard import nvml
from vllm_guard.model import Finding
from vllm_guard.probes.vllm.packages import installed
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.nvml import Survey
    from vllm_guard.probes import Context

TITLE = "torch's build against this machine"

_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/"
#: Compute capability from which on, and below which, a CUDA build has code (release notes of CUDA and torch).
_FIRST_CUDA = {(10, 0): (12, 8), (12, 0): (12, 8)}
_TEGRA = "/etc/nv_tegra_release"  #: Jetson: no NVML that tells enough
_OLDEST = {13: (7, 5), 12: (5, 0)}


def check(context: Context) -> Iterator[Finding]:
    found = installed(context)
    if "torch" not in found:
        return
    version, folder = found["torch"]
    yield from _libc(context, folder)
    build = kind(context)
    survey = nvml.survey(context.host)
    if build is None:
        fact = "does not say what it was built for"
        yield Finding("torch-build", "unknown", f"torch {version}", fact)
    elif build == ("cpu", ""):
        yield from _cpu(context, version, survey)
    elif context.host.exists(_TEGRA):
        fact = f"is built for {build[0]} {build[1]}; Tegra's driver is not held against it"
        yield Finding("torch-build", "skip", f"torch {version}", fact)
    elif build[0] == "cuda":
        yield from _cuda(version, build[1], survey)
    else:
        fact = f"is built for {build[0]} {build[1]}: not held against a driver"
        yield Finding("torch-build", "skip", f"torch {version}", fact)


def kind(context: Context) -> tuple[str, str] | None:
    """("cuda", "13.0"), ("hip", "6.4"), ("xpu", ...), ("cpu", ""), by torch's own version.py."""
    found = installed(context)
    if "torch" not in found:
        return None
    import re

    version, folder = found["torch"]
    path = os.path.join(os.path.dirname(folder), "torch/version.py")
    source = head(context.host.root + path).decode("utf-8", "replace")
    rows = dict(re.findall(r"^(cuda|hip|xpu)\b[^=\n]*= *(.+)$", source, re.MULTILINE))
    for name, value in rows.items():
        if value.strip() != "None":
            return name, value.strip(" '\"")
    if rows:
        return "cpu", ""
    local = version.partition("+")[2]
    tag = re.fullmatch(r"cu(\d+)(\d)", local)
    if tag:
        return "cuda", f"{tag[1]}.{tag[2]}"
    return ("cpu", "") if local == "cpu" else None


def _cpu(context: Context, version: str, survey: Survey | None) -> Iterator[Finding]:
    vllm = context.target.vllm if context.target else None
    cpu_vllm = vllm is not None and vllm.is_for_cpu
    if survey is not None and survey.devices and not cpu_vllm:
        fact = f"has no CUDA; this machine has {len(survey.devices)} GPUs: vLLM would not use them"
        fix = "install the CUDA build: uv pip install vllm --torch-backend=auto"
        yield Finding("torch-build", "warn", f"torch {version}", fact, fix=fix)
    else:
        yield Finding("torch-build", "ok", f"torch {version}", "built for the CPU")


def _cuda(version: str, build: str, survey: Survey | None) -> Iterator[Finding]:
    subject = f"torch {version}"
    if survey is None:
        fact = f"is built for CUDA {build}; there is no NVIDIA driver here (/dev/nvidiactl)"
        fix = "in a container: --gpus all; without a GPU: the CPU build of vLLM"
        yield Finding("torch-build", "warn", subject, fact, fix=fix, uri=_URI)
        return
    wanted = _pair(build)
    if wanted is None or survey.cuda is None:
        fact = f"is built for CUDA {build}; the driver does not tell what it supports"
        yield Finding("torch-build", "unknown", subject, fact)
        return
    yield _driver(subject, build, survey)
    yield from _architectures(wanted, survey)


def _driver(subject: str, build: str, survey: Survey) -> Finding:
    wanted = _pair(build)
    assert wanted is not None
    assert survey.cuda is not None
    known = f"{survey.cuda[0]}.{survey.cuda[1]}"
    fact = f"is built for CUDA {build}; driver {survey.driver} supports {known}"
    if survey.cuda[0] < wanted[0]:
        fix = (
            f"a newer driver, a build for CUDA {survey.cuda[0]}, or cuda-compat with"
            " VLLM_ENABLE_CUDA_COMPATIBILITY=1"
        )
        return Finding("torch-build", "warn", subject, fact, fix=fix, uri=_URI)
    if survey.cuda < wanted:
        # Minor versions are compatible, but for PTX, which the driver compiles itself.
        fact += ": enough, but for kernels that come as PTX"
        return Finding("torch-build", "note", subject, fact, fix="a newer driver", uri=_URI)
    return Finding("torch-build", "ok", subject, fact)


def _architectures(cuda: tuple[int, int], survey: Survey) -> Iterator[Finding]:
    for device in survey.devices:
        has = device.capability
        if has is None:
            continue
        first = max((c for a, c in _FIRST_CUDA.items() if a <= has), default=(0, 0))
        oldest = _OLDEST.get(cuda[0], (0, 0))
        if cuda < first or has < oldest:
            name = f"{device.name} (compute capability {has[0]}.{has[1]})"
            fact = f"its build for CUDA {cuda[0]}.{cuda[1]} has no code for {name}"
            need = f"CUDA {first[0]}.{first[1]} or later" if cuda < first else "an older CUDA"
            fix = f"a build for {need}"
            yield Finding("gpu-architecture", "warn", f"GPU {device.index}", fact, fix=fix)


def _libc(context: Context, folder: str) -> Iterator[Finding]:
    """The wheel's tag says which glibc it needs at least."""
    import re

    text = head(f"{context.host.root}{folder}/WHEEL").decode("utf-8", "replace")
    tags = re.findall(r"manylinux_(\d+)_(\d+)", text)
    here = _pair(context.host.glibc())
    if not tags or here is None:
        return
    wanted = min((int(major), int(minor)) for major, minor in tags)
    known = f"glibc {here[0]}.{here[1]}"
    if here < wanted:
        fact = f"the wheel needs glibc {wanted[0]}.{wanted[1]}; this system has {here[0]}.{here[1]}"
        fix = "a newer distribution, or the container image vllm/vllm-openai"
        yield Finding("glibc", "warn", known, fact, fix=fix)
    else:
        yield Finding("glibc", "ok", known, f"torch needs {wanted[0]}.{wanted[1]}")


def _pair(version: str) -> tuple[int, int] | None:
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return int(parts[0]), int(parts[1])
