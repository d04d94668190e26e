"""The full probes before a launch: those of `--preflight full`, or that a profile asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard import checkup, voice
from vllm_guard.frozen import replace

if TYPE_CHECKING:
    from vllm_guard.model import Finding
    from vllm_guard.prepare import Prepared
    from vllm_guard.trial import Start


def added(prepared: Prepared, start: Start) -> Prepared:
    """With what they found; not where it is certain already that it would fail."""
    if prepared.refused:
        return prepared
    checks = checkup.select(prepared.full_probes, (), full=True)
    loud = not prepared.options.quiet
    if loud and checks:
        voice.say(f"full checks first: {', '.join(check.id for check in checks)}")
    found: list[Finding] = []
    for done in checkup.run(prepared, checks, start, voice.progress, keep=True):
        if loud:
            voice.say(f"  {done.check.id}: {done.status} after {done.seconds:.1f} s")
        found += done.findings
    return replace(prepared, findings=(*prepared.findings, *found))  # type: ignore[no-any-return]
