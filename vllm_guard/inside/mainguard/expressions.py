"""Is an expression the same in every process, and free of effects, so that a child may evaluate it? Pure."""

import ast

from .names import COMPREHENSIONS, binds, reads, root
from .scope import CONTAINER, IMPORT, VALUE
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
        if isinstance(node, ast.Attribute) and self.dotted(node) in ENVIRONMENT:
            self.environment = True
        if isinstance(node, ast.Lambda):
            return self._first(reads(node, lazy=True), self._scope.missing)
        if isinstance(node, COMPREHENSIONS):
            own = own.union(*(binds(generator.target) for generator in node.generators))
        if isinstance(node, ast.NamedExpr):
            self._scope.bind(node.target.id, VALUE)
        return self._all(ast.iter_child_nodes(node), own)

    def dotted(self, node):
        """The full name of what an import brought, or a builtin; empty for anything else."""
        if isinstance(node, ast.Name):
            known = self._scope.dotted.get(node.id, "")
            return known or (node.id if self._scope.is_builtin(node.id) else "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def kind(self, node):
        """What kind of name an assignment of this value makes."""
        if isinstance(node, _DISPLAYS):
            return CONTAINER
        if isinstance(node, ast.Call) and self.dotted(node.func) in _CONTAINER_TYPES:
            return CONTAINER
        return IMPORT if self.dotted(node) else VALUE

    @staticmethod
    def _first(nodes, judge):
        return next(filter(None, map(judge, nodes)), "")

    def _all(self, nodes, own):
        return self._first(nodes, lambda node: self.why_not(node, own))

    def _name(self, node, own):
        if node.id in own or not isinstance(node.ctx, ast.Load):
            return ""
        if node.id in self._scope.environment or self.dotted(node) in ENVIRONMENT:
            self.environment = True
        return self._scope.missing(node.id)

    def _call(self, node, own):
        name = self.dotted(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        on_value = bool(method) and self._is_value(node.func.value, own)
        if name in ENVIRONMENT_CALLS or (on_value and method in ENVIRONMENT_METHODS):
            self.environment = True
        elif not (name in BUILTINS or name in PURE or (on_value and method in METHODS)):
            lost = root(node.func) in self._scope.lost
            return self._scope.missing(root(node.func)) if lost else calls(node)
        if name in CALLERS:
            why = self._given_functions(node, name, own)
            if why:
                return why
        return self._all([node.func, *node.args, *node.keywords], own)

    def _given_functions(self, node, name, own):
        """`map(f, ...)`, `sorted(..., key=f)`: what it calls must be such a call, too."""
        given = [keyword.value for keyword in node.keywords if keyword.arg == "key"]
        given += node.args[:1] if name in ("filter", "map") else []
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
        """`None`, `len`, `str.lower`, `re.compile`."""
        name = self.dotted(function)
        kind, _, method = name.partition(".")
        is_method = kind in BUILTINS and method in METHODS
        is_none = isinstance(function, ast.Constant)
        return is_none or name in BUILTINS or name in PURE or is_method

    def _is_value(self, node, own):
        """Is it no module, class or function, whose method of the same name may do anything?"""
        if isinstance(node, ast.Name):
            return node.id in own or self._scope.kinds.get(node.id) in (VALUE, CONTAINER)
        if isinstance(node, ast.Attribute) and self.dotted(node):
            known = self.dotted(node)
            return node.attr == "__version__" or known in ENVIRONMENT or known in TEXTS
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            return self._is_value(node.value, own)
        return True
