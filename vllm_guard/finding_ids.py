"""The ids of findings: the rows of docs/checks.md."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from vllm_guard import paths
from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE = 1 << 20
#: The full checks: what comes behind their names is torch's or vLLM's to say (`collective-gloo`).
FULL = ("collective", "compile", "inspect", "load", "platform", "torch")


def rows() -> dict[str, tuple[str, str]]:
    """The (status, meaning) of each finding that a launch or the doctor may print."""
    text = paths.peek(os.path.join(paths.shipped("docs"), "checks.md"), _SIZE).decode()
    found = re.findall(r"^\| (`.+?) \| ([a-z, ]+) \| (.+) \|$", text, re.MULTILINE)
    return {
        name: (status, meaning)
        for ids, status, meaning in found
        for name in re.findall(r"`([a-z0-9-]+)`", ids)
    }


def unknown(ids: Sequence[str]) -> list[str]:
    """Those that no finding has."""
    known = rows()
    return [id_ for id_ in ids if id_ not in known and not _is_part(id_)]


def refuse_unknown(ids: Sequence[str]) -> None:
    """Raise GuardError 2 for an id that no finding has: what it was to let pass would not pass."""
    for id_ in unknown(ids):
        near = get_close_matches(id_, rows(), 1)
        hint = f"did you mean {near[0]}?" if near else "the ids are those that findings begin with"
        raise GuardError(f"--ignore: no finding has the id {id_}", hint, exit_code=USAGE)


def _is_part(id_: str) -> bool:
    name, dash, part = id_.partition("-")
    return name in FULL and bool(dash and part)
