"""Full checks that went well are not repeated at the next launch of the same on the same machine.

Only what is ok is kept: what failed may have been mended.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from vllm_guard import cache, paths
from vllm_guard.frozen import replace
from vllm_guard.model import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllm_guard.prepare import Prepared
    from vllm_guard.target import Target

#: Variables that decide what is loaded and how ranks talk; those that the guard sets are of one run.
_FAMILIES = (
    "VLLM_",
    "NCCL_",
    "GLOO_",
    "TP_",
    "CUDA_",
    "TORCH",
    "PYTORCH_",
    "HIP_",
    "ROCR_",
    "OMP_",
)
_SINGLE = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH")
_MACHINE = ("/proc/sys/kernel/random/boot_id", "/proc/driver/nvidia/version")
_GPUS = "/proc/driver/nvidia/gpus"


class _NotWellError(Exception):
    def __init__(self, found: list[Finding]) -> None:
        super().__init__()
        self.found = found


def remembered(name: str, prepared: Prepared, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What `look` finds, or found when all was well and driver, GPUs, torch, vLLM and command were these."""
    looked = []

    def compute() -> list[tuple[str, str, str]]:
        found = look()
        looked.append(True)
        if any(finding.status != "ok" for finding in found):
            raise _NotWellError(found)
        return [(finding.id, finding.subject, finding.fact) for finding in found]

    try:
        rows = cache.remember(f"full-{name}", _key(prepared), compute)
    except _NotWellError as error:
        return error.found
    kept = [Finding(identifier, "ok", subject, fact) for identifier, subject, fact in rows]
    return kept if looked else [_as_kept(finding) for finding in kept]


def _as_kept(finding: Finding) -> Finding:
    note = "not repeated: driver, GPUs, torch, vLLM and command are as they were"
    return replace(finding, fact=f"{finding.fact} ({note})")  # type: ignore[no-any-return]


def _key(prepared: Prepared) -> str:
    """A digest: among the variables there may be secrets."""
    own = prepared.context.own
    env = sorted(
        (name, value)
        for name, value in prepared.after.items()
        if (name.startswith(_FAMILIES) or name in _SINGLE) and name not in own
    )
    parts = (prepared.argv, env, list(_machine()), list(_files(prepared.target)), _model(prepared))
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _machine() -> Iterator[bytes]:
    gpus = sorted(os.listdir(_GPUS)) if os.path.isdir(_GPUS) else []
    for path in (*_MACHINE, *(f"{_GPUS}/{gpu}/information" for gpu in gpus)):
        try:
            yield paths.peek(path, 1 << 16)
        except OSError:
            yield b""


def _files(target: Target | None) -> Iterator[object]:
    """The interpreter, and the files that change with every installation of torch and vLLM."""
    if target is None:
        return
    yield target.interpreter
    torch = (os.path.join(folder, "torch/version.py") for folder in target.search_path)
    vllm = [os.path.join(target.vllm.package, "_version.py")] if target.vllm else []
    for path in (target.interpreter, *torch, *vllm):
        try:
            yield path, cache.identity(path)
        except OSError:
            continue


def _model(prepared: Prepared) -> object:
    """The configuration of a model that is a folder: it may be changed in place."""
    context = prepared.context
    words = context.server_words
    try:
        return cache.identity(context.absolute(f"{words[0]}/config.json")) if words else None
    except OSError:
        return None
