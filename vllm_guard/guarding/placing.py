"""Which pieces of a script go inside the guard, which stay outside, and which cannot be guarded. Pure.

Children read the file again and get what is outside. So a name is bound inside or outside, never both:
a child would have an old value and not know it. What the functions read that run in children stays
outside, whatever it is.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard.guarding import escapes, risks
from vllm_guard.guarding.leaves import Block, Leaf, top_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vllm_guard.guarding.escapes import Escape
    from vllm_guard.guarding.leaves import Part, Script


class Refusal(Exception):
    """The script cannot be guarded safely: `reason` in one line, and the way out."""

    def __init__(self, line: int, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.hint = hint


class Note(NamedTuple):
    """What the reader of the change should know."""

    line: int
    text: str


class Placed(NamedTuple):
    """The decision."""

    inside: frozenset[Leaf]
    notes: tuple[Note, ...]


def place(script: Script) -> Placed:
    """Decide for every piece. Raises Refusal."""
    table = _Table(script.leaves)
    found = escapes.find(script.tree)
    forced = _forced(script, table, found)
    inside = {leaf for leaf in table.leaves if leaf.acts and leaf not in forced}
    _grow(table, inside, forced)
    _sink(script.parts, table, inside, forced)
    _check(script, inside)
    notes = [*_repeated(forced), *_lacking(table, inside, found), *_unrepeated(inside)]
    return Placed(frozenset(inside), tuple(sorted(set(notes))))


class _Table:
    """The pieces by the names that they bind, change and read."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.leaves = leaves
        self.plain: set[str] = set()  #: names of imports and definitions only
        self._binders: dict[str, list[Leaf]] = {}
        self._changers: dict[str, list[Leaf]] = {}
        for leaf in leaves:
            for name in leaf.binds:
                self._binders.setdefault(name, []).append(leaf)
            for name in leaf.mutates | risks.method_calls(leaf):
                self._changers.setdefault(name, []).append(leaf)
        for name, binders in self._binders.items():
            if all(leaf.defines or _imports(leaf) for leaf in binders):
                self.plain.add(name)

    def owners(self, name: str) -> list[Leaf]:
        """What binds the name; for a value also what changes it, or may."""
        binders = self._binders.get(name, [])
        if any(leaf.pinned == "outside" for leaf in binders):  # it is what children have
            binders = [leaf for leaf in binders if leaf.pinned != "inside"]
        changers = self._changers.get(name, [])
        if name in self.plain:
            defined = any(leaf.defines for leaf in binders)
            changers = [leaf for leaf in changers if name in leaf.mutates and defined]
        return list(dict.fromkeys([*binders, *changers]))

    def runs(self, leaf: Leaf) -> set[str]:
        """The names that running the piece reads, in the functions that it calls, too."""
        found, pending = set(leaf.reads), list(leaf.calls)
        while pending:
            called = pending.pop()
            for owner in self.owners(called):
                if owner.defines and called in owner.binds and not owner.deep <= found:
                    pending += owner.deep - found
                    found |= owner.deep
        return found

    def taken(self, inside: Iterable[Leaf]) -> set[str]:
        """The names that children do not have, or not with the value that they have in the end."""
        found: set[str] = set()
        for leaf in inside:
            if not leaf.pinned:  # what the author guards is his to decide
                found |= leaf.binds | (leaf.mutates - self.plain)
        return found


def _imports(leaf: Leaf) -> bool:
    return isinstance(leaf.node, (ast.Import, ast.ImportFrom))


def _forced(script: Script, table: _Table, found: Iterable[Escape]) -> dict[Leaf, Escape | None]:
    """The pieces that children need, each with the function that needs it (if one does)."""
    forced: dict[Leaf, Escape | None] = {}
    pending: list[tuple[str, Escape | None]] = [(e.name, e) for e in found if e.certain]
    for leaf in table.leaves:
        if leaf.pinned == "outside":
            forced[leaf] = None
            pending += [(name, None) for name in sorted(table.runs(leaf))]
    lines = {top_line(start): start.what for start in script.starts}
    while pending:
        name, escape = pending.pop()
        for leaf in table.owners(name):
            if leaf in forced:
                continue
            if leaf.acts:
                _refuse_impossible(leaf, name, escape, lines)
            forced[leaf] = escape
            wanted = leaf.deep if leaf.defines else table.runs(leaf)
            pending += [(read, escape) for read in sorted(wanted)]
    return forced


def _refuse_impossible(
    leaf: Leaf, name: str, escape: Escape | None, lines: dict[int, str]
) -> None:
    """A child needs this; can it do it? Raises Refusal."""
    why = next((lines[n] for n in range(leaf.first, leaf.last + 1) if n in lines), "")
    why = why or ("it is inside the main guard" if leaf.pinned else risks.unrepeatable(leaf))
    if not why:
        return
    who = (
        f"{escape.name}, which {escape.to} on line {escape.line} gives to other processes,"
        if escape
        else "what runs in children"
    )
    raise Refusal(
        leaf.first,
        f"{who} needs {name!r}, which no child can get from this line: {why}",
        f"pass it as an argument; `vllm-guard run` sends the value of {name!r} if it is plain data",
    )


def _grow(table: _Table, inside: set[Leaf], forced: dict[Leaf, Escape | None]) -> None:
    """Take in what cannot stay outside without the rest. Raises Refusal."""
    before = -1
    while len(inside) != before:
        before = len(inside)
        taken = table.taken(inside)
        for leaf in table.leaves:
            if leaf in inside or leaf.pinned:
                continue
            heads = [head for head in leaf.heads if head in inside]
            lost = (taken & table.runs(leaf)) | _rebound(leaf, taken, table, inside)
            if not heads and not lost and not _drags(leaf, inside, table):
                continue
            if leaf in forced:
                _refuse_torn(leaf, forced[leaf], lost, table, inside)
            inside.add(leaf)


def _rebound(leaf: Leaf, taken: set[str], table: _Table, inside: set[Leaf]) -> set[str]:
    """The names that the piece and another inside bind; loop variables only where somebody reads them."""
    names = leaf.binds & taken
    if isinstance(leaf.node, (ast.For, ast.With, ast.Try)):
        others = (other for other in table.leaves if other is not leaf and other not in inside)
        names &= {name for other in others for name in other.deep}
    return set(names)


def _drags(leaf: Leaf, inside: set[Leaf], table: _Table) -> bool:
    """Is it the head of an `if` one of whose `elif` goes inside?"""
    return any(other.chained and other.heads[-1] is leaf for other in inside)


def _refuse_torn(
    leaf: Leaf, escape: Escape | None, lost: set[str], table: _Table, inside: set[Leaf]
) -> None:
    who = f"{escape.name} (passed on line {escape.line})" if escape else "children"
    other = next((o for name in sorted(lost) for o in table.owners(name) if o in inside), leaf)
    raise Refusal(
        leaf.first,
        f"{who} needs this line, and it does not go without line {other.first}, "
        "which is for the main process",
        "pass what is needed as an argument",
    )


def _sink(
    parts: Sequence[Part], table: _Table, inside: set[Leaf], forced: dict[Leaf, Escape | None]
) -> None:
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
                _sink(suite, table, inside, forced)


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


def _may_sink(leaf: Leaf, table: _Table, wanted: set[str]) -> bool:
    """Does nothing outside miss it, and is it there for its names only?"""
    if _imports(leaf):
        future = getattr(leaf.node, "module", "") == "__future__"
        used = any(leaf.binds & other.deep for other in table.leaves if other is not leaf)
        return used and not future and not leaf.binds & wanted
    head = isinstance(leaf.node, (ast.If, ast.Try, ast.With)) and not leaf.binds
    plain = isinstance(leaf.node, (ast.Assign, ast.AnnAssign)) and not leaf.mutates
    return head or (plain and not leaf.binds & wanted) or risks.is_inherited(leaf)


def _check(script: Script, inside: set[Leaf]) -> None:
    """Is every start inside now? Raises Refusal."""
    risks_found = risks.needs_import(script.tree, inside)
    if risks_found:
        line, reason = risks_found
        raise Refusal(line, reason, "build the engine in a function that is called when it is needed")
    lines = {n for leaf in inside for n in range(leaf.first, leaf.last + 1)}
    for start in script.starts:
        if top_line(start) not in lines:
            reason = f"{start.what} in what children must run"
            raise Refusal(top_line(start), reason, "move it into a function")


def _repeated(forced: dict[Leaf, Escape | None]) -> Iterable[Note]:
    for leaf, escape in forced.items():
        if leaf.acts and escape:
            reason = f"it {leaf.reason}" if leaf.reason else "it is not a definition"
            yield Note(
                leaf.first,
                f"stays outside the guard although {reason}: {escape.name} needs it in other "
                "processes, each of which does it again and may get another value",
            )


def _lacking(table: _Table, inside: set[Leaf], found: Iterable[Escape]) -> Iterable[Note]:
    """Functions that are passed to who knows what, and would lack something in another process."""
    for escape in found:
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
    """Changes of modules and classes that children do not make."""
    for leaf in inside:
        if leaf.reason.endswith(" in children") and not leaf.pinned:
            yield Note(leaf.first, leaf.reason)
