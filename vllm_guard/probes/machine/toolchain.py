"""What Triton, Inductor and FlashInfer call when they compile a kernel: is it there?"""

from __future__ import annotations

import os

from vllm_guard import nvml
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the compilers"

_COMPILERS = ("gcc", "cc", "clang")
_INSTALL = "apt-get install {0}, or dnf install {1}"


def check(context: Context) -> Iterator[Finding]:
    if context.target is None or context.target.vllm is None:
        return
    yield from _compiler(context)
    yield from _headers(context)
    yield from _ptxas(context)
    survey = nvml.survey(context.host)
    if survey is not None and survey.devices:
        yield from _flashinfer(context)


def _compiler(context: Context) -> Iterator[Finding]:
    """Triton takes CC, else gcc or clang; without one no kernel of its own starts."""
    given = context.env.get("CC", "")
    names = (given.split()[0],) if given.strip() else _COMPILERS
    found = next(filter(None, (_which(context, name) for name in names)), "")
    if found:
        yield Finding("c-compiler", "ok", "C compiler", found)
        return
    subject = f"CC={given}" if given else "C compiler"
    fact = f"none of {', '.join(names)} is on PATH: Triton and Inductor compile with it"
    fix = "unset CC" if given else _INSTALL.format("gcc", "gcc")
    yield Finding("c-compiler", "warn", subject, fact, fix=fix)


def _headers(context: Context) -> Iterator[Finding]:
    """Triton compiles a module of Python's for each kernel's launcher."""
    target = context.target
    if target is None or target.version.count(".") < 1:
        return
    short = ".".join(target.version.split(".")[:2])
    prefixes = _prefixes(context, target.interpreter)
    places = [f"{prefix}/include/python{short}/Python.h" for prefix in prefixes]
    found = next((place for place in places if context.host.exists(place)), "")
    if found:
        yield Finding("python-headers", "ok", "Python.h", found)
        return
    fact = f"not at {' or '.join(places)}: Triton cannot compile the launchers of its kernels"
    fix = _INSTALL.format(f"python{short}-dev", f"python{short}-devel")
    yield Finding("python-headers", "warn", "Python.h", fact, fix=fix)


def _prefixes(context: Context, interpreter: str) -> list[str]:
    """Where the interpreter was installed; that of a virtual environment is in its pyvenv.cfg."""
    venv = os.path.dirname(os.path.dirname(interpreter))
    rows = (
        line.partition("=") for line in (context.host.text(f"{venv}/pyvenv.cfg") or "").splitlines()
    )
    homes = [value.strip() for key, _, value in rows if key.strip() == "home"]
    real = interpreter if context.host.root else os.path.realpath(interpreter)
    bins = (*homes, *(os.path.realpath(home) for home in homes if not context.host.root))
    above = (*(os.path.dirname(folder) for folder in bins), os.path.dirname(os.path.dirname(real)))
    return list(dict.fromkeys(above))


def _ptxas(context: Context) -> Iterator[Finding]:
    """Triton brings one, but takes the one that it is told to take."""
    path = context.env.get("TRITON_PTXAS_PATH", "")
    if path and not context.host.exists(path):
        fact = "is not there: Triton takes the one that it brings, which may not know this GPU"
        fix = "unset TRITON_PTXAS_PATH, or name the file: /usr/local/cuda/bin/ptxas"
        yield Finding("ptxas", "warn", f"TRITON_PTXAS_PATH={path}", fact, fix=fix)


def _flashinfer(context: Context) -> Iterator[Finding]:
    """Without its compiled kernels, FlashInfer compiles them at the first start."""
    assert context.target is not None
    entries = {
        entry.partition("-")[0]
        for folder in context.target.search_path
        if folder.endswith("-packages")
        for entry in context.host.names(folder)
        if entry.startswith("flashinfer") and entry.endswith(".dist-info")
    }
    if "flashinfer_python" not in entries or "flashinfer_jit_cache" in entries:
        return
    home = context.env.get("CUDA_HOME") or context.env.get("CUDA_PATH") or "/usr/local/cuda"
    nvcc = f"{home}/bin/nvcc"
    nvcc = nvcc if context.host.exists(nvcc) else _which(context, "nvcc")
    beside = os.path.dirname(context.target.interpreter)
    ninja = _which(context, "ninja") or _which(context, "ninja", beside)
    missing = [name for name, path in (("nvcc", nvcc), ("ninja", ninja)) if not path]
    if not missing:
        yield Finding("jit-tools", "ok", "FlashInfer", f"{nvcc}, {ninja}")
        return
    fact = f"{' and '.join(missing)} not found: FlashInfer cannot compile a kernel that it lacks"
    fix = (
        f"{context.target.interpreter} -m pip install flashinfer-jit-cache, or CUDA_HOME and ninja"
    )
    yield Finding("jit-tools", "note", "FlashInfer", fact, fix=fix)


def _which(context: Context, name: str, path: str | None = None) -> str:
    if "/" in name:
        return name if context.host.exists(name) else ""
    folders = (context.env.get("PATH", os.defpath) if path is None else path).split(":")
    files = (os.path.join(folder, name) for folder in folders if folder)
    return next((file for file in files if context.host.exists(file)), "")
