"""Which statements of a script its child processes run, and why the others not. Pure.

A child gets what the script defines, and none of what it does: see docs/mainguard.md. The statements are
taken in the order of the file; `Scope` holds what a child has of the names so far.
"""

from __future__ import annotations

import ast
import sys
from typing import NamedTuple

from .blocks import Blocks
from .markers import Markers, first_line, parse
from .names import binds
from .scope import Scope


class Statement(NamedTuple):
    """A top-level statement, and what a child does with it."""

    first: int  #: its first line, decorators included
    last: int
    verdict: (
        str  #: "child", "main", "inherited" (a child has its effect already) or "partly" (a block)
    )
    reason: str  #: one clause: "calls LLM()"
    binds: tuple[str, ...]
    lost: tuple[str, ...]  #: the names that a child does not get from it


class Classified(NamedTuple):
    """A script, taken apart."""

    statements: tuple[Statement, ...]
    whole: ast.Module  #: its tree
    tree: ast.Module  #: what a child runs
    lost: dict[
        str, tuple[int, str]
    ]  #: name -> (line, reason), of the names that a child lacks at the end
    available: frozenset[str]  #: the names that it has
    environment: frozenset[str]  #: those of them whose value may be another in a child


def classify(source, path):
    """The statements of a script (bytes), as `Classified`. Raises SyntaxError."""
    tree = parse(source, path)
    judge = Blocks(Scope(), Markers(source), has_lazy_annotations(tree))
    found, kept = [], []
    for node in tree.body:
        judged = judge.statement(node)
        kept += judged.kept
        place = (first_line(node), node.end_lineno)
        names = (tuple(binds(node)), judged.lost)
        found.append(Statement(*place, judged.verdict, judged.reason, *names))
    scope = judge.scope
    lost = scope.lost_at_last()
    known = (lost, frozenset(scope.kinds.keys() - lost), frozenset(scope.environment - lost.keys()))
    return Classified(tuple(found), tree, ast.Module(kept, []), *known)


def has_lazy_annotations(tree):
    """Does the module not evaluate its annotations, by `from __future__` or by Python's version?"""
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    names = (alias.name for node in imports if node.module == "__future__" for alias in node.names)
    return sys.version_info >= (3, 14) or "annotations" in names
