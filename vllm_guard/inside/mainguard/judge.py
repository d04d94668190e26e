"""One statement after the other: does a child run it? What of a block does it run? Pure."""

from __future__ import annotations

import ast
import sys
from typing import NamedTuple

from . import changes
from .expressions import Expressions, spelled
from .names import binds, reads, root
from .scope import CHANGEABLE, CONTAINER, DEFINITION, IMPORT, VALUE
from .tables import (
    INHERITED,
    INHERITED_VARIABLES,
    METACLASSES,
    MUTATORS,
    NEVER_REPLAYED,
    NOT_REPLAYED_WITH,
    REPLAYED,
    REPLAYED_METHODS,
    SENT_BY_PYTHON,
)

CHILD, MAIN, INHERITED_ALREADY, PARTLY = "child", "main", "inherited", "partly"
_KINDS = {
    "While": "a while loop",
    "Match": "a match statement",
    "Assert": "an assertion",
    "Raise": "raises",
    "AsyncFor": "an async loop",
    "AsyncWith": "an async with statement",
}


class Judged(NamedTuple):
    """What is to be done with a statement."""

    verdict: str
    reason: str
    kept: tuple[ast.stmt, ...] = ()  #: the statements (`ast.stmt`) that run in a child in its place
    lost: tuple[str, ...] = ()  #: names that a child does not get from it


class Judge:
    """Judges statements in the order of the file, and keeps account of the names in `scope`."""

    def __init__(self, scope, markers, lazy):
        self.scope = scope
        self._markers = markers
        self._lazy = lazy  #: annotations are not evaluated

    def statement(self, node):
        """What a child does with it. `scope` is then as it is after the statement."""
        marked = self._markers.of(node)
        if marked == MAIN:
            return self._main(node, "marked '# vllm-guard: main'")
        if marked == CHILD:
            self._bind(node, VALUE)
            return Judged(CHILD, "marked '# vllm-guard: child'", (node,))
        judge = getattr(self, "_" + type(node).__name__.lower(), None)
        if judge is None:
            return self._main(node, _KINDS.get(type(node).__name__, "not a definition"))
        return judge(node)

    def _main(self, node, reason, guarded=False):
        """Not in a child: it has neither the names that this binds nor those whose values it changes."""
        changed = self._changed(node)
        names = tuple(dict.fromkeys((*binds(node), *changed)))
        for name in names:
            self.scope.lose(name, node.lineno, reason, guarded)
        return Judged(MAIN, reason, (), names)

    def _changed(self, node):
        """The names of values that the statement surely changes; what it may change is doubtful then."""
        scope = self.scope
        found = changes.of(node, Expressions(scope).is_harmless)
        if found.all:
            scope.doubt_all()
        for names, others, surely in found.holders:
            scope.link(names, [n for n in others if scope.kind(n) in CHANGEABLE], surely)
        linked = [name for n in found.surely for name in sorted(scope.linked(n, surely=True))]
        doubtful = {
            name for n in found.surely | found.perhaps for name in scope.linked(n, surely=False)
        }
        scope.unsure.update(n for n in doubtful if scope.kind(n) in CHANGEABLE)
        scope.touched.update(n for n in found.perhaps if self._is_open(n))
        return [name for name in linked if scope.kind(name) in CHANGEABLE]

    def _is_open(self, name):
        """May calls change what is read from it? From classes and imports, but not Python's own modules."""
        scope = self.scope
        package = scope.dotted(name).partition(".")[0]
        return scope.kind(name) in (IMPORT, DEFINITION) and package not in sys.stdlib_module_names

    def _bind(self, node, kind, environment=False):
        for name in binds(node):
            self.scope.bind(name, kind, environment=environment)

    def _pass(self, _node):
        return Judged(CHILD, "nothing to run")

    _global = _pass

    def _import(self, node):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.scope.bind(name, IMPORT, alias.name if alias.asname else name)
        return Judged(CHILD, "an import", (node,))

    def _importfrom(self, node):
        origin = "." * node.level + (node.module or "")
        touched = origin in map(self.scope.dotted, self.scope.touched)
        for alias in node.names:
            if alias.name == "*":
                self.scope.star = True
            else:
                name = alias.asname or alias.name
                self.scope.bind(name, IMPORT, f"{origin}.{alias.name}", touched)
        return Judged(CHILD, "an import", (node,))

    def _typealias(self, node):
        self._bind(node, VALUE)
        return Judged(CHILD, "a type alias", (node,))

    def _functiondef(self, node):
        why = next(filter(None, map(self.scope.missing, reads(node, self._lazy))), "")
        if why:
            return self._main(node, f"its definition {why}")
        return self._defined(node, node)

    def _defined(self, node, kept, more=""):
        self.scope.bind(node.name, DEFINITION)
        if isinstance(node, ast.ClassDef) and self._has_operations(node):
            self.scope.active.add(node.name)
        return Judged(CHILD, f"a definition{more}", (kept,))

    def _has_operations(self, node):
        """Does the class itself, not its instances, define what `C[x]`, `C + x` or `len(C)` does?"""
        own = (k.value for k in node.keywords if k.arg == "metaclass")
        dotted = Expressions(self.scope).dotted
        metaclass = any(dotted(value) not in METACLASSES for value in own)
        methods = any(getattr(part, "name", "") == "__class_getitem__" for part in node.body)
        return metaclass or methods or any(root(base) in self.scope.active for base in node.bases)

    _asyncfunctiondef = _classdef = _functiondef

    def _expr(self, node):
        value = node.value
        if isinstance(value, ast.Constant):
            return Judged(CHILD, "a constant")
        if isinstance(value, ast.Call):
            return self._call_alone(node, value)
        return self._evaluated(node, value, "a constant expression")

    def _evaluated(self, node, value, reason):
        why, _ = self._why_not(value)
        return self._main(node, why) if why else Judged(CHILD, reason, (node,))

    def _why_not(self, *nodes):
        expressions = Expressions(self.scope)
        why = next(filter(None, map(expressions.why_not, nodes)), "")
        return why, expressions.environment

    def _is_repeated(self, call):
        """Does each child make this call, too, for its effect on itself?"""
        name = Expressions(self.scope).dotted(call.func)
        method = getattr(call.func, "attr", "")
        given = {keyword.arg for keyword in call.keywords}
        repeated = name in REPLAYED or (method in REPLAYED_METHODS and name not in NEVER_REPLAYED)
        return repeated and not given & NOT_REPLAYED_WITH

    def _call_alone(self, node, call):
        """A call for its effect."""
        name = Expressions(self.scope).dotted(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in INHERITED:
            return Judged(INHERITED_ALREADY, f"children inherit what {spelled(call.func)}() does")
        own = self.scope.kind(root(call.func)) == CONTAINER and method in MUTATORS
        if not own and not self._is_repeated(call):
            return self._evaluated(node, call, "a constant expression")
        why, environment = self._why_not(call.func, *call.args, *call.keywords)
        why = why or Expressions(self.scope).given_functions(call, name)
        if why:
            unless = "" if own else f": {spelled(call.func)}() is not repeated in children"
            return self._main(node, why + unless)
        if own and environment:
            self.scope.from_environment([root(call.func)])
        return Judged(CHILD, f"repeats {spelled(call.func)}()", (node,))

    def _assign(self, node):
        return self._assigned(node, node.targets, node.value)

    def _annassign(self, node):
        annotation = [] if self._lazy else [node.annotation]
        why = next(
            filter(None, (self.scope.missing(n) for a in annotation for n in reads(a, True))), ""
        )
        if why:
            return self._main(node, why)
        if node.value is None:
            return Judged(CHILD, "an annotation", (node,))
        return self._assigned(node, [node.target], node.value)

    def _augassign(self, node):
        target = node.target
        if isinstance(target, ast.Name):
            why = self.scope.missing(target.id)
            if why:
                return self._main(node, why)
        kind = self.scope.kind(root(target)) or VALUE
        return self._assigned(node, [target], node.value, kind)

    def _assigned(self, node, targets, value, kind=""):
        expressions = Expressions(self.scope)
        if any(_is_inherited(target, expressions) for target in targets):
            return Judged(INHERITED_ALREADY, "children inherit it")
        why = expressions.why_not(value)
        why = why or next(filter(None, (self._why_not_stored(t, expressions) for t in targets)), "")
        if why:
            return self._main(node, why + self._left_unchanged(targets))
        if isinstance(node, ast.AugAssign) and self.scope.is_unsure(root(node.target)):
            expressions.environment = True
        alias = expressions.dotted(value)
        kind = kind or expressions.kind(value)
        held = [name for name in changes.held(value) if self.scope.kind(name) in CHANGEABLE]
        for target in targets:
            if isinstance(target, ast.Name):
                self.scope.bind(target.id, kind, alias, expressions.environment)
                if expressions.makes_active(value):
                    self.scope.active.add(target.id)
            else:
                for name in binds(target):
                    self.scope.bind(name, VALUE, environment=expressions.environment)
            if kind in CHANGEABLE and held:
                name = root(target)
                self.scope.link([name] if name else binds(target), held, bool(root(value)))
        if kind in CHANGEABLE:
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            self.scope.link(names[1:], names[:1], surely=True)
        patched = [t for t in targets if isinstance(t, (ast.Attribute, ast.Subscript))]
        reason = f"sets {spelled(patched[0])}" if patched else "a constant expression"
        return Judged(CHILD, reason, (node,))

    def _left_unchanged(self, targets):
        """What is another thing in children, where a part of a module or class is set."""
        parts = [t for t in targets if isinstance(t, (ast.Attribute, ast.Subscript))]
        own = (t for t in parts if self.scope.kind(root(t)) in (IMPORT, DEFINITION))
        return next((f": {spelled(target)} is not changed in children" for target in own), "")

    def _why_not_stored(self, target, expressions):
        """May a child assign to this? To names, and to parts of what it imports or defines itself."""
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, (ast.Tuple, ast.List)):
            return next(
                filter(None, (self._why_not_stored(t, expressions) for t in target.elts)), ""
            )
        if isinstance(target, ast.Name):
            return ""
        name = root(target)
        why = self.scope.missing(name) if name else "changes what an expression gives"
        parts = map(expressions.why_not, ast.iter_child_nodes(target))
        return why or next(filter(None, parts), "")

    def _delete(self, node):
        targets = node.targets
        if all(_is_inherited(target, Expressions(self.scope)) for target in targets):
            return Judged(INHERITED_ALREADY, "children inherit it")
        if not all(isinstance(t, ast.Name) and self.scope.kind(t.id) for t in targets):
            return self._main(node, f"deletes {', '.join(map(spelled, targets))}")
        for target in targets:
            self.scope.forget(target.id)
        return Judged(CHILD, "deletes names", (node,))


def _is_inherited(target, expressions):
    """Is it (a part of) `os.environ`, `sys.path` and the like?"""
    if isinstance(target, ast.Subscript):
        return expressions.dotted(target.value) in INHERITED_VARIABLES
    return isinstance(target, ast.Attribute) and expressions.dotted(target) in SENT_BY_PYTHON
