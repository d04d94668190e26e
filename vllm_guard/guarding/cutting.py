"""A script cut into the pieces that a guard can be written around, and what is known of each. Pure.

Most statements are one piece. A block of which children run a part (`partly` of the analysis) is cut
further: its head is a piece, and so is each statement in it.
"""

from __future__ import annotations

import ast
import dis
import types
import warnings
from typing import TYPE_CHECKING, Any

from vllm_guard.guarding import risks, texts
from vllm_guard.guarding.changes import Changes
from vllm_guard.guarding.following import Following
from vllm_guard.guarding.leaves import Block, Leaf, Script
from vllm_guard.guarding.recorder import Recorder
from vllm_guard.guarding.resolving import DEFINITIONS, Resolver
from vllm_guard.inside.mainguard import markers, starts
from vllm_guard.inside.mainguard.judge import CHILD, MAIN, PARTLY, Judged
from vllm_guard.inside.mainguard.markers import Markers, first_line, parse
from vllm_guard.inside.mainguard.names import binds, here, reads, root
from vllm_guard.inside.mainguard.scope import Scope
from vllm_guard.inside.mainguard.statements import has_lazy_annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_guard.guarding.leaves import Part
    from vllm_guard.inside.mainguard.starts import Start
    from vllm_guard.inside.mainguard.walk import Load

_GLOBALS = frozenset(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))


def read(source: bytes, path: str, load: Load | None) -> Script:
    """Cut the script; `load` gives modules beside it. SyntaxError, also for what cannot be compiled.

    One that needs no guard is not cut.
    """
    tree = parse(source, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(tree, path, "exec", dont_inherit=True)
    started = starts.read(tree, load).starts
    unguarded = tuple(_needing_a_guard(source, started))
    has_children = any(start.confidence != "info" for start in started)
    endings = (node.lineno for node in tree.body if has_children and risks.ends_children(node))
    names = Resolver(tree)
    parts = _cut(source, tree, unguarded, names) if unguarded else ()
    spawns = all(start.confidence == "certain" and not start.engine for start in started)
    return Script(tree, names, parts, unguarded, spawns, next(endings, 0))


def needing_a_guard(source: bytes, tree: ast.Module, load: Load | None) -> list[Start]:
    """Where the script starts processes that import it again, outside a guard, and does not say `ignore`."""
    return _needing_a_guard(source, starts.read(tree, load).starts)


def _needing_a_guard(source: bytes, found: Iterable[Start]) -> list[Start]:
    ignored = markers.ignored(source)
    needing = (start for start in found if not start.guarded and start.confidence != "info")
    return [start for start in needing if not ignored & {start.line, top_line(start)}]


def _cut(
    source: bytes, tree: ast.Module, unguarded: tuple[Start, ...], names: Resolver
) -> tuple[Part, ...]:
    judge = Recorder(Scope(), Markers(source), has_lazy_annotations(tree))
    for node in tree.body:
        judge.statement(node)
    return _Cutter(judge, unguarded, names, Changes(tree, names)).suite(tree.body, ())


def top_line(start: Start) -> int:
    """The line of the top-level code that leads to a start."""
    return start.via[0][1] if start.via else start.line


class _Cutter:
    """Makes parts of statements."""

    def __init__(
        self, judge: Recorder, unguarded: tuple[Start, ...], names: Resolver, changes: Changes
    ) -> None:
        self._judge = judge
        self._unguarded = unguarded
        self._changes = changes
        self._following = Following(names, changes)

    def suite(self, nodes: Iterable[ast.stmt], heads: tuple[Leaf, ...]) -> tuple[Part, ...]:
        """The parts of a list of statements."""
        return tuple(self._part(node, heads) for node in nodes)

    def _part(self, node: ast.stmt, heads: tuple[Leaf, ...]) -> Part:
        if starts.guard_test(node):
            return self._guard(node, heads)
        if _asks_for_name(node):
            return self._leaf(node, heads, pinned="outside")
        judged = self._judge.judged.get(node)
        started = judged and judged.verdict == CHILD and self._starts(node)
        if judged and (judged.verdict == PARTLY or started) and isinstance(node, _CUT):
            return self._block(node, heads)
        return self._leaf(node, heads)

    def _guard(self, node: Any, heads: tuple[Leaf, ...]) -> Block:
        """A guard that is there; after a plain one, `else` is for the children."""
        head = self._head(node, heads)
        inner = (*heads, head)
        body = tuple(self._leaf(n, inner, pinned="inside") for n in node.body)
        if isinstance(node.test, ast.BoolOp):
            return Block(head, (body, self._orelse(node, inner)))
        return Block(
            head, (body, tuple(self._leaf(n, inner, pinned="outside") for n in node.orelse))
        )

    def _block(self, node: Any, heads: tuple[Leaf, ...], chained: bool = False) -> Block:
        head = self._head(node, heads, chained)
        inner = (*heads, head)
        if isinstance(node, ast.If):
            return Block(head, (self.suite(node.body, inner), self._orelse(node, inner)))
        suites = [node.body]
        if not isinstance(node, ast.With):
            suites += [handler.body for handler in node.handlers]
            suites += [node.orelse, node.finalbody]
        return Block(head, tuple(self._suite_of(nodes, inner) for nodes in suites))

    def _suite_of(self, nodes: list[ast.stmt], heads: tuple[Leaf, ...]) -> tuple[Part, ...]:
        """A suite; one that ends in an error is the same in every process."""
        if nodes and isinstance(nodes[-1], ast.Raise) and not any(map(self._starts, nodes)):
            return tuple(self._leaf(node, heads, acts=False) for node in nodes)
        return self.suite(nodes, heads)

    def _orelse(self, node: ast.If, heads: tuple[Leaf, ...]) -> tuple[Part, ...]:
        if len(node.orelse) != 1 or node.orelse[0].col_offset != node.col_offset:
            return self.suite(node.orelse, heads)
        (chained,) = node.orelse  # elif
        judged = self._judge.judged.get(chained)
        if judged and judged.verdict == PARTLY:
            return (self._block(chained, heads, chained=True),)
        return (self._leaf(chained, heads, chained=True),)

    def _starts(self, node: ast.stmt) -> tuple[Start, ...]:
        return tuple(start for start in self._unguarded if _leads(node, start))

    def _leaf(
        self,
        node: ast.stmt,
        heads: tuple[Leaf, ...],
        pinned: str = "",
        acts: bool | None = None,
        chained: bool = False,
    ) -> Leaf:
        judged = self._judge.judged.get(node) or Judged(MAIN, "")
        if not pinned and self._judge.marked(node) == CHILD:
            pinned = "outside"
        if acts is None:
            acts = pinned == "inside" or judged.verdict == MAIN or bool(self._starts(node))
        changed = self._following.changed(node)
        started = self._starts(node)
        given = () if started else changed.given
        set_by_text = list(texts.set_by(here(node)))
        return Leaf(
            node=node,
            first=first_line(node),
            acts=acts and pinned != "outside",
            starts=started,
            pinned=pinned,
            reason=judged.reason,
            binds=frozenset((*binds(node), *(name for name, _ in set_by_text if name))),
            mutates=self._changes.changeable(self._changes.of(here(node))).union(given),
            touches=self._touches(node),
            stirs=changed.reached | (changed.given if started else {}),
            lends=self._following.lent(node),
            unknown=next((what for name, what in set_by_text if not name), ""),
            reads=frozenset(reads(node, self._judge.lazy)),
            calls=_called(node),
            deep=frozenset(_deep_reads(node)),
            heads=heads,
            marked=tuple(self._markers(node)),
            chained=chained,
        )

    def _touches(self, node: ast.stmt) -> frozenset[str]:
        """`parser` of a statement `parser.add_argument(...)`."""
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return frozenset()
        called = node.value.func
        if not isinstance(called, ast.Attribute) or called.attr in risks.CHANGE_NOTHING:
            return frozenset()
        return self._changes.held(called.value)

    def _markers(self, node: ast.stmt) -> Iterator[tuple[str, int]]:
        for part in (node,) if isinstance(node, DEFINITIONS) else here(node):
            mark = self._judge.marked(part) if isinstance(part, ast.stmt) else ""
            if mark:
                yield mark, first_line(part)

    def _head(self, node: Any, heads: tuple[Leaf, ...], chained: bool = False) -> Leaf:
        """What a block evaluates before its statements."""
        expressions = [getattr(node, "test", None)]
        expressions += [item.context_expr for item in getattr(node, "items", ())]
        expressions += [handler.type for handler in getattr(node, "handlers", ())]
        known = [expression for expression in expressions if expression is not None]
        names = frozenset(name for part in known for name in reads(part, self._judge.lazy))
        targets = [item.optional_vars for item in getattr(node, "items", ())]
        bound = frozenset(name for target in targets if target for name in binds(target))
        return Leaf(
            node=node,
            first=node.lineno,
            binds=bound,
            reads=names,
            deep=names,
            heads=heads,
            chained=chained,
        )


_CUT: tuple[type[ast.stmt], ...] = (ast.If, ast.Try, ast.With, getattr(ast, "TryStar", ast.Try))


def _leads(node: ast.stmt, start: Start) -> bool:
    """Does this statement lead to the start, and not a neighbour on its line?"""
    line = top_line(start)
    if not first_line(node) <= line <= (node.end_lineno or 0):
        return False
    if line < node.lineno:  # a decorator
        return True
    if start.via:
        return any(isinstance(part, (ast.Call, ast.Attribute)) for part in here(node))
    place = (line, start.col)
    end = (node.end_lineno or 0, node.end_col_offset or 0)
    return (node.lineno, node.col_offset) <= place < end


def _asks_for_name(node: ast.stmt) -> bool:
    """`if __name__ != "__main__":` and the like: the author tells processes apart by himself."""
    return isinstance(node, ast.If) and "__name__" in reads(node.test, True)


def _called(node: ast.stmt) -> frozenset[str]:
    """The names of what running the statement calls, decorators included."""
    found = {root(part.func) for part in here(node) if isinstance(part, ast.Call)}
    found |= {root(part) for part in getattr(node, "decorator_list", ())}
    return frozenset(found - {""})


def _deep_reads(node: ast.stmt) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = ast.Module([node], [])
        pending = [compile(module, "script", "exec", dont_inherit=True)]
    while pending:
        code = pending.pop()
        for instruction in dis.get_instructions(code):
            if instruction.opname in _GLOBALS:
                yield instruction.argval
        pending += [part for part in code.co_consts if isinstance(part, types.CodeType)]
