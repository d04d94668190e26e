"""The script, looked at once, when its first process is started: what its children will be told to run."""

import __future__

import ast
import builtins
import dis
import warnings

from . import starts
from .errors import say
from .names import binds
from .sending import CUTOFF, DEFINITIONS, STANDARD
from .statements import classify

_READS = frozenset(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))


def order(script):
    """What is sent to every child, as a table that `marshal` takes; None where that is beyond us.

    mode       "standard", "definitions" or "cutoff"
    path, name, doc, source   the script's `__file__`, its module's name (of `-m`), docstring and text
    engine     name -> value, as `engine.set_defaults` takes it
    statements (line, names that it binds, code) of each that a child runs
    lost       name -> (line, reason), of the names that a child lacks
    wanted     the names whose values are sent
    fresh      those of them that a child could set by itself, but perhaps to another value
    marked     may a marker have a child run what reads names that it lacks?
    """
    try:
        return _order(script)
    except RecursionError:  # as deep as this, only generated code is nested
        say(
            f"{script.path} is nested too deeply to be looked at: children import it as under plain Python"
        )
        return None


def _order(script):
    doc = script.module().__doc__
    order = {
        "mode": CUTOFF,
        "path": script.path,
        "name": script.spec.name if script.spec else "",
        "doc": doc if isinstance(doc, str) else None,
        "source": script.source,
        "engine": script.engine,
        "marked": b"vllm-guard" in script.source,
        "lost": {},
        "wanted": [],
        "fresh": [],
    }
    if script.mode == CUTOFF:
        return {**order, "statements": [(1, [], _compile(script.source, script.path))]}
    found = classify(script.source, script.path)
    flags = _future_flags(found.whole)
    rows = []
    for node in found.tree.body:
        code = _compile(ast.Module([node], []), script.path, flags)
        rows.append((node.lineno, binds(node), code))
    reads = {name for _, _, code in rows for name in _reads(code)}
    fresh = reads & found.environment
    unknown = reads - found.available - vars(builtins).keys()
    wanted = unknown | fresh | reads & found.lost.keys()
    mode = STANDARD if script.mode == "auto" and _is_safe(found) else DEFINITIONS
    names = {"lost": found.lost, "wanted": sorted(wanted), "fresh": sorted(fresh)}
    return {**order, **names, "mode": mode, "statements": rows}


def _is_safe(classified):
    """Can a child import the script as Python does? Guarded, or with nothing in it that it must not do."""
    if all(statement.verdict == "child" for statement in classified.statements):
        return True
    return starts.read(classified.whole).is_safe


def _compile(source, path, flags=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they have been shown when the script was started
        return compile(source, path, "exec", flags, dont_inherit=True)


def _future_flags(tree):
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    names = (alias.name for node in imports if node.module == "__future__" for alias in node.names)
    flags = 0
    for name in names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


def _reads(code):
    """The global names that the code and the functions in it read."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _reads(constant)
