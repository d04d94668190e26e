"""What a run left behind whose guard and keeper were both killed."""

from __future__ import annotations

from vllm_guard import leftovers
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "leftovers of dead runs"


def check(context: Context) -> Iterator[Finding]:
    for marker in context.shelf.markers():
        if marker.is_dead:
            swept = leftovers.sweep(marker)
            context.shelf.unmark(marker.run_id)
            yield Finding(
                "dead-run",
                "note",
                f"run {marker.run_id}",
                "its guard was killed; "
                f"ended {swept.processes} processes, removed {swept.segments} files of /dev/shm "
                f"and {'its' if swept.private else 'no'} private folder",
            )
