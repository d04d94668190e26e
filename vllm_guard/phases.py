"""In which phase of its start a vLLM is, by what it writes: `data/phases.toml`. Pure; fed in blocks."""

from __future__ import annotations

from vllm_guard import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

FIRST, LOAD, DOWNLOAD = "import", "load", "download"
READY, SERVING, SHUTDOWN = "ready", "serving", "shutdown"
_PREFIXES = 512  #: bytes of a line in which its own text has to begin
_ASKED_BY = (
    '- "'  #: in uvicorn's access log stands before it who asks: `192.0.2.7:51102 - "POST /v1/...`
)


@dataclass(frozen=True)
class Step:
    """One row of the table."""

    phase: str
    says: tuple[bytes, ...]
    begins: bool  #: only where a line's own text begins with it: what clients send is written, too


def table(script: bool) -> tuple[Step, ...]:
    """The steps of a server, or of a script that makes an `LLM(...)`, in their order."""
    other = "server" if script else "script"
    rows = facts.load("phases")["steps"]
    return tuple(
        Step(row["phase"], tuple(says.encode() for says in row["says"]), row.get("begins", False))
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
        self._overlap = longest + _PREFIXES

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
        old, text = len(self._held), self._held + data
        self._held = text[-self._overlap :]
        found = [
            (place, number)
            for number in range(self._at + 1, len(self._steps))
            if (place := _first(text, old, self._steps[number])) >= 0
        ]
        return [name for _, number in sorted(found) for name in self._enter(number)]

    def miss(self) -> None:
        """A block was not looked at: what comes next may be in the middle of a line."""
        self._held = b"\0"

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


def _first(text: bytes, old: int, step: Step) -> int:
    """Where the first literal of the step stands that does not end in the `old` bytes; -1 for nowhere."""
    return min(
        (place for says in step.says for place in _places(text, old, says, step)), default=-1
    )


def _places(text: bytes, old: int, says: bytes, step: Step) -> Iterator[int]:
    """The first place where this literal counts, if there is one."""
    place = text.find(says, max(0, old - len(says) + 1))
    while place >= 0:
        if not step.begins or _begins(text, place):
            yield place
            return
        place = text.find(says, place + 1)


def _begins(text: bytes, place: int) -> bool:
    """Is there nothing before this place, in its line, but prefixes that are known?"""
    from vllm_guard import lines, prefixes

    near = max(0, place - _PREFIXES)
    start = max(text.rfind(b"\n", near, place), text.rfind(b"\r", near, place)) + 1
    if not start and near:
        return False
    before = prefixes.Parser().parse(0, lines.plain(text[start:place])).text
    return before in ("", _ASKED_BY) or before.partition(" ")[2] == _ASKED_BY
