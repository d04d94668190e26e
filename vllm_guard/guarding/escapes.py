"""Which functions and classes of a script run in other processes: those that it hands to what starts them.

By name only: what is passed, in lists and keyword arguments too, and what variables stand for. Pure.
"""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard.guarding import texts
from vllm_guard.guarding.resolving import given
from vllm_guard.inside.mainguard.names import root
from vllm_guard.inside.mainguard.tables import MUTATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.guarding.resolving import Resolver

#: Calls, and methods of what they return, which give other processes what they are given.
PROCESSES = re.compile(
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


def find(tree: ast.Module, names: Resolver) -> list[Escape]:
    """Every function and class of the script's top level that leaves the main process, or may."""
    reader = _Reader(names)
    found = [escape for node in ast.walk(tree) for escape in reader.of(node)]
    return sorted(set(found), key=lambda escape: (escape.line, escape.name))


class _Reader:
    def __init__(self, names: Resolver) -> None:
        self._names = names
        self._own = names.own

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
        target = self._names.dotted(call.func)
        if _THREADS.match(target) or hasattr(builtins, target.removesuffix("()")):
            return
        if isinstance(call.func, ast.Attribute) and call.func.attr in MUTATORS:
            return
        if self._names.functions(call):  # its parameters are followed
            return
        certain = bool(PROCESSES.match(target))
        names: set[str] = set()
        for part in given(call):
            names.update(self._definitions(part, set()) if certain else self._function(part, set()))
        to = f"{ast.unparse(call.func)}()"
        for name in sorted(names):
            yield Escape(name, call.lineno, to, certain)
        if certain and any(map(_is_computed, given(call))):
            for name in sorted(self._own - names):
                yield Escape(name, call.lineno, to, False)

    def _function(self, node: ast.AST, seen: set[str]) -> Iterator[str]:
        """The functions that a name is, or a parameter."""
        key = self._names.key(node)
        if not isinstance(node, ast.Name) or key in seen:
            return
        seen.add(key)
        if key in self._own and not key[:1].isupper():
            yield key
        elif key != node.id:
            for value in self._names.values(node):
                yield from self._function(value, seen)

    def _subclass(self, node: ast.ClassDef) -> Iterator[Escape]:
        for base in map(self._names.dotted, node.bases):
            if PROCESSES.match(base) and not _ENGINES.match(base):
                yield Escape(node.name, node.lineno, base, True)

    def _definitions(self, node: ast.AST, seen: set[str]) -> Iterator[str]:
        """Own functions and classes that the value of an expression is, or has in it."""
        if isinstance(node, ast.Name):
            own_class = self._names.own_class(node)
            yield from [own_class] if own_class else self._named(node, seen)
        elif isinstance(node, ast.Attribute) and self._names.values(node):
            yield from self._named(node, seen)
            yield from self._definitions(node.value, seen)
        elif isinstance(node, ast.Lambda):  # sent as code, with the names that are in it
            names = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
            yield from (name for name in names if name in self._own)
        elif texts.is_item(node):
            yield from self._own & {texts.named(node)}
        elif not isinstance(node, ast.Call):
            for part in ast.iter_child_nodes(node):
                yield from self._definitions(part, seen)
        elif root(node.func) in self._own and isinstance(node.func, ast.Attribute):
            yield root(node.func)  # `Job.make()`
        elif _HOLDS.fullmatch(ast.unparse(node.func)):
            for part in (node.func, *given(node)):
                yield from self._definitions(part, seen)

    def _named(self, node: ast.Name | ast.Attribute, seen: set[str]) -> Iterator[str]:
        key = self._names.key(node)
        if key in seen:
            return
        seen.add(key)
        if key in self._own:
            yield key
        for value in self._names.values(node):
            yield from self._definitions(value, seen)


def _is_computed(node: ast.AST) -> bool:
    """Does it look up what nobody can tell: `globals()[name]`, `eval(text)`?"""
    if texts.is_item(node):
        return not texts.named(node)
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "globals().get")
