"""Whose objects an expression changes: through other names for them, too, and by functions that do. Pure.

A name stands for every object that it may share with another: `c` of `c = CFG["a"]`, `row` of
`for row in ROWS`, `ALL` of `ALL = [CFG]`.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from vllm_guard.guarding import texts
from vllm_guard.guarding.resolving import given
from vllm_guard.inside.mainguard.names import COMPREHENSIONS, binds, here, root
from vllm_guard.inside.mainguard.tables import MUTATORS, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm_guard.guarding.resolving import Function, Resolver

#: Functions that change their first argument.
_CHANGES_FIRST = re.compile(
    r"setattr|delattr|next|object\.__(set|del)attr__|(numpy\.)?random\.shuffle|heapq\.heap\w+"
    r"|bisect\.insort\w*|operator\.(i[a-z]\w*|setitem|delitem)|numpy\.(copyto|put|place|fill_diagonal)"
)
_UNBOUND = re.compile(r"(list|dict|set|bytearray|collections\.\w+)\.(\w+)")
#: Keywords whose argument is filled.
_FILLED = frozenset(("namespace", "out"))
#: Functions whose result has the objects in it that they are given.
_PASS_ON = words(
    "dict enumerate filter getattr iter list max min next reversed set sorted tuple vars zip"
)
#: Methods that give a part of their object, or another view of it.
_PARTS = words(
    """
    copy detach elements get items numpy permute pop popitem popleft ravel reshape setdefault squeeze
    transpose unsqueeze values view
    """
)
#: Functions whose result nobody can change.
_FIXED_CALLS = words(
    "bool float frozenset int len os.environ.get os.getenv pathlib.Path range re.compile repr str"
)


class Changes:
    """What the expressions of one script change."""

    def __init__(self, tree: ast.Module, names: Resolver) -> None:
        self._names = names
        self._shared: dict[str, set[str]] = {}  #: name -> names whose objects it shares
        self._back: dict[Function, frozenset[str]] = {}
        for statement in tree.body:
            for node in here(statement):
                self._learn(node)

    def of(self, nodes: Iterable[ast.AST]) -> frozenset[str]:
        """The names whose objects running these nodes changes; what is in them is not looked at."""
        return frozenset().union(
            *(self._all(part) for node in nodes for part in self._changed(node))
        )

    def held(self, node: ast.AST) -> frozenset[str]:
        """The names whose objects a value may be, or be a part of; none that nobody can change."""
        return self.changeable(self._all(node))

    def changeable(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the module's names whose values can be changed: no numbers and texts."""
        return frozenset(name for name in names if not self._is_fixed_name(name))

    def _all(self, node: ast.AST) -> set[str]:
        found: set[str] = set()
        pending = set(self._roots(node))
        while pending:
            name = pending.pop()
            found.add(name)
            pending |= self._shared.get(name, set()) - found
        return found

    def _changed(self, node: ast.AST) -> Iterator[ast.AST]:
        """The values that this node changes."""
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            yield node.value
        if isinstance(node, ast.AugAssign):
            yield node.target
        if not isinstance(node, ast.Call):
            return
        called = node.func
        method = isinstance(called, ast.Attribute) and called.attr in MUTATORS
        if method and not self._is_module(called.value):  # type: ignore[attr-defined]
            yield called.value  # type: ignore[attr-defined]
        name = self._names.dotted(called)
        unbound = _UNBOUND.fullmatch(name)
        if _CHANGES_FIRST.fullmatch(name) or (unbound and unbound[2] in MUTATORS):
            yield from node.args[:1]
        if name in ("exec", "eval"):
            yield from node.args[1:]
        yield from (keyword.value for keyword in node.keywords if keyword.arg in _FILLED)

    def _is_module(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._names.modules

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, (ast.For, ast.comprehension)):
            self._share(node.target, node.iter)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._share(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value:
            self._share(node.target, node.value)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, (ast.Assign, ast.AnnAssign)) and part.value:
                    self._share(ast.Name(node.name, ast.Store()), part.value)
        elif isinstance(node, ast.Call):
            self._learn_put(node)

    def _learn_put(self, call: ast.Call) -> None:
        """`rows.append(x)`: what is in `rows` is `x`."""
        if isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS:
            for value in given(call):
                self._share(call.func.value, value)
        for name, given_value in texts.updated(call):
            self._share(ast.Name(name, ast.Store()), given_value)

    def _share(self, target: ast.expr, value: ast.expr) -> None:
        """What is put there is the object of these names, too."""
        roots = set(self._roots(value))
        for name in {*binds(target), root(target), texts.named(target)} - {""}:
            self._shared.setdefault(name, set()).update(roots - {name})

    def _roots(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred, ast.NamedExpr)):
            yield from self._roots(node.value)
        elif isinstance(node, ast.Call):
            yield from self._roots_of_call(node)
        else:
            for part in _alternatives(node):
                yield from self._roots(part)

    def _roots_of_call(self, node: ast.Call) -> Iterator[str]:
        called = node.func
        if isinstance(called, ast.Name) and called.id in _PASS_ON | self._names.classes:
            for part in given(node):
                yield from self._roots(part)
        elif isinstance(called, ast.Attribute) and called.attr in _PARTS:
            imported = isinstance(called.value, ast.Name) and called.value.id in self._names.imports
            yield from () if imported else self._roots(called.value)
        for function, arguments in self._names.functions(node):
            given_to = dict(arguments)
            for name in self._given_back(function):
                yield from self._roots(given_to[name]) if name in given_to else (name,)

    def _given_back(self, function: Function) -> frozenset[str]:
        """The parameters and the module's names whose objects are in what the function returns."""
        if function not in self._back:
            self._back[function] = frozenset()  # a recursive call adds nothing
            parts = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
            self._back[function] = frozenset(n for p in parts if p for n in self._roots(p))
        return self._back[function]

    def _is_fixed_name(self, name: str) -> bool:
        if name in self._names.own or name in self._names.imports:
            return False
        values = self._names.values(ast.Name(name, ast.Load()))
        return bool(values) and all(map(self._is_fixed, values))

    def _is_fixed(self, node: ast.AST) -> bool:
        """Is the value one that nobody can change: a number, a text?"""
        if isinstance(node, ast.Call):
            return self._names.dotted(node.func) in _FIXED_CALLS
        if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Tuple)):
            parts = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.expr)]
            return all(map(self._is_fixed, parts))
        return isinstance(node, (ast.Constant, ast.JoinedStr, ast.Compare, ast.Lambda))


def _alternatives(node: ast.AST) -> Iterable[ast.AST]:
    """The parts whose objects the value has."""
    if isinstance(node, ast.IfExp):
        return (node.body, node.orelse)
    if isinstance(node, (ast.BoolOp, ast.Dict)):
        return node.values
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return node.elts
    if isinstance(node, COMPREHENSIONS):
        return [generator.iter for generator in node.generators]
    return ()


def places(node: ast.AST) -> list[str]:
    """`Settings.tp` of a statement that sets it, and all else that one sets as a part of something."""
    parts = (part for part in here(node) if isinstance(part, (ast.Attribute, ast.Subscript)))
    return [ast.unparse(part) for part in parts if not isinstance(part.ctx, ast.Load)]
