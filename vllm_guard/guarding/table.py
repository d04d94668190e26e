"""The pieces of a script by the names that they bind, change and read. Pure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vllm_guard.guarding import risks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vllm_guard.guarding.leaves import Leaf
    from vllm_guard.guarding.resolving import Resolver


class Table:
    """The pieces by the names that they bind, change and read."""

    def __init__(self, leaves: Sequence[Leaf], names: Resolver) -> None:
        self.leaves = leaves
        self.plain: set[str] = set()  #: names of imports and definitions only
        self._names = names
        self._binders: dict[str, list[Leaf]] = {}
        self._changers: dict[str, list[Leaf]] = {}
        for leaf in leaves:
            for name in leaf.binds:
                self._binders.setdefault(name, []).append(leaf)
            for name in sorted(_changed(leaf)):
                self._changers.setdefault(name, []).append(leaf)
        for name, binders in self._binders.items():
            if all(leaf.defines or leaf.imports for leaf in binders):
                self.plain.add(name)

    def owners(self, name: str) -> list[Leaf]:
        """What binds the name, and what changes what it names, or may."""
        binders = self._binders.get(name, [])
        if any(leaf.pinned == "outside" for leaf in binders):  # it is what children have
            binders = [leaf for leaf in binders if leaf.pinned != "inside"]
        changers = self._changers.get(name, [])
        if name in self.plain:
            changers = [leaf for leaf in changers if name in leaf.mutates or name in leaf.stirs]
            if not any(leaf.defines for leaf in binders):
                changers = [leaf for leaf in changers if self._may_repeat(leaf, name)]
        return list(dict.fromkeys([*binders, *changers]))

    def _may_repeat(self, leaf: Leaf, name: str) -> bool:
        """May children change what is imported once more? Not Python's own: it has too many users."""
        package = self._names.imports.get(name, "").partition(".")[0]
        own = package not in sys.stdlib_module_names
        possible = not leaf.starts and not leaf.pinned and not risks.unrepeatable(leaf)[0]
        return own and possible and not risks.is_inherited(leaf)

    def runs(self, leaf: Leaf) -> set[str]:
        """The names that running the piece reads, in the functions that it calls, too."""
        return self._followed(leaf, leaf.calls)

    def reaches(self, leaf: Leaf) -> set[str]:
        """The same, with the functions that it passes on."""
        return self._followed(leaf, leaf.calls | leaf.reads)

    def _followed(self, leaf: Leaf, functions: Iterable[str]) -> set[str]:
        found, pending = set(leaf.reads), list(functions)
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
                found |= leaf.binds
        return found

    def missed(self, inside: Iterable[Leaf]) -> dict[str, str]:
        """What who imports the script does not find, or cannot call: name -> the name that is hidden."""
        missed = {name: name for leaf in inside if not leaf.pinned for name in leaf.binds}
        hidden = set(inside)
        readers = [leaf for leaf in self.leaves if leaf.defines and leaf not in hidden]
        before = -1
        while len(missed) != before:
            before = len(missed)
            for leaf in readers:
                for read in sorted(leaf.deep & missed.keys())[:1]:
                    missed |= dict.fromkeys(leaf.binds - missed.keys(), missed[read])
        return missed

    def changed(self, inside: set[Leaf]) -> set[str]:
        """Names of values that are changed inside, and read by somebody outside."""
        names = {name for leaf in inside if not leaf.pinned for name in leaf.mutates - self.plain}
        return {
            n for n in names if any(n in leaf.deep for leaf in self.leaves if leaf not in inside)
        }


def _changed(leaf: Leaf) -> set[str]:
    """What a child must not do without; a function that starts processes cannot be called there."""
    follows = not leaf.starts and not leaf.pinned
    return {*leaf.mutates, *leaf.touches, *(leaf.stirs if follows else ())}
