"""What cannot be done twice, and scripts that others import: tables. Pure."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from vllm_guard.guarding.outcomes import LAUNCH
from vllm_guard.inside.mainguard import starts
from vllm_guard.inside.mainguard.names import here
from vllm_guard.inside.mainguard.tables import METHODS, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_guard.guarding.leaves import Leaf
    from vllm_guard.guarding.resolving import Resolver

#: Calls that give something else each time, or do something to the world.
_UNREPEATABLE = re.compile(
    r"(uuid\.)?uuid[14]|(time\.)?(time|time_ns|perf_counter|monotonic)|(datetime\.)*(now|utcnow|today)"
    r"|(\w+\.)*random\.\w+|torch\.rand\w*|secrets\.\w+|tempfile\.\w+|subprocess\.\w+"
    r"|os\.(system|popen|mkdir|makedirs|remove)"
    r"|input|getpass|(\w+\.)*(connect|unlink|rmtree|urandom|mkdtemp|mkstemp|NamedTemporaryFile)"
)
#: Those of them which a seed makes the same.
_RANDOM = re.compile(r"(?!secrets\.)(\w+\.)*rand")
#: Methods that change nothing of their object.
CHANGE_NOTHING = METHODS | words("critical debug error exception info log warn warning")
_WRITES = re.compile(r"[wax+]")
#: Those of them whose result is no plain data.
_OPENS = re.compile(r"(\w+\.)*(connect|Popen|TemporaryDirectory|(Named)?TemporaryFile)")
_SENT = (
    f"pass it as an argument; or leave the script as it is: `{LAUNCH}` sends children"
    " such a value if it is plain data"
)
_OPEN_IT = "open it in the function that uses it"
#: What processes share by being given it.
_SHARED = re.compile(
    r"(torch\.multiprocessing|multiprocessing|multiprocess)\.(\S+\.)?(((Simple|Joinable)?Queue|(Raw)?Value"
    r"|(Raw)?Array|R?Lock|Event|Condition|(Bounded)?Semaphore|Barrier|Pipe|SharedMemory|ShareableList"
    r"|(Sync)?Manager)|(Sync)?Manager\(\)\.\w+)"
)
_EXITS = ("sys.exit", "exit", "quit", "os._exit", "os.abort")
_TRUE_IN_CHILD = re.compile(
    r"__name__ (!=|not in) (?!.*__mp_main__).*__main__.*|not __name__ (==|in) (?!.*__mp_main__).*__main__.*"
    r"|__name__ (==|in) .*__mp_main__.*"
)
#: What a server imports from a script by its name.
_SERVED = re.compile(r"(\w+\.)*(FastAPI|Flask|Quart|Sanic|Starlette|Litestar|APIFlask)")
_RUNS_SERVER = re.compile(
    r"(?!(asyncio|anyio|trio|subprocess)\.)(\w+\.)*(run|serve|run_simple|serve_forever|run_app)"
)
#: What calls functions of the script without naming them.
_FINDS = re.compile(
    r"(\w+\.)*(Fire|exec|eval|globals|locals|vars|testmod)|(pytest|(\w+\.)*\w*test)\.main"
)
_IMPORTED = re.compile(r"\w+(\.\w+)*:\w+")


def unrepeatable(leaf: Leaf) -> tuple[str, str]:
    """Why a child cannot run it once more and have the same, and the way out; empty if it may."""
    for call in _calls(leaf):
        name = ast.unparse(call.func)
        if name == "open" and _WRITES.search(_mode(call)):
            return "it opens a file for writing", _OPEN_IT
        if _UNREPEATABLE.fullmatch(name):
            hint = _OPEN_IT if _OPENS.fullmatch(name) else _SENT
            may = "may give" if _RANDOM.match(name) else "gives"
            return f"{name}() {may} another result in each process", hint
    return "", ""


def shared(leaf: Leaf, names: Resolver) -> bool:
    """Does it make what processes share, and of which a child would make another: a queue, a lock?"""
    return any(_SHARED.fullmatch(names.dotted(call.func)) for call in _calls(leaf))


def ends_children(node: ast.stmt) -> bool:
    """Does a child end here, before it runs anything: `if __name__ != "__main__": sys.exit()`?"""
    if not isinstance(node, ast.If):
        return False
    in_child = node.orelse if starts.guard_test(node) else []
    if _TRUE_IN_CHILD.fullmatch(ast.unparse(node.test)):
        in_child = node.body
    return any(isinstance(part, ast.Raise) or _is_exit(part) for part in in_child)


def _is_exit(node: ast.stmt) -> bool:
    call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return call and ast.unparse(node.value.func) in _EXITS  # type: ignore[attr-defined]


def is_inherited(leaf: Leaf) -> bool:
    """Is it one of the lines whose effect children inherit?"""
    return leaf.reason.startswith("children inherit")


def finds_functions(leaf: Leaf) -> bool:
    """May it call functions of the script that it does not name: `unittest.main()`, `fire.Fire()`?"""
    return any(_FINDS.fullmatch(ast.unparse(call.func)) for call in _calls(leaf))


def needs_import(tree: ast.Module, inside: Iterable[Leaf]) -> tuple[int, str] | None:
    """(line, reason) where the script is imported by a server, which will not find what is guarded."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    servers = [call for call in calls if _RUNS_SERVER.fullmatch(ast.unparse(call.func))]
    for call in servers:
        texts = (a.value for a in call.args[:1] if isinstance(a, ast.Constant))
        if any(isinstance(text, str) and _IMPORTED.fullmatch(text) for text in texts):
            return call.lineno, f"{ast.unparse(call.func)}() imports the application by its name"
    for leaf in () if servers else sorted(inside, key=lambda leaf: leaf.first):
        if leaf.binds and any(_SERVED.fullmatch(ast.unparse(c.func)) for c in _calls(leaf)):
            name = min(leaf.binds)
            return (
                leaf.first,
                f"a server imports {name!r} from this file: it must be outside a guard",
            )
    return None


def _calls(leaf: Leaf) -> Iterable[ast.Call]:
    return (node for node in here(leaf.node) if isinstance(node, ast.Call))


def _mode(call: ast.Call) -> str:
    given = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "mode")]
    return next((str(n.value) for n in given if isinstance(n, ast.Constant)), "r")
