"""Fewer guards: what may go inside although it need not. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vllm_guard.guarding import risks
from vllm_guard.guarding.leaves import Block, Leaf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from vllm_guard.guarding.leaves import Part
    from vllm_guard.guarding.table import Table


def sink(parts: Sequence[Part], table: Table, inside: set[Leaf], forced: Collection[Leaf]) -> None:
    """Imports and constants between two runs go inside with them, and blocks whole, where nobody minds."""
    for suite_leaves in _gaps(parts, inside):
        wanted = {
            name
            for leaf in table.leaves
            if leaf not in inside and leaf not in suite_leaves
            for name in leaf.deep | leaf.reads | leaf.binds
        }
        if all(
            leaf not in forced and not leaf.pinned and _may_sink(leaf, table, wanted)
            for leaf in suite_leaves
        ):
            inside |= suite_leaves
    for part in parts:
        if isinstance(part, Block):
            for suite in part.suites:
                sink(suite, table, inside, forced)


def _gaps(parts: Sequence[Part], inside: set[Leaf]) -> Iterable[set[Leaf]]:
    """Sets of pieces outside: blocks of which a part is inside, and what is between two runs."""
    gap: set[Leaf] = set()
    after = False
    for part in parts:
        leaves = set(_leaves_of(part))
        out = leaves - inside
        if isinstance(part, Block) and out and out != leaves and not _is_guard(part):
            yield out
            out = leaves - inside
        if not out:
            if after and gap:
                yield gap
            gap, after = set(), True
        elif isinstance(part, Block) and _is_guard(part):
            gap, after = set(), False
        else:
            gap |= out


def _is_guard(part: Block) -> bool:
    return any(isinstance(p, Leaf) and p.pinned for suite in part.suites for p in suite)


def _leaves_of(part: Part) -> Iterable[Leaf]:
    if isinstance(part, Leaf):
        return [part]
    inner = [leaf for suite in part.suites for p in suite for leaf in _leaves_of(p)]
    return [part.head, *inner]


def _may_sink(leaf: Leaf, table: Table, wanted: set[str]) -> bool:
    """Does nothing outside miss it, and is it there for its names only?"""
    if leaf.imports:
        future = getattr(leaf.node, "module", "") == "__future__"
        used = any(leaf.binds & other.deep for other in table.leaves if other is not leaf)
        return used and not future and not leaf.binds & wanted
    head = isinstance(leaf.node, (ast.If, ast.Try, ast.With)) and not leaf.binds
    plain = isinstance(leaf.node, (ast.Assign, ast.AnnAssign)) and not leaf.mutates
    return head or (plain and not leaf.binds & wanted) or risks.is_inherited(leaf)
