"""What does vLLM take this machine for, and why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Ask

TITLE = "the platform that vLLM infers"
NEEDS = "vLLM"
LIMIT = 120.0
why_not = full.no_vllm
_FIX = "VLLM_LOGGING_LEVEL=DEBUG shows each plug-in's reason: vllm-guard -p debug"


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    yield from full.judged("platform", "vllm.platforms", ask("platform", {}, LIMIT), _FIX)
