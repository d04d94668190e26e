"""Which pieces of a script go inside the guard, which stay outside, and which cannot be guarded. Pure.

Children read the file again and get what is outside. So a name is bound inside or outside, never both:
a child would have an old value and not know it. What the functions read that run in children stays
outside, whatever it is.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard.guarding import escapes, risks, sinking
from vllm_guard.guarding.leaves import Leaf, top_line
from vllm_guard.guarding.outcomes import Note, RefusedError
from vllm_guard.guarding.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_guard.guarding.escapes import Escape
    from vllm_guard.guarding.leaves import Script


_STAYS = "what starts processes stays in the main process: pass what it gives as an argument"
_SENT = "pass it as an argument; or leave the script as it is: `vllm-guard run` sends children such values"


class Placed(NamedTuple):
    """The decision."""

    inside: frozenset[Leaf]
    notes: tuple[Note, ...]


def place(script: Script) -> Placed:
    """Decide for every piece. Raises RefusedError."""
    table = Table(script.leaves)
    found = escapes.find(script.tree)
    forced = _forced(table, found)
    inside = {leaf for leaf in table.leaves if leaf.acts and leaf not in forced}
    _grow(table, inside, forced)
    sinking.sink(script.parts, table, inside, forced)
    _check(script, inside)
    notes = [*_repeated(forced), *_lacking(table, inside, found), *_unrepeated(inside)]
    notes += _unused(table, inside)
    written = frozenset(leaf for leaf in inside if not leaf.pinned)
    return Placed(written, tuple(sorted(set(notes))))


def _forced(table: Table, found: Iterable[Escape]) -> dict[Leaf, str]:
    """The pieces that children need, each with what it is that needs it there. Raises RefusedError."""
    forced: dict[Leaf, str] = {}
    pending = [(e.name, f"{e.name} (given to {e.to} on line {e.line})") for e in found if e.certain]
    for leaf in table.leaves:
        if leaf.pinned == "outside":
            forced[leaf] = "the children's part of the script"
            pending += [(name, f"line {leaf.first}") for name in sorted(table.runs(leaf))]
    while pending:
        name, who = pending.pop()
        for leaf in table.owners(name):
            if leaf in forced:
                continue
            if leaf.acts:
                _refuse_impossible(leaf, name, who)
            forced[leaf] = who
            wanted = leaf.deep if leaf.defines else table.runs(leaf)
            pending += [(read, who) for read in sorted(wanted)]
    return forced


def _refuse_impossible(leaf: Leaf, name: str, who: str) -> None:
    """A child needs this; can it do it? Raises RefusedError."""
    started = next((start.what for start in leaf.starts), "")
    why = started or ("it is under a guard" if leaf.pinned else risks.unrepeatable(leaf))
    if why:
        raise RefusedError(
            leaf.first,
            f"{who} needs {name!r} in other processes, which cannot have it from here: {why}",
            _STAYS if started else _SENT,
        )


def _grow(table: Table, inside: set[Leaf], forced: dict[Leaf, str]) -> None:
    """Take in what cannot stay outside without the rest. Raises RefusedError."""
    before = -1
    while len(inside) != before:
        before = len(inside)
        taken = table.taken(inside) | table.changed(inside)
        for leaf in table.leaves:
            if leaf in inside or leaf.pinned:
                continue
            heads = [head for head in leaf.heads if head in inside]
            lost = (taken & table.runs(leaf)) | _rebound(leaf, taken, table, inside)
            if not heads and not lost and not _drags(leaf, inside):
                continue
            if leaf in forced:
                _refuse_torn(leaf, forced[leaf], lost, inside)
            inside.add(leaf)


def _rebound(leaf: Leaf, taken: set[str], table: Table, inside: set[Leaf]) -> set[str]:
    """The names that the piece and another inside bind; loop variables only where somebody reads them."""
    names = leaf.binds & taken
    if isinstance(leaf.node, (ast.For, ast.With, ast.Try)):
        others = (other for other in table.leaves if other is not leaf and other not in inside)
        names &= {name for other in others for name in other.deep}
    return set(names)


def _drags(leaf: Leaf, inside: set[Leaf]) -> bool:
    """Is it the head of an `if` one of whose `elif` goes inside?"""
    return any(other.chained and other.heads[-1] is leaf for other in inside)


def _refuse_torn(leaf: Leaf, who: str, lost: set[str], inside: set[Leaf]) -> None:
    with_it = (o for o in inside if o.acts and (o.binds & lost or set(o.heads) & set(leaf.heads)))
    other = min((other.first for other in with_it), default=leaf.first)
    raise RefusedError(
        leaf.first,
        f"{who} needs this line in other processes; it cannot be parted from line {other}, "
        "which is for the main process",
        _SENT,
    )


def _check(script: Script, inside: set[Leaf]) -> None:
    """Is every start inside now, and nothing that others import? Raises RefusedError."""
    imported = risks.needs_import(script.tree, inside)
    if imported:
        hint = "build the engine in a function that is called when it is needed"
        raise RefusedError(*imported, hint)
    covered = {start for leaf in inside for start in leaf.starts}
    for start in script.starts:
        if start not in covered:
            reason = f"{start.what} in what children must run"
            raise RefusedError(top_line(start), reason, "move it into a function")


def _repeated(forced: dict[Leaf, str]) -> Iterable[Note]:
    lines: dict[str, list[int]] = {}
    for leaf, who in forced.items():
        if leaf.acts:
            lines.setdefault(who, []).append(leaf.first)
    for who, numbers in lines.items():
        numbers.sort()
        several = len(numbers) > 1
        what = f"lines {', '.join(map(str, numbers))} run" if several else f"line {numbers[0]} runs"
        text = f"{what} in every child, too, because {who} needs it there; it may get other values"
        yield Note(numbers[0], text)


def _lacking(table: Table, inside: set[Leaf], found: Iterable[Escape]) -> Iterable[Note]:
    """Functions that are passed to who knows what, and would lack something in another process."""
    first = {escape.name: escape for escape in reversed(list(found))}
    for escape in first.values():
        for leaf in table.owners(escape.name):
            if escape.certain or not leaf.defines or leaf in inside:
                continue
            missing = sorted(
                name
                for name in leaf.deep
                if any(owner in inside for owner in table.owners(name) if name in owner.binds)
            )
            if missing:
                what = ", ".join(missing)
                yield Note(
                    escape.line,
                    f"if {escape.to} calls {escape.name} in another process, it lacks {what} "
                    "there: pass it as an argument",
                )


def _unrepeated(inside: set[Leaf]) -> Iterable[Note]:
    """Changes of modules and classes that children do not make, and imports."""
    for leaf in inside:
        if leaf.imports and leaf.starts:
            yield Note(leaf.first, f"{leaf.starts[0].what}: children do without this import")
        if leaf.reason.endswith(" in children") and not leaf.pinned:
            yield Note(leaf.first, leaf.reason)


def _unused(table: Table, inside: set[Leaf]) -> Iterable[Note]:
    """What is built for others: nothing that runs here reads it."""
    run = {name for leaf in inside for name in table.reaches(leaf)}
    for leaf in table.leaves:
        if leaf.calls and leaf.defines:  # what a decorator may register
            run |= leaf.deep
    for leaf in inside:
        built = isinstance(leaf.node, ast.Assign) and bool(leaf.starts)
        if built and leaf.binds and not leaf.binds & run:
            names = ", ".join(sorted(leaf.binds))
            yield Note(
                leaf.first, f"nothing here uses {names}: a file that imports it would not find it"
            )
