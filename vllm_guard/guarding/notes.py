"""What the reader of a change should know: what children do once more, lack, or have otherwise. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vllm_guard.guarding import changes, risks
from vllm_guard.guarding.outcomes import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_guard.guarding.escapes import Escape
    from vllm_guard.guarding.leaves import Leaf
    from vllm_guard.guarding.needs import Needs
    from vllm_guard.guarding.table import Table


AS_ARGUMENT = "pass it as an argument"


def of(table: Table, inside: set[Leaf], needs: Needs, found: Iterable[Escape]) -> list[Note]:
    """All of them, by line."""
    notes = [*_repeated(needs), *_stale(table, inside, needs)]
    notes += [Note(n.line, f"{n.text}: {AS_ARGUMENT}") for n in unshared(table, needs, found)]
    notes += [
        *_lacking(table, inside, found),
        *_unrepeated(table, inside, needs),
        *_unused(table, inside),
        *_with_decorators(table, inside),
    ]
    return sorted(set(notes))


def _repeated(needs: Needs) -> Iterator[Note]:
    lines: dict[str, list[int]] = {}
    for leaf, who in needs.forced.items():
        if leaf.acts:
            lines.setdefault(who, []).append(leaf.first)
    for who, numbers in lines.items():
        numbers.sort()
        several = len(numbers) > 1
        what = f"lines {', '.join(map(str, numbers))} run" if several else f"line {numbers[0]} runs"
        text = f"{what} in every child, too, because {who} needs it there; it may get other values"
        yield Note(numbers[0], text)


def unshared(table: Table, needs: Needs, found: Iterable[Escape]) -> Iterator[Note]:
    """Queues, locks and the like that workers read, and nobody gives them."""
    workers = (leaf for e in found if e.certain for leaf in table.owners(e.name) if leaf.defines)
    parts = (part for leaf in workers for part in ast.walk(leaf.node))
    brought = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
    for leaf, need in needs.shared.items():
        if need.name in brought:  # an initializer has it as an argument, and sets it
            continue
        yield Note(leaf.first, f"{need.who} lacks {need.name} in other processes")


def _stale(table: Table, inside: set[Leaf], needs: Needs) -> Iterator[Note]:
    """Functions that change, or may, what children have without that."""
    for leaf in inside:
        if leaf.pinned:
            continue
        changed = {n: (f, "changes") for n, f in leaf.stirs.items() if leaf.starts}
        changed = {
            n: (f, "may change") for n, f in leaf.lends.items() if n not in table.plain
        } | changed
        for name in sorted(changed.keys() & needs.names.keys()):
            function, verb = changed[name]
            text = f"{function}() {verb} {name}: {needs.names[name]} has it unchanged"
            yield Note(leaf.first, text)


def _lacking(table: Table, inside: set[Leaf], found: Iterable[Escape]) -> Iterator[Note]:
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


def _unrepeated(table: Table, inside: set[Leaf], needs: Needs) -> Iterator[Note]:
    """Changes of modules and classes that children do not make, and imports."""
    for leaf in inside:
        if leaf.imports and leaf.starts:
            yield Note(
                leaf.first, f"{leaf.starts[0].what.rstrip(',')}: children do without this import"
            )
        changed = sorted(leaf.mutates & table.plain)
        if changed and not leaf.pinned and not risks.is_inherited(leaf):
            what = ", ".join(changes.places(leaf.node) or changed)
            who = next(
                (f": {needs.names[n]} has it unchanged" for n in changed if n in needs.names), ""
            )
            yield Note(leaf.first, f"changes {what} in the main process only{who}")
        elif leaf.reason.endswith(" in children") and not leaf.pinned:
            yield Note(leaf.first, leaf.reason)


def _with_decorators(table: Table, inside: set[Leaf]) -> Iterator[Note]:
    """What `@app.get("/")` decorates goes with `app`."""
    taken = table.taken(inside)
    for leaf in inside:
        used = sorted(taken & leaf.calls - leaf.binds)
        if leaf.defines and used and not leaf.pinned:
            names, of = ", ".join(sorted(leaf.binds)), ", ".join(used)
            yield Note(
                leaf.first, f"{names} goes under the guard with {of}, which its decorator uses"
            )


def _unused(table: Table, inside: set[Leaf]) -> Iterator[Note]:
    for leaf in unused(table, inside):
        if not isinstance(leaf.node, (ast.Assign, ast.AnnAssign)):
            continue
        names = ", ".join(sorted(leaf.binds))
        text = f"nothing here uses {names}: a file that imports it would not find it"
        yield Note(leaf.first, text)


def unused(table: Table, inside: set[Leaf]) -> Iterator[Leaf]:
    """What is built for others: nothing that runs here reads it."""
    if any(map(risks.finds_functions, inside)):
        return
    run = {name for leaf in table.leaves if not leaf.defines for name in table.reaches(leaf)}
    for leaf in table.leaves:
        if leaf.calls and leaf.defines:  # what a decorator may register
            run |= leaf.deep
    for leaf in table.leaves:
        if leaf in inside and leaf.starts and leaf.binds and not leaf.binds & run:
            yield leaf
