"""Which lines of a log are worth a look: those that hold one of some hundred literals. Pure.

`finder` takes hyperscan where that is installed (`pip install vllm-guard[fast]`): the same lines, sooner.
"""

from __future__ import annotations

import re
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    class Finder(Protocol):
        """Finds lines that hold a literal."""

        def hits(self, lines: Sequence[bytes]) -> list[int]:
            """Indices, in order, of all lines that hold one, and of few others."""


_DIGITS = b"0123456789abcdef"
_MOST_SHAPES = 1 << 14  #: that are remembered, of at most 4 KiB each
#: Leaves the words of a text, and its lines: everything else becomes a space.
_WORDS = bytes(c if chr(c) in "_\n" or (c < 128 and chr(c).isalnum()) else 32 for c in range(256))


def finder(literals: list[str]) -> Finder:
    """The fastest that there is for these literals."""
    try:
        return Hyperscan(literals)
    except ImportError:
        return Shapes(literals)


class Shapes:
    """With the standard library. A log repeats itself: but for numbers, most lines are as an earlier one.

    Each shape of a line is looked through once, which is what is left of it without hexadecimal digits. One
    that holds no needle's shape stands for lines that hold no needle. What is new is split into words: a
    needle is looked for only where a whole word of it is, if it has one. None may be a hexadecimal number.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        self._known: set[str] = set()
        self._by_word: dict[str, list[str]] = {}
        #: Without a word that is whole in every text that holds them. Who holds one need not hold another.
        self._bare: list[str] = []
        words = {shape: _whole_words(shape) for shape in {_shape(one.encode()) for one in literals}}
        shared = Counter(word for several in words.values() for word in {*several})
        for shape in sorted(words, key=len):
            if any(bare in shape for bare in self._bare):
                continue
            if words[shape]:
                rare = max(words[shape], key=lambda word: len(word) - shared[word])
                self._by_word.setdefault(rare, []).append(shape)
            else:
                self._bare.append(shape)
        self._words = frozenset(self._by_word)

    def hits(self, lines: Sequence[bytes]) -> list[int]:
        """Indices, in order, of all lines that hold one, and of few others."""
        shapes = _shape(b"\n".join(lines)).split("\n")
        known = self._known
        new = [index for index, shape in enumerate(shapes) if shape not in known]
        if not new:
            return []
        fresh = {shapes[index] for index in new}
        holding = self._holding(fresh)
        if len(known) > _MOST_SHAPES:
            known.clear()
        known |= fresh - holding
        return [index for index in new if shapes[index] in holding]

    def _holding(self, shapes: set[str]) -> set[str]:
        """Those that hold a needle's shape."""
        text = "\n".join(shapes)
        found = set()
        for needle in self._bare:
            position = text.find(needle)
            while position >= 0:
                end = text.find("\n", position)
                end = len(text) if end < 0 else end
                found.add(text[text.rfind("\n", 0, position) + 1 : end])
                position = text.find(needle, end)
        by_word = self._by_word
        for shape, words in zip(shapes, _words(text).split("\n"), strict=True):
            present = self._words.intersection(words.split())
            if [needle for word in present for needle in by_word[word] if needle in shape]:
                found.add(shape)
        return found


def _shape(line: bytes) -> str:
    """A character for each byte that is left: `str` is searched faster than `bytes`."""
    return line.translate(None, _DIGITS).decode("latin-1")


def _words(text: str) -> str:
    """Its words, with spaces and newlines between them."""
    return text.encode("latin-1").translate(_WORDS).decode("latin-1")


def _whole_words(shape: str) -> list[str]:
    """Those that stand for themselves wherever the shape stands."""
    return _words(f"_{shape}_").split()[1:-1]


class Hyperscan:
    """With hyperscan, all literals at once. Raises ImportError where it is not there, or does not run."""

    def __init__(self, literals: Iterable[str]) -> None:
        import hyperscan

        expressions = [re.escape(literal.encode()) for literal in literals]
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        try:
            self._database.compile(expressions=expressions)
        except hyperscan.HyperscanError as error:  # a processor without SSSE3
            raise ImportError(str(error)) from None

    def hits(self, lines: Sequence[bytes]) -> list[int]:
        """Indices, in order, of the lines that hold one."""
        text = b"\n".join(lines)
        ends: list[int] = []

        def note(_id: int, _start: int, end: int, _flags: int, _context: Any) -> None:
            ends.append(end)

        self._database.scan(text, match_event_handler=note)
        found: dict[int, None] = {}
        index = counted = 0
        for end in sorted(ends):
            index += text.count(b"\n", counted, end)
            counted = end
            found[index] = None
        return list(found)
