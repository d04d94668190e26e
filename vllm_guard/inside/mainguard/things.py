"""What the names of a script stand for: imports, functions, classes and what they return. Pure.

A name stands for a set of things, because branches may bind it differently. A container stands for
what it holds: `procs[0].start()` and `for p in procs: p.start()` start what was appended to `procs`.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from . import guards
from .catalog import UNKNOWN
from .guards import Truth
from .syntax import never

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DEPTH = 50  #: of one expression; beyond it nothing is known
_NAME = 200  #: characters of a dotted name
_POSSIBLE = 32  #: things that one name may be
_PROCESS_NAME = re.compile(r"(torch\.)?multiprocess(ing)?\.(process\.)?current_process\(\)\.name")
_TRUTHS = {str(pair): Truth(*pair) for pair in itertools.permutations((True, False, None), 2)}


class Thing(NamedTuple):
    """One possible value.

    kind: `import` (by dotted name), `text` (a constant string), `function` (with its `owner`, when it is
    bound), `class`, `object` (an instance of that class), `super` (of an object), `module` (that was read),
    `name` (a module's `__name__`; empty: the script's), `truth` (a test on it: a key of `_TRUTHS`).
    """

    kind: str
    name: str = ""
    node: ast.AST | None = None  #: definition; of an `import` thing the call that made it
    scope: Scope | None = (
        None  #: of a function: where it was defined; of a class, a module: its own
    )
    owner: Thing | None = None
    how: str = ""  #: start method of a context; "remote", "options": of Ray, and of what is like it


Things = frozenset  #: of Thing
NOTHING: Things[Thing] = frozenset()


class Scope:
    """Names of a module, a class body or one call of a function."""

    def __init__(self, parent: Scope | None = None, cls: Thing | None = None) -> None:
        self.parent = parent
        self.cls = cls  #: the class whose body this is
        self.names: dict[str, Things[Thing]] = {}
        self.file = ""  #: of a module that the script imports
        self.foreign: set[str] = set()  #: `global` and `nonlocal` names
        self.stars: list[str] = []  #: modules imported by `*`
        self.returned: Things[Thing] = NOTHING  #: of a function

    @property
    def module(self) -> Scope:
        """The outermost."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def bind(self, name: str, things: Things[Thing], certain: bool) -> None:
        """Bind; in a branch (not `certain`) what the name may have been before stays possible."""
        scope = self.module if name in self.foreign else self
        if not certain or scope is not self:
            things = possible(joined(scope.names.get(name, NOTHING), things))
        scope.names[name] = things

    def holder(self, name: str) -> Scope:
        """The scope in which a name is bound; this one where nothing binds it."""
        scope: Scope | None = self
        while scope is not None and name not in scope.names:
            scope = scope.parent
        return scope or self

    def lookup(self, name: str) -> Things[Thing] | None:
        """What a bare name stands for; None: nothing binds it. Class bodies are seen from within."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or scope.cls is None):
                return scope.names[name]
            scope = scope.parent
        return None

    def enclosing_class(self) -> Thing | None:
        """The class in whose body a method was defined."""
        scope: Scope | None = self
        while scope is not None and scope.cls is None:
            scope = scope.parent
        return scope.cls if scope else None


class World:
    """All that was learned of classes, attributes and calls so far."""

    def __init__(self) -> None:
        self.bases: dict[ast.AST, tuple[Thing, ...]] = {}
        self.attributes: dict[tuple[ast.AST | None, str], Things[Thing]] = {}
        self.returned: dict[
            ast.AST, Things[Thing]
        ] = {}  #: by node (call, property): the last value

    def things(self, node: ast.AST | None, scope: Scope, depth: int = 0) -> Things[Thing]:
        """What an expression may stand for, its calls having been made already."""
        if node is None or depth > _DEPTH:
            return NOTHING
        if isinstance(node, ast.Name):
            return self._name(node.id, scope)
        if isinstance(node, ast.Attribute) and node not in self.returned:
            return self.attribute(self.things(node.value, scope, depth + 1), node.attr)
        if isinstance(node, (ast.Call, ast.Attribute)):
            return self.returned.get(node, NOTHING)
        if isinstance(node, ast.Lambda):
            return frozenset({Thing("function", "lambda", node, scope)})
        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            text = constant_text(node)
            return frozenset({Thing("text", text)}) if text else NOTHING
        parts = (self.things(part, scope, depth + 1) for part in _alternatives(node))
        found = possible(NOTHING.union(*parts))
        if isinstance(node, guards.TESTS):
            truth = str(tuple(self.truth(node, scope)))
            found |= {Thing("truth", truth)} if truth in _TRUTHS else NOTHING
        return found

    def truth(self, test: ast.expr, scope: Scope) -> Truth:
        """What a test says in the main process and in its children."""
        return guards.truth(test, lambda node: self._values(node, scope))

    def _values(self, node: ast.expr, scope: Scope) -> tuple[object, object]:
        """What a plain name, its attribute or a call is in the main process and in a child."""
        if never(node):
            return False, False
        root = node.value if isinstance(node, ast.Attribute) else node
        things = self.things(node, scope) if isinstance(root, (ast.Name, ast.Call)) else NOTHING
        if len(things) != 1:
            return guards.NOT_KNOWN
        (thing,) = things
        if thing.kind == "name":
            return (thing.name, thing.name) if thing.name else guards.NAMES
        if thing.kind == "truth":
            main, child = (UNKNOWN if value is None else value for value in _TRUTHS[thing.name])
            return main, child
        named = thing.kind == "import" and _PROCESS_NAME.fullmatch(thing.name)
        return ("MainProcess", "SpawnProcess-1") if named else guards.NOT_KNOWN

    def attribute(self, things: Iterable[Thing], name: str) -> Things[Thing]:
        """What `.name` of these may be."""
        found: Things[Thing] = NOTHING
        for thing in things:
            if thing.kind == "import":
                found |= _member(thing, name)
            elif thing.kind in ("object", "class", "super"):
                found |= self._of_class(thing, name)
            elif thing.kind == "module" and thing.scope:
                found |= thing.scope.names.get(name, NOTHING)
            if thing.kind in ("class", "function") and name in ("remote", "options"):
                found |= {thing._replace(how=name)}
        return found

    def lineage(self, cls: Thing) -> Iterator[Thing]:
        """The class and those that it inherits from, nearest first, imported ones too."""
        pending, seen = [cls], set()
        while pending:
            thing = pending.pop(0)
            if thing not in seen:
                seen.add(thing)
                yield thing
                pending += self.bases.get(thing.node, ()) if thing.node else ()

    def _name(self, name: str, scope: Scope) -> Things[Thing]:
        found = scope.lookup(name)
        if found is not None:
            return found
        if name == "__name__":
            return frozenset({Thing("name", scope.module.file)})
        modules = scope.module.stars
        stars = [Thing("import", f"{module}.{name}") for module in modules]
        return frozenset((*stars, Thing("import", f"builtins.{name}")))

    def _of_class(self, thing: Thing, name: str) -> Things[Thing]:
        cls = thing if thing.kind == "class" else thing.owner
        if cls is None:
            return NOTHING
        found: Things[Thing] = NOTHING
        for base in self.lineage(cls):
            if thing.kind == "super" and base is cls:
                continue
            stored = self.attributes.get((base.node, name), NOTHING)
            if base.kind == "class" and base.scope is not None:
                stored |= base.scope.names.get(name, NOTHING)
            elif base.kind == "import" and not found:
                stored |= _member(base._replace(name=_instance(thing, base)), name)
            found |= frozenset(_bound(item, thing, cls) for item in stored)
            if stored and base.kind == "class":
                break
        return found


def ordered(things: Iterable[Thing]) -> list[Thing]:
    """In an order that is the same every time."""
    return sorted(things, key=lambda t: (t.kind, t.name, getattr(t.node, "lineno", 0), t.how))


def joined(old: Things[Thing], new: Things[Thing]) -> Things[Thing]:
    """Both; once there are many, no more: a table of functions is not followed to the end."""
    return old | new if len(old) + len(new) <= _POSSIBLE else old or new


def possible(things: Things[Thing]) -> Things[Thing]:
    """Of things of which it may be any: what tests on `__name__` say is then not known."""
    return frozenset(thing for thing in things if thing.kind not in ("name", "truth"))


def is_property(node: ast.AST | None) -> bool:
    """Does reading the attribute call this function?"""
    names = {
        part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "")
        for part in getattr(node, "decorator_list", ())
    }
    return not names.isdisjoint(("property", "cached_property"))


def constant_text(node: ast.AST) -> str:
    """The string that an expression is, of an f-string what it begins with; empty for no string."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[0] if node.values else node
    value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) and len(value) <= _NAME else ""


def returned_name(thing: Thing) -> str:
    """The dotted name of what calling an imported thing returns."""
    return f"{thing.name}()"


def _alternatives(node: ast.AST) -> Iterable[ast.AST | None]:
    """The parts of an expression that its value may be, or that its value contains."""
    if isinstance(node, ast.IfExp):
        return (node.body, node.orelse)
    if isinstance(node, (ast.BoolOp, ast.Dict)):
        return node.values
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return node.elts
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        return (node.elt,)
    if isinstance(node, ast.BinOp):
        return (node.left, node.right)
    if isinstance(node, (ast.NamedExpr, ast.Await, ast.Starred, ast.Subscript, ast.DictComp)):
        return (node.value,)
    return ()


def _member(thing: Thing, name: str) -> Things[Thing]:
    dotted = f"{thing.name}.{name}"
    return frozenset({thing._replace(name=dotted)}) if len(dotted) <= _NAME else NOTHING


def _instance(thing: Thing, base: Thing) -> str:
    return base.name if thing.kind == "class" else returned_name(base)


def _bound(item: Thing, thing: Thing, cls: Thing) -> Thing:
    """A function found in a class, with what is passed as its first argument."""
    if item.kind != "function" or item.owner is not None or item.scope is None:
        return item
    if item.scope.cls is None:  # stored in an attribute: a plain function
        return item
    names = {getattr(part, "id", "") for part in getattr(item.node, "decorator_list", ())}
    if "staticmethod" in names:
        return item
    if "classmethod" in names:
        return item._replace(owner=cls)
    instance = Thing("object", cls.name, owner=cls)
    if thing.kind == "object":
        instance = thing
    return item if thing.kind == "class" else item._replace(owner=instance)
