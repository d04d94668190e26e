"""Which lines of a log are worth a look: those that hold one of some hundred literals. Pure.

A log repeats itself: but for numbers, most lines are as an earlier one. Each shape of a line is looked
through once, which is what is left without hexadecimal digits; one that holds no needle's shape stands
for lines that hold no needle. That costs two passes in C over the block, whatever the number of needles.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DIGITS = b"0123456789abcdef"
_MOST_SHAPES = 1 << 14  #: that are remembered, of at most 4 KiB each


class Needles:
    """Finds the lines that hold one of the literals."""

    def __init__(self, literals: Iterable[str]) -> None:
        shapes = {literal.encode().translate(None, _DIGITS) for literal in literals}
        self._shapes = sorted(s for s in shapes if not any(o in s for o in shapes - {s}))
        self._known: set[bytes] = set()

    def hits(self, lines: Sequence[bytes]) -> list[int]:
        """Indices, in order, of all lines that hold a literal, and of few others."""
        text = b"\n".join(lines).translate(None, _DIGITS)
        shapes = text.split(b"\n")
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

    def _holding(self, shapes: set[bytes]) -> set[bytes]:
        """Those that hold a needle's shape; one search for each needle, not for each line."""
        text = b"\n" + b"\n".join(shapes) + b"\n"
        found = set()
        for needle in self._shapes:
            position = text.find(needle)
            while position >= 0:
                end = text.find(b"\n", position)
                found.add(text[text.rfind(b"\n", 0, position) + 1 : end])
                position = text.find(needle, end)
        return found
