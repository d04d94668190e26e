"""Does torch.compile work with nothing in its cache: compiler, headers, Triton, ptxas?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Ask

TITLE = "torch.compile, with a cold cache of its own"
NEEDS = "the command's Python"
LIMIT = 240.0
_FIX = "the tool chain is at fault, not vLLM; to go on without it: --enforce-eager (-p eager)"


def why_not(context: Context) -> str:
    eager = context.has("--enforce-eager")
    return full.no_python(context) or ("--enforce-eager: nothing is compiled" if eager else "")


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    answer = ask("compile", {}, LIMIT)
    for finding in full.judged("compile", "torch.compile", answer, _FIX):
        yield full.with_words(finding, answer)
