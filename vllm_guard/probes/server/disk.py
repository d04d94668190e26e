"""Room for what is compiled, and the clock that compiled files are judged by."""

from __future__ import annotations

import os
import time

from vllm_guard.model import Finding
from vllm_guard.probes import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "disk space of the caches"

_COMPILED = 1 << 30  #: bytes; measured caches of torch.compile, Triton and FlashInfer stay below
_SKEW = 60.0  #: seconds by which a file system's clock may be ahead


def check(context: Context) -> Iterator[Finding]:
    cache = places.vllm_cache(context.env)
    yield places.room(context, cache, _COMPILED, "VLLM_CACHE_ROOT=FOLDER", "compiled kernels")
    yield from _clock(context, cache)


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
