"""Which of the processes of a run is the one that is stuck, and in what: by their stacks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_guard.stacks import Frame, Stack

    Row = Mapping[str, Any]  #: one of `waits` of `data/stalls.toml`

FOLLOWS, JOINS, STANDS = 0, 1, 2
_RANKS = {"process": FOLLOWS, "ranks": JOINS}  #: by what it waits for
_TRACKER = "resource_tracker"


@dataclass(frozen=True)
class Blamed:
    """A process, and what it waits for."""

    stack: Stack
    frame: Frame | None  #: the one that tells
    row: Row  #: that knows it; empty for none
    rank: int  #: how sure it is that it is this one that is stuck

    @property
    def does(self) -> str:
        """What it does, or waits for, in words."""
        waits = f"waits: {self.stack.waits}" if self.stack.waits else ""
        return self.stack.state or str(self.row.get("means", "")) or waits or "runs"


def blame(stacks: Sequence[Stack], rows: Sequence[Row]) -> Blamed | None:
    """The process that the others wait for; None where there is none.

    One that the kernel holds comes first, then one in a known place, then one that waits for other ranks,
    then one that waits for a process of the run; the youngest of several: workers are started last.
    """
    judged = [_judged(stack, rows) for stack in stacks]
    return max(judged, key=lambda b: (bool(b.stack.state), b.rank, b.stack.pid), default=None)


def words(what: str, stacks: Sequence[Stack], blamed: Blamed | None) -> tuple[str, str]:
    """The fact and the fix. `what`: that which does not move."""
    if blamed is None:
        return what, ""
    stack, frame = blamed.stack, blamed.frame
    place = f" in {frame}" if frame else ""
    named = " of " in stack.waits and stack.waits not in blamed.does
    kernel = f" [{stack.waits}]" if named else ""
    others = len(stacks) - 1
    more = f"; {others} more process{'es' * (others > 1)}" if others else ""
    problem = f"; {stack.problem}" if stack.problem and not stack.state else ""
    fact = f"{what}: {stack.title} (pid {stack.pid}): {blamed.does}{place}{kernel}{more}{problem}"
    if stack.stopped:
        return fact, f"kill -CONT {stack.pid}"
    return fact, str(blamed.row.get("fix", ""))


def text(first: tuple[str, str], stacks: Sequence[Stack]) -> str:
    """The fact and the fix in the first two lines, then every thread of every process."""
    return "\n".join([*first, *_lines(stacks)]) + "\n"


def _lines(stacks: Sequence[Stack]) -> Iterator[str]:
    for stack in stacks:
        about = ", ".join(filter(None, (stack.state, stack.waits, stack.problem)))
        yield ""
        yield f"pid {stack.pid}: {stack.title}" + f" ({about})" * bool(about)
        for thread in stack.threads:
            yield f"  thread {thread.name or 'without a name'}"
            yield from (f"    {frame.in_full}" for frame in thread.frames)


def _judged(stack: Stack, rows: Sequence[Row]) -> Blamed:
    """By what the kernel says, else by the innermost call that a row knows."""
    for row in rows:
        if any(word in stack.waits for word in row.get("kernel", ())):
            return Blamed(stack, _known(stack, rows)[0], row, STANDS)
    frame, row = _known(stack, rows)
    if _TRACKER in stack.title:
        return Blamed(stack, frame, row, FOLLOWS)
    return Blamed(stack, frame, row, _RANKS.get(row.get("for", ""), STANDS) if row else JOINS)


def _known(stack: Stack, rows: Sequence[Row]) -> tuple[Frame | None, Row]:
    """The frame that tells, and its row; the innermost and an empty one where no row knows any.

    Rows with `last` only if no other knows one.
    """
    for last in (False, True):
        for frame in stack.main:
            for row in rows:
                if row.get("last", False) is last and _holds(frame, row):
                    return frame, row
    return next(iter(stack.main), None), {}


def _holds(frame: Frame, row: Row) -> bool:
    return any(word in frame.function or word in frame.file for word in row.get("frames", ()))
