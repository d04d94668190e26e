"""Does vLLM understand the command line, and can it inspect the model? No weights are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Ask

TITLE = "vLLM's own reading of the command and inspection of its model"
NEEDS = "a `vllm serve` command"
LIMIT = 240.0
why_not = full.no_server


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    words = context.server_words
    answer = ask("inspect", {"words": words}, LIMIT)
    for finding in full.judged("inspect", words[0], answer):
        yield full.with_words(finding, answer)
