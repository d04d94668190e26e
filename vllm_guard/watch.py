"""What the guard does besides, while a vLLM runs: find its phases, tell them, and look at its processes.

The output is looked at after it was passed on, and never for longer than a small part of the time. Every
few seconds comes a tick: all that is in `Watch.lookers` is called with the moment. Without a sign of vLLM
there are no ticks.
"""

from __future__ import annotations

import time

from vllm_guard import counters, facts, gpu, ready, sockets, stall, voice
from vllm_guard.model import PhaseTime
from vllm_guard.phases import FIRST, READY, Phases
from vllm_guard.progress import Blobs, Line
from vllm_guard.samples import Samples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import dataclass

    from vllm_guard.counters import Counters
    from vllm_guard.model import Finding
    from vllm_guard.progress import Model
else:
    from vllm_guard.frozen import dataclass

_SHARE = 0.005  #: of the time may be spent on looking at output,
_SAVED = 0.005  #: seconds, and so much at once if there was little of it before;
_SMALL = 4096  #: bytes that are looked at in any case: in a flood, blocks are larger
#: Seconds between two ticks; the last one with a live line.
_STARTING, _READY, _LIVE = 5.0, 30.0, 1.0
_LATE = 3.0  #: seconds by which a tick comes too late only where this process, or the machine, stood still


@dataclass(frozen=True)
class Moment:
    """The run at a tick."""

    seconds: float  #: since the start
    phase: str
    in_phase: float  #: seconds
    is_ready: bool
    #: Seconds since it wrote, read from a disk or downloaded anything. Lines that only say that it waits do
    #: not count (`data/stalls.toml`).
    idle: float
    downloaded: int  #: bytes of the model, since the start
    foreground: bool  #: the terminal is ours, or the command's
    late: bool  #: this process, or the machine, stood still before it
    gpu_busy: bool  #: a GPU computes; not told once it is ready
    counters: Counters


@dataclass(frozen=True)
class Asked:
    """What the user asked of the watch."""

    script: bool  #: it becomes ready without an API server
    vllm: bool  #: it is known to be a vLLM before it says so
    speaks: bool  #: phases are told
    live: bool  #: a live line is drawn
    on_ready: str  #: a line for the shell
    env: Mapping[bytes, bytes]  #: the command's
    guard_env: Mapping[str, str]
    model: Model
    stalls: stall.Asked | None  #: None: not looked for
    port: int | None = None  #: where the server will listen


class Watch:
    """Made before the start; `begin`, then `keep` and `tick` as it goes, then `end`."""

    def __init__(self, asked: Asked, keep: Callable[[bytes], None]) -> None:
        self._asked = asked
        self._keep = keep
        self._phases = Phases(asked.script)
        self._command = ready.Command(asked.on_ready, asked.env)
        self._blobs = Blobs(asked.model.blobs)
        self._phase = FIRST
        self._times: list[PhaseTime] = []  #: of the phases that are over
        self._started = self._phase_since = self._looked = self._progress = time.monotonic()
        self._gpus = gpu.Meter()
        self._samples = Samples("", self._gpus)
        self._stalls: stall.Stalls | None = None
        self._repeated = tuple(line.encode() for line in facts.load("stalls")["repeated"])
        self._saved = _SAVED
        self._moved = (0, 0)  #: bytes read, and downloaded, at the last tick
        self.due: float | None = None  #: when the next tick is (monotonic)
        self.lookers: list[Callable[[Moment], None]] = []

    def begin(self, keeper: int, folder: str) -> None:
        """The keeper was started; `folder`: the record's, or empty."""
        self._tree = counters.Tree(keeper)
        port = self._asked.port
        self._port = port if port and not sockets.is_listening(port) else None
        self._samples = Samples(folder, self._gpus)
        self.lookers.append(self._samples.add)
        if self._asked.stalls is not None:
            self._stalls = stall.Stalls(self._asked.stalls, folder)
            self.lookers.append(self._stalls.look)
        if self._asked.live:
            self.lookers.append(Line(self._asked.model).draw)
        if self._asked.vllm:
            self._set_due(self._started)

    def keep(self, data: bytes) -> None:
        """Output that has been passed on."""
        self._keep(data)
        before = time.monotonic()
        if len(data) >= _SMALL or not self._only_waits(data):
            self._progress = before
        self._saved = min(_SAVED, self._saved + (before - self._looked) * _SHARE)
        self._looked = before
        if self._saved > 0 or len(data) < _SMALL:
            entered = self._phases.feed(data)
            self._saved -= time.monotonic() - before
            self._enter(entered)
        else:
            self._phases.miss()

    def tick(self, foreground: bool) -> None:
        """Look, if it is time. `foreground`: is the terminal ours, or the command's?"""
        now = time.monotonic()
        if self.due is None or now < self.due:
            return
        try:
            self._look(now, foreground, now - self.due > _LATE)
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not end the run)
            self.due = None
            voice.say(f"note watch: looks no more: {type(error).__name__}: {error}", "note")
        else:
            self._set_due(now)

    def _look(self, now: float, foreground: bool, late: bool) -> None:
        found = self._tree.read()
        downloaded = self._blobs.grown()
        self._note(now, found.read, downloaded)
        is_ready = self._phases.is_ready
        moment = Moment(
            seconds=now - self._started,
            phase=self._phase,
            in_phase=now - self._phase_since,
            is_ready=is_ready,
            idle=now - self._progress,
            downloaded=downloaded,
            foreground=foreground,
            late=late,
            gpu_busy=not is_ready and self._gpus.busy(),
            counters=found,
        )
        for look in self.lookers:
            look(moment)

    def _note(self, now: float, read: int, downloaded: int) -> None:
        """See what the output does not tell: with --uvicorn-log-level warning not even that it is ready."""
        before_read, before = self._moved
        self._moved = (read, downloaded)
        if read > before_read or downloaded > before:
            self._progress = now
        if downloaded > before:
            self._enter(self._phases.downloads())
        # To read the kernel's table takes up to 30 ms, so not before it can be.
        if self._port and self._phases.may_answer and sockets.is_listening(self._port):
            self._enter(self._phases.answers())

    def child_ended(self) -> None:
        """A process that the guard started has ended: that of `--on-ready`, or one that looked at a stall."""
        self._command.look()
        if self._stalls is not None:
            self._stalls.child_ended()

    def end(self) -> None:
        """The command has ended."""
        voice.erase()
        self._command.end()
        if self._stalls is not None:
            self._stalls.end()
        self._samples.close()
        if self._phases.seen or self._asked.vllm:
            self._close(time.monotonic())

    @property
    def times(self) -> tuple[PhaseTime, ...]:
        """Of all its phases, when it has ended."""
        return tuple(self._times)

    @property
    def samples(self) -> str:
        """The path of the samples' file; empty where there is none."""
        return self._samples.path

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The stalls that were found, when it has ended."""
        return tuple(self._stalls.findings) if self._stalls is not None else ()

    @property
    def ends(self) -> str:
        """Why the run is to be ended now, in words; empty where it need not."""
        return self._stalls.ends if self._stalls is not None else ""

    def _only_waits(self, data: bytes) -> bool:
        lines = data.split(b"\n")
        return all(not line.strip() or any(r in line for r in self._repeated) for line in lines)

    def _set_due(self, now: float) -> None:
        pause = _READY if self._phases.is_ready else _LIVE if self._asked.live else _STARTING
        asked = self._asked.stalls
        if asked is not None and asked.after is not None and not self._phases.is_ready:
            pause = min(pause, asked.after / 2)
        self.due = now + pause

    def _enter(self, names: list[str]) -> None:
        now = time.monotonic()
        for name in names:
            if name != self._phase:
                self._close(now)
            self._phase = name
            self._tell(now - self._started)
        if names and (self.due is None or READY in names):
            self.due = now  # with the pauses of this phase from now on
        if READY in names:
            self._command.start()

    def _close(self, now: float) -> None:
        began, self._phase_since = self._phase_since, now
        span = (round(began - self._started, 3), round(now - began, 3))
        self._times.append(PhaseTime(self._phase, *span))

    def _tell(self, seconds: float) -> None:
        """One line for each phase; at the end of the start, how long each took."""
        is_ready = self._phase == READY
        state = (
            f"READY=1\nSTATUS=ready after {seconds:.0f} s" if is_ready else f"STATUS={self._phase}"
        )
        ready.notify(self._asked.guard_env, state)
        if not self._asked.speaks:
            return
        if is_ready:
            took = ", ".join(f"{span.name} {span.seconds:.1f} s" for span in self._times)
            voice.say(f"ready after {seconds:.1f} s: {took}")
        else:
            took = "".join(f"; {s.name} took {s.seconds:.1f} s" for s in self._times[-1:])
            voice.say(f"phase {self._phase} after {seconds:.1f} s{took}")
