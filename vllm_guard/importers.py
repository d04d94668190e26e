"""Which file beside a script imports a name from it: under a guard it would not find it."""

from __future__ import annotations

import ast
import glob
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from vllm_guard import paths, scripts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_LIMIT = 4 << 20  #: bytes of one file; longer ones are generated


class Import(NamedTuple):
    """A place where another file takes a name from the script."""

    file: str
    line: int
    name: str


def first(path: str, names: Collection[str]) -> Import | None:
    """The first import, in the script's own folder, of one of these names of its top level."""
    folder, file = os.path.split(path)
    stem = file.removesuffix(".py")
    mention = re.compile(rb"\bimport\b.*\b%b\b|\b%b\s+import\b" % ((re.escape(stem.encode()),) * 2))
    for other in sorted(glob.glob(os.path.join(glob.escape(folder), "*.py"))):
        if os.path.basename(other) == file or not _mentions(other, mention):
            continue
        for line, name in _taken(scripts.read(other).tree, stem):
            if name in names or name == "*":
                return Import(other, line, name)
    return None


def _mentions(path: str, mention: re.Pattern[bytes]) -> bool:
    try:
        return bool(mention.search(paths.peek(path, _LIMIT)))
    except OSError:
        return False


def _taken(tree: ast.Module, stem: str) -> Iterator[tuple[int, str]]:
    """(line, name) of what a file takes from the module, by `from` or as an attribute."""
    known = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = (alias for alias in node.names if alias.name.rpartition(".")[2] == stem)
            known |= {alias.asname or alias.name for alias in names}
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").rpartition(".")[2] == stem:
                yield from ((node.lineno, alias.name) for alias in node.names)
            known |= {alias.asname or stem for alias in node.names if alias.name == stem}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in known:
            yield node.lineno, node.attr
