"""Writes the guards into a script, with LibCST: comments, formatting and encoding stay as they are. Pure."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import libcst as cst

from vllm_guard.guarding.leaves import Block
from vllm_guard.guarding.outcomes import UnwritableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm_guard.guarding.leaves import Leaf, Part

_TEST = cst.parse_expression('__name__ == "__main__"')
_BLANK = cst.EmptyLine(indent=False)
_FORM_FEED = re.compile(rb"^[ \t]*\f[ \t\f]*(?=[^#\s])", re.MULTILINE)


class _Unit(NamedTuple):
    """Statements of one line, or a compound statement, and where they go."""

    node: Any
    inside: bool


def write(source: bytes, parts: Sequence[Part], inside: frozenset[Leaf]) -> bytes:
    """The source with guards around the pieces that are `inside`. Raises UnwritableError."""
    try:
        module = cst.parse_module(source)
    except (cst.ParserSyntaxError, UnicodeDecodeError, LookupError) as error:
        raise UnwritableError(f"LibCST cannot parse it: {str(error).splitlines()[0]}") from None
    end = b"\r" if source.endswith(b"\r") else b""  # LibCST loses it
    if module.bytes + end != source:
        raise UnwritableError(_lost(source))
    body = _apart(_suite(module.body, parts, inside))
    return module.with_changes(body=body).bytes + end


def _lost(source: bytes) -> str:
    feed = _FORM_FEED.search(source)
    if feed is None:
        return "LibCST does not give it back as it is"
    line = source[: feed.end()].count(b"\n") + 1
    return f"line {line} begins with a form feed, which LibCST drops: put it on a line of its own"


def _suite(nodes: Sequence[Any], parts: Sequence[Part], inside: frozenset[Leaf]) -> list[Any]:
    """The statements of one suite, runs of those that go inside under a guard."""
    units = _units(nodes, iter(parts), inside)
    found: list[Any] = []
    for guarded, run in groupby(units, lambda unit: unit.inside):
        statements = [unit.node for unit in run]
        found += [_guard(statements)] if guarded else statements
    return found


def _units(nodes: Sequence[Any], parts: Iterator[Part], inside: frozenset[Leaf]) -> Iterator[_Unit]:
    for node in nodes:
        if isinstance(node, cst.SimpleStatementLine):
            yield from _line(node, parts, inside)
            continue
        part = next(parts)
        if isinstance(part, Block) and part.head not in inside:
            yield _Unit(_block(node, part.suites, inside), False)
        else:
            yield _Unit(node, (part.head if isinstance(part, Block) else part) in inside)


def _line(
    node: cst.SimpleStatementLine, parts: Iterator[Part], inside: frozenset[Leaf]
) -> Iterator[_Unit]:
    """A line `a; b`, as several where its statements part."""
    placed = [(small, next(parts) in inside) for small in node.body]
    runs = [
        (guarded, [small for small, _ in run])
        for guarded, run in groupby(placed, lambda pair: pair[1])
    ]
    last = len(runs) - 1
    for index, (guarded, run) in enumerate(runs):
        changes: dict[str, Any] = {"body": run}
        if index < last:
            changes["body"] = [*run[:-1], run[-1].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)]
            changes["trailing_whitespace"] = cst.TrailingWhitespace()
        if index:
            changes["leading_lines"] = ()
        yield _Unit(node.with_changes(**changes), guarded)


def _block(node: Any, suites: Sequence[Sequence[Part]], inside: frozenset[Leaf]) -> Any:
    """The block with guards in its suites."""
    pending = iter(suites)
    changes: dict[str, Any] = {"body": _body(node.body, next(pending), inside)}
    if isinstance(node, (cst.Try, cst.TryStar)):
        changes["handlers"] = [_clause(h, next(pending), inside) for h in node.handlers]
    if isinstance(node, (cst.If, cst.Try, cst.TryStar)):
        changes["orelse"] = _orelse(node.orelse, next(pending), inside)
    if isinstance(node, (cst.Try, cst.TryStar)):
        changes["finalbody"] = _clause(node.finalbody, next(pending), inside)
    return node.with_changes(**changes)


def _orelse(node: Any, parts: Sequence[Part], inside: frozenset[Leaf]) -> Any:
    if not isinstance(node, cst.If):
        return _clause(node, parts, inside)
    (chained,) = parts  # elif
    return _block(node, chained.suites, inside) if isinstance(chained, Block) else node


def _clause(node: Any, parts: Sequence[Part], inside: frozenset[Leaf]) -> Any:
    return node and node.with_changes(body=_body(node.body, parts, inside))


def _body(body: Any, parts: Sequence[Part], inside: frozenset[Leaf]) -> Any:
    if not _has_run(parts, inside):
        return body
    if isinstance(body, cst.SimpleStatementSuite):  # `if x: a; b`
        line = cst.SimpleStatementLine(body.body, trailing_whitespace=body.trailing_whitespace)
        return cst.IndentedBlock(_suite([line], parts, inside))
    return body.with_changes(body=_suite(body.body, parts, inside))


def _has_run(parts: Iterable[Part], inside: frozenset[Leaf]) -> bool:
    """Is there something in the suite that goes under a guard of its own?"""
    for part in parts:
        if isinstance(part, Block) and part.head not in inside:
            if any(_has_run(suite, inside) for suite in part.suites):
                return True
        elif (part.head if isinstance(part, Block) else part) in inside:
            return True
    return False


def _guard(statements: Sequence[Any]) -> cst.If:
    """The statements under a guard; blank lines above them stay above it, comments go with them."""
    first = statements[0]
    lines = list(first.leading_lines)
    blank = next((n for n, line in enumerate(lines) if line.comment), len(lines))
    body = [first.with_changes(leading_lines=lines[blank:]), *statements[1:]]
    indented = [statement.visit(_Indented()) for statement in body]
    return cst.If(_TEST, cst.IndentedBlock(indented), leading_lines=lines[:blank])


class _Indented(cst.CSTTransformer):
    """Blank lines of the statement itself get no indent; those in its suites have what they need."""

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> bool:  # noqa: N802, ARG002  (LibCST calls it)
        return False

    def leave_EmptyLine(  # noqa: N802
        self,
        original_node: cst.EmptyLine,  # noqa: ARG002
        updated_node: cst.EmptyLine,
    ) -> cst.EmptyLine:
        if updated_node.comment or updated_node.whitespace.value:
            return updated_node
        return updated_node.with_changes(indent=False)


def _apart(statements: list[Any]) -> list[Any]:
    """A blank line before and after every new guard of the top level."""
    found: list[Any] = []
    for node in statements:
        beside = found and (_is_new(node) or _is_new(found[-1]))
        found.append(
            node.with_changes(leading_lines=(_BLANK, *node.leading_lines))
            if beside and not (node.leading_lines and not node.leading_lines[0].comment)
            else node
        )
    return found


def _is_new(node: Any) -> bool:
    return isinstance(node, cst.If) and node.test is _TEST
