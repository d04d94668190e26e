"""What a script's reading means: which of its lines need a main guard. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vllm_guard import screen
from vllm_guard.inside.mainguard import markers, starts
from vllm_guard.model import Finding
from vllm_guard.scripts import STDIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllm_guard.guarding.outcomes import RefusedError
    from vllm_guard.inside.mainguard.starts import Found, Start
    from vllm_guard.inside.mainguard.walk import Load
    from vllm_guard.model import Status
    from vllm_guard.scripts import Script

    Refusal = Callable[[], RefusedError | None]

_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#python-multiprocessing"
_WHY = (
    "A child that is started with spawn or forkserver imports the script again: without a guard it starts"
    " processes itself, and Python ends it with a RuntimeError. The default start method is fork before"
    " Python 3.14 and forkserver from then on."
)
_CUDA_WHY = (
    "vLLM forks its processes where it can. A process that has initialised CUDA cannot be forked, so vLLM"
    " spawns, and a script without a guard that would have worked breaks."
)
_NOTEBOOK_WHY = (
    "Children that are started with spawn or forkserver import the main module to find the functions that"
    " they run. A notebook is no module: a Process ends with an AttributeError, a Pool waits for ever."
)
_ENDING_WHY = (
    "A child that is started with spawn or forkserver imports the script before it does its work. Where the"
    " script exits or raises in children, they do none: a process exits with status 0, a Pool waits for ever."
)
_ENCODING = "save it as UTF-8, or name its encoding on the first line: `# -*- coding: latin-1 -*-`"
_GUARD = '`if __name__ == "__main__":`'
_STATUS: dict[str, Status] = {"certain": "fail", "likely": "warn", "info": "note"}


@dataclass(frozen=True)
class Placed:
    """A finding in a file; line and column from 1, 0 where it is about the whole file.

    In a notebook they are those of a cell, from 1; that is 0 in any other file.
    """

    finding: Finding
    file: str
    line: int = 0
    column: int = 0
    cell: int = 0

    @property
    def message(self) -> str:
        """What is wrong and what to do, without the place; but no format has a field for a cell."""
        cell = f"cell {self.cell} line {self.line}: " if self.cell else ""
        fix = f"; fix: {self.finding.fix}" if self.finding.fix else ""
        return screen.printable(f"{cell}{self.finding.fact}{fix}")


def judge(script: Script, load: Load, refusal: Refusal) -> Iterator[Placed]:
    """The findings of one script, by line; `load` gives the modules beside it.

    `refusal` says why `vllm-guard fix` would leave it as it is; it is asked where there is something to fix.
    """
    if script.problem:
        yield _unreadable(script)
        return
    read = _heeded(starts.read(script.tree, load), markers.ignored(script.source))
    if script.is_notebook:
        yield from (
            _of_notebook(script, start) for start in read.starts if start.confidence != "info"
        )
        return
    found: list[Placed] = []
    if script.is_package_main:
        found += (_without_children(script, start) for start in read.starts if not start.guarded)
    else:
        refused = refusal() if any(map(_needs_a_guard, read.starts)) else None
        found += (_unguarded(script, start, refused) for start in read.starts if not start.guarded)
        found += (_cuda(script, touch) for touch in read.cuda)
        found += _ending(script, read)
    found += (_misspelt(script, *one) for one in markers.misspelt(script.source))
    yield from sorted(found, key=lambda placed: (placed.line, placed.column))


def _heeded(read: Found, ignored: set[int]) -> Found:
    """Without the lines that are marked: each that leads there may be."""

    def open_(found: tuple[Start, ...]) -> tuple[Start, ...]:
        lines = (({start.line, *(line for _, line in start.via)}, start) for start in found)
        return tuple(start for led, start in lines if not led & ignored)

    ends = (0, 0) if read.ends[0] in ignored else read.ends
    return read._replace(starts=open_(read.starts), cuda=open_(read.cuda), ends=ends)


def place(script: Script, line: int) -> str:
    """`s.py:14`, `n.ipynb: cell 3 line 2`."""
    if 0 < line <= len(script.cells):
        return "{}: cell {} line {}".format(script.path, *script.cells[line - 1])
    return f"{script.path}:{line}" if line else script.path


def _placed(finding: Finding, script: Script, line: int, offset: int | None = None) -> Placed:
    """A finding on a line of the script, at the offset that `ast` gives."""
    column = 0 if offset is None else script.column(line, offset)
    cell, inner = script.cells[line - 1] if 0 < line <= len(script.cells) else (0, line)
    return Placed(finding, script.path, inner, column, cell)


def _unreadable(script: Script) -> Placed:
    subject = place(script, script.problem_line)
    fix = _ENCODING if script.problem.startswith("cannot be decoded") else ""
    finding = Finding("script-unreadable", "unknown", subject, script.problem, fix)
    placed = _placed(finding, script, script.problem_line)
    return replace(placed, column=script.problem_column)


def _of_notebook(script: Script, start: Start) -> Placed:
    subject = place(script, start.line)
    if start.engine:
        why = "a notebook needs no guard: the children of its kernel do not import it"
        fact = f"{_what(start)}{_via(start)}; {why}"
        finding = Finding("notebook", "note", subject, fact, uri=_URI)
    else:
        certain = start.confidence == "certain"
        when = "" if certain else " from Python 3.14 on"
        fact = (
            f"{_what(start)}{_via(start)}; its children cannot find what the notebook defines{when}"
        )
        fix = "put what they run into a module and import it"
        status: Status = "warn" if certain else "note"
        finding = Finding("notebook-functions", status, subject, fact, fix, _NOTEBOOK_WHY)
    return _placed(finding, script, start.line, start.col)


def _needs_a_guard(start: Start) -> bool:
    return not start.guarded and start.confidence != "info"


def _unguarded(script: Script, start: Start, refused: RefusedError | None) -> Placed:
    if start.confidence == "info":
        return _without_children(script, start)
    subject = place(script, start.line)
    how = "which is imported " if start.imported else ""
    fact = f"{start.what} {how}at top level{_via(start)}"
    status = _STATUS[start.confidence]
    fix = _fix(script, start, refused)
    finding = Finding("main-guard-missing", status, subject, fact, fix, _WHY, _URI)
    return _placed(finding, script, start.line, start.col)


def _without_children(script: Script, start: Start) -> Placed:
    """A start whose processes do not import the script again, or whose script they do not import."""
    why = ", as children do not import __main__.py" if script.is_package_main else ""
    fact = f"{_what(start)}{_via(start)}: no guard is needed{why}"
    subject = place(script, start.line)
    finding = Finding("main-guard-not-needed", "note", subject, fact, uri=_URI)
    return _placed(finding, script, start.line, start.col)


def _ending(script: Script, read: Found) -> Iterator[Placed]:
    """The guard is one, but of those that keep children from their work."""
    kept = {start.confidence for start in read.starts if start.guarded} - {"info"}
    if not read.ends[0] or not kept:
        return
    line, offset = read.ends
    fact = "a child that imports the script ends here, before its work"
    fix = f"put what only the main process does under {_GUARD}, this line too{_as_it_is(script)}"
    status = _STATUS[min(kept)]  # certain before likely
    subject = place(script, line)
    finding = Finding("main-guard-missing", status, subject, fact, fix, _ENDING_WHY, _URI)
    yield _placed(finding, script, line, offset)


def _misspelt(script: Script, line: int, text: str) -> Placed:
    fact = f"`{screen.shortened(text, 60)}` is no marker, and does nothing"
    fix = "write `# vllm-guard: child`, `main` or `ignore`"
    finding = Finding("main-guard-marker", "note", place(script, line), fact, fix)
    return _placed(finding, script, line)


def _cuda(script: Script, touch: Start) -> Placed:
    fact = (
        f"{touch.what} before the engine is built{_via(touch)}: vLLM then spawns, and cannot fork"
    )
    fix = f"put the engine under {_GUARD}; or do this after it is built"
    subject = place(script, touch.line)
    finding = Finding("cuda-before-fork", "warn", subject, fact, fix, _CUDA_WHY, _URI)
    return _placed(finding, script, touch.line, touch.col)


def _what(start: Start) -> str:
    """`vllm.LLM is constructed in helper.py, line 3`, without the comma that a sentence goes on after."""
    return start.what.rstrip(",")


def _via(start: Start) -> str:
    calls = "; ".join(f"{name}, line {line}" for name, line in start.via)
    return f" (via {calls})" if calls else ""


def _fix(script: Script, start: Start, refused: RefusedError | None) -> str:
    line = start.via[0][1] if start.via else start.line
    if refused is not None and refused.is_library:
        return f"{refused.way_out(script.launch)}; {_reason(refused)}"
    put = f"put line {line} under {_GUARD}"
    if refused is not None:
        return f"{put} by hand, as {_reason(refused)}: {refused.way_out(script.launch)}"
    if script.path == STDIN:
        return put
    put += f": `vllm-guard fix {shlex.quote(script.path)}`"
    if not start.imported:
        return f"{put}{_as_it_is(script)}"
    # Under vllm-guard the import ends at the start, and children may need what the module defines after it.
    what = "build the engine" if start.engine else "start them"
    return f"{what} in a function of that module, and call it under {_GUARD}; or {put}"


def _reason(refused: RefusedError) -> str:
    where = f"line {refused.line}: " if refused.line else ""
    return f"`vllm-guard fix` refuses it ({where}{refused.reason})"


def _as_it_is(script: Script) -> str:
    return "" if script.path == STDIN else f"; or run it as it is: `{script.launch}`"
