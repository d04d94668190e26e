"""Main guards for scripts that start processes without one: source in, source out. Pure.

`cutting` cuts the script, `placing` decides, `wrapping` writes, and what is written is verified here.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_guard.guarding import cutting, placing
from vllm_guard.guarding.outcomes import RefusedError
from vllm_guard.inside.mainguard import starts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.guarding.leaves import Script
    from vllm_guard.guarding.outcomes import Note
    from vllm_guard.guarding.placing import Placed
    from vllm_guard.inside.mainguard.walk import Load


_UNDER_A_GUARD = "put what only the main process does under the guard, and remove this"


@dataclass(frozen=True)
class Mended:
    """A script that may be started in every process; `source` is the old one when nothing is to be done."""

    source: bytes
    guards: int = 0  #: how many were added
    #: What who imports the file will not find any more, or cannot call: name -> the name that is hidden.
    missed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def mend(source: bytes, path: str, load: Load | None = None) -> Mended:
    """The script with guards; `load` gives modules that lie beside it. Needs LibCST.

    Raises SyntaxError, RefusedError and UnwritableError.
    """
    script = cutting.read(source, path, load)
    placed = _placed(script)
    if not placed.inside:
        return Mended(source)
    from vllm_guard.guarding import wrapping

    written = wrapping.write(source, script.parts, placed.inside)
    _verify(source, written, path, load)
    added = _guards(written, path) - _guards(source, path)
    return Mended(written, added, placed.missed, placed.notes)


def decide(source: bytes, path: str, load: Load | None = None) -> Placed:
    """What `mend` would put under guards, without LibCST. Raises SyntaxError and RefusedError."""
    return _placed(cutting.read(source, path, load))


def _placed(script: Script) -> Placed:
    if script.ended:
        reason = "a child that imports the script ends here, before its work"
        raise RefusedError(script.ended, reason, _UNDER_A_GUARD)
    return placing.place(script) if script.starts else placing.NOTHING


def _verify(source: bytes, written: bytes, path: str, load: Load | None) -> None:
    """Is it the same program but for the guards, and does no child start anything? Raises RefusedError."""
    hint = "this is a mistake of vllm-guard: please report it with the script"
    try:
        new = _parsed(written, path)
    except SyntaxError as error:
        raise RefusedError(
            error.lineno or 1, f"what was written cannot be parsed: {error.msg}", hint
        ) from None
    if ast.dump(_bare(new)) != ast.dump(_bare(_parsed(source, path))):
        raise RefusedError(1, "what was written does more than to add guards", hint)
    for start in cutting.needing_a_guard(written, _parsed(written, path), load):
        raise RefusedError(
            cutting.top_line(start), f"{start.what}, outside of what was written", hint
        )


def _guards(source: bytes, path: str) -> int:
    return sum(starts.guard_test(node) for node in ast.walk(_parsed(source, path)))  # type: ignore[arg-type]


def _parsed(source: bytes, path: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(source, path, "exec", dont_inherit=True)
        return ast.parse(source, path)


def _bare(tree: ast.Module) -> ast.Module:
    """The tree with the statements of plain guards in the guards' place."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, list(_opened(value)))
    return tree


def _opened(nodes: list[ast.AST]) -> list[ast.AST]:
    found: list[ast.AST] = []
    for node in nodes:
        plain = isinstance(node, ast.If) and not node.orelse and starts.guard_test(node)
        found += _opened(list(node.body)) if plain else [node]  # type: ignore[attr-defined]
    return found
