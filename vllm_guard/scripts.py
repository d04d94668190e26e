"""Scripts as files: which there are below a folder, and their trees."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import sys
import warnings
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from vllm_guard import notebooks, paths
from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STDIN = "-"
_LIMIT = 16 << 20  #: bytes of one file
_STARTING = re.compile(rb"vllm|multiprocess|ProcessPool", re.IGNORECASE)
_SKIPPED = {".git", ".hg", ".svn", "__pycache__", "node_modules", "site-packages", ".tox", ".nox"}


@dataclass(frozen=True)
class Script:
    """A file that was read; `problem` says why it has no tree, where it has none."""

    path: str
    source: bytes = b""
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))
    cells: tuple[tuple[int, int], ...] = ()  #: of a notebook: (cell, line) of each line
    problem: str = ""
    problem_line: int = 0
    problem_column: int = 0

    @property
    def is_notebook(self) -> bool:
        """Are its lines those of cells?"""
        return self.path.endswith(".ipynb")

    @property
    def is_package_main(self) -> bool:
        """Is it what `python -m package` runs? Children never import that (multiprocessing.spawn)."""
        return os.path.basename(self.path) == "__main__.py"

    @cached_property
    def launch(self) -> str:
        """The command line that runs it as it is; what takes others by `.name` is run as a module."""
        froms = (node.level for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom))
        levels = max(froms, default=0)
        if not levels:
            return f"vllm-guard -- python {shlex.quote(self.path)}"
        folder, file = os.path.split(os.path.abspath(self.path))
        parts = [file.removesuffix(".py")]
        while len(parts) <= levels or os.path.exists(os.path.join(folder, "__init__.py")):
            folder, package = os.path.split(folder)
            if not package:  # the root
                break
            parts.insert(0, package)
        there = os.path.relpath(folder)
        go = "" if there == os.curdir else f"cd {shlex.quote(there)} && "
        return f"{go}vllm-guard -- python -m {shlex.quote('.'.join(parts))}"

    def column(self, line: int, offset: int) -> int:
        """The column, from 1, in characters, of what `ast` places at a UTF-8 offset."""
        return len(self.line(line).encode()[:offset].decode("utf-8", "replace")) + 1

    def line(self, number: int) -> str:
        """A line of the source, from 1."""
        return self._lines[number - 1]

    @cached_property
    def _lines(self) -> list[str]:
        return importlib.util.decode_source(self.source).split("\n")


def found(names: Iterable[str]) -> list[str]:
    """The scripts that are meant by files and folders. Raises GuardError where that is none at all."""
    every = [path for name in names for path in _below(name)]
    if not every:
        fact = f"no script to look at: no *.py below {', '.join(names)}"
        raise GuardError(fact, "name files; a notebook must be named", exit_code=USAGE)
    return every


def _below(path: str) -> Iterator[str]:
    """A file is itself; of a folder the *.py below it, but for virtual environments and the like."""
    if path == STDIN or not os.path.isdir(path):
        yield path
        return
    here = os.path.join(os.curdir, "") if os.path.normpath(path) == os.curdir else ""
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if not _is_skipped(folder, name))
        whole = (os.path.join(folder, name) for name in sorted(files) if name.endswith(".py"))
        yield from (file.removeprefix(here) for file in whole if os.path.isfile(file))


def read(path: str) -> Script:
    """The script with its tree, or with the reason why it has none."""
    try:
        content = sys.stdin.buffer.read() if path == STDIN else paths.peek(path, _LIMIT)
    except FileNotFoundError:
        return Script(path, problem="no such file")
    except OSError as error:
        return Script(path, problem=f"cannot be read: {error.strerror}")
    if not path.endswith(".ipynb"):
        return _parsed(path, content, ())
    try:
        notebook = notebooks.read(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Script(path, problem="is not a notebook")
    return _parsed(path, notebook.source.encode("utf-8", "replace"), notebook.places)


def neighbours(path: str) -> Callable[[str], tuple[str, ast.Module] | None]:
    """What finds the modules that a script imports from its own folder, if they may start something."""
    folder = "." if path == STDIN else os.path.dirname(path) or "."

    def load(name: str) -> tuple[str, ast.Module] | None:
        stem = _stem(folder, name)
        for file in (f"{stem}.py", os.path.join(stem, "__init__.py")) if stem else ():
            tree = _tree(os.path.join(folder, file))
            if tree is not None:
                return file, tree
        return None

    return load


def _stem(folder: str, name: str) -> str:
    """Where a module lies, seen from the folder: in it, or where the package lies that the folder is in."""
    module = name.lstrip(".")
    parts = module.split(".") if module else []
    ups = max(0, len(name) - len(module) - 1)
    above = os.path.normpath(os.path.join(paths.cwd(), folder)).split(os.sep)[:-4:-1]
    if parts and module == name and parts[0] in above:  # nearest first
        ups = above.index(parts[0]) + 1
    return os.path.join(*[os.pardir] * ups, *parts) if parts else ""


@lru_cache(maxsize=64)
def _tree(file: str) -> ast.Module | None:
    try:
        content = paths.peek(file, _LIMIT)
    except (OSError, ValueError):
        return None
    if not _STARTING.search(content):
        return None
    script = _parsed(file, content, ())
    return None if script.problem else script.tree


def _parsed(path: str, source: bytes, cells: tuple[tuple[int, int], ...]) -> Script:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the script, which running it will give
            tree = ast.parse(source)
    except SyntaxError as error:
        line, column = error.lineno or 0, max(0, error.offset or 0)
        if _is_readable(source):
            problem = f"syntax error: {error.msg} (Python {_VERSION})"
            return Script(path, source, ast.Module([], []), cells, problem, line, column)
        problem = f"cannot be decoded: {error.msg.removeprefix('(unicode error) ')}"
        return Script(path, problem=problem, problem_line=line)
    except (ValueError, MemoryError, RecursionError) as error:  # null bytes; nested too deeply
        problem = f"cannot be parsed by Python {_VERSION}: {error or type(error).__name__}"
        return Script(path, source, cells=cells, problem=problem)
    return Script(path, source, tree, cells)


def _is_readable(source: bytes) -> bool:
    """Is it text in the encoding that it declares, or in UTF-8?"""
    try:
        importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError):
        return False
    return True


def _is_skipped(folder: str, name: str) -> bool:
    inner = os.path.join(folder, name)
    return name in _SKIPPED or os.path.exists(os.path.join(inner, "pyvenv.cfg"))


_VERSION = "{}.{}".format(*sys.version_info)
