"""Why it failed: a log, and how the command ended, as incidents, the first cause first. Pure, incremental.

The last line of a log is seldom the cause. What counts is the first error of the deepest process: a Worker's
before EngineCore's before the API server's, and nothing that a process says because another one died.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import chain, islice

from vllm_guard import causes, needles, prefixes, servers, signatures
from vllm_guard.causes import Event
from vllm_guard.frozen import replace
from vllm_guard.lines import Lines
from vllm_guard.servers import Server
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
_MOST_SERVERS = 64  #: that are told apart

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
#: What tells where in its life a server is.
_LIFE = (*servers.READY, *servers.ENDING, *servers.STARTING, servers.ENGINE)
_QUIET = ("DEBUG", "INFO", "WARNING")
_FRAME = re.compile(r'[ |]*File "')  #: of a traceback, also of one in an exception group
_CODE = re.compile(r"(?:[ |]*\|)? {4}(?! *\|)")  #: so begins what a frame quotes of the source
#: Who answers requests: such a frame is in the traceback of one that failed, and the server lives on.
_HANDLERS = ("/starlette/", "/uvicorn/protocols/", "/entrypoints/")
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
        self._by_signal = {signature.signal: signature for signature in known if signature.signal}
        self._redact = redact
        literals = [needle for signature in self._known for needle in signature.needles]
        self._needles = finder([*literals, *_ERRORS, *_LIFE])
        self._lines = Lines()
        self._recent: deque[Rows] = deque()
        self._prefixes = prefixes.Parser()
        self._servers = {"": Server(self._known)}  #: by the source of the lines

    @property
    def failed_before(self) -> int:
        """How many earlier runs in this log failed as well; counted by `finish`."""
        return sum(server.failed_before for server in self._servers.values())

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
        told = self._told(outcome)
        incidents: dict[tuple[str, str], Incident] = {}
        for event in chain.from_iterable(told):
            where = event.line.source if len(told) > 1 else ""
            incident = causes.incident(event, where, self._redact)
            incidents.setdefault((where, incident.id), incident)
        return tuple(incidents.values())

    def _told(self, outcome: Outcome | None) -> list[list[Event]]:
        """Of each server that failed what tells it, the first cause first; that with the best one first."""
        failures = [server.finish() for server in self._servers.values()]
        said = [events for events in failures if events] or [[]]
        told = [[*causes.ordered(events, self._killed(events, outcome))] for events in said]
        return sorted(filter(None, told), key=lambda events: causes.rank(events[0]))

    def _killed(self, events: Sequence[Event], outcome: Outcome | None) -> list[Event]:
        """What killed a process without a word of its own, where that is known."""
        codes = [*causes.exit_statuses(events)]
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
        line = self._prefixes.parse(rows.numbers[index], rows.lines[index])
        server = self._server(line.source)
        server.follow(line.text)
        if server.is_done_with(line) or self._is_code(line, index):
            return
        line = self._named(line, index)
        match = server.best(line, lambda text: self._was_said(line, index, text))
        if match is None and not _is_error(line):
            return
        if match is not None and match.signature.kind == "noise":
            return
        quoted = (*self._frame(line, index), line.text)
        served = server.is_ready and self._is_of_a_request(line, match, index)
        server.take(Event(line, match, quoted, server.is_late(line), served))

    def _server(self, source: str) -> Server:
        """That of the source; beyond so many they are one."""
        if source not in self._servers and len(self._servers) < _MOST_SERVERS:
            self._servers[source] = Server(self._known)
        return self._servers.get(source) or self._servers[""]

    def _look_at_end(self) -> None:
        """Take note of what a shell says in the last line: such words mean that there only."""
        numbered = (
            pair
            for rows in reversed(self._recent)
            for pair in zip(reversed(rows.numbers), reversed(rows.lines), strict=True)
        )
        number, raw = next((pair for pair in numbered if pair[1].strip()), (0, b""))
        line = self._prefixes.parse(number, raw)
        server = self._server(line.source)
        match = signatures.best(self._last, line, lambda _: False)
        if match and not server.is_done_with(line):
            server.take(Event(line, match, (line.text,), server.is_late(line)))

    def _was_said(self, line: Line, index: int, text: str) -> bool:
        """Did the process say this shortly before?"""
        raw = text.encode()
        return any(other.speaker == line.speaker for other in self._above(index, _RECENT, raw))

    def _is_of_a_request(self, line: Line, match: Match | None, index: int) -> bool:
        """Is it an error of a ready server's request, which it survives?"""
        depth = causes.depth(line.process)
        if depth > 1:
            return False
        if depth == 1 and match is None:
            return True
        for other in self._above(index, _RECENT):
            if other.speaker == line.speaker:
                if other.text.startswith("Traceback "):
                    return False
                if _FRAME.match(other.text) and any(name in other.text for name in _HANDLERS):
                    return True
        return False

    def _is_code(self, line: Line, index: int) -> bool:
        """Is it what a traceback quotes of the source? A statement may have many lines (Python 3.13)."""
        if not _CODE.match(line.text) or _FRAME.match(line.text):
            return False
        others = self._above(index, _NEAR)
        texts = (other.text for other in others if other.speaker == line.speaker)
        above = (text for text in texts if _FRAME.match(text) or not _CODE.match(text))
        return bool(_FRAME.match(next(above, "")))

    def _named(self, line: Line, index: int) -> Line:
        """A process that NCCL knows by its number, by the name that vLLM gives it."""
        if not _PID.fullmatch(line.process):
            return line
        name = f" {line.process}"
        others = self._above(index, _RECENT, f"{name})".encode())
        names = (
            other.process
            for other in others
            if other.process.endswith(name) and other.source == line.source
        )
        return replace(line, process=next(names, line.process))  # type: ignore[no-any-return]

    def _frame(self, line: Line, index: int) -> tuple[str, ...]:
        """Of a traceback's last line what raised it: `File "x.py", line 7, in f`, and its code."""
        after: list[str] = []
        for other in self._above(index, _NEAR):
            if other.speaker == line.speaker:
                after.append(other.text)
                if other.text.startswith('  File "'):
                    return tuple(reversed(after[-2:]))
        return ()

    def _above(self, index: int, most: int, holding: bytes = b"") -> Iterator[Line]:
        """The lines before that one of the newest rows, backwards; of `most` those that hold this."""
        newest, *older = (rows.lines for rows in reversed(self._recent))
        backwards = (line for lines in older for line in reversed(lines))
        for raw in islice(chain(reversed(newest[:index]), backwards), most):
            if holding in raw:
                yield self._prefixes.parse(0, raw)


def _is_error(line: Line) -> bool:
    text = line.text
    return line.level not in _QUIET and bool(_ERROR.match(text)) and not _ENDED.match(text)
