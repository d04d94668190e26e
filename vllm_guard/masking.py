"""Secret shapes out of a file, after the run: what the log of a run goes through when it is complete.

In the stream only the known secrets are masked (`log`): looking for every shape costs more there than
passing the output on. A mask is as long as what it hides, so that the file need not be written anew.
"""

from __future__ import annotations

import os

from vllm_guard.redact import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from vllm_guard.needles import Finder

    Shape = dict[str, Any]  #: a row of `data/redact.toml`
    Hit = tuple[int, int, str]  #: start and end of a secret, and the id of its shape

_MASK = MASK.encode()
_BLOCK = 1 << 20  #: bytes looked at together
_ESCAPE = b"\x1b"
#: What colours a text. Commands to the terminal hold text themselves (the address of a link): they stay.
_ESCAPES = rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0AB])"
_LARGE = 4 << 20  #: bytes of logs that are worth loading hyperscan for
_KEY_MAX = 16 << 10  #: bytes that a secret of several lines has at most


def mask_logs(folder: str, shapes: Sequence[Shape], known: Sequence[bytes] = ()) -> dict[str, int]:
    """Mask each secret in the logs of a run's record, in place; how many there were, by the shape's id.

    `known`: values that are secret; the stream has masked all but those with terminal escapes inside.
    Raises OSError.
    """
    names = [name for name in sorted(os.listdir(folder)) if name.startswith("output")]
    logs = [os.path.join(folder, name) for name in names]
    search = _Search(shapes, known, sum(os.lstat(log).st_size for log in logs))
    masked: dict[str, int] = {}
    for log in logs:
        for shape in _mask_file(log, search):
            masked[shape] = masked.get(shape, 0) + 1
    return masked


def _mask_file(path: str, search: _Search) -> Iterator[str]:
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, block, goes_on in _blocks(fd):
            for start, end, shape in search.secrets(block):
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


class _Search:
    """Looks for secrets as they are read: whatever terminal escapes stand inside them.

    `size`: bytes that will be searched. Nothing is loaded and compiled before there is something to match.
    """

    def __init__(self, shapes: Sequence[Shape], known: Sequence[bytes], size: int) -> None:
        self._shapes = shapes
        self._known = known
        self._finder = _finder([scan for shape in shapes for scan in shape["scan"]], size)

    def secrets(self, block: bytes) -> Iterator[Hit]:
        """The secrets of a block, line by line."""
        lines = block.split(b"\n")
        starts = _sums(len(line) + 1 for line in lines)
        escaped = [i for i, line in enumerate(lines) if _ESCAPE in line] if _ESCAPE in block else []
        for index in escaped:
            lines[index] = _without_escapes(lines[index])
            yield from self._known_in(block, starts[index : index + 2], lines[index])
        for index in self._finder.hits(lines):
            yield from self._shapes_in(block, starts[index : index + 2], lines[index])

    def _known_in(self, block: bytes, span: Sequence[int], plain: bytes) -> Iterator[Hit]:
        for secret in self._known:
            if secret in plain:
                import re

                yield from _matches(block, span, re.escape(secret), "known value")

    def _shapes_in(self, block: bytes, span: Sequence[int], plain: bytes) -> Iterator[Hit]:
        start, end = span
        for shape in self._shapes:
            if any(scan.encode() in plain for scan in shape["scan"]):
                last = end + _KEY_MAX if shape.get("lines") else end
                yield from _matches(block, (start, last), shape["regex"].encode(), shape["id"])


class _Plain:
    """With nothing but the standard library."""

    def __init__(self, literals: Sequence[str]) -> None:
        self._literals = [literal.encode() for literal in literals]

    def hits(self, lines: Sequence[bytes]) -> list[int]:
        """Indices, in order, of the lines that hold a literal."""
        from bisect import bisect_right

        text = b"\n".join(lines)
        ends = _sums(len(line) + 1 for line in lines)[1:]
        found = set()
        for literal in self._literals:
            at = text.find(literal)
            while at >= 0:
                index = bisect_right(ends, at)
                found.add(index)
                at = text.find(literal, ends[index])
        return sorted(found)


def _finder(literals: Sequence[str], size: int) -> Finder:
    """hyperscan, where that is installed, looks for all of them at once."""
    if size > _LARGE:
        from vllm_guard import needles

        try:
            return needles.Hyperscan(literals)
        except ImportError:
            pass
    return _Plain(literals)


def _matches(block: bytes, span: Sequence[int], regex: bytes, name: str) -> Iterator[Hit]:
    """What it matches in the span without its escapes, by its place in the block."""
    import re
    from bisect import bisect_right

    text = block[slice(*span)]
    cuts = [match.span() for match in re.finditer(_ESCAPES, text)]
    gone = _sums(end - start for start, end in cuts)
    places = [start - before for (start, _), before in zip(cuts, gone, strict=False)]
    pattern = re.compile(regex)
    group = "mask" if "mask" in pattern.groupindex else 0
    for match in pattern.finditer(_without_escapes(text)):
        start, end = match.span(group)
        first, last = (at + gone[bisect_right(places, at)] for at in (start, end - 1))
        yield span[0] + first, span[0] + last + 1, name


def _without_escapes(text: bytes) -> bytes:
    if _ESCAPE not in text:
        return text
    import re

    return re.sub(_ESCAPES, b"", text)


def _sums(numbers: Iterable[int]) -> list[int]:
    """0, and the sums of the first, of the first two, of all."""
    from itertools import accumulate

    return list(accumulate(numbers, initial=0))


def _filled(secret: bytes) -> bytes:
    """As long as the secret; its line ends stay."""
    mask = _MASK.ljust(len(secret), b"*") if len(secret) >= len(_MASK) else b"*" * len(secret)
    return bytes(a if a in b"\r\n" else b for a, b in zip(secret, mask, strict=True))
