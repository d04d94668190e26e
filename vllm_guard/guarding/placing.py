"""Which pieces of a script go inside the guard, which stay outside, and which cannot be guarded. Pure.

Children read the file again and get what is outside. So a name is bound inside or outside, never both:
a child would have an old value and not know it. What the functions read that run in children stays
outside, whatever it is.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard.guarding import escapes, needs, notes, risks, sinking
from vllm_guard.guarding.cutting import top_line
from vllm_guard.guarding.outcomes import RefusedError
from vllm_guard.guarding.table import Table
from vllm_guard.inside.mainguard.judge import CHILD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_guard.guarding.leaves import Leaf, Script
    from vllm_guard.guarding.outcomes import Note


BUILD_LATER = "build the engine in a function that is called when it is needed"
_LIBRARY = "the file is there to be imported, which a guard would break"
_MOVE = "move it into a function"


class Placed(NamedTuple):
    """The decision."""

    inside: frozenset[Leaf]
    missed: Mapping[str, str]  #: as `Table.missed` gives it
    notes: tuple[Note, ...]


NOTHING = Placed(frozenset(), {}, ())


def place(script: Script) -> Placed:
    """Decide for every piece. Raises RefusedError."""
    table = Table(script.leaves, script.names)
    _refuse_new_name(script)
    found = escapes.find(script.tree, script.names)
    makes = {leaf for leaf in table.leaves if leaf.acts and risks.shared(leaf, script.names)}
    shared = needs.shared_by_processes(table, makes)
    needed = needs.find(table, found, shared)
    _refuse_unshared(script, notes.unshared(table, needed, found))
    inside = {leaf for leaf in table.leaves if leaf.acts and leaf not in needed.forced}
    _grow(table, inside, needed.forced)
    sinking.sink(script.parts, table, inside, needed.forced)
    _check(script, inside)
    _refuse_unknown(table, inside, needed.names)
    _refuse_marked(table, inside)
    _refuse_library(table, inside)
    written = frozenset(leaf for leaf in inside if not leaf.pinned)
    return Placed(written, table.missed(inside), tuple(notes.of(table, inside, needed, found)))


def _refuse_new_name(script: Script) -> None:
    """Would a guard not mean what it says? Raises RefusedError."""
    for leaf in script.leaves:
        if "__name__" in leaf.binds:
            reason = "sets __name__: a guard would not tell the main process from the others"
            raise RefusedError(leaf.first, reason, "use another name")


def _refuse_unshared(script: Script, unshared: Iterable[Note]) -> None:
    """A worker that fork would give a queue, or another, and spawn never does. Raises RefusedError."""
    for note in sorted(unshared) if script.spawns else ():
        raise RefusedError(note.line, note.text, notes.AS_ARGUMENT)


def _refuse_unknown(table: Table, inside: set[Leaf], names: Mapping[str, str]) -> None:
    """`exec` and the like may set what children have without that. Raises RefusedError."""
    read = sorted(names.keys() - table.plain)
    for leaf in inside if read else ():
        if leaf.unknown and not leaf.pinned:
            reason = f"{leaf.unknown} may set {read[0]!r}, which {names[read[0]]} needs"
            raise RefusedError(leaf.first, f"{reason} in other processes", notes.AS_ARGUMENT)


def _refuse_marked(table: Table, inside: set[Leaf]) -> None:
    """A statement for children in a block for the main process. Raises RefusedError."""
    for leaf in table.leaves:
        around = leaf if leaf in inside else next((h for h in leaf.heads if h in inside), None)
        line = next((line for marker, line in leaf.marked if marker == CHILD), 0)
        if line and around and leaf.pinned != "inside":
            reason = "marked '# vllm-guard: child', but what is around it"
            reason += f" (line {around.first}) is for the main process"
            raise RefusedError(line, reason, "move it out of the block")


def _refuse_library(table: Table, inside: set[Leaf]) -> None:
    """Its functions use what would be hidden, and nothing here calls them. Raises RefusedError."""
    for leaf in notes.unused(table, inside):
        for reader in table.leaves:
            read = sorted(leaf.binds & reader.deep)
            if read and reader.defines and reader not in inside:
                what = ", ".join(sorted(reader.binds))
                reason = (
                    f"{what} (line {reader.first}) needs {read[0]}, and nothing here uses {what}"
                )
                raise RefusedError(
                    leaf.first, f"{reason}: {_LIBRARY}", BUILD_LATER, is_library=True
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
        notes.AS_ARGUMENT,
    )


def _check(script: Script, inside: set[Leaf]) -> None:
    """Is every start inside now, and nothing that others import? Raises RefusedError."""
    imported = risks.needs_import(script.tree, inside)
    if imported:
        raise RefusedError(*imported, BUILD_LATER, is_library=True)
    covered = {start for leaf in inside for start in leaf.starts}
    for start in script.starts:
        if start not in covered:
            reason = f"{start.what} in what children must run"
            raise RefusedError(top_line(start), reason, _MOVE)
