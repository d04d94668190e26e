"""Where a script starts processes or builds a vLLM engine when its top-level code runs. Pure, `ast` only.

Names are resolved through imports; calls of the script's own functions, classes and methods are
followed. What is not seen: getattr with a computed name, exec, and what imported modules do.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from . import guards
from .walk import Walk

if TYPE_CHECKING:
    from .walk import Load


class Start(NamedTuple):
    """A call that starts processes, or may."""

    line: int
    col: int
    what: str  #: "vllm.LLM is constructed"
    via: tuple[tuple[str, int], ...]  #: calls that lead there: (function, line), outermost first
    confidence: str  #: certain, likely, or info: it starts no process that imports the script again
    guarded: bool  #: not reached by children that import the script
    engine: bool  #: of vLLM; else processes of multiprocessing
    imported: bool  #: by a module that the script's top level imports


class Found(NamedTuple):
    """All that one reading of a script finds."""

    starts: tuple[Start, ...]  #: by line
    cuda: tuple[Start, ...]  #: what initialises CUDA before an engine is built, outside the guard
    ends: tuple[
        int, int
    ]  #: line and column where a child's import of the script ends it; 0 for nowhere
    has_guard: bool  #: is there code that only the main process reaches?

    @property
    def is_safe(self) -> bool:
        """Does the script guard what it starts, so that children can import it?"""
        open_ = (s for s in self.starts if not s.guarded and s.confidence != "info")
        return self.has_guard and not self.ends[0] and not any(open_)


def read(tree: ast.Module, load: Load | None = None) -> Found:
    """Follow the module's top-level code, and that of the modules which `load` gives."""
    walk = Walk(load)
    walk.module(tree)
    events = sorted(walk.calls.events.values())
    engines = [e for e in events if e.engine and e.confidence != "info" and not e.guarded]
    cuda = [e for e in walk.calls.cuda if not e.guarded] if engines else []
    return Found(
        tuple(Start(*event) for event in events),
        tuple(Start(*event) for event in cuda),
        walk.ends,
        walk.calls.has_guard,
    )


def find(tree: ast.Module) -> list[Start]:
    """What happens when the module's top-level code runs, by line."""
    return list(read(tree).starts)


def guard_test(node: ast.stmt) -> bool:
    """Is this an `if` that keeps children out by its test alone: `if __name__ == "__main__"`?"""
    return isinstance(node, ast.If) and guards.is_guard(node.test)
