"""What the main process computes, where a child can be given it: there, the child's code has a hole.

`Settings.tp = args.tp` becomes `Settings.tp = <the value sent for Settings.tp>`; and so with the defaults of
functions and the attributes of classes whose expressions a child cannot evaluate, or to another value. Pure.
"""

import ast

from .blocks import Blocks
from .expressions import Expressions, spelled
from .giving import at, changed, hole, is_sent, quietly, store, stored
from .judge import CHILD, MAIN, PARTLY, Judged
from .names import FUNCTIONS, binds, here, reads, root
from .places import ATTRIBUTES, CONTENTS, GONE, HELD, VALUE
from .scope import DEFINITION, IMPORT

#: Decorators that leave a function's defaults where they can be read.
_TRANSPARENT = frozenset(("classmethod", "property", "staticmethod"))


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
        return judged._replace(
            kept=(at(changed(judged.kept[0], test=test), node), *judged.kept[1:])
        )

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
                    sent = is_sent(place)
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

    def _call_alone(self, node, call):
        """Children that make the call, too, are sent what they lack for it: `random.seed(args.seed)`."""
        judged = super()._call_alone(node, call)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        lacking = [part for part in given if self.scope.is_lost(root(part))]
        others = [part for part in given if part not in lacking]
        if judged.verdict != MAIN or not lacking or not self._is_repeated(call):
            return judged
        if self._why_not(call.func, *others)[0] or not all(map(_dotted, lacking)):
            return judged
        sent = {part: _dotted(part) for part in lacking}
        self.places.update((text, (node.lineno, VALUE)) for text in sent.values())
        holes = {part: hole(text) for part, text in sent.items()}
        keywords = [changed(k, value=holes.get(k.value, k.value)) for k in call.keywords]
        repeated = changed(call, args=[holes.get(a, a) for a in call.args], keywords=keywords)
        kept = (quietly(changed(node, value=repeated), node),)
        return Judged(CHILD, f"repeats {spelled(call.func)}(); {_are_sent(sent.values())}", kept)

    def _stores(self, node, line=None):
        """Place -> statement that gives a child what the main process has there then."""
        found = {}
        for part in here(node):
            target, kind = stored(part)
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
            found[text] = quietly(store(kind, text, place), node)
        self.stores.update(found)
        return found

    def _deletion(self, target, node):
        """Where the main process has an attribute no more, a child deletes it."""
        place = f"{target.attr!r} in {ast.unparse(target.value)}.__dict__"
        self.places[place] = (0, VALUE)
        deletion = ast.Delete([changed(target, ctx=ast.Del())])
        return quietly(ast.If(hole(place), [ast.Pass()], [deletion]), node)

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
        body, form = [], f"{owner}{node.name}{self._attributes_of(node)}"
        for statement in node.body:
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                body.append(self._plugged(statement, f"{owner}{node.name}.", own))
            else:
                body.append(self._plugged_part(statement, form, own))
            own |= set(binds(statement))
        return changed(node, body=body)

    def _attributes_of(self, node):
        """Where the values are that the body of a class sets, for `str.format`."""
        dotted = Expressions(self.scope).dotted
        if "typing.NamedTuple" in map(dotted, node.bases):
            return "._field_defaults[{!r}]"
        for call in node.decorator_list:
            slots = [k for k in getattr(call, "keywords", ()) if k.arg == "slots"]
            if slots and dotted(call.func) == "dataclasses.dataclass":
                return ".__dataclass_fields__[{!r}].default"
        return ".__dict__[{!r}]"

    def _plugged_part(self, node, form, own):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not node.value or len(targets) > 1:
            return node
        return changed(node, value=self._plugged_value(targets[0], node.value, form, own))

    def _plugged_value(self, target, value, form, own):
        """What a class body assigns: to a name, or to several ones one by one."""
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts))
            if len(target.elts) == len(value.elts):
                return changed(
                    value, elts=[self._plugged_value(*pair, form, own) for pair in pairs]
                )
        if not isinstance(target, ast.Name) or target.id.startswith("__"):
            return value
        return self._plug(value, form.format(target.id), own)

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
        return changed(node, args=changed(given, defaults=defaults, kw_defaults=named))

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
        plug = hole(place, self._plugs[place])
        return at(plug if reason else ast.IfExp(is_sent(place), plug, node), node)

    def _field(self, node, place, own):
        keywords = [
            changed(keyword, value=self._plug(keyword.value, place, own))
            if keyword.arg == "default"
            else keyword
            for keyword in node.keywords
        ]
        return changed(node, keywords=keywords)


def _are_sent(places):
    return f"{', '.join(places)} {'is' if len(places) == 1 else 'are'} sent"


def _dotted(node):
    """The text of a name or of its attributes; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return _dotted(node.value) and f"{_dotted(node.value)}.{node.attr}"
    return getattr(node, "id", "")


def _parsed(text):
    return ast.parse(text, mode="eval").body
