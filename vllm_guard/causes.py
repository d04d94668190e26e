"""Which of the lines that tell of a failure tells its cause, and what to say of it. Pure."""

from __future__ import annotations

from vllm_guard import signatures
from vllm_guard.frozen import replace
from vllm_guard.model import Incident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from dataclasses import dataclass

    from vllm_guard.prefixes import Line
    from vllm_guard.signatures import Match
else:
    from vllm_guard.frozen import dataclass

#: How deep the process is that a name begins with: a deeper one's error is the cause of another's. What is
#: known by its number only is Ray's or NCCL's, of a worker.
_DEPTHS = {
    **dict.fromkeys(("Worker", "VllmWorker", "RayWorker", "rank", "default", "pid="), 3),
    "EngineCore": 2,
    **dict.fromkeys(("APIServer", "ApiServer", "DPCoordinator"), 1),
}
_TELLING = 40  #: characters of a message that stand for all of it, for who hands it on may cut it
_SHORTEST = 8  #: characters of a message; a shorter one is in many a line
#: Errors that only say that another process failed, whose own words are elsewhere.
_RELAYED = ("subprocess.CalledProcessError:", "RuntimeError: Error raised in subprocess:")
#: Better ones first: a request that was refused never was the end of a process.
_KINDS = ("cause", "", "envelope", "request")
_UNKNOWN = Incident(
    id="",
    title="an error that vllm-guard does not know",
    status="not recognised",
    process="",
    line=0,
    lines=(),
    cause="",
    fix="read what stands before that line in the log; look for the line in vLLM's issues",
    uri="https://github.com/vllm-project/vllm/issues",
)


@dataclass(frozen=True)
class Event:
    """A line that tells of a failure; `match` is None for an error that is not known."""

    line: Line
    match: Match | None
    quoted: tuple[str, ...]
    late: bool  #: another process had said by then that one failed
    served: bool = False  #: in a request to a server that was ready

    @property
    def kind(self) -> str:
        """Its signature's; empty for an unknown error. What a server survives is a request's."""
        kind = self.match.signature.kind if self.match else ""
        if self.served and kind in ("cause", ""):
            return "request"
        return "envelope" if self.match is None and self.line.text.startswith(_RELAYED) else kind


def ordered(events: Iterable[Event], killed: Sequence[Event]) -> Iterator[Event]:
    """The first cause first, then the other causes, then what contributed; nothing where nothing failed.

    `killed`: what ended a process without a word, for where no cause is told.
    """
    ranked = sorted(events, key=rank)
    told = [event for event in ranked if event.kind != "hint"]
    firsts = [event for event in told if event.kind == "cause" and not event.late]
    firsts = firsts or [*killed] or told[:1]
    if not firsts:
        return
    first, *others = firsts
    yield first
    yield from (event for event in others if not _relays(event, first))
    yield from (event for event in ranked if event.kind == "hint")


def exit_statuses(events: Iterable[Event]) -> Iterator[int]:
    """Those of the processes that envelopes tell of: -9, 137, 1."""
    for event in events:
        code = event.match.groups.get("code") if event.match else None
        if event.kind == "envelope" and code:
            yield int(code)


def depth(process: str) -> int:
    """How deep it is: a Worker 3, EngineCore 2, the API server 1; 0 where that is not known."""
    return next((depth for name, depth in _DEPTHS.items() if process.startswith(name)), 0)


def incident(event: Event, where: str, redact: Callable[[str], str]) -> Incident:
    """What is said of it, redacted; `where`: the source that is named before the process, if any."""
    found = _known(event) if event.match else _unknown(event)
    found = replace(found, process=": ".join(filter(None, (where, found.process))))
    if event.served:
        found = replace(found, title=f"{found.title}, in a request, which a server survives")
    texts = {key: redact(getattr(found, key)) for key in ("process", "cause", "fix")}
    lists = {
        key: tuple(map(redact, getattr(found, key)))
        for key in ("lines", "confirm", "refute", "next")
    }
    return replace(found, **texts, **lists)  # type: ignore[no-any-return]


def rank(event: Event) -> tuple[bool, bool, int, int, int]:
    """The first cause is the least."""
    kind = "" if event.kind == "hint" else event.kind
    last = kind in ("envelope", "request")
    return (
        last,
        event.late and not last,
        _KINDS.index(kind),
        -depth(event.line.process),
        event.line.number,
    )


def _relays(event: Event, first: Event) -> bool:
    """Does it hand on what the first cause says? `RuntimeError: Worker failed with error '...'`."""
    _, _, message = first.line.text.partition(": ")
    return len(message) >= _SHORTEST and message[:_TELLING] in event.line.text


def _unknown(event: Event) -> Incident:
    line = event.line
    return replace(  # type: ignore[no-any-return]
        _UNKNOWN, process=line.process, line=line.number, lines=event.quoted, cause=line.text
    )


def _known(event: Event) -> Incident:
    assert event.match is not None
    signature, groups = event.match.signature, event.match.groups

    def filled(templates: Sequence[str]) -> tuple[str, ...]:
        return tuple(signatures.fill(template, groups) for template in templates)

    cause, fix = filled((signature.cause, signature.fix))
    return Incident(
        id=signature.id,
        title=signature.title,
        status="known",
        process=event.line.process,
        line=event.line.number,
        lines=event.quoted,
        cause=cause,
        fix=fix,
        confirm=filled(signature.confirm),
        refute=filled(signature.refute),
        next=filled(signature.next),
        uri=signature.uri,
        vllm=signature.vllm,
    )
