"""A profile's `remove`: which variables of an environment it unsets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard import audit
from vllm_guard.frozen import replace
from vllm_guard.model import Setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_guard.facts import Variables
    from vllm_guard.model import Part


def expanded(
    parts: Iterable[tuple[str, Part]], env: Mapping[str, str], known: Variables
) -> list[tuple[str, Part]]:
    """The parts, with settings that unset what `remove` means here.

    That is what the environment holds and what earlier parts set, but nothing that the part itself names.
    """
    held = dict(env)
    result = []
    for origin, part in parts:
        own = {setting.name for setting in part.settings}
        gone = tuple(s for s in _unset(part, held, known) if s.name not in own)
        result.append((origin, replace(part, settings=(*gone, *part.settings))))
        held.update((s.name, s.value) for s in part.settings if s.kind in ("set", "default"))
    return result


def _unset(part: Part, held: Mapping[str, str], known: Variables) -> Iterator[Setting]:
    if "debugging" in part.remove:
        for name in held:
            if audit.debugging(name, known):
                why = known["rows"][name].get("cost", "a debugging variable")
                yield Setting(name, "unset", why=why)
    if "service-links" in part.remove:
        for name in audit.service_links(held):
            yield Setting(name, "unset", why="made by Kubernetes for a Service")
