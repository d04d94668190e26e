"""Small questions about the syntax tree of a script. Pure."""

from __future__ import annotations

import ast
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DEEP = 50_000  #: frames; Python itself compiles no code that is nested as deeply
_DEEP_STACK = 512 << 20  #: bytes of address space; only what is used becomes memory

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


def parts(node: ast.AST) -> Iterable[ast.AST]:
    """What of an expression is evaluated with it, in order: of a lambda only its defaults."""
    if isinstance(node, ast.Lambda):
        return (*node.args.defaults, *(d for d in node.args.kw_defaults if d))
    if isinstance(node, ast.comprehension):
        return (node.iter,)
    if isinstance(node, _COMPREHENSIONS):
        loops = [part for loop in node.generators for part in (loop, *loop.ifs)]
        return (*loops, *([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]))
    return ast.iter_child_nodes(node)


def never(test: ast.expr) -> bool:
    """`if False:`, `if TYPE_CHECKING:`."""
    if isinstance(test, ast.Constant):
        return not test.value
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def deeply(call: Callable[[], Any]) -> Any:
    """What it returns; where Python's limit is too low for its recursion, in a thread with a larger stack."""
    try:
        return call()
    except RecursionError:
        return _in_deep_thread(call)


def _in_deep_thread(call: Callable[[], Any]) -> Any:
    came: list[Any] = []

    def run() -> None:
        try:
            came.extend((call(), None))
        except BaseException as error:
            came.extend((None, error))

    limit, size = sys.getrecursionlimit(), threading.stack_size(_DEEP_STACK)
    sys.setrecursionlimit(_DEEP)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
        sys.setrecursionlimit(limit)
    result, error = came
    if error is not None:
        raise error
    return result
