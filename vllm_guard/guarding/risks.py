"""What cannot be done twice, and scripts that others import: tables. Pure."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from vllm_guard.inside.mainguard.names import here, root
from vllm_guard.inside.mainguard.tables import METHODS, words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_guard.guarding.leaves import Leaf

#: Calls that give something else each time, or do something to the world.
_UNREPEATABLE = re.compile(
    r"(uuid\.)?uuid[14]|(time\.)?(time|time_ns|perf_counter|monotonic)|(datetime\.)*(now|utcnow|today)"
    r"|(\w+\.)*random\.\w+|torch\.rand\w*|secrets\.\w+|tempfile\.\w+|subprocess\.\w+"
    r"|os\.(system|popen|mkdir|makedirs|remove)"
    r"|input|getpass|(\w+\.)*(connect|unlink|rmtree|urandom|mkdtemp|mkstemp|NamedTemporaryFile)"
)
_CHANGE_NOTHING = METHODS | words("critical debug error exception info log warn warning")
_WRITES = re.compile(r"[wax+]")
#: What a server imports from a script by its name.
_SERVED = re.compile(r"(\w+\.)*(FastAPI|Flask|Quart|Sanic|Starlette|Litestar|APIFlask)")
_RUNS_SERVER = re.compile(
    r"(?!(asyncio|anyio|trio|subprocess)\.)(\w+\.)*(run|serve|run_simple|serve_forever|run_app)"
)
_IMPORTED = re.compile(r"\w+(\.\w+)*:\w+")


def unrepeatable(leaf: Leaf) -> str:
    """Why a child cannot run it once more and have the same; empty if it may."""
    for call in _calls(leaf):
        name = ast.unparse(call.func)
        if _UNREPEATABLE.fullmatch(name):
            return f"{name}() gives another result in each process"
        if name == "open" and _WRITES.search(_mode(call)):
            return "it opens a file for writing"
    return ""


def method_calls(leaf: Leaf) -> set[str]:
    """`parser` of a statement `parser.add_argument(...)`: it may change what the name stands for."""
    node = leaf.node
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return set()
    called = node.value.func
    if not isinstance(called, ast.Attribute) or called.attr in _CHANGE_NOTHING:
        return set()
    return {root(called)} - {""}


def is_inherited(leaf: Leaf) -> bool:
    """Is it one of the lines whose effect children inherit?"""
    return leaf.reason.startswith("children inherit")


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
