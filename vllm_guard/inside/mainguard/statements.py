"""Which statements of a script its child processes run, and why the others not. Pure.

A child gets what the script defines, and none of what it does: see docs/mainguard.md. The statements are
taken in the order of the file; `Scope` holds what a child has of the names so far.
"""

from __future__ import annotations

import ast
import sys
from typing import NamedTuple

from . import changes
from .holes import Holes
from .markers import Markers, first_line, parse
from .names import binds
from .scope import Scope
from .syntax import deeply


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
    span: tuple[
        int, int
    ]  #: where in its first line it begins, and ends in its last one (bytes of UTF-8)


class Classified(NamedTuple):
    """A script, taken apart."""

    statements: tuple[Statement, ...]
    whole: ast.Module  #: its tree
    tree: ast.Module  #: what a child runs
    lost: dict[
        str, tuple[int, str]
    ]  #: name -> (line, reason), of the names that a child lacks at the end
    available: frozenset[str]  #: the names that it has
    environment: frozenset[str]  #: those whose value may be another in a child that sets them
    changing: frozenset[str]  #: those whose value something in the file may change
    places: dict[str, tuple[int, bool]]  #: what else is sent, see `analysis.order`
    stores: list[
        ast.stmt
    ]  #: the statements that give a child what it is sent for modules and classes


def classify(source, path):
    """The statements of a script (bytes), as `Classified`. Raises SyntaxError."""
    return deeply(lambda: _classify(source, path))


def _classify(source, path):
    tree = parse(source, path)
    elsewhere = changes.in_functions(tree)
    found, doubtful = _classified(tree, Markers(source), Scope(elsewhere=elsewhere))
    if doubtful:  # of what comes later in the file: once more, with that in mind
        found, _ = _classified(tree, Markers(source), Scope(doubtful, elsewhere))
    return found


def _classified(tree, markers, scope):
    """(Classified, the names whose values are in doubt)."""
    judge = Holes(scope, markers, has_lazy_annotations(tree))
    found, kept = [], []
    for node in tree.body:
        judged = judge.statement(node)
        kept += judged.kept
        place = (first_line(node), node.end_lineno)
        names = (tuple(binds(node)), judged.lost)
        span = (node.col_offset, node.end_col_offset)
        found.append(Statement(*place, judged.verdict, judged.reason, *names, span))
    lost = judge.scope.lost_at_last()
    names = (frozenset(scope.available() - lost.keys()), frozenset(scope.unsure_at_last()))
    body = ast.Module(kept, [])
    changing = frozenset(scope.unsure | scope.elsewhere)
    sent = (changing, judge.places, list(judge.stores.values()))
    return Classified(tuple(found), tree, body, lost, *names, *sent), set(scope.unsure)


def has_lazy_annotations(tree):
    """Does the module not evaluate its annotations, by `from __future__` or by Python's version?"""
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    names = (alias.name for node in imports if node.module == "__future__" for alias in node.names)
    return sys.version_info >= (3, 14) or "annotations" in names
