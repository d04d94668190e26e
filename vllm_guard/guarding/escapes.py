"""Which functions and classes of a script run in other processes: those that it hands to what starts them.

By name only: what is passed, in lists and keyword arguments too, and what variables stand for. Pure.
"""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard.guarding.leaves import DEFINITIONS
from vllm_guard.inside.mainguard.expressions import spelled
from vllm_guard.inside.mainguard.names import root
from vllm_guard.inside.mainguard.tables import MUTATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Calls, and methods of what they return, which give other processes what they are given.
_PROCESSES = re.compile(
    r"vllm\.|(torch\.multiprocessing|multiprocessing|multiprocess)\.(?!pool\.ThreadPool|dummy\b)"
    r"|concurrent\.futures\.(process\.)?ProcessPoolExecutor"
)
#: Classes whose subclasses stay in the main process: they are what starts the others.
_ENGINES = re.compile(r"vllm\..*(LLM|Engine)$")
#: Calls that keep to their own process.
_THREADS = re.compile(
    r"(asyncio|threading|functools|typing|argparse|atexit|signal|click|typer|fire|contextlib|abc)\."
    r"|concurrent\.futures\.(thread\.)?ThreadPoolExecutor|multiprocessing\.(pool\.ThreadPool|dummy)"
)
#: Calls whose result has in it what they are given: classes, by their spelling, and these.
_HOLDS = re.compile(r"(\w+\.)*[A-Z]\w*|dict|list|tuple|set|(functools\.)?partial")
_IN_MAIN = "__main__."


@dataclass(frozen=True)
class Escape:
    """A function or class that is passed to a call."""

    name: str
    line: int
    to: str  #: what is called, for people
    certain: bool  #: does it run in another process, or may it?


def find(tree: ast.Module) -> list[Escape]:
    """Every function and class of the script's top level that leaves the main process, or may."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    reader = _Reader(tree, own)
    found = [escape for node in ast.walk(tree) for escape in reader.of(node)]
    return sorted(set(found), key=lambda escape: (escape.line, escape.name))


class _Reader:
    """`own`: names of the script's functions and classes."""

    def __init__(self, tree: ast.Module, own: set[str]) -> None:
        self._own = own
        self._imports: dict[str, str] = {}
        self._values: dict[str, list[ast.expr]] = {}  #: of names, and of `self.x`
        self._known: dict[str, str] = {}
        self._classes: dict[ast.AST, str] = {}  #: of what is in a class, its name
        for node in ast.walk(tree):
            self._learn(node)

    def of(self, node: ast.AST) -> Iterator[Escape]:
        """The escapes that this node makes, those of what is in it not included."""
        if isinstance(node, ast.ClassDef):
            yield from self._subclass(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.removeprefix(_IN_MAIN)
            if name != node.value and name in self._own:
                yield Escape(name, node.lineno, "a name in a text", True)
        elif isinstance(node, ast.Call):
            yield from self._passed(node)

    def _passed(self, call: ast.Call) -> Iterator[Escape]:
        target = self._dotted(call.func)
        if _THREADS.match(target) or hasattr(builtins, target.removesuffix("()")):
            return
        certain = bool(_PROCESSES.match(target))
        names: set[str] = set()
        for part in _given(call):
            names.update(self._definitions(part, set()) if certain else self._function(part))
        for name in sorted(names):
            yield Escape(name, call.lineno, f"{ast.unparse(call.func)}()", certain)

    def _function(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Name) and node.id in self._own and not node.id[:1].isupper():
            yield node.id

    def _subclass(self, node: ast.ClassDef) -> Iterator[Escape]:
        for base in map(self._dotted, node.bases):
            if _PROCESSES.match(base) and not _ENGINES.match(base):
                yield Escape(node.name, node.lineno, base, True)

    def _definitions(self, node: ast.AST, seen: set[str]) -> Iterator[str]:
        """Own functions and classes that the value of an expression is, or has in it."""
        if isinstance(node, ast.Name):
            own_class = self._classes.get(node) if node.id in ("self", "cls") else None
            yield from [own_class] if own_class else self._named(node.id, seen)
        elif isinstance(node, ast.Lambda):  # sent as code, with the names that are in it
            names = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
            yield from (name for name in names if name in self._own)
        elif not isinstance(node, ast.Call):
            for part in ast.iter_child_nodes(node):
                yield from self._definitions(part, seen)
        elif root(node.func) in self._own and isinstance(node.func, ast.Attribute):
            yield root(node.func)  # `Job.make()`
        elif _HOLDS.fullmatch(ast.unparse(node.func)):
            for part in (node.func, *_given(node)):
                yield from self._definitions(part, seen)

    def _named(self, name: str, seen: set[str]) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        if name in self._own:
            yield name
        for value in self._values.get(name, ()):
            yield from self._definitions(value, seen)

    def _dotted(self, node: ast.AST) -> str:
        """`vllm.LLM().generate` of a variable that an LLM was assigned to; empty where nothing is known."""
        if isinstance(node, (ast.Name, ast.Attribute)):
            key = spelled(node)
            if key not in self._known:
                self._known[key] = ""  # for what is defined by itself
                self._known[key] = self._look_up(node, key)
            return self._known[key]
        if isinstance(node, ast.Await):
            return self._dotted(node.value)
        if isinstance(node, ast.Call):
            inner = self._dotted(node.func)
            return f"{inner}()" if inner else ""
        return ""

    def _look_up(self, node: ast.Name | ast.Attribute, key: str) -> str:
        values = self._values.get(key, [])
        found = next(filter(None, map(self._dotted, values)), "")
        if isinstance(node, ast.Attribute) and not found:
            base = self._dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return found or self._imports.get(key, "" if values or key in self._own else key)

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name if alias.asname else alias.name.partition(".")[0]
                self._imports[alias.asname or full] = full
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._imports[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
        elif isinstance(node, ast.ClassDef):
            self._classes.update((part, node.name) for part in ast.walk(node))
        else:
            self._learn_values(node)

    def _learn_values(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            self._bind(node, node.value)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr)
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._bind(node.target, node.iter)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in MUTATORS:
                return
            self._values.setdefault(spelled(node.func.value), []).extend(_given(node))

    def _bind(self, target: ast.AST, value: ast.expr | None) -> None:
        if value is not None:
            parts = [
                part
                for part in ast.walk(target)
                if isinstance(getattr(part, "ctx", None), ast.Store)
            ]
            for key in {spelled(_holder(part)) for part in parts}:
                self._values.setdefault(key, []).append(value)


def _given(call: ast.Call) -> list[ast.expr]:
    """All that is passed."""
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _holder(node: ast.AST) -> ast.AST:
    """`x` of `x[0]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node
