"""What the main process computes, where a child can be given it: there, the child's code has a hole.

`Settings.tp = args.tp` becomes `Settings.tp = <the value sent for Settings.tp>`; and so with the defaults of
functions and the attributes of classes whose expressions a child cannot evaluate, or to another value. Pure.
"""

import ast
import copy

from .blocks import Blocks
from .expressions import Expressions
from .judge import PARTLY
from .names import FUNCTIONS, binds, here, reads, root
from .places import ATTRIBUTES, CONTENTS, GONE, HELD, VALUE
from .scope import DEFINITION, IMPORT
from .tables import MUTATORS

#: Decorators that leave a function's defaults where they can be read.
_TRANSPARENT = frozenset(("classmethod", "property", "staticmethod"))


def _hole(place, reason=""):
    """The value sent for a place; `reason`: why the statement is lost without it (empty: it is not)."""
    node = ast.Subscript(ast.Name(HELD, ast.Load()), ast.Constant(place), ast.Load())
    node.hole = (place, reason)
    return node


def _is_sent(place):
    return ast.Compare(ast.Constant(place), [ast.In()], [ast.Name(HELD, ast.Load())])


def holes(node):
    """(place, reason) of all in it."""
    return [part.hole for part in ast.walk(node) if hasattr(part, "hole")]


class Holes(Blocks):
    """A judge that gives children what they cannot compute."""

    def __init__(self, scope, markers, lazy):
        super().__init__(scope, markers, lazy)
        self.places = {}  #: as `analysis.order` has it
        self.stores = {}  #: place -> statement that gives a child what is sent for it
        self._loops = 0
        self._plugs = {}  #: place -> reason, of the holes of the definition that is looked at

    def _if(self, node):
        """The script may have changed since what the test asks for: what it has defined tells the branch."""
        test = None if self._is_sure(node.test) else self._branch_taken(node)
        judged = super()._if(node)
        if test is None or not judged.kept:
            return judged
        return judged._replace(kept=(_at(_with(judged.kept[0], test=test), node), *judged.kept[1:]))

    def _branch_taken(self, node):
        """The test by a name that one branch alone binds; None where none does."""
        then, otherwise = (
            {n: 0 for s in part for n in binds(s)} for part in (node.body, node.orelse)
        )
        for names, others, taken in ((then, otherwise, True), (otherwise, then, False)):
            for name in names:
                if name not in others and not self.scope.is_known(name):
                    place = f"{name} is {name}"
                    self.places[place] = (0, VALUE)
                    sent = _is_sent(place)
                    return sent if taken else ast.UnaryOp(ast.Not(), sent)
        return None

    def _for(self, node):
        self._loops += 1  # what its body defines is there once, at its end
        try:
            return super()._for(node)
        finally:
            self._loops -= 1

    def _main(self, node, reason, guarded=False):
        stores = {} if guarded or self._loops > 1 else self._stores(node)
        judged = super()._main(node, reason, guarded)
        if not stores:
            return judged
        kept = list(stores.values())
        self.scope.unsure.update(map(root, map(_parsed, stores)))
        reason = f"{reason}; {_are_sent(stores)}"
        return judged._replace(verdict=PARTLY, kept=tuple(kept), reason=reason)

    def _left_unchanged(self, _targets):
        return ""

    def _assigned(self, node, targets, value, kind=""):
        """A part of a module or class that is set to what may be another in a child is sent, too."""
        judged = super()._assigned(node, targets, value, kind)
        patches = judged.kept and not all(isinstance(target, ast.Name) for target in targets)
        if patches and not all(map(self._is_sure, [value, *targets])):
            self._stores(node, line=0)
        return judged

    def _stores(self, node, line=None):
        """Place -> statement that gives a child what the main process has there then."""
        found = {}
        for part in here(node):
            target, kind = _stored(part)
            place, exact = self._place(target) if target else (None, False)
            if place is not None and exact and kind == GONE:
                found[ast.unparse(place)] = self._deletion(place, node)
                continue
            if place is None or (kind == ATTRIBUTES and not exact):
                continue
            kind = kind if exact else CONTENTS
            if kind == CONTENTS and self.scope.kind(getattr(place, "id", "")) == DEFINITION:
                continue  # a class is no container
            if kind == CONTENTS and self.scope.is_module(getattr(place, "id", "")):
                continue  # `os.remove()`
            text = ast.unparse(place)
            self.places.setdefault(text, (node.lineno if line is None else line, kind))
            store = _store(text, place) if kind == VALUE else _update(kind, text, place)
            found[text] = _quietly(store, node)
        self.stores.update(found)
        return found

    def _deletion(self, target, node):
        """Where the main process has an attribute no more, a child deletes it."""
        place = f"{target.attr!r} in {ast.unparse(target.value)}.__dict__"
        self.places[place] = (0, VALUE)
        deletion = ast.Delete([_with(target, ctx=ast.Del())])
        return _quietly(ast.If(_hole(place), [ast.Pass()], [deletion]), node)

    def _place(self, target):
        """(what can be read of it in any process, is that all of it?); None where nothing can."""
        if self.scope.kind(root(target)) not in (IMPORT, DEFINITION):
            return None, False
        parts = [target]
        while not isinstance(parts[-1], ast.Name):
            parts.append(parts[-1].value)
        readable = target
        for part in parts:
            if isinstance(part, ast.Subscript) and not self._is_sure(part.slice):
                readable = part.value
        return readable, readable is target

    def _is_sure(self, node):
        expressions = Expressions(self.scope)
        return not expressions.why_not(node) and not expressions.environment

    def _functiondef(self, node):
        self._plugs = {}
        plugged = node if self._loops else self._plugged(node, "")
        lacking = any(self.scope.missing(n) for n in reads(plugged, self._lazy) if n != HELD)
        if lacking or not self._plugs:
            return super()._functiondef(node)
        self.places.update(dict.fromkeys(self._plugs, (0, VALUE)))
        required = [place for place, reason in self._plugs.items() if reason]
        more = (
            f", if {', '.join(required)} can be sent" if required else f"; {_are_sent(self._plugs)}"
        )
        return self._defined(node, plugged, more)

    _asyncfunctiondef = _classdef = _functiondef

    def _plugged(self, node, owner, own=frozenset()):
        """The definition with holes for what is not sure; `owner` is `C.` in a class C."""
        if isinstance(node, FUNCTIONS):
            return self._plugged_function(node, f"{owner}{node.name}", own)
        plugged, body = copy.copy(node), []
        for statement in node.body:
            body.append(self._plugged_part(statement, f"{owner}{node.name}", own))
            own |= set(binds(statement))
        plugged.body = body
        return plugged

    def _plugged_part(self, node, name, own):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return self._plugged(node, f"{name}.", own)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not node.value or len(targets) > 1:
            return node
        return _with(node, value=self._plugged_value(targets[0], node.value, name, own))

    def _plugged_value(self, target, value, name, own):
        """What a class body assigns: to a name, or to several ones one by one."""
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts))
            if len(target.elts) == len(value.elts):
                return _with(value, elts=[self._plugged_value(*pair, name, own) for pair in pairs])
        if not isinstance(target, ast.Name) or target.id.startswith("__"):
            return value
        return self._plug(value, f"{name}.__dict__[{target.id!r}]", own)

    def _plugged_function(self, node, name, own):
        if not all(isinstance(d, ast.Name) and d.id in _TRANSPARENT for d in node.decorator_list):
            return node
        given = node.args
        defaults = [
            self._plug(default, f"{name}.__defaults__[{i}]", own)
            for i, default in enumerate(given.defaults)
        ]
        named = [
            default and self._plug(default, f"{name}.__kwdefaults__[{argument.arg!r}]", own)
            for argument, default in zip(given.kwonlyargs, given.kw_defaults)
        ]
        return _with(node, args=_with(given, defaults=defaults, kw_defaults=named))

    def _plug(self, node, place, own):
        """The expression, or what stands in its place."""
        if isinstance(node, ast.Constant):
            return node
        expressions = Expressions(self.scope)
        why = expressions.why_not(node, own)
        if not why and not expressions.environment:
            return node
        if expressions.dotted(getattr(node, "func", node)) == "dataclasses.field":
            return self._field(node, place, own)
        missing = (self.scope.missing(name) for name in reads(node, self._lazy, own))
        reason = next(filter(None, missing), "")
        self._plugs[place] = f"its definition {reason}" if reason else ""
        hole = _hole(place, self._plugs[place])
        if not reason:
            hole = ast.IfExp(_is_sent(place), hole, node)
        return _at(hole, node)

    def _field(self, node, place, own):
        keywords = [
            _with(keyword, value=self._plug(keyword.value, place, own))
            if keyword.arg == "default"
            else keyword
            for keyword in node.keywords
        ]
        return _with(node, keywords=keywords)


def _are_sent(places):
    return f"{', '.join(places)} {'is' if len(places) == 1 else 'are'} sent"


def _stored(node):
    """(what of something it sets or changes, what of that is to be sent); (None, "") where it does not."""
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return _part(node)
    if not isinstance(node, ast.Call):
        return None, ""
    if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return node.func.value, CONTENTS
    function = getattr(node.func, "id", "")
    if len(node.args) != {"setattr": 3, "delattr": 2}.get(function):
        return None, ""
    owner, name, *_ = node.args
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return ast.Attribute(owner, name.value), VALUE if function == "setattr" else GONE
    return owner, ATTRIBUTES


def _part(node):
    """As `_stored`, of an attribute or item that is set or deleted."""
    owner = node.value
    is_store = isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Attribute):
        return node, VALUE if is_store else GONE
    of_vars = isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "vars" and owner.args
    if of_vars and isinstance(getattr(node.slice, "value", None), str):
        return ast.Attribute(owner.args[0], node.slice.value), VALUE if is_store else GONE
    return (node, VALUE) if is_store else (owner, CONTENTS)


def _store(text, place):
    return ast.Assign([_with(place, ctx=ast.Store())], _hole(text))


def _update(kind, text, place):
    target = _with(place, ctx=ast.Load())
    name = "refill" if kind == CONTENTS else "assign"
    method = ast.Attribute(ast.Name(HELD, ast.Load()), name, ast.Load())
    return ast.Expr(ast.Call(method, [ast.Constant(text), target], []))


def _quietly(statement, node):
    """Where a child has not what is changed, nobody there can miss the change."""
    quiet = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
    return _at(ast.Try([statement], [quiet], [], []), node)


def _at(node, place):
    """The node, all of it at the place of another one."""
    for part in ast.walk(node):
        if "lineno" in part._attributes and not hasattr(part, "lineno"):
            ast.copy_location(part, place)
    return node


def _with(node, **parts):
    changed = copy.copy(node)
    for name, value in parts.items():
        setattr(changed, name, value)
    return changed


def _parsed(text):
    return ast.parse(text, mode="eval").body
