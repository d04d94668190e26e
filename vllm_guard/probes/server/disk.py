"""Room for what is downloaded and compiled, and the clock that compiled files are judged by."""

from __future__ import annotations

import os
import time

from vllm_guard import hub
from vllm_guard.model import Finding
from vllm_guard.probes import places
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "disk space and caches"

_GIB = 1 << 30
_COMPILED = 1 << 30  #: bytes; measured caches of torch.compile, Triton and FlashInfer stay below
_DOWNLOAD = 10 << 30  #: bytes; few models that are served are smaller
_SKEW = 60.0  #: seconds by which a file system's clock may be ahead


def check(context: Context) -> Iterator[Finding]:
    cache = places.vllm_cache(context.env)
    yield from _room(context, cache, _COMPILED, "VLLM_CACHE_ROOT", "compiled kernels")
    if not places.model_folder(context) and _is_hub_name(context):
        yield from _room(context, hub.cache_dir(context.env), _DOWNLOAD, "HF_HOME", "the model")
    yield from _clock(context, cache)


def _is_hub_name(context: Context) -> bool:
    name = _place.word(context)
    return bool(name) and not name.startswith(("/", ".", "~"))


def _room(context: Context, path: str, least: int, variable: str, what: str) -> Iterator[Finding]:
    space = context.host.space(path)
    if space is None:
        yield Finding("disk-space", "unknown", path, "its file system does not tell")
        return
    fact = f"{space.free / _GIB:.1f} GiB free for {what}"
    if space.free < least:
        fix = f"{variable}=FOLDER on a larger disk; `du -sh {path}` shows what it holds"
        yield Finding("disk-space", "warn", path, fact, fix=fix)
    elif not os.access(context.host.root + context.host.nearest(path), os.W_OK):
        fact = f"this user may not write there: no place for {what}"
        yield Finding("disk-space", "warn", path, fact, fix=f"{variable}=FOLDER of your own")
    else:
        yield Finding("disk-space", "ok", path, fact)


def _clock(context: Context, cache: str) -> Iterator[Finding]:
    """Builds compare times (ninja): what comes from the future is always newer than its source."""
    folder = os.path.join(cache, "torch_compile_cache")
    try:
        ahead = os.stat(context.host.root + folder).st_mtime - time.time()
    except OSError:
        return
    if ahead > _SKEW:
        fact = f"was changed {ahead:.0f} s in the future: this clock is behind, or that file system's ahead"
        fix = f"set the clock (chronyc makestep), or find {folder} -exec touch {{}} +"
        yield Finding("cache-clock", "warn", folder, fact, fix=fix)
