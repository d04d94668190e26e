"""The main guard around a command's script: docs/mainguard.md. Pure."""

from __future__ import annotations

import os

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.target import Target

_HARNESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside", "harness.py")


def around(
    argv: tuple[str, ...], findings: list[Finding], found: Target | None, mode: str
) -> tuple[tuple[str, ...], list[Finding]]:
    """The command with its script run by the harness, and the findings; `mode` as `--main-guard` has it.

    One more finding where a mode was asked for and there is no script.
    """
    if mode == "off":
        return argv, findings
    if found is not None and found.script is not None:
        options = () if mode == "auto" else ("--main-guard", mode)
        return found.script.run_by((_HARNESS, *options)), findings
    fact = "the command runs no script that its child processes would import"
    return argv, [*findings, Finding("main-guard-not-applied", "warn", mode, fact)]
