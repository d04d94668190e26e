"""Which other file imports a name from a script: under a guard it would not find it, or not what it needs."""

from __future__ import annotations

import ast
import glob
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard import guarding, paths, scripts, unguarded
from vllm_guard.guarding.outcomes import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from vllm_guard.scripts import Script

_CALL_IT = "build what is imported in a function, and call that where it is needed"
_LIMIT = 4 << 20  #: bytes of one file; longer ones are generated
_LEVELS = 4  #: folders in which others are looked for: the script's own and those above it
_STATEMENT = re.compile(rb"^.*\bimport\b(?:\s*\([^)]*\)|.*)", re.MULTILINE)


class Import(NamedTuple):
    """A place where another file takes a name from the script."""

    place: str  #: file and line
    name: str  #: `*` for all


def refuse(path: str, missed: Mapping[str, str], named: Sequence[str]) -> None:
    """Raise RefusedError where another file would miss what a guard hides; `missed` as of `Mended`.

    Looked at are the script's own folder, the three above it, which a package is imported from, and the
    files that were `named` with it.
    """
    taken = _first(path, missed, named) if missed and path != scripts.STDIN else None
    if taken is None:
        return
    what = "everything" if taken.name == "*" else repr(taken.name)
    lacks = missed.get(taken.name, taken.name)
    found = f"which would not find {lacks!r}" if lacks != taken.name else "and would not find it"
    reason = f"{taken.place} imports {what} from it, {found} under a guard"
    raise RefusedError(0, reason, _CALL_IT, is_library=True)


def refusal(script: Script, named: Sequence[str]) -> RefusedError | None:
    """Why `vllm-guard fix` leaves a script as it is; None also where it cannot be compiled."""
    try:
        placed = guarding.decide(script.source, script.path, scripts.neighbours(script.path))
        refuse(script.path, placed.missed, named)
    except RefusedError as error:
        return error
    except (SyntaxError, RecursionError):
        return None
    return None


def _first(path: str, names: Collection[str], named: Sequence[str]) -> Import | None:
    stem = _parts(path)[-1]
    mention = re.compile(rb"\b%b\b" % re.escape(stem.encode("utf-8", "surrogateescape")))
    for other in dict.fromkeys((*_around(path), *named)):
        if not mention.search(_imports(other)) or os.path.realpath(other) == os.path.realpath(path):
            continue
        script = scripts.read(other)
        for line, name in _taken(script.tree, _module(path, other)):
            if name in names or name == "*":
                return Import(unguarded.place(script, line), name)
    return None


def _around(path: str) -> Iterator[str]:
    folder = os.path.dirname(path)
    for _ in range(_LEVELS):
        here = "" if folder == os.curdir else folder
        yield from sorted(glob.glob(os.path.join(glob.escape(here), "*.py")))
        folder = os.path.normpath(os.path.join(folder, os.pardir))


def _parts(path: str) -> list[str]:
    """Folders and name as a module has them: a package is its folder."""
    parts = os.path.abspath(path).removesuffix(".py").split(os.sep)
    return parts[:-1] if parts[-1] == "__init__" else parts


def _module(path: str, other: str) -> str:
    """The script's name seen from the folder that both are in: `lib.eng`."""
    parts = _parts(path)
    shared = os.path.commonpath((os.path.abspath(path), os.path.abspath(other))).split(os.sep)
    return ".".join(parts[min(len(shared), len(parts) - 1) :])


@lru_cache(maxsize=4096)
def _imports(path: str) -> bytes:
    """The lines of a file that import something, those of a list in brackets included."""
    try:
        return b"\n".join(_STATEMENT.findall(paths.peek(path, _LIMIT)))
    except OSError:
        return b""


def _taken(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """(line, name) of what a file takes from the module, by `from` or as an attribute."""
    known = set()
    package, _, stem = module.rpartition(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = (alias for alias in node.names if _is_same(alias.name, module))
            known |= {alias.asname or alias.name for alias in names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if _is_same(source, module):
                yield from ((node.lineno, alias.name) for alias in node.names)
            if not package or _is_same(source, package):
                known |= {alias.asname or stem for alias in node.names if alias.name == stem}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in known:
            yield node.lineno, node.attr


def _is_same(name: str, module: str) -> bool:
    """May both name one module? Each may lack what is above the folder that it is seen from."""
    return (
        name == module
        or name.endswith(f".{module}")
        or ("." in name and module.endswith(f".{name}"))
    )
