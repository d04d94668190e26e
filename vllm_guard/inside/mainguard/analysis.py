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
    statements (line, names that it binds, code) of each that a child runs
    lost       name -> (line, reason), of the names that a child lacks
    wanted     the names whose values are sent
    fresh      those of them that a child could set by itself, but perhaps to another value
    """
    try:
        return _order(script)
    except RecursionError:  # as deep as this, only generated code is nested
        say(
            f"{script.path} is nested too deeply to be looked at: children import it as under plain Python"
        )
        return None


def _order(script):
    doc = script.module.__doc__
    found = {
        "path": script.path,
        "name": script.spec.name if script.spec else "",
        "doc": doc if isinstance(doc, str) else None,
        "source": script.source,
    }
    if script.mode == CUTOFF:
        code = _compile(script.source, script.path)
        return {**found, **_told(CUTOFF, [(1, [], code)])}
    classified = classify(script.source, script.path)
    flags = _future_flags(classified.whole)
    rows = []
    for node in classified.tree.body:
        code = _compile(ast.Module([node], []), script.path, flags)
        rows.append((node.lineno, binds(node), code))
    reads = {name for _, _, code in rows for name in _reads(code)}
    fresh = [name for name in classified.environment if name in reads]
    unknown = reads - classified.available - vars(builtins).keys() | reads & classified.lost.keys()
    mode = script.mode if script.mode == DEFINITIONS or not _is_safe(classified) else STANDARD
    told = _told(mode if mode != "auto" else DEFINITIONS, rows)
    return {
        **found,
        **told,
        "lost": classified.lost,
        "wanted": sorted({*unknown, *fresh}),
        "fresh": fresh,
    }


def _told(mode, rows):
    return {"mode": mode, "statements": rows, "lost": {}, "wanted": [], "fresh": []}


def _is_safe(classified):
    """Can a child import the script as Python does? Guarded, or with nothing in it that it must not do."""
    if all(statement.verdict == "child" for statement in classified.statements):
        return True
    found = starts.find(classified.whole)
    return starts.has_guard(classified.whole) and all(
        start.guarded or start.confidence == "info" for start in found
    )


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
