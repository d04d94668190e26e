"""The top-level code of a script, statement by statement, into the functions that it calls. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from . import catalog, guards
from .arguments import Given
from .calls import Calls
from .evaluating import Evaluator
from .guards import Reach
from .syntax import never
from .things import NOTHING, Scope, Thing, Things, is_property, ordered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: Gives a module's file name and tree by its name as imported, or None.
    Load = Callable[[str], tuple[str, ast.Module] | None]

_LEAVES = ("Return", "Raise", "Break", "Continue")
_EXITS = ("sys.exit", "builtins.exit", "builtins.quit", "os._exit", "os.abort")
_MODULES = 40  #: of one script, names that are no such modules included


class Left(NamedTuple):
    """The statements by which the main process and a child leave a block."""

    main: ast.stmt | None = None
    child: ast.stmt | None = None


STAYS = Left()


class Walk:
    """Runs a module's code in the abstract; `calls` has what it did."""

    def __init__(self, load: Load | None) -> None:
        self.calls = Calls(self._block)
        self.ends = (0, 0)  #: where a child's import of the script ends it
        self._load = load
        self._modules: dict[str, Things[Thing]] = {}
        self._evaluator = Evaluator(self.calls)
        self._evaluate = self._evaluator.evaluate

    def module(self, tree: ast.Module) -> None:
        """Nesting deeper than this Python's own stack is not followed."""
        end = self._block(tree.body, Scope(), self._attempt).child
        if isinstance(end, (ast.Raise, ast.Expr)):
            self.ends = (end.lineno, end.col_offset)

    def _block(
        self,
        body: Sequence[ast.stmt],
        scope: Scope,
        run: Callable[[ast.stmt, Scope], Left] | None = None,
    ) -> Left:
        """The statements that are reached; where the main process and a child leave the block."""
        run = run or self._statement
        left = STAYS
        with self.calls.within(guarded=self.calls.guarded):
            for node in body:
                by = run(node, scope)
                left = Left(left.main or by.main, left.child or by.child)
                if left.main and (left.child or self.calls.guarded):
                    break
                if left.child and not self.calls.guarded:
                    self.calls.guarded = self.calls.has_guard = True
        return left

    def _branch(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        with self.calls.within(conditional=True):
            self._block(body, scope)

    def _attempt(self, node: ast.stmt, scope: Scope) -> Left:
        try:
            return self._statement(node, scope)
        except RecursionError:
            return STAYS

    def _statement(self, node: ast.stmt, scope: Scope) -> Left:
        method = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if method is not None:
            return method(node, scope) or STAYS
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._evaluate(child, scope)
        return Left(node, node) if self._leaves(node, scope) else STAYS

    def _leaves(self, node: ast.stmt, scope: Scope) -> bool:
        """Does nothing after this statement run?"""
        if type(node).__name__ in _LEAVES:
            return True
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            return False
        return any(t.name in _EXITS for t in self.calls.world.things(node.value.func, scope))

    # ---- definitions

    def _on_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        self._evaluator.has_properties |= is_property(node)
        defaults = (*node.args.defaults, *(d for d in node.args.kw_defaults if d))
        for part in (*node.decorator_list, *defaults):
            self._evaluate(part, scope)
        self._define(node, Thing("function", node.name, node, scope), scope)

    _on_asyncfunctiondef = _on_functiondef

    def _on_classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        for part in (*node.decorator_list, *node.bases, *(k.value for k in node.keywords)):
            self._evaluate(part, scope)
        bare = Thing("class", node.name, node)
        inner = Scope(scope, bare)
        thing = bare._replace(scope=inner)
        inner.cls = thing
        bases = (self.calls.world.things(base, scope) for base in node.bases)
        self.calls.world.bases[node] = tuple(
            base for things in bases for base in things if base.kind in ("class", "import")
        )
        self._block(node.body, inner)
        self._define(node, thing, scope)

    def _define(
        self,
        node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
        thing: Thing,
        scope: Scope,
    ) -> None:
        things = frozenset({thing})
        for decorator in reversed(node.decorator_list):
            for called in ordered(self.calls.world.things(decorator, scope)):
                things |= self.calls.decorate(called, decorator, things)
        scope.bind(node.name, things, certain=not self.calls.conditional)

    def _on_return(self, node: ast.Return, scope: Scope) -> Left:
        if node.value is not None:
            self._evaluate(node.value, scope)
            scope.returned |= self.calls.world.things(node.value, scope)
        return Left(node, node)

    # ---- bindings

    def _on_import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            module = alias.name if alias.asname else alias.name.partition(".")[0]
            things = self._module(module, node) or frozenset({Thing("import", module)})
            self._bind(alias.asname or module, things, scope)

    def _on_importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = "." * node.level + (node.module or "")
        read = self._module(module, node)
        for alias in node.names:
            name = f"{module}{'' if module.endswith('.') else '.'}{alias.name}"
            if alias.name == "*":
                scope.module.stars.append(module)
                for thing in read:
                    scope.names.update(thing.scope.names if thing.scope else {})
                continue
            things = self.calls.world.attribute(read, alias.name) or self._module(name, node)
            self._bind(
                alias.asname or alias.name, things or frozenset({Thing("import", name)}), scope
            )

    def _bind(self, name: str, things: Things[Thing], scope: Scope) -> None:
        scope.bind(name, things, certain=not self.calls.conditional)

    def _module(self, name: str, node: ast.stmt) -> Things[Thing]:
        """A module that lies beside the script, its code having run; nothing for any other."""
        if catalog.is_judged(name):  # such a folder is often the library's own
            return NOTHING
        if name not in self._modules:
            self._modules[name] = NOTHING
            found = self._load(name) if self._load and len(self._modules) < _MODULES else None
            if found:
                scope = Scope()
                scope.file, tree = found
                self._modules[name] = frozenset({Thing("module", name, scope=scope)})
                with self.calls.inside(scope.file, node):
                    self._block(tree.body, scope)
        return self._modules[name]

    def _on_assign(self, node: ast.Assign, scope: Scope) -> None:
        self._assign(node.targets, node.value, scope, not self.calls.conditional)

    def _on_annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self._assign([node.target], node.value, scope, not self.calls.conditional)

    def _on_augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        self._assign([node.target], node.value, scope, certain=False)

    def _assign(
        self, targets: list[ast.expr], value: ast.expr, scope: Scope, certain: bool
    ) -> None:
        self._evaluate(value, scope)
        things = self.calls.world.things(value, scope)
        for target in targets:
            self._evaluate(target, scope)
            self._set_environment(target, value, scope)
            self.calls.store(target, things, scope, certain)

    def _set_environment(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        if not isinstance(target, ast.Subscript):
            return
        key = target.slice
        if not isinstance(key, ast.Constant):  # before Python 3.9 it is wrapped
            key = getattr(key, "value", key)
        if isinstance(key, ast.Constant):
            owners = self.calls.world.things(target.value, scope)
            texts = [t.name for t in self.calls.world.things(value, scope) if t.kind == "text"]
            if any(owner.name == "os.environ" for owner in owners):
                self.calls.env[str(key.value)] = "".join(texts)

    def _on_global(self, node: ast.Global, scope: Scope) -> None:
        scope.foreign.update(node.names)

    # ---- blocks

    def _on_if(self, node: ast.If, scope: Scope) -> Left:
        return self._arms(guards.arms_of_if(node), scope)

    def _on_match(self, node: ast.Match, scope: Scope) -> Left:
        return self._arms(guards.arms_of_match(node), scope)

    def _arms(self, arms: Iterable[guards.Arm], scope: Scope) -> Left:
        """Each arm as those reach it who took none before; how those leave who certainly take one."""
        reach = Reach(True, not self.calls.guarded)
        failed: tuple[bool, ...] = (
            True,
            True,
        )  # in the main process, in a child: surely every test so far
        left = STAYS
        for arm in arms:
            for part in arm.evaluated:
                with self.calls.reached(reach):
                    self._evaluate(part, scope)
            truth = self.calls.world.truth(arm.test, scope)
            taken = tuple(all_ and here is True for all_, here in zip(failed, truth))
            inner = reach.where(truth, is_=True)
            conditional = self.calls.conditional or not taken[0]
            if arm.body and any(inner):
                with self.calls.reached(inner), self.calls.within(conditional=conditional):
                    by = self._block(arm.body, scope)
                left = Left(*(new if sure else old for sure, new, old in zip(taken, by, left)))
            failed = tuple(all_ and here is False for all_, here in zip(failed, truth))
            reach = reach.where(truth, is_=False)
            if not any(reach):
                break
        return left

    def _on_for(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        self._evaluate(node.iter, scope)
        things = self.calls.world.things(node.iter, scope)
        self.calls.store(node.target, things, scope, not self.calls.conditional)
        self._branch(node.body, scope)
        self._branch(node.orelse, scope)

    _on_asyncfor = _on_for

    def _on_while(self, node: ast.While, scope: Scope) -> None:
        self._evaluate(node.test, scope)
        if not never(node.test):
            self._branch(node.body, scope)
        self._branch(node.orelse, scope)

    def _on_with(self, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
        for item in node.items:
            expression = item.context_expr
            self._evaluate(expression, scope)
            things = self.calls.world.things(expression, scope)
            for name in ("__enter__", "__aenter__"):
                for entered in ordered(self.calls.world.attribute(things, name)):
                    if entered.kind == "function":
                        things |= self.calls.apply(entered, expression, Given())
            if item.optional_vars is not None:
                certain = not self.calls.conditional
                self.calls.store(item.optional_vars, things, scope, certain)
        self._block(node.body, scope)

    _on_asyncwith = _on_with

    def _on_try(self, node: ast.Try, scope: Scope) -> None:
        self._block(node.body, scope)
        for handler in node.handlers:
            self._branch(handler.body, scope)
        self._branch(node.orelse, scope)
        self._block(node.finalbody, scope)

    _on_trystar = _on_try
