"""Why it failed: a log, and how the command ended, as incidents, the first cause first. Pure, incremental.

The last line of a log is seldom the cause. What counts is the first error of the deepest process: a Worker's
before EngineCore's before the API server's, and nothing that a process says because another one died.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import chain, islice

from vllm_guard import prefixes, signatures
from vllm_guard.frozen import replace
from vllm_guard.lines import Lines
from vllm_guard.model import Incident
from vllm_guard.needles import Needles
from vllm_guard.signatures import Match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from dataclasses import dataclass

    from vllm_guard.lines import Rows
    from vllm_guard.model import Outcome
    from vllm_guard.prefixes import Line
    from vllm_guard.signatures import Signature
else:
    from vllm_guard.frozen import dataclass

_RECENT = 500  #: lines of all processes, among which a signature's context is looked for
_NEAR = 40  #: lines of all processes, among which the frame is that raised an error
_MOST_EVENTS = 500

#: An error that no signature knows: the last line of a traceback, or what a runtime says as it dies.
_ERRORS = (
    "Error",
    "Exception",
    "Expired",
    "atal error",
    "Fatal Python",
    "terminate called",
    "panicked at",
)
_ERROR = re.compile(
    r"(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Expired)(?::|$)"
    r"|Fatal Python error:|[Ff]atal error[: ]|terminate called |thread '[^']*' panicked at"
)
#: A process was asked to end, or says that it ends because another one did: no error of its own.
_ENDED = re.compile(r"[\w.]*\b(?:CancelledError|BrokenPipeError|ConnectionResetError)\b")
_QUIET = ("DEBUG", "INFO", "WARNING")
#: A server that has come so far has survived what was said until then.
_READY = ("Application startup complete", "Uvicorn running on")
_ENDING = "Shutting down"  #: asked to: what is said from then on is no cause
_STARTING = "vLLM API server version"  #: of another run in the same log
#: How deep the process is that a name begins with: a deeper one's error is the cause of another's.
_DEPTHS = {
    **dict.fromkeys(("Worker", "VllmWorker", "RayWorker", "rank", "default"), 3),
    "EngineCore": 2,
    **dict.fromkeys(("APIServer", "ApiServer", "DPCoordinator"), 1),
}
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
class _Event:
    """A line that tells of a failure; `match` is None for an error that is not known."""

    line: Line
    match: Match | None
    quoted: tuple[str, ...]
    late: bool  #: another process had said by then that one failed

    @property
    def kind(self) -> str:
        return self.match.signature.kind if self.match else ""


class Diagnosis:
    """Reads a log, block by block, in bounded memory; `finish` says what was the matter."""

    def __init__(self, known: Sequence[Signature], redact: Callable[[str], str]) -> None:
        self._known = [signature for signature in known if signature.needles]
        self._by_signal = {signature.signal: signature for signature in known if signature.signal}
        self._redact = redact
        literals = [needle for signature in self._known for needle in signature.needles]
        self._needles = Needles((*literals, *_ERRORS, *_READY, _ENDING, _STARTING))
        self._lines = Lines()
        self._recent: deque[Rows] = deque()
        self._events: dict[tuple[str, str], _Event] = {}  #: the first of each signature and process
        self._envelope: str | None = None  #: the process that was the first to say that one failed
        self._ending = False

    def feed(self, block: bytes) -> None:
        """Read on."""
        self._read(self._lines.feed(block))

    def finish(self, outcome: Outcome | None = None) -> tuple[Incident, ...]:
        """The incidents; none where nothing failed. `outcome`: how the command ended, where that is known."""
        self._read(self._lines.finish())
        events = sorted(self._events.values(), key=_rank)
        told = [event for event in events if event.kind != "hint"]
        hints = [event for event in events if event.kind == "hint"]
        causes = [event for event in told if event.kind == "cause" and not event.late]
        firsts = causes or self._killed(told, outcome) or told[:1]
        if not firsts:
            return ()
        incidents = [_incident(event) for event in (*firsts, *hints)]
        distinct = {incident.id: incident for incident in reversed(incidents)}
        return tuple(_redacted(i, self._redact) for i in reversed(distinct.values()))

    def _killed(self, told: Sequence[_Event], outcome: Outcome | None) -> list[_Event]:
        """What killed a process without a word of its own, where that is known."""
        codes = [code for event in told for code in _codes(event)]
        if outcome is not None:
            codes += [-outcome.signal, outcome.code]
        signals = [-code if code < 0 else code - 128 for code in codes]
        nowhere = prefixes.Line(0, "", "", "")
        return [
            _Event(nowhere, Match(self._by_signal[signal], {}, (0, False)), (), late=False)
            for signal in signals
            if signal in self._by_signal
        ]

    def _read(self, rows: Rows) -> None:
        if not rows.lines:
            return
        self._recent.append(rows)
        for index in self._needles.hits(rows.lines):
            self._look(rows, index)
        held = sum(len(rows.lines) for rows in self._recent)
        while held - len(self._recent[0].lines) >= _RECENT:
            held -= len(self._recent.popleft().lines)

    def _look(self, rows: Rows, index: int) -> None:
        """Take note of what the line says."""
        line = prefixes.parse(rows.numbers[index], rows.lines[index])
        self._follow(line.text)
        if self._ending or len(self._events) >= _MOST_EVENTS:
            return

        def was_said(text: str) -> bool:
            raw = text.encode()
            told = (
                prefixes.parse(0, other) for other in self._before(index, _RECENT) if raw in other
            )
            return any(other.process == line.process for other in told)

        match = signatures.best(self._known, line.text, was_said)
        if match is None and not _is_error(line):
            return
        name, kind = (match.signature.id, match.signature.kind) if match else ("", "")
        if kind == "noise" or (name, line.process) in self._events:
            return
        quoted = (*self._frame(line, index), line.text)
        late = self._envelope not in (None, line.process)
        self._events[name, line.process] = _Event(line, match, quoted, late)
        if kind == "envelope" and self._envelope is None:
            self._envelope = line.process

    def _follow(self, text: str) -> None:
        """Where in its life the server is."""
        if text.startswith(_READY):
            self._events = {k: e for k, e in self._events.items() if e.kind == "hint"}
        elif text.startswith(_STARTING):
            self._ending, self._envelope = False, None
        elif text.startswith(_ENDING):
            self._ending = self._envelope is None

    def _frame(self, line: Line, index: int) -> tuple[str, ...]:
        """Of a traceback's last line what raised it: `File "x.py", line 7, in f`, and its code."""
        after: list[str] = []
        for raw in self._before(index, _NEAR):
            other = prefixes.parse(0, raw)
            if other.process == line.process:
                after.append(other.text)
                if other.text.startswith('  File "'):
                    return tuple(reversed(after[-2:]))
        return ()

    def _before(self, index: int, most: int) -> Iterator[bytes]:
        """The lines before that one of the newest rows, backwards."""
        newest, *older = (rows.lines for rows in reversed(self._recent))
        backwards = (line for lines in older for line in reversed(lines))
        return islice(chain(reversed(newest[:index]), backwards), most)


def _is_error(line: Line) -> bool:
    text = line.text
    return line.level not in _QUIET and bool(_ERROR.match(text)) and not _ENDED.match(text)


def _rank(event: _Event) -> tuple[bool, bool, bool, int, int]:
    """The first cause is the least."""
    depth = next((d for name, d in _DEPTHS.items() if event.line.process.startswith(name)), 0)
    kind = event.kind
    return kind == "envelope", event.late, kind != "cause", -depth, event.line.number


def _codes(event: _Event) -> Iterator[int]:
    """The exit status of the process that an envelope tells of: -9, 137, 1."""
    code = event.match.groups.get("code") if event.match else None
    if event.kind == "envelope" and code:
        yield int(code)


def _incident(event: _Event) -> Incident:
    if event.match is None:
        line = event.line
        return replace(_UNKNOWN, process=line.process, line=line.number, lines=event.quoted, cause=line.text)  # type: ignore[no-any-return]  # fmt: skip
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


def _redacted(incident: Incident, redact: Callable[[str], str]) -> Incident:
    """All of it that may come from the log."""
    texts = {key: redact(getattr(incident, key)) for key in ("process", "cause", "fix")}
    lists = {
        key: tuple(map(redact, getattr(incident, key)))
        for key in ("lines", "confirm", "refute", "next")
    }
    return replace(incident, **texts, **lists)  # type: ignore[no-any-return]
