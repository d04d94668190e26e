"""The lines of a shell, and what is quoted like them, as words. Pure; nothing is run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One piece of a shell's line.
_PIECE = re.compile(
    r"""(?P<space>\s+) | (?P<operator>[;&|()]+) | \\(?P<escaped>.)
    | '(?P<single>[^']*)' | "(?P<double>(?:\\.|[^"\\])*)"
    | (?P<expansion>\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\) | \$\{[^}]*\} | `[^`]*` | \$'[^']*' | [$`])
    | (?P<plain>[^\s;&|()'"\\$`]+)""",
    re.VERBOSE,
)
_IN_DOUBLE = re.compile(r"""\\([\\"$`])|[$`]""")
UNKNOWN = "\0"  #: stands for what only running the line could tell


def logical_lines(text: str, joint: str = "") -> Iterator[tuple[int, str]]:
    """Lines with their continuations, by the number of the first; a comment is none, and ends none."""
    first, held = 0, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        comment = line.lstrip().startswith("#")
        if comment and first:
            continue
        first = first or number
        if line.endswith("\\") and not comment:
            held += line[:-1] + joint
            continue
        yield first, (held + line).strip()
        first, held = 0, ""
    if first:
        yield first, held.strip()


def commands(content: str, alone: bool = False) -> Iterator[list[str]]:
    """The words of each command of a line; none of a line whose quotes go on in the next.

    `alone`: the line is not a shell's, though quoted like one: it has no operators and no comment.
    """
    words: list[str] = []
    word: str | None = None
    found = [words]
    at = 0
    while at < len(content) and (alone or word is not None or content[at] != "#"):
        piece = _PIECE.match(content, at)
        if piece is None:
            return
        at = piece.end()
        operator = piece.lastgroup == "operator" and not alone
        if piece.lastgroup == "space" or operator:
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + _text(piece, at_start=not word)
        if operator:
            found.append(words := [])
    words += [] if word is None else [word]
    yield from filter(None, found)


def _text(piece: re.Match[str], at_start: bool) -> str:
    kind = piece.lastgroup
    if kind == "expansion":
        return UNKNOWN
    if kind == "double":
        return _IN_DOUBLE.sub(lambda found: found[1] or UNKNOWN, piece["double"])
    if kind in ("single", "escaped"):
        return piece[kind]
    _, equals, value = piece[0].partition("=")
    start = value if equals else piece[0] if at_start else ""
    home = start.startswith("~") or ":~" in start
    return piece[0].replace("~", UNKNOWN) if home else piece[0]
