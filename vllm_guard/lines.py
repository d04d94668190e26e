"""Bytes as they come, in blocks, as lines within limits. Pure."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

LIMIT = 4096  #: bytes that are kept of a line
_DOCKER = b'{"log":"'  #: so begins each line of Docker's json-file driver
#: ECMA-48: control sequences (CSI), operating system commands (OSC), and what is one letter.
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")


@dataclass(frozen=True)
class Rows:
    """Lines without their ends, and their numbers; a progress bar has several lines of one number."""

    numbers: Sequence[int]
    lines: list[bytes]


class Lines:
    """Blocks of bytes go in, whole lines come out: split at newlines and returns, no terminal escapes."""

    def __init__(self) -> None:
        self.dropped = 0  #: bytes beyond LIMIT of their line
        self._number = 1
        self._begun = b""  #: of the line that has no end yet
        self._skipping = False  #: until its end, for LIMIT bytes of it are there

    def feed(self, block: bytes) -> Rows:
        """The lines that this block ends."""
        cut = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        whole, rest = block[:cut], block[cut:]
        if not whole:
            self._begin(rest)
            return Rows((), [])
        rows = self._rows(self._begun + whole)
        self._begun, self._skipping = b"", False
        self._begin(rest)
        return rows

    def finish(self) -> Rows:
        """The last line, where it has no end."""
        return self.feed(b"\n") if self._begun else Rows((), [])

    def _begin(self, part: bytes) -> None:
        """Twice LIMIT, for escapes do not count."""
        room = max(0, 2 * LIMIT - len(self._begun))
        self.dropped += len(part[room:])
        self._begun += part[:room]

    def _rows(self, whole: bytes) -> Rows:
        first = self._number
        self._number += whole.count(b"\n")
        if whole.startswith(_DOCKER):
            whole = b"\n".join(map(_unpacked, whole.split(b"\n")))
        if b"\x1b" in whole:
            whole = _ESCAPES.sub(b"", whole)
        lines = whole.split(b"\n")
        numbers: Sequence[int] = range(first, first + len(lines))
        if b"\r" in whole:
            parts = [line.split(b"\r") for line in lines]
            numbers = [n for n, several in zip(numbers, parts, strict=True) for _ in several]
            lines = [part for several in parts for part in several]
        lines.pop()  # what follows the last end
        if max(map(len, lines)) > LIMIT:
            self.dropped += sum(len(line[LIMIT:]) for line in lines)
            lines = [line[:LIMIT] for line in lines]
        return Rows(numbers[: len(lines)], lines)


def _unpacked(line: bytes) -> bytes:
    """What was written, on one line; a line that is not Docker's as it is."""
    try:
        text = str(json.loads(line)["log"])
    except (ValueError, KeyError, TypeError):
        return line
    return text.rstrip("\r\n").replace("\n", "\r").encode("utf-8", "replace")
