"""Does torch import, can it use the devices, and does it multiply?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard.frozen import replace
from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Ask

TITLE = "torch: import, devices, one multiplication"
NEEDS = "the command's Python"
LIMIT = 120.0
why_not = full.no_python


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    needed = context.target is not None and context.target.vllm is not None
    for finding in full.judged("torch", "torch", ask("torch", {}, LIMIT)):
        missing = needed and finding.status == "skip"
        yield replace(finding, status="fail") if missing else finding
