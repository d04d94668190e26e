"""Names of the module that are set as texts: `globals()["x"] = ...`, `globals().update(x=...)`. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vllm_guard.inside.mainguard.tables import MUTATORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NAMESPACES = ("globals()", "vars()", "locals()")


def set_by(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """(name, what sets it) of each name that these nodes set; an empty name where nobody knows it."""
    for node in nodes:
        if is_item(node) and not isinstance(node.ctx, ast.Load):  # type: ignore[attr-defined]
            yield named(node), ast.unparse(node)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) == "exec" and len(node.args) == 1 and not node.keywords:
                yield "", "exec()"
            yield from ((name, f"{ast.unparse(node.func)}()") for name, _ in updated(node))


def is_item(node: ast.AST) -> bool:
    """`globals()[...]`."""
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) in _NAMESPACES


def named(node: ast.AST) -> str:
    """`x` of `globals()["x"]`; empty for other things, and where the text is computed."""
    return _text(node.slice) if is_item(node) else ""  # type: ignore[attr-defined]


def updated(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of what `globals().update(...)` sets; an empty name where nobody knows it."""
    called = call.func
    if not isinstance(called, ast.Attribute) or called.attr not in MUTATORS:
        return
    if ast.unparse(called.value) not in _NAMESPACES:
        return
    for part in call.args:
        if isinstance(part, ast.Dict):
            yield from (
                (_text(key), value) for key, value in zip(part.keys, part.values, strict=True)
            )
        else:
            yield _text(part), part
    yield from ((keyword.arg or "", keyword.value) for keyword in call.keywords)


def _text(node: ast.AST | None) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ""
