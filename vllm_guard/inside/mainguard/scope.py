"""What a child has of the script's names, at one place in the file. Pure."""

from __future__ import annotations

import builtins
from collections import ChainMap
from typing import NamedTuple

from .tables import words

#: Kinds of names: what an import binds, a function or class; of values: numbers and texts, which nothing can
#: change, containers written as literals, all others.
IMPORT, DEFINITION, ATOM, CONTAINER, VALUE = "import", "definition", "atom", "container", "value"
VALUES = (ATOM, CONTAINER, VALUE)
CHANGEABLE = (CONTAINER, VALUE)

#: What a module has before its first statement.
OF_THE_MODULE = words(
    """
    __name__ __file__ __doc__ __spec__ __package__ __loader__ __cached__ __builtins__ __annotations__
    """
)


class Known(NamedTuple):
    """What is known of a name."""

    kind: str = ""  #: empty: a child lacks it
    dotted: str = ""  #: full name of what comes from an import
    lost: tuple[int, str] | None = None  #: (line, reason), where a child lacks it
    main: tuple[int, str] | None = (
        None  #: of the last one of the main process that set or changed it
    )
    environment: bool = False  #: its value may be another in a child


_NOTHING = Known()


class Scope:
    """The names bound so far: which of them a child has, and why it lacks the others."""

    def __init__(self, unsure=(), elsewhere=()):
        self._names = ChainMap()
        self.star = False  #: after `from x import *` a child may have any name
        self.unsure = set(unsure)  #: names of values that something in the file may change unseen
        self.elsewhere = frozenset(elsewhere)  #: names that functions change
        self.touched = set()  #: modules, classes and what is imported that calls may have changed
        self.active = (
            set()
        )  #: names of what runs code of the script when it is used in an expression
        self._links = {}  #: name -> {name that may hold the same object, or a part: is it surely so?}

    def _of(self, name):
        return self._names.get(name, _NOTHING)

    def kind(self, name):
        """Its kind; empty if a child lacks it. `from x import *` may have bound what nothing else has."""
        if self.star and name and name not in self._names and not hasattr(builtins, name):
            return IMPORT
        return self._of(name).kind

    def dotted(self, name):
        """The full name of what an import bound; empty for anything else."""
        return self._of(name).dotted

    def is_module(self, name):
        """Is it what `import x` has bound?"""
        return self.kind(name) == IMPORT and self.dotted(name).partition(".")[0] == name

    def is_known(self, name):
        """Has any statement so far bound it?"""
        return name in self._names

    def is_lost(self, name):
        """Did the main process bind it alone?"""
        return self._of(name).lost is not None

    def is_unsure(self, name):
        """May its value be another in a child, or later?"""
        if name not in self._names:
            return False
        return self._of(name).environment or name in self.unsure or name in self.elsewhere

    def bind(self, name, kind, dotted="", environment=False):
        """A statement that runs in the child binds the name."""
        self._names[name] = Known(kind, dotted, None, self._of(name).main, environment)
        self.active.discard(name)
        self._unlink(name)

    def lose(self, name, line, reason, guarded=False):
        """A statement of the main process binds it, or changes what it names.

        Under a main guard: what else a child sets is then what the script wants children to have.
        """
        main = self._of(name).main if guarded else (line, reason)
        self._names[name] = Known(lost=(line, reason), main=main)

    def forget(self, name):
        """It is not bound any more."""
        if name in self._names:
            self._names[name] = Known(main=self._of(name).main)

    def from_environment(self, names):
        """The values of these, where they are bound, may be others in a child."""
        for name in names:
            if self.kind(name):
                self._names[name] = self._of(name)._replace(environment=True)

    def doubt_all(self):
        """Something may have set any name."""
        self.unsure.update(name for name in self._names if self.kind(name) in VALUES)

    def link(self, names, others, surely):
        """The values of `names` hold those of `others`, or parts of them."""
        for name in names:
            for other in others:
                if name != other and self.kind(other) != ATOM:
                    for one, two in ((name, other), (other, name)):
                        known = self._links.setdefault(one, {})
                        known[two] = surely or known.get(two, False)

    def linked(self, name, surely):
        """All names whose values changing this one's changes, or may."""
        found, pending = set(), [name]
        while pending:
            one = pending.pop()
            if one not in found:
                found.add(one)
                links = self._links.get(one, {})
                pending += [other for other, sure in links.items() if sure or not surely]
        return found

    def _unlink(self, name):
        """It is bound to another value now, or in one branch is: nothing is sure any more."""
        for other in self._links.get(name, ()):
            self._links[name][other] = self._links[other][name] = False

    def lost_at_last(self):
        """What a child lacks when a function runs, be that before the last statement that it can run.

        A name that the main process sets to one value and the child to another would be silently stale.
        """
        rows = self._names.items()
        changed = {n: known.main for n, known in rows if known.main and known.kind in VALUES}
        return {**changed, **{n: known.lost for n, known in rows if known.lost}}

    def available(self):
        """The names that a child has."""
        return {name for name, known in self._names.items() if known.kind}

    def unsure_at_last(self):
        """Those whose value may be another there, and those lost that the main process has changed."""
        rows = self._names.items()
        values = {n for n, known in rows if known.kind in VALUES or known.lost}
        environment = {n for n, known in rows if known.environment}
        return {n for n in values if n in self.unsure} | environment

    def missing(self, name):
        """Why a child cannot read the name here; empty if it can."""
        known = self._of(name)
        if known.lost:
            return f"uses {name!r}, which line {known.lost[0]} sets in the main process only"
        found = known.kind or name in OF_THE_MODULE or hasattr(builtins, name)
        return "" if found or self.star else f"uses {name!r}, which no statement here sets"

    def is_builtin(self, name):
        """Does the name mean Python's own?"""
        known = self._of(name)
        return not known.kind and not known.lost and hasattr(builtins, name)

    def branch(self):
        """The same names, for one of several ways through the file; what it changes is its own."""
        copy = Scope()
        copy._names = self._names.new_child()
        copy.star, copy.unsure, copy.elsewhere = self.star, self.unsure, self.elsewhere
        copy._links, copy.active, copy.touched = self._links, self.active, self.touched
        return copy

    def join(self, branches):
        """After one of the branches was taken: what any of them lacks is lacking."""
        own = len(self._names.maps)
        changed = {n for b in branches for table in b._names.maps[:-own] for n in table}
        for name in changed:
            self._names[name] = _joined([branch._of(name) for branch in branches])
        self.star = any(branch.star for branch in branches)


def _joined(ways):
    """What is known of a name after one of several ways."""
    lost = next((way.lost for way in reversed(ways) if way.lost), None)
    if lost:
        return Known(lost=lost, main=lost)
    kind, dotted, main = (
        next((way[part] for way in reversed(ways) if way[part]), _NOTHING[part])
        for part in (0, 1, 3)
    )
    return Known(kind, dotted, None, main, any(way.environment for way in ways))
