"""What the children of a script run of it, and which values they need for that. Pure."""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import warnings
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .holes import holes
from .names import binds
from .places import HELD
from .statements import Classified, classify

if TYPE_CHECKING:
    from types import CodeType

#: What every module has of its own.
_OWN = frozenset(("__annotations__", "__builtins__", "__cached__", "__file__"))
_READS = frozenset(("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"))


class Needs(NamedTuple):
    """What goes to each child."""

    found: Classified
    statements: list[
        tuple[int, list[str], CodeType, list[tuple[str, str]]]
    ]  #: as `analysis.order` has it
    wanted: frozenset[str]  #: the names whose values are sent
    fresh: dict[
        str, int
    ]  #: those of them that a child sets by itself, but perhaps to another value; as `analysis.order` has it
    early: frozenset[str]
    last: CodeType


def read(source, path):
    """The Needs of a script (bytes). Raises SyntaxError."""
    found = classify(source, path)
    flags = _future_flags(found.whole)
    rows, reads, last_row = [], set(), {}
    for node in found.tree.body:
        if not isinstance(node, ast.AugAssign):  # it leaves most containers what they are
            last_row.update(dict.fromkeys(binds(node), len(rows)))
        code = compiled(ast.Module([node], []), path, flags)
        names = set(_reads(code))
        rows.append((node.lineno, binds(node), code, holes(node) if HELD in names else []))
        reads |= names - {HELD}
    fresh = reads & found.environment
    unknown = reads - found.available - vars(builtins).keys()
    wanted = frozenset(unknown | fresh | reads & found.lost.keys())
    last = compiled(ast.Module(found.stores, []), path, flags)
    fresh = {name: last_row.get(name, -1) for name in fresh}
    return Needs(found, rows, wanted, fresh, frozenset(fresh.keys() & _set_once(found)), last)


def _set_once(found):
    """The names that one statement sets, and nothing changes: what they have at last they have at once."""
    plain = {
        n for s in found.tree.body if isinstance(s, (ast.Assign, ast.AnnAssign)) for n in binds(s)
    }
    times = Counter(name for statement in found.statements for name in statement.binds)
    return {n for n in plain if times[n] == 1} - found.lost.keys() - found.changing


def explained(needs):
    """(name or place, why it is sent) of each value, by name."""
    found = needs.found
    why = dict.fromkeys(needs.wanted, "functions read it; no statement that a child runs sets it")
    why.update(
        dict.fromkeys(needs.fresh, "functions read it; it may be another in a child, or changes")
    )
    for name in needs.wanted & found.lost.keys():
        why[name] = (
            f"functions read it; line {found.lost[name][0]} sets or changes it in the main process only"
        )
    for place, (line, _) in found.places.items():
        why[place] = (
            f"line {line} sets or changes it in the main process only"
            if line
            else "a definition has it"
        )
    return sorted((name, reason) for name, reason in why.items() if name not in _OWN)


def compiled(source, path, flags=0):
    """The code of a text or a tree."""
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
