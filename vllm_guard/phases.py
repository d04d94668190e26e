"""In which phase of its start a vLLM is, by what it writes: `data/phases.toml`. Pure; fed in blocks."""

from __future__ import annotations

from vllm_guard import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

FIRST, LOAD, DOWNLOAD = "import", "load", "download"
READY, SERVING, SHUTDOWN = "ready", "serving", "shutdown"


@dataclass(frozen=True)
class Step:
    """One row of the table."""

    phase: str
    says: tuple[bytes, ...]


def table(script: bool) -> tuple[Step, ...]:
    """The steps of a server, or of a script that makes an `LLM(...)`, in their order."""
    other = "server" if script else "script"
    rows = facts.load("phases")["steps"]
    return tuple(
        Step(row["phase"], tuple(says.encode() for says in row["says"]))
        for row in rows
        if row.get("kind") != other
    )


class Phases:
    """Where a start has got to; it only goes forward."""

    def __init__(self, script: bool = False) -> None:
        self._steps = table(script)
        self._ready = tuple(step for step in self._steps if step.phase == READY)
        self.is_ready = False  #: has the start come to its end?
        self._at = -1  #: the last step that was seen
        self._held = b""  #: the end of the last block, where a literal may begin
        longest = max(len(says) for step in self._steps for says in step.says)
        self._overlap = longest - 1

    @property
    def seen(self) -> bool:
        """Has anything been said yet? A script may never use vLLM."""
        return self._at >= 0

    @property
    def name(self) -> str:
        """The phase under way."""
        return self._steps[max(0, self._at)].phase

    def feed(self, data: bytes) -> list[str]:
        """The phases that begin in this block of output, in their order."""
        text = self._held + data
        self._held = text[-self._overlap :]
        found = [
            (place, number)
            for number in range(self._at + 1, len(self._steps))
            if (place := _first(text, self._steps[number].says)) >= 0
        ]
        return [name for _, number in sorted(found) for name in self._enter(number)]

    def downloads(self) -> list[str]:
        """It is seen that something is being downloaded; returns as `feed` does.

        Only while the weights are looked for: a tokenizer, or another program, may download at any time.
        """
        step = self._steps[self._at + 1 : self._at + 2]
        is_next = self.name == LOAD and step and step[0].phase == DOWNLOAD
        return self._enter(self._at + 1) if is_next else []

    @property
    def may_answer(self) -> bool:
        """Is there nothing more to come before it is ready?"""
        return self.seen and self._steps[self._at + 1 :][:1] == self._ready

    def answers(self) -> list[str]:
        """It is seen that the server listens, which it does when it is ready; returns as `feed` does."""
        return self._enter(self._at + 1) if self.may_answer else []

    def _enter(self, number: int) -> list[str]:
        """Go to that step, unless we are past it; a server that serves was ready, whoever said so."""
        if number <= self._at:
            return []
        before = self.name if self.seen else ""
        self._at = number
        names = [READY] if self.name == SERVING and not self.is_ready else []
        self.is_ready = self.is_ready or self.name in (READY, SERVING)  # not by a shutdown
        return names + [self.name] * (self.name != before)


def _first(text: bytes, literals: Sequence[bytes]) -> int:
    places = [place for literal in literals if (place := text.find(literal)) >= 0]
    return min(places, default=-1)
