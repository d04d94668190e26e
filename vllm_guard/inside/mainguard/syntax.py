"""Small questions about the syntax tree of a script. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
