"""What tests on `__name__` say in the main process, and in a child that imports the script. Pure."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, NamedTuple

from .catalog import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: A script's `__name__` in the main process and in a child (multiprocessing/spawn.py, _fixup_main_from_path).
NAMES = ("__main__", "__mp_main__")
TESTS = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.IfExp)
NOT_KNOWN = (UNKNOWN, UNKNOWN)
_CONTAINERS = {ast.Tuple: tuple, ast.List: list, ast.Set: frozenset}
_DEPTH = 50  #: of one test
_OPERATORS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}


class Truth(NamedTuple):
    """Whether a test holds in the main process and in a child; None: not known."""

    main: bool | None
    child: bool | None


class Reach(NamedTuple):
    """Who gets to a piece of code."""

    main: bool
    child: bool

    def where(self, truth: Truth, *, is_: bool) -> Reach:
        """Who gets on where a test is true, or where it is false."""
        return Reach(
            self.main and truth.main is not (not is_), self.child and truth.child is not (not is_)
        )


class Arm(NamedTuple):
    """A part of an `if` chain or of a `match`: run if `test` holds, and no test before it."""

    test: ast.expr
    evaluated: tuple[ast.expr, ...]
    body: Sequence[ast.stmt]


def truth(test: ast.expr, look: Callable[[ast.expr], tuple[object, object]]) -> Truth:
    """What a test says; `look` gives the values that a name, attribute or call has in both, or NOT_KNOWN."""
    looked: dict[ast.expr, tuple[object, object]] = {}

    def value(node: ast.expr, process: int) -> object:
        if node not in looked:
            looked[node] = look(node)
        return looked[node][process]

    main = _truth(test, lambda node: value(node, 0), _DEPTH)
    if all(in_main is in_child for in_main, in_child in looked.values()):
        return Truth(main, main)
    return Truth(main, _truth(test, lambda node: value(node, 1), _DEPTH))


def is_guard(test: ast.expr) -> bool:
    """Does this test, by itself, keep children out and let the main process in?"""
    found = truth(test, lambda node: NAMES if getattr(node, "id", "") == "__name__" else NOT_KNOWN)
    return found.main is not False and found.child is False


def arms_of_if(node: ast.If) -> Iterator[Arm]:
    """A chain of `elif`, which is as deep a tree as it is long; `else` last."""
    while True:
        yield Arm(node.test, (node.test,), node.body)
        if len(node.orelse) != 1 or not isinstance(node.orelse[0], ast.If):
            break
        node = node.orelse[0]
    yield Arm(ast.Constant(True), (), node.orelse)


def arms_of_match(node: ast.Match) -> Iterator[Arm]:
    """The cases; the subject is evaluated with the first."""
    evaluated: tuple[ast.expr, ...] = (node.subject,)
    for case in node.cases:
        test = _as_test(node.subject, case.pattern)
        guards = (case.guard,) if case.guard else ()
        yield Arm(ast.BoolOp(ast.And(), [test, *guards]), (*evaluated, *guards), case.body)
        evaluated = ()


def _as_test(subject: ast.expr, pattern: ast.pattern) -> ast.expr:
    """A pattern as a test: one of values, `_` or a name; any other is not known."""
    if isinstance(pattern, ast.MatchValue):
        return ast.Compare(subject, [ast.Eq()], [pattern.value])
    if isinstance(pattern, ast.MatchOr):
        return ast.BoolOp(ast.Or(), [_as_test(subject, part) for part in pattern.patterns])
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
        return ast.Constant(True)
    return ast.Name("", ast.Load())


def _truth(node: ast.expr, look: Callable[[ast.expr], object], depth: int) -> bool | None:
    """Of `and` and `or` one operand that decides is enough, whatever the others are."""
    if depth and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _truth(node.operand, look, depth - 1)
        return None if inner is None else not inner
    if depth and isinstance(node, ast.BoolOp):
        truths = [_truth(part, look, depth - 1) for part in node.values]
        deciding = isinstance(node.op, ast.Or)
        return deciding if deciding in truths else None if None in truths else not deciding
    value = _value(node, look, depth)
    return None if value is UNKNOWN else bool(value)


def _value(node: ast.expr, look: Callable[[ast.expr], object], depth: int) -> object:
    def inner(part: ast.expr) -> object:
        return _value(part, look, depth - 1)

    if depth == 0:
        return UNKNOWN
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        values = [inner(part) for part in node.elts if isinstance(part, (ast.Constant, ast.Name))]
        known = UNKNOWN not in values and len(values) == len(node.elts)
        return _CONTAINERS[type(node)](values) if known else UNKNOWN
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        value = inner(node.operand)
        return value if value is UNKNOWN else not value
    if isinstance(node, ast.BoolOp):
        return _first(map(inner, node.values), isinstance(node.op, ast.Or))
    if isinstance(node, ast.IfExp):
        test = inner(node.test)
        return test if test is UNKNOWN else inner(node.body if test else node.orelse)
    if isinstance(node, ast.Compare):
        return _first(
            _compared(node, [inner(part) for part in (node.left, *node.comparators)]), False
        )
    return look(node)


def _first(values: Iterable[object], deciding: bool) -> object:
    """The first value that is as true as `deciding`, else the last."""
    value = UNKNOWN
    for value in values:
        if value is UNKNOWN or bool(value) is deciding:
            break
    return value


def _compared(node: ast.Compare, values: list[object]) -> Iterator[object]:
    for operation, left, right in zip(node.ops, values, values[1:]):
        function = _OPERATORS.get(type(operation))
        try:
            known = UNKNOWN not in (left, right)
            yield function(left, right) if function and known else UNKNOWN
        except TypeError:  # `1 in 2`
            yield UNKNOWN
