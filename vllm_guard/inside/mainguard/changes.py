"""What a statement of the main process may change of the values that are there already. Pure."""

from __future__ import annotations

import ast
from typing import NamedTuple

from .names import FUNCTIONS, binds, here, mutates, root
from .tables import MUTATORS, NAMESPACES

_LOOPS = (ast.For, ast.AsyncFor, ast.comprehension)


class Changes(NamedTuple):
    """The names of what it changes, or may."""

    surely: frozenset[str]  #: `x` of `x.a = 1`, `x[0] = 1`, `del x[0]`, `x.append(1)`
    perhaps: frozenset[str]  #: what it passes to calls that may do anything
    holders: tuple[
        tuple[list[str], set[str], bool], ...
    ]  #: (names, others, surely): the first hold what the others hold, or may
    all: bool  #: it may set any name: `exec`, `globals()`


def of(node, is_harmless):
    """The Changes of a statement or expression; `is_harmless` tells of a call whether it changes nothing."""
    perhaps, holders, everything = set(), [], False
    for part in here(node):
        if isinstance(part, ast.Call):
            everything = everything or _reaches_all(part)
            if not is_harmless(part):
                perhaps |= held(part)
        elif isinstance(part, _LOOPS):
            holders.append((binds(part.target), held(part.iter), True))
        elif isinstance(part, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and part.value:
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            names = [root(t) for t in targets if root(t)] or binds(ast.Tuple(targets, ast.Store()))
            holders.append((names, held(part.value), bool(root(part.value))))
        elif isinstance(part, (ast.Attribute, ast.Subscript)) and not isinstance(
            part.ctx, ast.Load
        ):
            perhaps |= held(part.value)
    return Changes(frozenset(mutates(node)), frozenset(perhaps), tuple(holders), everything)


def held(node):
    """The names whose objects the value of an expression may be, or hold."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, (ast.Constant, ast.JoinedStr, ast.Compare, ast.Lambda)):
        return set()
    found = set()
    for part in ast.iter_child_nodes(node):
        found |= held(part)
    return found


def _reaches_all(call):
    """`exec(text)`, `globals()`, `vars()`, `setattr(sys.modules[__name__], ...)`."""
    name = getattr(call.func, "id", "")
    if name == "vars":
        return not call.args
    if name == "setattr":
        return any(getattr(part, "id", "") == "__name__" for part in ast.walk(call.args[0]))
    return name in NAMESPACES


def in_functions(tree):
    """The names of the module whose values its functions set or change when they are called."""
    found, outside, inside = set(), [tree], []
    while outside or inside:  # of all nodes: `ast.walk` takes twice as long
        is_inside = not outside
        node = (outside or inside).pop()
        if is_inside:
            found.update(_set_by(node))
        following = inside if is_inside or isinstance(node, FUNCTIONS) else outside
        for value in vars(node).values():
            if isinstance(value, list):
                following += [part for part in value if isinstance(part, ast.AST)]
            elif isinstance(value, ast.AST):
                following.append(value)
    return found - {"", "self"}


def _set_by(node):
    if isinstance(node, ast.Global):
        return node.names
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        mutates = isinstance(node, ast.Attribute) and node.attr in MUTATORS
        if mutates or not isinstance(node.ctx, ast.Load):
            return [root(node)]
    return ()
