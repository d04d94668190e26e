"""The expressions of a script: their calls are made, inner ones first. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from .arguments import Given
from .guards import Reach
from .syntax import parts
from .things import NOTHING, Scope, Thing, Things, is_property, ordered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .calls import Calls

_ACTING = (
    *(ast.Call, ast.NamedExpr, ast.Attribute, ast.comprehension),
    *(ast.Yield, ast.YieldFrom),
)
_LEAVES = (ast.Name, ast.Constant, ast.expr_context)


class Evaluator:
    """Makes the calls of expressions, by `calls`."""

    def __init__(self, calls: Calls) -> None:
        self.has_properties = False  #: has the script defined one?
        self._calls = calls

    def evaluate(self, expression: ast.expr, scope: Scope) -> None:
        """Without recursion, as it may be deep."""
        here = Reach(True, not self._calls.guarded)
        stack: list[tuple[ast.AST, bool, Reach]] = [(expression, False, here)]
        while stack:
            node, ready, reach = stack.pop()
            if not ready:
                if isinstance(node, _ACTING):
                    stack.append((node, True, reach))
                if isinstance(node, (ast.IfExp, ast.BoolOp)):
                    inner = list(self._chosen(node, scope, reach))
                    stack += [(part, False, reached) for part, reached in reversed(inner)]
                elif not isinstance(node, _LEAVES):
                    stack += [(part, False, reach) for part in reversed(list(parts(node)))]
            elif reach == here:
                self._act(node, scope)
            elif any(reach):
                with self._calls.reached(reach):
                    self._act(node, scope)

    def _chosen(
        self, node: ast.IfExp | ast.BoolOp, scope: Scope, reach: Reach
    ) -> Iterator[tuple[ast.expr, Reach]]:
        """The parts of which not all are always evaluated, and who gets there."""
        truth = self._calls.world.truth
        if isinstance(node, ast.IfExp):
            found = truth(node.test, scope)
            yield node.test, reach
            yield node.body, reach.where(found, is_=True)
            yield node.orelse, reach.where(found, is_=False)
        else:
            for value in node.values:
                yield value, reach
                reach = reach.where(truth(value, scope), is_=isinstance(node.op, ast.And))

    def _act(self, node: ast.AST, scope: Scope) -> None:
        world = self._calls.world
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "super":
                cls = scope.enclosing_class()
                found = frozenset({Thing("super", owner=cls)}) if cls else NOTHING
                world.returned[node] = found
            else:
                self._calls.call(node, scope)
        elif isinstance(node, ast.NamedExpr):
            self._calls.store(node.target, world.things(node.value, scope), scope, certain=False)
        elif isinstance(node, ast.comprehension):
            self._calls.store(node.target, world.things(node.iter, scope), scope, certain=False)
        elif isinstance(node, (ast.Yield, ast.YieldFrom)):
            scope.returned |= world.things(node.value, scope)
        elif isinstance(node, ast.Attribute) and self.has_properties:
            self._read_property(node, scope)

    def _read_property(self, node: ast.Attribute, scope: Scope) -> None:
        world = self._calls.world
        world.returned.pop(node, None)
        found = world.things(node, scope)
        read = [t for t in ordered(found) if t.owner and is_property(t.node)]
        if read:
            values: Iterable[Things[Thing]] = (self._calls.apply(t, node, Given()) for t in read)
            world.returned[node] = found.union(*values)
