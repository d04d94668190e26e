"""Machines described as data (`tests/data/machines/*.toml`): their files are made, the probes look at them.

A file of data has `[machine.NAME]` with `files` (path -> text, or a number of bytes, or false for none),
`env`, `argv` (of `vllm serve`; `script = true`: of a Python script), `gpus` (for `fake_nvml.c`), `hub` (path
-> answer, for `hub.py`) and `like = "OTHER"` (what that one has, this one has too), and `[[situation]]`: a
machine of its own that says which `probes` look and which findings they must give.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.kit import KIT, NO_HUB
from tests.kit.hub import serving
from vllm_guard import probes, record
from vllm_guard.host import Host
from vllm_guard.model import Finding
from vllm_guard.target import Target
from vllm_guard.target.install import VllmInstall

DATA = KIT.parent / "data/machines"
PACKAGES = "/venv/lib/python3.12/site-packages"
#: The probes that look at a described machine and at nothing else.
ALL = (
    *("vllm/packages", "vllm/torch_build", "machine/gpus", "machine/gpu_memory"),
    *("machine/gpu_health", "machine/gpu_links", "server/host_memory", "machine/limits"),
    *("machine/shared_memory", "server/disk", "server/model_storage", "machine/toolchain"),
    *("server/model_hub", "server/model_dtype", "server/model_quantization", "server/model_shape"),
    "server/model_split",
    *("server/network_picks", "server/rendezvous"),
)


def situations(*names: str) -> list[Any]:
    """The situations of these files of data, each with the machines that it may be like."""
    machines = _load("machines")["machine"]
    found = []
    for name in names:
        data = _load(name)
        known = {**machines, **data.get("machine", {})}
        found += [pytest.param(known, s, id=f"{name}: {s['name']}") for s in data["situation"]]
    return found


def _load(name: str) -> dict[str, Any]:
    return tomli.loads((DATA / f"{name}.toml").read_text())


def resolved(machines: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """With all that the machine has which it is like."""
    if "like" not in one:
        return one
    base = resolved(machines, machines[one["like"]])
    merged = {**base, **one}
    for table in ("files", "env"):
        merged[table] = {**base.get(table, {}), **one.get(table, {})}
    return merged


def build(machine: dict[str, Any], root: Path) -> None:
    """Make its files."""
    driver = {"/dev/nvidiactl": ""} if "gpus" in machine else {}
    for name, content in {**driver, **machine.get("files", {})}.items():
        path = root / name.lstrip("/")
        if content is False:
            continue
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            path.touch()
            os.truncate(path, content)
        else:
            path.write_text(content)


def look(machine: dict[str, Any], root: Path, names: list[str] | None = None) -> list[Finding]:
    """The findings of these probes, or of all of them."""
    build(machine, root)
    context = context_of(machine, root)
    found: list[Finding] = []
    for name in names or ALL:
        folder, _, probe = name.partition("/")
        found += probes.load(folder, probe).check(context)
    return found


def context_of(machine: dict[str, Any], root: Path) -> probes.Context:
    vllm = VllmInstall(machine.get("vllm", "0.32.0"), f"{root}{PACKAGES}/vllm")
    script = machine.get("script", False)
    kind = ("script", "", None) if script else ("vllm-cli", "serve", 2)
    target = Target("/venv/bin/python", *kind, "3.12.3", (PACKAGES,), vllm)
    env = {"HOME": "/root", "PATH": "/usr/bin:/bin", "HF_ENDPOINT": NO_HUB}
    env = {**env, **machine.get("env", {})}
    start = ("python", "s.py") if script else ("vllm", "serve")
    argv = (*start, *machine.get("argv", "/model").split())
    return probes.Context(
        argv, env, env, target, (), (), record.Shelf(os.environ), host=Host(str(root))
    )


def check(known: dict[str, Any], situation: dict[str, Any], root: Path, library: Path) -> None:
    """The situation gives exactly the findings that it names, and the fixes where it names some."""
    one = resolved(known, situation)
    with around(one, root, library) as placed:
        found = look(placed, root, one["probes"])
    hub = placed["env"]["HF_ENDPOINT"]
    told = [finding for finding in found if finding.status != "ok"]
    lines = [line(finding).replace(hub, "HUB") for finding in found]
    differ("findings", lines, situation["expect"])
    fixes = [finding.fix.replace(hub, "HUB") for finding in told]
    differ("fixes", fixes, situation.get("fix"))
    assert all(f.fix for f in told if f.status in ("warn", "fail")), "a finding without a fix"


def differ(what: str, found: list[str], expected: list[str] | None) -> None:
    """Fail with both, one a line, where they differ."""
    if expected is not None and found != expected:
        both = "\n".join((f"{what}:", *found, "expected:", *expected))
        pytest.fail(both, pytrace=False)


def line(finding: Finding) -> str:
    return f"{finding.status} {finding.id}: {finding.subject}: {finding.fact}"


def compile_nvml(folder: Path) -> Path:
    """The fake libnvidia-ml.so.1."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here to build the fake NVML")
    library = folder / "libnvidia-ml.so.1"
    # Without a soname: in this process the real one is loaded beside it, where there is one.
    words = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([*words, str(KIT / "fake_nvml.c"), "-o", str(library)], check=True)
    return library


@contextmanager
def around(machine: dict[str, Any], root: Path, library: Path) -> Iterator[dict[str, Any]]:
    """The machine among its GPUs and with its hub, whose address is in the environment then."""
    with ExitStack() as stack:
        stack.enter_context(fake_gpus(machine, root, library))
        hub = stack.enter_context(serving(machine["hub"])).url if "hub" in machine else NO_HUB
        yield {**machine, "env": {"HF_ENDPOINT": hub, **machine.get("env", {})}}


@contextmanager
def nvml_from(library: Path) -> Iterator[None]:
    """The binding of NVML takes this library for the installed one."""
    import pynvml

    before, known = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache)
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = ctypes.CDLL(str(library))
    try:
        yield
    finally:
        pynvml.nvmlLib = before
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(known)


@contextmanager
def fake_gpus(machine: dict[str, Any], root: Path, library: Path) -> Iterator[None]:
    """The machine's GPUs, as NVML tells of them; it has none without `gpus`."""
    if "gpus" not in machine:
        yield
        return
    described = root.with_name(root.name + ".nvml")
    described.write_text(machine["gpus"].lstrip())
    with pytest.MonkeyPatch.context() as patch, nvml_from(library):
        patch.setenv("FAKE_NVML", str(described))
        yield
