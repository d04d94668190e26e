"""What happens when a script calls something: local functions are entered, imported names judged. Pure."""

from __future__ import annotations

import ast
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from . import arguments, catalog
from .arguments import Given
from .things import NOTHING, Scope, Thing, Things, World, joined, ordered, possible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .guards import Reach

_DEPTH = 25  #: functions entered one from the other
_NESTED = 2  #: entries of one function at a time: `retry(f)`, where f calls `retry(g)`
_VARIANTS = 8  #: of one function, by its arguments

#: Imported functions and methods that call the functions which they are given.
_RUNNERS = re.compile(
    r"Fire|run|cli|CLI|auto_cli|Thread|Timer|submit|(star)?map|filter|to_thread|run_in_executor"
    r"|run_until_complete|run_sync|wrapper|start_new_thread|runcall|start_soon|call_soon"
)
_IN_CHILD = re.compile(r"process|torch\.distributed", re.IGNORECASE)
_APPS = re.compile(r"(typer\.Typer|cyclopts\.App)\(\)")
_COMMANDS = re.compile(_APPS.pattern + r"\.(command|callback|default)(\(\))?")
#: Their results are, or contain, what they are given.
_PASS_ON = re.compile(
    r"builtins\.(list|tuple|set|dict|frozenset|sorted|reversed|enumerate|zip|iter|next)"
    r"|functools\.(partial|wraps\(\))|ray\.remote(\(\))?|copy\.copy"
)
_CONTEXTS = re.compile(
    r"(torch\.)?multiprocess(ing)?\.(get_context|context\.(Spawn|Fork|ForkServer)Context)"
)
_SET_METHOD = re.compile(r"(torch\.)?multiprocess(ing)?\.(context\.)?set_start_method")
_HELD = ("get", "pop", "popleft", "values", "items", "copy", "__enter__")
_PUTS = ("append", "appendleft", "add", "extend", "insert", "put", "setdefault", "update")
_INITS = ("__new__", "__init__", "__post_init__")


class Event(NamedTuple):
    """Something that a call does."""

    line: int
    col: int
    what: str
    via: tuple[tuple[str, int], ...]
    confidence: str
    guarded: bool
    engine: bool
    imported: bool


class Calls:
    """The calls of one script, and what they did. `block` runs statements in a scope."""

    def __init__(self, block: Callable[[Sequence[ast.stmt], Scope], object]) -> None:
        self.world = World()
        self.events: dict[tuple[int, int, str, bool], Event] = {}
        self.cuda: list[Event] = []
        self.env: dict[str, str] = {}
        self.guarded = False  #: is the code not reached by children?
        self.has_guard = False  #: was there such code?
        self.conditional = False
        self.commands: Things[Thing] = NOTHING  #: what calling a typer application may run
        self._keywords: dict[ast.AST, dict[str, object]] = {}
        self._block = block
        self._method = ""
        self._remote = False
        self._via: tuple[tuple[str, int], ...] = ()
        self._file = ""  #: the module that is being followed; empty: the script
        self._exit: tuple[int, int] | None = None  #: where the script called or imported it
        self._imports = False  #: the latter, at its top level?
        self._known: dict[object, Things[Thing]] = {}
        self._entered: dict[object, int] = {}
        self._active: list[ast.AST | None] = []

    @contextmanager
    def within(self, **changes: object) -> Iterator[None]:
        """Attributes of this object changed for a while."""
        before = {name: getattr(self, name) for name in changes}
        self.__dict__.update(changes)
        try:
            yield
        finally:
            self.__dict__.update(before)

    @contextmanager
    def reached(self, reach: Reach) -> Iterator[None]:
        """While code runs to which only these get."""
        self.has_guard = self.has_guard or (reach.main and not reach.child)
        with self.within(guarded=not reach.child):
            yield

    @property
    def abroad(self) -> bool:
        """Is it code of another file that is being followed?"""
        return self._exit is not None

    @contextmanager
    def inside(self, file: str, node: ast.stmt | ast.expr) -> Iterator[None]:
        """While code of `file` runs, which `node` has called or imported; empty: of the script."""
        way_out = self._exit or (node.lineno, node.col_offset)
        imports = self._imports or (isinstance(node, ast.stmt) and not self._via)
        there = (way_out, imports) if file else (None, False)
        with self.within(_file=file, _exit=there[0], _imports=there[1], conditional=False):
            yield

    def call(self, node: ast.Call, scope: Scope) -> None:
        """A call in the script; what it returns is known to `world` afterwards."""
        given = self._given(node, scope)
        self._keywords[node] = arguments.constants(node, given)
        found = NOTHING
        for thing in ordered(self.world.things(node.func, scope)):
            found |= self.apply(thing, node, given)
        if isinstance(node.func, ast.Attribute):
            found |= self._method_call(node, node.func, scope, given)
        if arguments.names_cuda(node, given):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            self._touch(node, f".{name}()" if name in ("cuda", "to") else 'device="cuda"')
        self.world.returned[node] = found

    def apply(self, thing: Thing, node: ast.expr, given: Given) -> Things[Thing]:
        """Call one thing."""
        if thing.kind == "import":
            return self._imported(thing, node, given)
        if thing.how == "options":
            return frozenset({thing._replace(how="")})
        if thing.kind in ("function", "class"):
            enter = self._enter if thing.kind == "function" else self._construct
            with self.within(_remote=self._remote or thing.how == "remote"):
                return enter(thing._replace(how=""), node, given)
        if thing.kind == "object":
            return self._all(self.world.attribute((thing,), "__call__"), node, given)
        return NOTHING

    def decorate(self, decorator: Thing, node: ast.expr, things: Things[Thing]) -> Things[Thing]:
        """What a decorator makes of a definition; an imported one is taken to keep it as it is."""
        if decorator.kind in ("function", "class", "object"):
            return self.apply(decorator, node, Given((things,)))
        if _COMMANDS.fullmatch(decorator.name):
            self.commands |= things
        return NOTHING

    def store(self, target: ast.expr, things: Things[Thing], scope: Scope, certain: bool) -> None:
        """Bind the names of a target; an element of a container is the container."""
        pending = [target]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.Name):
                where = scope if certain or node.id in scope.foreign else scope.holder(node.id)
                where.bind(node.id, things, certain)
            elif isinstance(node, ast.Attribute):
                for owner in self.world.things(node.value, scope):
                    cls = owner.owner if owner.kind == "object" else owner
                    key = (cls.node if cls else None, node.attr)
                    known = self.world.attributes.get(key)
                    self.world.attributes[key] = (
                        things if known in (None, things) else possible(joined(known, things))
                    )
            elif isinstance(node, (ast.Subscript, ast.Starred)):
                certain = False
                pending.append(node.value)
            elif isinstance(node, (ast.Tuple, ast.List)):
                pending += node.elts

    def _given(self, node: ast.Call, scope: Scope) -> Given:
        positional = tuple(self.world.things(arg, scope) for arg in node.args)
        keywords = ((k.arg or "**", self.world.things(k.value, scope)) for k in node.keywords)
        return Given(positional, tuple(keywords))

    def _all(self, things: Things[Thing], node: ast.expr, given: Given) -> Things[Thing]:
        return NOTHING.union(*(self.apply(thing, node, given) for thing in ordered(things)))

    def _method_call(
        self, node: ast.Call, func: ast.Attribute, scope: Scope, given: Given
    ) -> Things[Thing]:
        """Methods known by their name alone: of containers, and those that run what they are given."""
        if func.attr in _PUTS:
            self.store(func.value, given.all(), scope, certain=False)
        whose = self.world.things(func.value, scope)
        if _RUNNERS.fullmatch(func.attr) and not whose:
            self._run(node, given)
        return whose if func.attr in _HELD else NOTHING

    def _run(self, node: ast.expr, given: Given) -> None:
        for thing in ordered(given.all()):
            if thing.kind in ("function", "class", "object"):
                self.apply(thing, node, Given())
            elif thing.kind == "import":
                self._judge(thing, node, Given())

    def _imported(self, thing: Thing, node: ast.expr, given: Given) -> Things[Thing]:
        name = thing.name
        if _PASS_ON.fullmatch(name) and given.all():
            return given.all()
        if name in ("importlib.import_module", "builtins.__import__"):
            module = given.text(0, "name")
            return frozenset({Thing("import", module)}) if module else NOTHING
        if name == "builtins.getattr" and given.positional:
            return self.world.attribute(given.positional[0], given.text(1))
        if _SET_METHOD.fullmatch(name):
            self._method = given.text(0, "method")
        if name in ("os.environ.setdefault", "os.putenv"):
            self.env[given.text(0)] = given.text(1)
        how = thing.how
        if _CONTEXTS.fullmatch(name):
            kind = re.search(r"(\w+)Context$", name)
            how = kind[1].lower() if kind else given.text(0, "method")
        self._judge(thing, node, given)
        if _APPS.fullmatch(name):
            self._all(self.commands, node, Given())
        if _RUNNERS.fullmatch(name.rpartition(".")[2]) and not _IN_CHILD.search(name):
            self._run(node, given)
        return frozenset({Thing("import", f"{name}()"[:200], node, how=how)})

    def _judge(self, thing: Thing, node: ast.expr, given: Given, suffix: str = "") -> None:
        if catalog.initialises_cuda(thing.name):
            self._touch(node, f"{thing.name}()")
        hit = catalog.judge(thing.name, self._facts(thing, node, given))
        if hit is None:
            return
        confidence, what = hit.confidence, hit.what + suffix
        if self._remote:
            confidence, what = "info", f"{what} in a remote worker"
        place = (node.lineno, node.col_offset)
        if self._exit:
            what, place = f"{what} in {self._file}, line {node.lineno},", self._exit
        event = Event(*place, what, self._via, confidence, self.guarded, hit.engine, self._imports)
        self.events.setdefault((event.line, event.col, what, self.guarded), event)

    def _facts(self, thing: Thing, node: ast.expr, given: Given) -> catalog.Facts:
        calls: list[ast.AST] = [node]
        calls += [t.node for t in given.all() if t.node and t.name.endswith("EngineArgs()")]
        keywords: dict[str, object] = {}
        for call in calls:
            keywords.update(self._keywords.get(call, {}))
        contexts = {t.how for t in dict(given.keywords).get("mp_context", NOTHING)}
        method = thing.how or "".join(contexts) or self._method
        return catalog.Facts(keywords, method, self.env)

    def _touch(self, node: ast.expr, what: str) -> None:
        if not any(e.engine and e.confidence != "info" for e in self.events.values()):
            what, place = f"{what} initialises CUDA", self._exit or (node.lineno, node.col_offset)
            self.cuda.append(Event(*place, what, self._via, "likely", self.guarded, False, False))

    def _construct(self, thing: Thing, node: ast.expr, given: Given) -> Things[Thing]:
        instance = Thing("object", thing.name, owner=thing)
        for base in self.world.lineage(thing):
            if base.kind == "import":
                self._judge(base, node, given, f" (as {thing.name})")
        for name in _INITS:
            found = self.world.attribute((instance,), name)
            self._all(frozenset(f for f in found if f.kind == "function"), node, given)
        return frozenset({instance})

    def _enter(self, thing: Thing, node: ast.expr, given: Given) -> Things[Thing]:
        function = thing.node
        key = (thing, self.guarded, self._remote, given)
        if key in self._known or not self._may_enter(key):
            return self._known.get(key, NOTHING)
        self._known[key] = NOTHING  # a recursive call adds nothing
        assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        scope = Scope(thing.scope)
        for name, things in arguments.bound(function.args, thing, given, self.world):
            scope.bind(name, things, certain=True)
        body: Sequence[ast.stmt]
        body = [ast.Return(function.body)] if isinstance(function, ast.Lambda) else function.body
        step = () if self.abroad else ((_title(thing), node.lineno),)
        file = thing.scope.module.file if thing.scope else ""
        with self.within(_via=(*self._via, *step)), self.inside(file, node):
            self._active.append(function)
            try:
                self._block(body, scope)
            finally:
                self._active.pop()
        if len(body) > 1:  # it may return something else
            scope.returned = possible(scope.returned)
        self._known[key] = scope.returned
        return scope.returned

    def _may_enter(self, key: tuple[Thing, bool, bool, Given]) -> bool:
        """Keeps the time bounded, whatever the script."""
        function, variant = key[0].node, (key[0].node, *key[1:3])
        self._entered[variant] = self._entered.get(variant, 0) + 1
        return (
            len(self._via) < _DEPTH
            and self._active.count(function) < _NESTED
            and self._entered[variant] <= _VARIANTS
        )


def _title(thing: Thing) -> str:
    return f"{thing.owner.name}.{thing.name}" if thing.owner else thing.name
