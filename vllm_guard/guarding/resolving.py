"""What the names of a script stand for, by their spelling: every assignment of the file counts. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from vllm_guard.guarding import texts
from vllm_guard.inside.mainguard.expressions import spelled
from vllm_guard.inside.mainguard.names import FUNCTIONS
from vllm_guard.inside.mainguard.tables import MUTATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Resolver:
    """The names of one script."""

    def __init__(self, tree: ast.Module) -> None:
        self.own = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
        self.classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self.imports: dict[str, str] = {}  #: name -> full name
        self.modules: set[str] = set()  #: those of them that are certainly modules
        self._functions: dict[str, list[Function]] = {}  #: by name; of a class, how it is made
        self._methods: set[Function] = set()
        self._values: dict[str, list[ast.expr]] = {}  #: of names, of `self.x`, of parameters
        self._known: dict[str, str] = {}
        self._classes: dict[ast.AST, str] = {}  #: of what is in a class, its name
        self._parameters: dict[ast.AST, str] = {}  #: of a name that is one, its key in `_values`
        for node in ast.walk(tree):
            self._learn_definition(node)
        for node in ast.walk(tree):
            self._learn_values(node)

    def functions(self, call: ast.Call) -> list[tuple[Function, list[tuple[str, ast.expr]]]]:
        """The script's functions that a call may be of, each with the arguments of its parameters."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else spelled(call.func)
        return [(f, list(self._arguments(f, call))) for f in self.named(name)]

    def named(self, name: str) -> list[Function]:
        """The script's functions of that name; of a class, how it is made."""
        return self._functions.get(name, [])

    def values(self, node: ast.Name | ast.Attribute) -> list[ast.expr]:
        """Everything that is assigned to it, or put into it."""
        return self._values.get(self.key(node), [])

    def own_class(self, node: ast.Name) -> str:
        """The class in which `self` or `cls` stands; empty for other names."""
        return self._classes.get(node, "") if node.id in ("self", "cls") else ""

    def dotted(self, node: ast.AST) -> str:
        """`vllm.LLM().generate` of a variable that an LLM was assigned to; empty where nothing is known."""
        if isinstance(node, (ast.Name, ast.Attribute)):
            key = self.key(node)
            if key not in self._known:
                self._known[key] = ""  # for what is defined by itself
                self._known[key] = self._look_up(node, key)
            return self._known[key]
        if isinstance(node, ast.Await):
            return self.dotted(node.value)
        if isinstance(node, ast.Call):
            inner = self.dotted(node.func)
            return f"{inner}()" if inner else ""
        return ""

    def key(self, node: ast.AST) -> str:
        """What its values are kept under: its spelling, of a parameter with the function's name."""
        return self._parameters.get(node) or spelled(node)

    def _look_up(self, node: ast.Name | ast.Attribute, key: str) -> str:
        values = self._values.get(key, [])
        found = next(filter(None, map(self.dotted, values)), "")
        if isinstance(node, ast.Attribute) and not found:
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        unknown = values or key in self.own or node in self._parameters
        return found or self.imports.get(key, "" if unknown else key)

    def _learn_definition(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._learn_import(node)
        elif isinstance(node, ast.ClassDef):
            self._classes.update((part, node.name) for part in ast.walk(node))
            methods = [part for part in node.body if isinstance(part, FUNCTIONS)]
            self._methods.update(method for method in methods if not _is_static(method))
            makers = self._functions.setdefault(node.name, [])
            makers += [method for method in methods if method.name == "__init__"]
        elif isinstance(node, FUNCTIONS):
            self._functions.setdefault(node.name, []).append(node)
            names = {argument.arg for argument in parameters(node)}
            for part in ast.walk(node):  # an inner function comes later, and is right
                if isinstance(part, ast.Name) and part.id in names:
                    self._parameters[part] = _parameter(node, part.id)

    def _learn_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                self.imports[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
                continue
            full = alias.name if alias.asname else alias.name.partition(".")[0]
            self.imports[alias.asname or full] = full
            self.modules.add(alias.asname or full)

    def _learn_values(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            self._bind(node, node.value)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr)
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._bind(node.target, node.iter)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
                self._values.setdefault(self.key(node.func.value), []).extend(given(node))
            for name, value in texts.updated(node):
                self._values.setdefault(name, []).append(value)
            for function, arguments in self.functions(node):
                for name, value in arguments:
                    self._values.setdefault(_parameter(function, name), []).append(value)

    def _bind(self, target: ast.AST, value: ast.expr | None) -> None:
        if value is None:
            return
        stored = (p for p in ast.walk(target) if isinstance(getattr(p, "ctx", None), ast.Store))
        for key in {texts.named(part) or self.key(_holder(part)) for part in stored}:
            self._values.setdefault(key, []).append(value)

    def _arguments(self, function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
        names = [argument.arg for argument in parameters(function)]
        values = list(call.args)
        if function in self._methods:
            values.insert(0, self._receiver(call))
        yield from zip(names, values, strict=False)
        yield from ((k.arg, k.value) for k in call.keywords if k.arg in names)

    def _receiver(self, call: ast.Call) -> ast.expr:
        """`box` of `box.fill()`; of a class that is called, and of a module, nothing that has a name."""
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner is None or (isinstance(owner, ast.Name) and owner.id in self.imports):
            return ast.Constant(None)
        return owner


def parameters(function: Function) -> list[ast.arg]:
    """Those with a name of their own, in the order of the call."""
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _is_static(function: Function) -> bool:
    return any(ast.unparse(node) == "staticmethod" for node in function.decorator_list)


def given(call: ast.Call) -> list[ast.expr]:
    """All that is passed."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _parameter(function: Function, name: str) -> str:
    return f"{name} of {function.name}()"


def _holder(node: ast.AST) -> ast.AST:
    """`x` of `x[0]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node
