"""Secret shapes out of a file, after the run: what the log of a run goes through when it is complete.

In the stream only the known secrets are masked (`log`): looking for every shape costs more there than
passing the output on. A mask is as long as what it hides, so that the file need not be written anew.
"""

from __future__ import annotations

import os

from vllm_guard.redact import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Shape = dict[str, Any]  #: a row of `data/redact.toml`
    Hit = tuple[int, int, str]  #: start and end of a secret, and the id of its shape

_MASK = MASK.encode()
_BLOCK = 1 << 20  #: bytes looked at together
_KEY_MAX = 16 << 10  #: bytes that a secret of several lines has at most


def mask_logs(folder: str, shapes: Sequence[Shape]) -> dict[str, int]:
    """Mask each secret in the logs of a run's record, in place; how many there were, by the shape's id.

    Raises OSError.
    """
    masked: dict[str, int] = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("output"):
            for shape in _mask_file(os.path.join(folder, name), shapes):
                masked[shape] = masked.get(shape, 0) + 1
    return masked


def _mask_file(path: str, shapes: Sequence[Shape]) -> Iterator[str]:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, block, goes_on in _blocks(fd):
            for start, end, shape in _secrets(block, shapes):
                if not (goes_on and end == len(block)):  # the next block has all of it
                    os.pwrite(fd, _filled(block[start:end]), offset + start)
                    yield shape
    finally:
        os.close(fd)


def _blocks(fd: int) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, bytes, is there more?), where possible of whole lines.

    Each begins with so much of the one before that no secret is seen in parts only.
    """
    offset = 0
    while block := os.pread(fd, _BLOCK, offset):
        goes_on = len(block) == _BLOCK
        if goes_on:
            block = block[: block.rfind(b"\n", _BLOCK // 2) + 1 or _BLOCK]
        yield offset, block, goes_on
        if not goes_on:
            return
        offset += len(block) - _KEY_MAX


def _secrets(block: bytes, shapes: Sequence[Shape]) -> Iterator[Hit]:
    for start, end, found in _lines(block, shapes):
        for shape in found:
            yield from _in_line(block, start, end, shape)


def _lines(block: bytes, shapes: Sequence[Shape]) -> Iterator[tuple[int, int, list[Shape]]]:
    """(start, end, shapes) of each line that may hold a secret, with the shapes that it may have."""
    lines: dict[int, tuple[int, list[Shape]]] = {}
    for shape in shapes:
        for scan in shape["scan"]:
            at = block.find(scan.encode())
            while at >= 0:
                start = block.rfind(b"\n", 0, at) + 1
                end = block.find(b"\n", at) + 1 or len(block)
                found = lines.setdefault(start, (end, []))[1]
                found += [shape] * (shape not in found)
                at = block.find(scan.encode(), end)
    for start, (end, found) in lines.items():
        yield start, end, found


def _in_line(block: bytes, start: int, end: int, shape: Shape) -> Iterator[Hit]:
    import re

    pattern = re.compile(shape["regex"].encode())
    last = min(len(block), end + _KEY_MAX) if shape.get("lines") else end
    group = "mask" if "mask" in pattern.groupindex else 0
    for match in pattern.finditer(block, start, last):
        yield *match.span(group), shape["id"]


def _filled(secret: bytes) -> bytes:
    """As long as the secret; its line ends stay."""
    mask = _MASK.ljust(len(secret), b"*") if len(secret) >= len(_MASK) else b"*" * len(secret)
    return bytes(a if a in b"\r\n" else b for a, b in zip(secret, mask, strict=True))
