"""Why it failed: a log, and how the command ended, as incidents, the first cause first. Pure, incremental.

The last line of a log is seldom the cause. What counts is the first error of the deepest process: a Worker's
before EngineCore's before the API server's, and nothing that a process says because another one died.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import chain, islice

from vllm_guard import causes, needles, prefixes, signatures
from vllm_guard.causes import Event
from vllm_guard.frozen import replace
from vllm_guard.lines import Lines
from vllm_guard.signatures import Match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vllm_guard.lines import Rows
    from vllm_guard.model import Incident, Outcome
    from vllm_guard.needles import Finder
    from vllm_guard.prefixes import Line
    from vllm_guard.signatures import Signature

_RECENT = 500  #: lines of all processes, among which a signature's context is looked for
_NEAR = 40  #: lines of all processes, among which the frame is that raised an error
_MOST_EVENTS = 500
_WORDS = 10_000  #: different ones that are counted
_TIMES = 20  #: that the same words of a process are looked at: what stood before them may differ

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
    r"(?: *\| )?(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Expired)(?::|$)"
    r"|Fatal Python error:|[Ff]atal error[: ]|terminate called |thread '[^']*' panicked at"
)
#: A process was asked to end, or says that it ends because another one did: no error of its own.
_ENDED = re.compile(r"[\w.]*\b(?:CancelledError|BrokenPipeError|ConnectionResetError)\b")
_QUIET = ("DEBUG", "INFO", "WARNING")
_FRAME = re.compile(r'[ |]*File "')  #: of a traceback, also of one in an exception group
_CODE = re.compile(r"(?:[ |]*\|)? {4}(?! *\|)")  #: so begins what a frame quotes of the source
#: A server that has come so far has survived what was said until then.
_READY = ("Application startup complete", "Uvicorn running on")
#: Asked to: what is said from then on is no cause. vLLM's own is from 0.2x on, and before uvicorn's.
_ENDING = ("Shutting down", "[shutdown] API server: shutdown triggered")
_END = re.compile(rf"Shutting down(?: FastAPI HTTP server)?\.?$|{re.escape(_ENDING[1])}")
#: A server begins, perhaps not the first one in this log; an engine, of which it may have several.
_STARTING, _ENGINE = ("vLLM API server version ", "█  version "), " LLM engine (v"
_START = re.compile(r"(?:vLLM API server version |[ ▄▀█]+█  version )(?P<vllm>\S+)")
_VERSION = re.compile(
    rf"{_START.pattern}|Initializing an? (?:V\d )?LLM engine \(v(?P<engine>[^)\s]+)"
)
_PID = re.compile(r"pid=\d+")


class Diagnosis:
    """Reads a log, block by block, in bounded memory; `finish` says what was the matter."""

    def __init__(
        self,
        known: Sequence[Signature],
        redact: Callable[[str], str],
        finder: Callable[[list[str]], Finder] = needles.finder,
    ) -> None:
        self._known = [s for s in known if s.needles and not s.last]
        self._last = [s for s in known if s.last]
        self._fitting = self._known  #: by vLLM's version
        self._others: list[Signature] = []
        self._by_signal = {signature.signal: signature for signature in known if signature.signal}
        self._redact = redact
        literals = [needle for signature in self._known for needle in signature.needles]
        self._needles = finder([*literals, *_ERRORS, *_READY, *_ENDING, *_STARTING, _ENGINE])
        self._lines = Lines()
        self._recent: deque[Rows] = deque()
        self._events: dict[tuple[str, str], Event] = {}  #: the first of each signature and process
        self._before_start: dict[
            tuple[str, str], Event
        ] = {}  #: the same of the last run that failed
        self._envelope: str | None = None  #: the process that was the first to say that one failed
        self._started = self._ending = False
        self._looked: dict[tuple[str, str], int] = {}  #: (process, text): how often since the start
        self._version = ""
        self.failed_before = 0  #: how many earlier runs in this log failed as well

    @property
    def count(self) -> int:
        """How many lines it has read."""
        return self._lines.count

    @property
    def dropped(self) -> int:
        """How many bytes it has not looked at, in lines that were too long."""
        return self._lines.dropped

    def feed(self, block: bytes) -> None:
        """Read on."""
        self._read(self._lines.feed(block))

    def finish(self, outcome: Outcome | None = None) -> tuple[Incident, ...]:
        """The incidents; none where nothing failed. `outcome`: how the command ended, where that is known."""
        self._read(self._lines.finish())
        self._look_at_end()
        if not _has_failed(self._events) and self._before_start:
            self._events = self._before_start | self._events
            self.failed_before = max(0, self.failed_before - 1)
        events = self._events.values()
        incidents: dict[str, Incident] = {}
        for event in causes.ordered(events, self._killed(outcome)):
            incident = causes.incident(event, self._redact)
            incidents.setdefault(incident.id, incident)
        return tuple(incidents.values())

    def _killed(self, outcome: Outcome | None) -> list[Event]:
        """What killed a process without a word of its own, where that is known."""
        codes = [*causes.exit_statuses(self._events.values())]
        if outcome is not None:
            codes += [-outcome.signal, outcome.code]
        signals = [-code if code < 0 else code - 128 for code in codes]
        nowhere = prefixes.Line(0, "", "", "")
        return [
            Event(nowhere, Match(self._by_signal[signal], {}, (0, False)), (), late=False)
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
        said = (line.process, line.text)
        if len(self._looked) > _WORDS:
            self._looked = {}
        self._looked[said] = times = self._looked.get(said, 0) + 1
        if self._ending or times > _TIMES or len(self._events) >= _MOST_EVENTS:
            return
        if self._is_code(line, index):
            return
        line = self._named(line, index)
        match = self._best(line, index)
        if match is None and not _is_error(line):
            return
        name, kind = (match.signature.id, match.signature.kind) if match else ("", "")
        if kind == "noise" or (name, line.process) in self._events:
            return
        quoted = (*self._frame(line, index), line.text)
        late = self._envelope not in (None, line.process)
        self._events[name, line.process] = Event(line, match, quoted, late)
        if kind == "envelope" and self._envelope is None:
            self._envelope = line.process

    def _look_at_end(self) -> None:
        """Take note of what a shell says in the last line: such words mean that there only."""
        numbered = (
            pair
            for rows in reversed(self._recent)
            for pair in zip(reversed(rows.numbers), reversed(rows.lines), strict=True)
        )
        line = prefixes.parse(*next((pair for pair in numbered if pair[1].strip()), (0, b"")))
        match = signatures.best(self._last, line, lambda _: False)
        if match and not self._ending:
            late = self._envelope not in (None, line.process)
            event = Event(line, match, (line.text,), late)
            self._events[match.signature.id, line.process] = event

    def _best(self, line: Line, index: int) -> Match | None:
        """The signature that tells most of the line: of those for this version, else of the others."""

        def was_said(text: str) -> bool:
            raw = text.encode()
            told = (
                prefixes.parse(0, other) for other in self._before(index, _RECENT) if raw in other
            )
            return any(other.process == line.process for other in told)

        return signatures.best(self._fitting, line, was_said) or signatures.best(
            self._others, line, was_said
        )

    def _follow(self, text: str) -> None:
        """Where in its life the server is, and of which version."""
        if text.startswith(_READY):
            self._events, self._before_start = _hints(self._events), {}
            self._envelope, self._looked = None, {}
        elif _START.match(text) or (self._ending and _VERSION.match(text)):
            self._start()
        elif _END.match(text):
            self._ending = self._envelope is None
        if found := _VERSION.match(text):
            self._is_of(found["vllm"] or found["engine"])

    def _start(self) -> None:
        """What was said before is of another run; or this one has survived it."""
        if _has_failed(self._events):
            self.failed_before += self._started
            self._before_start = self._events
        self._events, self._envelope, self._looked = _hints(self._events), None, {}
        self._started, self._ending = True, False

    def _is_of(self, version: str) -> None:
        if version != self._version:
            self._version = version
            self._fitting, self._others = signatures.fitting(self._known, version)

    def _is_code(self, line: Line, index: int) -> bool:
        """Is it what a traceback quotes of the source? A statement may have many lines (Python 3.13)."""
        if not _CODE.match(line.text) or _FRAME.match(line.text):
            return False
        others = (prefixes.parse(0, raw) for raw in self._before(index, _NEAR))
        texts = (other.text for other in others if other.process == line.process)
        above = (text for text in texts if _FRAME.match(text) or not _CODE.match(text))
        return bool(_FRAME.match(next(above, "")))

    def _named(self, line: Line, index: int) -> Line:
        """A process that NCCL knows by its number, by the name that vLLM gives it."""
        if not _PID.fullmatch(line.process):
            return line
        raw = f" {line.process})".encode()
        others = (
            prefixes.parse(0, other) for other in self._before(index, _RECENT) if raw in other
        )
        names = (other.process for other in others if other.process.endswith(f" {line.process}"))
        return replace(line, process=next(names, line.process))  # type: ignore[no-any-return]

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


def _hints(events: dict[tuple[str, str], Event]) -> dict[tuple[str, str], Event]:
    return {key: event for key, event in events.items() if event.kind == "hint"}


def _has_failed(events: dict[tuple[str, str], Event]) -> bool:
    return any(event.kind not in ("hint", "request") for event in events.values())


def _is_error(line: Line) -> bool:
    text = line.text
    return line.level not in _QUIET and bool(_ERROR.match(text)) and not _ENDED.match(text)
