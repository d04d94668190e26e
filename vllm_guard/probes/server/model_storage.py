"""Where the weights lie, and how fast they can be read from there."""

from __future__ import annotations

import os

from vllm_guard.model import Finding
from vllm_guard.probes import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.probes import Context

TITLE = "the disk of the weights"

#: File systems behind a network or a program; names as in /proc/self/mounts.
_FAR = ("nfs", "nfs4", "lustre", "cifs", "smb3", "ceph", "gpfs", "beegfs", "9p", "virtiofs", "afs")
_CHUNK, _MOST, _SECONDS = 8 << 20, 64 << 20, 0.2
_LONG = 300.0  #: seconds of loading that are worth a word
_GIB = 1 << 30
_COPY = "copy the model to a local disk"
_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#hangs-loading-a-model-from-disk"


def check(context: Context) -> Iterator[Finding]:
    files = places.weights(context)
    if not files or context.flag("--load-format") == "dummy":
        return
    folder = os.path.dirname(next(iter(files)))
    mount = context.host.mount_of(folder)
    if mount is None:
        yield Finding("model-filesystem", "unknown", folder, "/proc/self/mounts does not tell")
    else:
        yield _kind(folder, mount.kind, mount.source)
    if mount is None or mount.kind not in ("tmpfs", "ramfs"):
        yield from _rate(context, files)


def _kind(folder: str, kind: str, source: str) -> Finding:
    fact = f"{kind} ({source})"
    if kind in _FAR or kind.startswith("fuse"):
        fact += ": loading waits for the network, the more so as mapped files are read page by page"
        fix = f"{_COPY}, or --safetensors-load-strategy prefetch"
        return Finding("model-filesystem", "note", folder, fact, fix=fix, uri=_URI)
    if kind == "overlay":
        fact += ": the model is in the container's own layer"
        fix = "mount it as a volume: docker run -v FOLDER:FOLDER"
        return Finding("model-filesystem", "note", folder, fact, fix=fix)
    return Finding("model-filesystem", "ok", folder, fact)


def _rate(context: Context, files: Mapping[str, int]) -> Iterator[Finding]:
    path = max(files, key=lambda name: files[name])
    if files[path] < _MOST:
        return
    try:
        rate = read_rate(context.host.root + path)
    except OSError as error:
        yield Finding("model-read-rate", "unknown", path, f"not measured: {error.strerror}")
        return
    if rate is None:
        yield Finding("model-read-rate", "skip", path, "in the page cache: the disk is not asked")
        return
    size = sum(files.values())
    fact = f"{rate / _GIB:.2f} GiB/s by one reader: {size / _GIB:.1f} GiB take about {size / rate:.0f} s"
    if size / rate > _LONG:
        yield Finding("model-read-rate", "note", path, fact, fix=_COPY, uri=_URI)
    else:
        yield Finding("model-read-rate", "ok", path, fact)


def read_rate(path: str) -> float | None:
    """Bytes per second from the disk itself, from somewhere in the file on; None where that is cached.

    O_DIRECT: the page cache is neither read nor filled. At most 64 MiB or 0.2 s. Raises OSError where the
    file system has no direct reading. Somewhere: asking what is cached makes the kernel read a little ahead,
    and the next launch must not take that for the whole.
    """
    import mmap
    import time

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = max(1, (os.fstat(fd).st_size - _MOST) // _CHUNK)
        offset = int.from_bytes(os.urandom(4), "big") % chunks * _CHUNK
        if _is_cached(fd, offset):
            return None
    finally:
        os.close(fd)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, _CHUNK) as buffer:  # aligned to a page, as O_DIRECT wants it
            start, done = time.monotonic(), 0
            while done < _MOST and time.monotonic() - start < _SECONDS:
                count = os.preadv(fd, [buffer], offset + done)
                if count <= 0:
                    break
                done += count
            return done / max(1e-6, time.monotonic() - start) if done else None
    finally:
        os.close(fd)


def _is_cached(fd: int, offset: int) -> bool:
    """RWF_NOWAIT of preadv2(2) gives only what needs no disk."""
    try:
        return os.preadv(fd, [bytearray(4096)], offset, os.RWF_NOWAIT) > 0
    except OSError:  # EAGAIN: it does; or this file system cannot tell
        return False
