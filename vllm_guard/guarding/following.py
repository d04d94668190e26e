"""What calls change besides: in the script's own functions, and perhaps in those of others. Pure."""

from __future__ import annotations

import ast
import builtins
import re
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard.guarding import texts
from vllm_guard.guarding.escapes import PROCESSES
from vllm_guard.guarding.resolving import given, parameters
from vllm_guard.guarding.risks import CHANGE_NOTHING
from vllm_guard.inside.mainguard.names import binds, here
from vllm_guard.inside.mainguard.tables import PURE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.guarding.changes import Changes
    from vllm_guard.guarding.resolving import Function, Resolver

#: Functions that only read what they are given.
_READERS = re.compile(
    r"(json|pickle|yaml|numpy|pandas|pprint|statistics|torch)\.\w+|(\w+\.)*tqdm(\.\w+)*"
    r"|random\.(choices?|sample)|(\w+\.)+(from_pretrained|apply_chat_template)"
)


class _Effect(NamedTuple):
    """What calling a function changes: of its parameters, and of the module's names."""

    parameters: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


class Changed(NamedTuple):
    """Names whose objects functions change, each with the function."""

    given: dict[str, str]  #: because they are given them
    reached: dict[str, str]  #: as names of the module


class Following:
    """The functions of one script."""

    def __init__(self, names: Resolver, changes: Changes) -> None:
        self._names = names
        self._changes = changes
        self._effects: dict[Function, _Effect] = {}

    def changed(self, node: ast.AST) -> Changed:
        """What the script's functions change when the statement runs."""
        found = Changed({}, {})
        for call in _calls(node):
            for function, arguments in self._names.functions(call):
                effect = self._effect(function)
                lent = (value for name, value in arguments if name in effect.parameters)
                given_names = frozenset[str]().union(*map(self._changes.held, lent))
                what = ast.unparse(call.func)
                found.given.update(dict.fromkeys(sorted(given_names), what))
                found.reached.update(dict.fromkeys(sorted(effect.names), what))
        return found

    def lent(self, node: ast.AST) -> dict[str, str]:
        """What is given to functions of which nothing is known: name -> function."""
        found: dict[str, str] = {}
        for call in _calls(node):
            found.update(self._passed_on(call))
            if self._names.functions(call) or self._is_harmless(call):
                continue
            names = frozenset[str]().union(*map(self._changes.held, given(call)))
            found.update(dict.fromkeys(sorted(names), ast.unparse(call.func)))
        return found

    def _passed_on(self, call: ast.Call) -> dict[str, str]:
        """What functions of the script change which are passed on, to a thread for instance."""
        if PROCESSES.match(self._names.dotted(call.func)):
            return {}
        names = [part.id for part in given(call) if isinstance(part, ast.Name)]
        effects = {name: self._effect(f) for name in names for f in self._names.named(name)}
        return {changed: name for name, effect in effects.items() for changed in effect.names}

    def _is_harmless(self, call: ast.Call) -> bool:
        name = self._names.dotted(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        known = name in PURE or hasattr(builtins, name.removesuffix("()"))
        reads = _READERS.fullmatch(name) or PROCESSES.match(name)
        own = isinstance(call.func, ast.Name) and call.func.id in self._names.own
        return known or own or method in CHANGE_NOTHING or bool(reads)

    def _effect(self, function: Function) -> _Effect:
        if function not in self._effects:
            self._effects[function] = _Effect()  # a recursive call adds nothing
            self._effects[function] = self._effect_of(function)
        return self._effects[function]

    def _effect_of(self, function: Function) -> _Effect:
        nodes = [node for statement in function.body for node in ast.walk(statement)]
        foreign = {name for n in nodes if isinstance(n, ast.Global) for name in n.names}
        bound = {name for statement in function.body for name in binds(statement)}
        own = {argument.arg for argument in parameters(function)}
        changed = set(self._changes.of(nodes))
        reached = {name for name, _ in texts.set_by(nodes) if name}
        for node in nodes:
            if isinstance(node, ast.Call):
                by_others = self.changed(node)
                changed.update(by_others.given)
                reached.update(by_others.reached)
        outer = self._changes.changeable(changed - own - (bound - foreign))
        reached |= outer | (bound & foreign)
        return _Effect(frozenset(changed & own), frozenset(reached))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (part for part in here(node) if isinstance(part, ast.Call))
