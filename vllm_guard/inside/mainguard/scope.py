"""What a child has of the script's names, at one place in the file. Pure."""

import builtins

from .tables import words

#: Kinds of names: what an import binds, a function or class, any value, a container written as a literal.
IMPORT, DEFINITION, VALUE, CONTAINER = "import", "definition", "value", "container"

#: What a module has before its first statement.
OF_THE_MODULE = words(
    """
    __name__ __file__ __doc__ __spec__ __package__ __loader__ __cached__ __builtins__ __annotations__
    """
)


class Scope:
    """The names bound so far: which of them a child has, and why it lacks the others."""

    def __init__(self):
        self.kinds = {}  #: name -> kind, of those that a child has
        self.dotted = {}  #: name -> full name, of what comes from an import
        self.lost = {}  #: name -> (line, reason), of those that it lacks
        self.main = {}  #: the same of those that a statement of the main process has ever bound or changed
        self.environment = set()  #: those whose value may be another in a child
        self.star = False  #: after `from x import *` a child may have any name

    def bind(self, name, kind, dotted="", environment=False):
        """A statement that runs in the child binds the name."""
        self.forget(name)
        self.kinds[name] = kind
        if dotted:
            self.dotted[name] = dotted
        if environment:
            self.environment.add(name)

    def lose(self, name, line, reason):
        """A statement of the main process binds it, or changes what it names."""
        self.forget(name)
        self.lost[name] = self.main[name] = (line, reason)

    def lost_at_last(self):
        """What a child lacks when a function runs, be that before the last statement that it can run.

        A name that the main process sets to one value and the child to another would be silently stale.
        """
        values = {n for n, kind in self.kinds.items() if kind in (VALUE, CONTAINER)}
        return {**{n: why for n, why in self.main.items() if n in values}, **self.lost}

    def forget(self, name):
        """It is not bound any more."""
        for known in (self.kinds, self.dotted, self.lost):
            known.pop(name, None)
        self.environment.discard(name)

    def missing(self, name):
        """Why a child cannot read the name here; empty if it can."""
        if name in self.lost:
            return f"uses {name!r}, which line {self.lost[name][0]} sets in the main process only"
        known = name in self.kinds or name in OF_THE_MODULE or hasattr(builtins, name)
        return "" if known or self.star else f"uses {name!r}, which no statement here sets"

    def is_builtin(self, name):
        """Does the name mean Python's own?"""
        return name not in self.kinds and name not in self.lost and hasattr(builtins, name)

    def branch(self):
        """A copy, for one of several ways through the file."""
        copy = Scope()
        copy.kinds, copy.dotted = dict(self.kinds), dict(self.dotted)
        copy.lost, copy.main = dict(self.lost), dict(self.main)
        copy.environment = set(self.environment)
        copy.star = self.star
        return copy

    def join(self, branches):
        """After one of the branches was taken: what any of them lacks is lacking."""
        self.kinds = {n: kind for branch in branches for n, kind in branch.kinds.items()}
        self.dotted = {n: name for branch in branches for n, name in branch.dotted.items()}
        self.environment = {n for branch in branches for n in branch.environment}
        self.main = {n: why for branch in branches for n, why in branch.main.items()}
        self.star = any(branch.star for branch in branches)
        for branch in branches:
            for name, (line, reason) in branch.lost.items():
                self.lose(name, line, reason)
