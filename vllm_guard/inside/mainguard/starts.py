"""Where a script starts processes or builds a vLLM engine when its top-level code runs. Pure, `ast` only.

Names are resolved through imports; calls of the script's own functions, classes and methods are
followed. What is not seen: getattr with a computed name, exec, and what imported modules do.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

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
    guarded: bool  #: inside `if __name__ == "__main__":`


class Found(NamedTuple):
    """All that one reading of a script finds."""

    starts: tuple[Start, ...]  #: by line
    cuda: tuple[Start, ...]  #: what initialises CUDA before an engine is built, outside the guard


def read(tree: ast.Module, load: Load | None = None) -> Found:
    """Follow the module's top-level code, and that of the modules which `load` gives."""
    walk = Walk(guard_test, load)
    walk.module(tree)
    events = sorted(walk.calls.events.values())
    engines = [e for e in events if e.engine and e.confidence != "info" and not e.guarded]
    cuda = [e for e in walk.calls.cuda if not e.guarded] if engines else []
    return Found(
        tuple(Start(*event[:6]) for event in events), tuple(Start(*event[:6]) for event in cuda)
    )


def find(tree: ast.Module) -> list[Start]:
    """What happens when the module's top-level code runs, by line."""
    return list(read(tree).starts)


def has_guard(tree: ast.Module) -> bool:
    """Is there a main guard at top level?"""
    return any(guard_test(node) for node in tree.body)


def guard_test(node: ast.stmt) -> bool:
    """Is this `if __name__ == "__main__"`, in either order, alone or with `and`?"""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(map(_is_main, test.values))
    return _is_main(test)


def _is_main(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    sides = (test.left, test.comparators[0])
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    texts = [side.value for side in sides if isinstance(side, ast.Constant)]
    return isinstance(test.ops[0], ast.Eq) and names == ["__name__"] and texts == ["__main__"]
