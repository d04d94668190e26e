"""What the model's generation_config.json changes: answers differ from those of vLLM's own defaults."""

from __future__ import annotations

from vllm_guard import model_files
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the model's generation_config.json"


def check(context: Context) -> Iterator[Finding]:
    place = _place.find(context)
    chosen = context.flag("--generation-config") or "auto"
    if place is None or chosen == "vllm":
        return
    folder = place.folder if chosen == "auto" else context.absolute(chosen)
    changed = model_files.sampling_defaults(folder)
    if changed:
        values = ", ".join(f"{name} {value}" for name, value in changed.items())
        fact = f"where a request does not say: {values}"
        yield Finding(
            "generation-config", "note", place.name, fact, fix="--generation-config vllm undoes it"
        )
