"""What `env activate` changed in a shell, so that `env deactivate` can undo it.

<state>/shells/<id>.json    one activation, mode 0600: it holds values as they were, secrets too

The shell has only the id, in VGUARD_SHELL. An activation inside another one has the outer id as the value
that VGUARD_SHELL had before, so activations are a stack.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard import paths, screen, tree
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.frozen import plain
from vllm_guard.model import Change, EnvPlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SHELL = "VGUARD_SHELL"
KEPT = 50
#: Bytes of one file: the kernel's largest environment, each byte written as an escape.
_LIMIT = 64 << 20
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Activation:
    """One `env activate`."""

    id: str
    since: str  #: UTC, ISO 8601
    profiles: tuple[str, ...]
    owner: tuple[int, str]  #: pid and start time of the shell
    plan: EnvPlan  #: VGUARD_SHELL included


def new_id() -> str:
    return os.urandom(8).hex()


def write(activation: Activation, env: Mapping[str, str]) -> None:
    """Keep the activation where it is found from `env`, the environment that it makes."""
    folder = _folder(env)
    try:
        paths.make_private(folder)
        content = json.dumps(plain(activation)).encode("ascii")
        paths.write_private(os.path.join(folder, f"{activation.id}.json"), content)
    except OSError as error:
        hint = "without it nothing could be undone, so nothing is changed"
        raise GuardError(f"no journal can be kept: {error}", hint) from None
    with contextlib.suppress(OSError):  # another shell does the same now
        _prune(folder)


def read(env: Mapping[str, str]) -> Activation | None:
    """The last activation of the shell with this environment; None where none is active.

    Raises GuardError (status 2) where VGUARD_SHELL names none that can be read.
    """
    shell_id = env.get(SHELL)
    if shell_id is None:
        return None
    if not _ID.fullmatch(shell_id):
        shown = screen.shortened(shell_id, 40)
        raise GuardError(f"{SHELL}={shown} is no id of an activation", exit_code=USAGE)
    path = os.path.join(_folder(env), f"{shell_id}.json")
    try:
        found = _parsed(paths.read_regular(path, _LIMIT, own=True))
    except GuardError as error:
        raise GuardError(error.message, f"{SHELL} names it", exit_code=USAGE) from None
    if found is None or found.id != shell_id:
        raise GuardError(f"{path} is no journal of vllm-guard", exit_code=USAGE)
    return found


def stack(env: Mapping[str, str]) -> Iterator[Activation]:
    """The activations of the shell with this environment, the last first. Raises as `read`."""
    seen: set[str] = set()
    while (found := read(env)) is not None and found.id not in seen:
        yield found
        seen.add(found.id)
        env = found.plan.reverse().apply(env)


def purposes(env: Mapping[str, str]) -> dict[str, str]:
    """Variable -> who set it on purpose, of those that are as the shell's activations left them."""
    try:
        active = list(stack(env))
    except GuardError:
        return {}
    return {
        change.name: _who(change.origin)
        for activation in reversed(active)
        for change in activation.plan.changes
        if change.after is not None and env.get(change.name) == change.after
    }


def _who(origin: str) -> str:
    is_profile = origin.startswith("profile ")
    return f"set by the active {origin}" if is_profile else "set when this shell was activated"


def _parsed(content: bytes) -> Activation | None:
    """The activation as `write` wrote it; None for anything else."""
    try:
        document = json.loads(content)
        pid, start = document["owner"]
        return Activation(
            str(document["id"]),
            str(document["since"]),
            tuple(map(str, document["profiles"])),
            (int(pid), str(start)),
            EnvPlan(tuple(_change(**row) for row in document["plan"]["changes"])),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _change(name: str, before: str | None, after: str | None, why: str, origin: str) -> Change:
    """Raises ValueError for what no environment can hold."""
    texts = [text for text in (name, before, after, why, origin) if text is not None]
    if any(not isinstance(text, str) or "\0" in text for text in texts):
        raise ValueError(name)
    return Change(name, before, after, why, origin)


def _folder(env: Mapping[str, str]) -> str:
    return os.path.join(paths.base_dir("state", env), "shells")


def _prune(folder: str) -> None:
    """Drop the oldest, but none of a shell that lives: deactivating prints code, which may never be run."""
    with os.scandir(folder) as entries:
        files = sorted(entries, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime_ns)
    for entry in files[:-KEPT]:
        if not _is_in_use(entry.path):
            os.unlink(entry.path)


def _is_in_use(path: str) -> bool:
    try:
        found = _parsed(paths.read_regular(path, _LIMIT))
    except GuardError:
        return False
    return found is not None and tree.is_alive(*found.owner)
