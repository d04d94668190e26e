"""What a run left behind whose guard and keeper were both killed."""

from __future__ import annotations

from vllm_guard import leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context

TITLE = "leftovers of dead runs"


def check(context: Context) -> Iterator[Finding]:
    if not context.dry_run:
        yield from leftovers.sweep_dead(context.shelf)
