"""What children need of a script: what their functions read, and what sets and changes that. Pure."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard.guarding import risks
from vllm_guard.guarding.leaves import Leaf
from vllm_guard.guarding.outcomes import RefusedError
from vllm_guard.inside.mainguard.judge import MAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_guard.guarding.escapes import Escape
    from vllm_guard.guarding.table import Table

_STAYS = "what starts processes stays in the main process: pass what it gives as an argument"
_MAKE_IT = "make it in the function that uses it"
_UNGUARD = "pass it as an argument, or move it out of the guard"
_UNMARK = "pass it as an argument, or remove the marker"


class Need(NamedTuple):
    """A name that functions read in other processes."""

    name: str
    who: str  #: "work (given to Process() on line 9)"


class Needs(NamedTuple):
    """All that children need."""

    forced: dict[Leaf, str]  #: the pieces that they run, each with what it is that needs it
    names: dict[str, str]  #: the same of names, those of Python not included
    shared: dict[Leaf, Need]  #: makes what only an argument can bring them: a queue, a lock


def find(table: Table, found: Iterable[Escape], shared: set[Leaf]) -> Needs:
    """Follow what reads what; `shared` is what `shared_by_processes` gives. Raises RefusedError."""
    needs = Needs({}, {}, {})
    pending = [
        Need(e.name, f"{e.name} (given to {e.to} on line {e.line})") for e in found if e.certain
    ]
    for leaf in table.leaves:
        if leaf.pinned == "outside":
            needs.forced[leaf] = "the children's part of the script"
            pending += [Need(n, f"line {leaf.first}") for n in sorted(table.runs(leaf))]
    while pending:
        need = pending.pop()
        if not hasattr(builtins, need.name):
            needs.names.setdefault(*need)
        for leaf in table.owners(need.name):
            pending += _need(leaf, need, needs, table, shared)
    return needs


def _need(leaf: Leaf, need: Need, needs: Needs, table: Table, shared: set[Leaf]) -> list[Need]:
    """Note that children need the piece; gives what it needs itself. Raises RefusedError."""
    if leaf in needs.forced:
        return []
    if leaf in shared:
        if need.name in leaf.binds:
            needs.shared.setdefault(leaf, need)
        return []
    if leaf.acts or leaf.defines:  # what class bodies and defaults call is called in each child
        _refuse_impossible(leaf, need)
    needs.forced[leaf] = need.who
    wanted = leaf.deep if leaf.defines else table.runs(leaf)
    return [Need(name, need.who) for name in sorted(wanted)]


def shared_by_processes(table: Table, is_shared: set[Leaf]) -> set[Leaf]:
    """What makes queues, locks and the like (`is_shared`), and what is done with them."""
    found = set(is_shared)
    before = -1
    while len(found) != before:
        before = len(found)
        names = {name for leaf in found for name in leaf.binds}
        found |= {
            leaf for leaf in table.leaves if leaf.acts and not leaf.starts and leaf.reads & names
        }
    return found


def _refuse_impossible(leaf: Leaf, need: Need) -> None:
    """A child needs this; can it do it? Raises RefusedError."""
    why, hint = risks.unrepeatable(leaf)
    if leaf.defines:
        hint = _MAKE_IT
    if leaf.pinned:
        why, hint = "it is under a guard", _UNGUARD
    marked = next((line for marker, line in leaf.marked if marker == MAIN), 0)
    if marked:
        why, hint = f"line {marked} is marked '# vllm-guard: main'", _UNMARK
    if leaf.starts:
        why, hint = leaf.starts[0].what.rstrip(","), _STAYS
    if why:
        reason = (
            f"{need.who} needs {need.name!r} in other processes, which cannot have it from here"
        )
        raise RefusedError(leaf.first, f"{reason}: {why}", hint)
