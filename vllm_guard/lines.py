"""Bytes as they come, in blocks, as lines within limits. Pure."""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

LIMIT = 4096  #: bytes that are kept of a line
_RAW = 2 * LIMIT  #: with its escapes, or as JSON
_OBJECT = b'{"'  #: so begins a line that may be JSON
_JSON_KEYS = (b'"log"', b'"MESSAGE"')  #: Docker's json-file driver; journalctl -o json
#: ECMA-48: control sequences (CSI), operating system commands (OSC), what is one letter; ECMA-35: its sets
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[()][0AB]|[@-Z\\^_])"
)


@dataclass(frozen=True)
class Rows:
    """Lines without their ends, and their numbers; a progress bar has several lines of one number."""

    numbers: Sequence[int]
    lines: list[bytes]


class Lines:
    """Blocks of bytes go in, whole lines come out: split at newlines and returns, no terminal escapes.

    How the bytes are cut into blocks makes no difference.
    """

    def __init__(self) -> None:
        self.dropped = 0  #: bytes of lines that were too long
        self.count = 0  #: newlines so far
        self._begun = b""  #: of the line that has no end yet

    def feed(self, block: bytes) -> Rows:
        """The lines that this block ends."""
        cut = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
        rows = self._rows(self._begun + block[:cut]) if cut else Rows((), [])
        begun = b"" if cut else self._begun
        self._begun = begun + self._cut(block[cut:], _RAW - len(begun))
        return rows

    def finish(self) -> Rows:
        """The last line, where it has no end."""
        return self.feed(b"\n") if self._begun else Rows((), [])

    def _rows(self, whole: bytes) -> Rows:
        first = self.count + 1
        self.count += whole.count(b"\n")
        lines = whole.split(b"\n")
        numbers: Sequence[int] = range(first, first + len(lines))
        if b"\r" in whole:
            parts = [line.split(b"\r") for line in lines]
            numbers = [n for n, several in zip(numbers, parts, strict=True) for _ in several]
            lines = [part for several in parts for part in several]
        lines.pop()  # what follows the last end
        if max(map(len, lines)) > LIMIT:
            lines = [self._cut(line, _RAW) for line in lines]
        if b"\x1b" in whole or _OBJECT in whole:
            lines = [plain(line) for line in lines]
        if max(map(len, lines)) > LIMIT:
            lines = [self._cut(line, LIMIT) for line in lines]
        return Rows(numbers[: len(lines)], lines)

    def _cut(self, line: bytes, room: int) -> bytes:
        self.dropped += max(0, len(line) - room)
        return line[:room]


def plain(line: bytes) -> bytes:
    """What was written: out of the JSON of Docker or of journald, without escapes."""
    if line.startswith(_OBJECT) and any(key in line for key in _JSON_KEYS):
        line = _unpacked(line)
    return _ESCAPES.sub(b"", line) if b"\x1b" in line else line


def _unpacked(line: bytes) -> bytes:
    """The text of a line in JSON, of a progress bar its last state; another line as it is."""
    try:
        row = json.loads(line)
        text: str = row["log"] if "log" in row else _journal(row)
        shown = text.rstrip("\r\n").rpartition("\r")[2]
    except (AttributeError, ValueError, KeyError, TypeError, RecursionError):
        return line
    return shown.replace("\n", " ").encode("utf-8", "replace")


def _journal(row: dict[str, Any]) -> Any:
    """As journalctl shows it by default; a message that is no text is a list of its bytes."""
    message = row["MESSAGE"]
    if isinstance(message, list):
        message = bytes(message).decode("utf-8", "replace")
    host = row.get("_HOSTNAME")
    return f"{host} journal[0]: {message}" if host else message
