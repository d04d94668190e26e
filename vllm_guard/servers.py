"""The life of one server in a log: it starts, gets ready, is asked to end; and what failed in it. Pure.

A log may hold several at once, as that of docker compose or of `kubectl logs --prefix`: each has its own.
"""

from __future__ import annotations

import re

from vllm_guard import signatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vllm_guard.causes import Event
    from vllm_guard.prefixes import Line
    from vllm_guard.signatures import Match, Signature

_MOST_UNKNOWN = 500  #: events that no signature knows; of what is known twice as many
_WORDS = 10_000  #: different ones that are counted
_TIMES = 20  #: that the same words of a process are looked at: what stood before them may differ
#: A server that has come so far has survived what was said until then.
READY = ("Application startup complete", "Uvicorn running on")
#: Asked to: what is said from then on is no cause. vLLM's own is from 0.2x on, and before uvicorn's.
ENDING = ("Shutting down", "[shutdown] API server: shutdown triggered")
_END = re.compile(rf"Shutting down(?: FastAPI HTTP server)?\.?$|{re.escape(ENDING[1])}")
#: A server begins, perhaps not the first one in this log; an engine, of which it may have several.
STARTING, ENGINE = ("vLLM API server version ", "█  version "), " LLM engine (v"
_START = re.compile(r"(?:vLLM API server version |[ ▄▀█]+█  version )(?P<vllm>\S+)")
_VERSION = re.compile(
    rf"{_START.pattern}|Initializing an? (?:V\d )?LLM engine \(v(?P<engine>[^)\s]+)"
)


class Server:
    """What has been said of a server since it began, in bounded memory."""

    def __init__(self, known: Sequence[Signature]) -> None:
        self._known = self._fitting = known  #: by vLLM's version
        self._others: Sequence[Signature] = ()
        #: The first of each kind, signature and process; the same of the last run that failed.
        self._events: dict[tuple[str, str, str], Event] = {}
        self._before_start: dict[tuple[str, str, str], Event] = {}
        self._envelope: str | None = None  #: the process that was the first to say that one failed
        self._started = self._ending = False
        self._looked: dict[tuple[str, str], int] = {}  #: (process, text): how often since the start
        self._version = ""
        self.is_ready = False
        self.failed_before = 0  #: how many earlier runs have failed as well

    def follow(self, text: str) -> None:
        """Where in its life it is, and of which version."""
        if text.startswith(READY):
            self._events, self._before_start = _hints(self._events), {}
            self._envelope, self._looked = None, {}
            self.is_ready = True
        elif _START.match(text) or (self._ending and _VERSION.match(text)):
            self._start()
        elif _END.match(text):
            self._ending = self._envelope is None
        if found := _VERSION.match(text):
            self._is_of(found["vllm"] or found["engine"])

    def is_done_with(self, line: Line) -> bool:
        """Is nothing to be learnt from the line: it ends as asked, or has said so again and again?"""
        said = (line.process, line.text)
        if len(self._looked) > _WORDS:
            self._looked = {}
        self._looked[said] = times = self._looked.get(said, 0) + 1
        return self._ending or times > _TIMES

    def best(self, line: Line, was_said: Callable[[str], bool]) -> Match | None:
        """The signature that tells most of the line: of those for this version, else of the others."""
        return signatures.best(self._fitting, line, was_said) or signatures.best(
            self._others, line, was_said
        )

    def is_late(self, line: Line) -> bool:
        """Had another process said by then that one failed?"""
        return self._envelope not in (None, line.process)

    def take(self, event: Event) -> None:
        """Keep it, where it is the first of its like."""
        name = event.match.signature.id if event.match else ""
        most = 2 * _MOST_UNKNOWN if name else _MOST_UNKNOWN
        if len(self._events) < most:
            self._events.setdefault((event.kind, name, event.line.process), event)
        if event.kind == "envelope" and self._envelope is None:
            self._envelope = event.line.process

    def finish(self) -> list[Event]:
        """What failed in it: in its last run, or where that tells nothing, in the last one that failed."""
        if not _has_failed(self._events) and self._before_start:
            self._events = self._before_start | self._events
            self.failed_before = max(0, self.failed_before - 1)
        return [*self._events.values()]

    def _start(self) -> None:
        """What was said before is of another run; or this one has survived it."""
        if _has_failed(self._events):
            self.failed_before += self._started
            self._before_start = self._events
        self._events, self._envelope, self._looked = _hints(self._events), None, {}
        self._started, self._ending, self.is_ready = True, False, False

    def _is_of(self, version: str) -> None:
        if version != self._version:
            self._version = version
            self._fitting, self._others = signatures.fitting(self._known, version)


def _hints(events: dict[tuple[str, str, str], Event]) -> dict[tuple[str, str, str], Event]:
    return {key: event for key, event in events.items() if event.kind == "hint"}


def _has_failed(events: dict[tuple[str, str, str], Event]) -> bool:
    return any(event.kind not in ("hint", "request") for event in events.values())
