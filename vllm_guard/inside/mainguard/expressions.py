"""Is an expression the same in every process, and free of effects, so that a child may evaluate it? Pure."""

import ast

from .names import COMPREHENSIONS, binds, reads, root
from .scope import ATOM, CONTAINER, DEFINITION, IMPORT, VALUE, VALUES
from .tables import (
    BUILTINS,
    CALLERS,
    ENVIRONMENT,
    ENVIRONMENT_CALLS,
    ENVIRONMENT_METHODS,
    METHODS,
    PURE,
    TEXTS,
    words,
)

_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_CONTAINER_TYPES = words(
    """
    list dict set bytearray collections.defaultdict collections.deque collections.Counter
    collections.OrderedDict
    """
)
_IMPURE = (ast.Await, ast.Yield, ast.YieldFrom)
_OPERATIONS = (ast.BinOp, ast.BoolOp, ast.Compare, ast.FormattedValue, ast.Starred, ast.UnaryOp)
_ATOMIC = (ast.BinOp, ast.BoolOp, ast.IfExp, ast.Tuple, ast.UnaryOp)


def spelled(node):
    """`parser.add_argument` of that expression, for people; `(...)` for what has no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{spelled(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{spelled(node.func)}(...)"
    if isinstance(node, ast.Subscript):
        return f"{spelled(node.value)}[...]"
    return "(...)"


def calls(node):
    """The reason of a call that is on no list."""
    return f"calls {spelled(node.func)}()"


class Expressions:
    """Judges expressions by what a child has of the names (`scope`)."""

    def __init__(self, scope):
        self._scope = scope
        self.environment = False  #: did one of them read what may differ between processes?

    def why_not(self, node, own=frozenset()):
        """Why a child cannot evaluate it; empty if it can. `own`: variables of comprehensions around."""
        if isinstance(node, ast.Call):
            return self._call(node, own)
        if isinstance(node, _IMPURE):
            return "waits for something"
        if isinstance(node, ast.Name):
            return self._name(node, own)
        if isinstance(node, ast.Attribute) and self._may_differ(node):
            self.environment = True
        if isinstance(node, ast.Lambda):
            return self._first(reads(node, lazy=True), self._scope.missing)
        active = self._active(node, own)
        if active:
            return f"runs code of {active}"
        if isinstance(node, COMPREHENSIONS):
            own = own.union(*(binds(generator.target) for generator in node.generators))
        if isinstance(node, ast.NamedExpr):
            self._scope.bind(node.target.id, VALUE)
        return self._all(ast.iter_child_nodes(node), own)

    def _may_differ(self, attribute):
        return self.dotted(attribute) in ENVIRONMENT or root(attribute) in self._scope.touched

    def dotted(self, node):
        """The full name of what an import brought, or a builtin; empty for anything else."""
        if isinstance(node, ast.Name):
            known = self._scope.dotted(node.id)
            return known or (node.id if self._scope.is_builtin(node.id) else "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def kind(self, node):
        """What kind of name an assignment of this value makes."""
        if self._is_atom(node):
            return ATOM
        if isinstance(node, _DISPLAYS):
            return CONTAINER
        if isinstance(node, ast.Call) and self.dotted(node.func) in _CONTAINER_TYPES:
            return CONTAINER
        return IMPORT if self.dotted(node) else VALUE

    def _is_atom(self, node):
        """Is it a number, a text, or a tuple of such?"""
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.Compare)):
            return True
        if isinstance(node, ast.Name):
            return self._scope.kind(node.id) == ATOM
        if not isinstance(node, _ATOMIC):
            return False
        for part in ast.iter_child_nodes(node):  # no `map`, as in `_all`
            if isinstance(part, ast.expr) and not self._is_atom(part):
                return False
        return True

    def is_harmless(self, call):
        """Does the call change nothing of what it is given?"""
        name = self.dotted(call.func)
        known = name in BUILTINS or name in PURE or name in ENVIRONMENT_CALLS or name == "print"
        method = not name and getattr(call.func, "attr", "") in METHODS
        return (known or method) and not self.given_functions(call, name)

    def makes_active(self, node):
        """Will reading items of this value run code of the script? A `defaultdict` with its own factory."""
        is_default = (
            isinstance(node, ast.Call) and self.dotted(node.func) == "collections.defaultdict"
        )
        return is_default and bool(node.args) and not self._is_harmless(node.args[0])

    def _active(self, node, own):
        """The name whose own code this operation runs: that of a metaclass, or of a factory."""
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            operands = [node.value]
        elif isinstance(node, ast.comprehension):
            operands = [node.iter]
        elif isinstance(node, _OPERATIONS):
            operands = ast.iter_child_nodes(node)
        else:
            return ""
        names = {n.id for n in operands if isinstance(n, ast.Name)} & self._scope.active - own
        if isinstance(node, ast.Attribute):
            names = {name for name in names if self._scope.kind(name) == DEFINITION}
        return min(names, default="")

    @staticmethod
    def _first(nodes, judge):
        return next(filter(None, map(judge, nodes)), "")

    def _all(self, nodes, own):
        for node in nodes:  # no `map`: deep recursion through C is limited
            why = self.why_not(node, own)
            if why:
                return why
        return ""

    def _name(self, node, own):
        if node.id in own or not isinstance(node.ctx, ast.Load):
            return ""
        if self._scope.is_unsure(node.id) or self.dotted(node) in ENVIRONMENT:
            self.environment = True
        return self._scope.missing(node.id)

    def _call(self, node, own):
        name = self.dotted(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        on_value = bool(method) and self._is_value(node.func.value, own)
        if name in ENVIRONMENT_CALLS or (on_value and method in ENVIRONMENT_METHODS):
            self.environment = True
        elif not (name in BUILTINS or name in PURE or (on_value and method in METHODS)):
            lost = self._scope.is_lost(root(node.func))
            return self._scope.missing(root(node.func)) if lost else calls(node)
        why = self.given_functions(node, name, own)
        if why:
            return why
        if name in BUILTINS and any(getattr(a, "id", "") in self._scope.active for a in node.args):
            return calls(node)
        function = node.func.value if method else node.func  # methods are what they are
        return self._all([function, *node.args, *node.keywords], own)

    def given_functions(self, node, name, own=frozenset()):
        """`map(f, ...)`, `sorted(..., key=f)`: what it calls must be such a call, too."""
        method = getattr(node.func, "attr", "")
        places, names = CALLERS.get(name, ((), ("key",) if method == "sort" else ()))
        if not places and not names:
            return ""
        if any(keyword.arg is None for keyword in node.keywords):  # `**options`
            return calls(node)
        if places and any(isinstance(argument, ast.Starred) for argument in node.args):
            return calls(node)
        given = [keyword.value for keyword in node.keywords if keyword.arg in names]
        given += [node.args[place] for place in places if place < len(node.args)]
        for function in given:
            if isinstance(function, ast.Lambda):
                arguments = frozenset(argument.arg for argument in function.args.args)
                why = self.why_not(function.body, own | arguments)
            else:
                why = "" if self._is_harmless(function) else calls(node)
            if why:
                return why
        return ""

    def _is_harmless(self, function):
        """`None`, `len`, `str.lower`, `re.compile`; a text, for `re.sub`."""
        name = self.dotted(function)
        kind, _, method = name.partition(".")
        is_method = kind in BUILTINS and method in METHODS
        is_constant = self.kind(function) == ATOM
        return is_constant or name in BUILTINS or name in PURE or is_method

    def _is_value(self, node, own):
        """Is it no module, class or function, whose method of the same name may do anything?"""
        if isinstance(node, ast.Name):
            return node.id in own or self._scope.kind(node.id) in VALUES
        if isinstance(node, ast.Attribute) and self.dotted(node):
            known = self.dotted(node)
            return node.attr == "__version__" or known in ENVIRONMENT or known in TEXTS
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            return self._is_value(node.value, own)
        return True
