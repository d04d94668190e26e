"""Where no Python is known: is it hidden in a shell, or, without a command, is there none?"""

from __future__ import annotations

import os

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.probes import Context

TITLE = "where vLLM is started"

_SHELLS = ("ash", "bash", "dash", "ksh", "sh", "zsh")


def check(context: Context) -> Iterator[Finding]:
    if context.target is not None:
        return
    if context.is_bare:
        fix = "activate the environment that has it, or name its Python with --python"
        yield Finding("vllm-not-found", "warn", "vllm", "is not on PATH, nor is python", fix=fix)
    elif "vllm" in _text(context.argv):
        fact = "what a shell runs is not looked at: model, flags, GPUs and port were not checked"
        fix = "give the command itself: vllm-guard doctor -- vllm serve MODEL"
        yield Finding("command-shell", "note", context.argv[0], fact, fix=fix)


def _text(words: Sequence[str]) -> str:
    """What stands behind `bash -c` or `sh -ec`; empty where no word does."""
    shells = (at for at, word in enumerate(words) if os.path.basename(word) in _SHELLS)
    behind = words[next(shells, len(words)) + 1 :]
    options = [at for at, word in enumerate(behind) if word[:1] == "-" and word.endswith("c")]
    return " ".join(behind[options[0] + 1 :][:1]) if options else ""
