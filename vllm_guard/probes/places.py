"""Where the command keeps and finds its files: caches, the model's folder, and the room there."""

from __future__ import annotations

import os

from vllm_guard import hub, paths
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.probes import Context

_GIB = 1 << 30
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


def vllm_cache(env: Mapping[str, str]) -> str:
    """VLLM_CACHE_ROOT as `vllm/envs.py` has it."""
    return env.get("VLLM_CACHE_ROOT") or os.path.join(paths.cache_home(env), "vllm")


def model_folder(context: Context) -> str:
    """The model's folder: as named, or its asked revision in the cache; empty where neither is."""
    name = _place.word(context)
    if not name:
        return ""
    if context.host.names(context.absolute(name)):
        return context.absolute(name)
    return hub.snapshot(context.host, hub.cache_dir(context.env), name, _place.revision(context))


def weights(context: Context) -> dict[str, int]:
    """The files of the weights and their bytes; of several formats the first one in vLLM's order."""
    folder = model_folder(context)
    names = context.host.names(folder) if folder else []
    for ending in _WEIGHTS:
        found = (os.path.join(folder, name) for name in names if name.endswith(ending))
        sizes = {path: size for path in found if (size := _size(context, path))}
        if sizes:
            return sizes
    return {}


def _size(context: Context, path: str) -> int:
    try:
        return os.stat(context.host.root + path).st_size
    except OSError:
        return 0


def room(context: Context, path: str, least: int, variable: str, what: str) -> Finding:
    """Are there `least` bytes for it, and may this user write there?"""
    space = context.host.space(path)
    if space is None:
        return Finding("disk-space", "unknown", path, "its file system does not tell")
    fact = f"{space.free / _GIB:.1f} GiB free for {what}"
    if space.free < least:
        fix = f"{variable} on a larger disk; `du -sh {path}` shows what it holds"
        return Finding("disk-space", "warn", path, fact, fix=fix)
    if not os.access(context.host.root + context.host.nearest(path), os.W_OK):
        fact = f"this user may not write there: no place for {what}"
        return Finding("disk-space", "warn", path, fact, fix=f"{variable} of your own")
    return Finding("disk-space", "ok", path, fact)
