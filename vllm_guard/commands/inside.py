"""Where an environment is: in an activated shell, inside a run; and what was set there on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard import journal
from vllm_guard.errors import GuardError
from vllm_guard.leftovers import TOKEN
from vllm_guard.model import Finding
from vllm_guard.prepare import LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_guard.journal import Activation


def findings(env: Mapping[str, str]) -> Iterator[Finding]:
    """One for the shell, one for the run; none outside both."""
    if journal.SHELL in env:
        yield _shell(env)
    if TOKEN in env:
        fact = f"this is inside that run of vllm-guard, level {env.get(LEVEL, '1')}"
        yield Finding("inside-run", "note", env[TOKEN], fact)


def _label(stack: Sequence[Activation]) -> str:
    """`profile debug`, `profiles debug, eager`, `no profile`; the first activated first."""
    names = [name for activation in reversed(stack) for name in activation.profiles]
    return f"profile{'s' * (len(names) > 1)} {', '.join(names)}" if names else "no profile"


def _shell(env: Mapping[str, str]) -> Finding:
    try:
        stack = list(journal.stack(env))
    except GuardError as error:
        return Finding("shell-active", "note", journal.SHELL, error.message)
    fact = f"active in this shell since {stack[0].since}: vllm-guard env deactivate"
    return Finding("shell-active", "note", _label(stack), fact)
