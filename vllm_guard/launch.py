"""Start the keeper, stream what the command writes, pass signals on, and learn how it ended.

    shell -> guard (this) -> keeper (own group, subreaper) -> command (own group, the terminal)

One thread, one poll loop, no polling interval: an idle guard does nothing at all.
"""

from __future__ import annotations

import gc
import os
import select
import time

from vllm_guard import execute, keeper, leftovers, pump, signals, tree, voice
from vllm_guard.ledger import Ledger
from vllm_guard.model import Outcome
from vllm_guard.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from dataclasses import dataclass

    from vllm_guard.model import Containment, Launch
    from vllm_guard.signals import Inherited
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

_ENDING = (int(signal.SIGINT), int(signal.SIGTERM))
_AGAIN = 2.0  #: seconds within which the same wish again means: faster
_KEEPER_LOST = tree.Limits(settle=0.0, term=2.0)
_STALLED_READER = 2.0  #: seconds to wait for it when the run was ended from outside


@dataclass(frozen=True)
class Result:
    """What a launch came to: how the command ended, and what had to be done about the rest."""

    outcome: Outcome
    keeper: int  #: its pid
    contained: Containment
    survivors: tuple[int, ...] = ()  #: processes that nothing could end
    stays: tuple[str, ...] = ()  #: files that could not be removed
    strays: tuple[str, ...] = ()  #: files of /dev/shm that may be the run's
    lost_bytes: int = 0


def plug_closed_stdio() -> tuple[int, ...]:
    """Open /dev/null for each of 0, 1, 2 that is closed, so that no file of ours gets that number."""
    closed = tuple(fd for fd in (0, 1, 2) if not pump.is_open(fd))
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number, each time
    return closed


def replace_process(launch: Launch) -> None:
    """`--exec`: become the command. Returns only when that failed, by raising GuardError."""
    from vllm_guard import environment

    signals.give_back(signals.hold())
    try:
        os.execve(launch.path, launch.argv, environment.block(launch.env))
    except OSError as error:
        raise execute.failure(launch, error.errno or 0) from None


def supervise(
    launch: Launch,
    closed: tuple[int, ...],
    inherited: Inherited,
    keep: Callable[[bytes], None],
    on_start: Callable[[int], None],
) -> Result:
    """Run the command to its end. `keep` gets every byte it wrote; `on_start` the keeper's pid.

    Every signal is blocked when this is called, by `signals.hold`, which returned `inherited`.
    Raises GuardError when the command could not be started at all.
    """
    return _Supervisor(launch, closed, keep).run(inherited, on_start)


def wait_for_keeper(pid: int) -> None:
    """Its last word was that it is done: not even a zombie of the run outlives us."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # it was lost, and reaped with the rest
        return


class _Supervisor:
    def __init__(
        self, launch: Launch, closed: tuple[int, ...], keep: Callable[[bytes], None]
    ) -> None:
        self._launch = launch
        self._closed = closed
        self._keep = keep
        self._streams: list[pump.Stream] = []
        self._lines = b""
        self._ledger = Ledger()
        self._sent: list[int] = []  #: signals this process got, in order
        self._asked = 0  #: how often, in a row, this process was asked to end the run
        self._asked_at = 0.0  #: monotonic
        self._deadline_hit = False
        self._typed = False  #: Ctrl-C, to a server

    def run(self, inherited: Inherited, on_start: Callable[[int], None]) -> Result:
        self._started = time.monotonic()
        signals.become_subreaper()
        self._fork(inherited)
        signals.ignore((signal.SIGTTOU, signal.SIGTTIN))
        self._wakeup, wakeup_write = os.pipe()
        for fd in (self._wakeup, wakeup_write):
            os.set_blocking(fd, False)
        self._reaper = tree.Reaper(self._wakeup)
        signals.listen(signals.FORWARDED | {int(signal.SIGCHLD)}, wakeup_write)
        on_start(self._keeper)
        while not self._ledger.done:
            self._step()
        return self._finish()

    def _fork(self, inherited: Inherited) -> None:
        """Fork the keeper, with the command's ends of all channels."""
        self._terminal = Terminal()
        control_read, self._control = os.pipe()
        self._report, report_write = os.pipe()
        stdio = [0, 1, 2]
        theirs = []
        for group in pump.channels(self._launch.watch):
            ours, end = pump.open_channel(group[0])
            self._streams.append(pump.Stream(ours, group[0], self._keep))
            theirs.append(end)
            for fd in group:
                stdio[fd] = end
        placed = tuple(-1 if fd in self._closed else source for fd, source in enumerate(stdio))
        ends = execute.Ends(control_read, report_write, placed, self._terminal.lendable)  # type: ignore[arg-type]
        gc.freeze()
        gc.enable()
        try:
            self._keeper = os.fork()
        except OSError as error:
            raise execute.failure(self._launch, error.errno or 0) from None
        if self._keeper == 0:
            for fd in (self._control, self._report, *(s.source for s in self._streams)):
                os.close(fd)
            keeper.keep(self._launch, ends, inherited)
        for fd in (control_read, report_write, *theirs):
            os.close(fd)

    def _step(self) -> None:
        """Wait for something to happen and deal with all of it."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.register(self._report, select.POLLIN)
        wanted = [(fd, event, s) for s in self._streams for fd, event in s.interests()]
        for fd, event, _ in wanted:
            poll.register(fd, event)
        ready = {fd for fd, _ in poll.poll(self._milliseconds_left())}
        for fd, _, stream in wanted:
            if fd in ready:
                stream.fill() if fd == stream.source else stream.flush()
        if self._wakeup in ready:
            self._on_signals(tree.drain(self._wakeup))
        if self._report in ready:
            self._on_report(os.read(self._report, 65536))
        self._check_deadline()

    def _milliseconds_left(self) -> float | None:
        if self._launch.deadline is None or self._deadline_hit:
            return None
        return max(0.0, (self._started + self._launch.deadline - time.monotonic()) * 1000)

    def _check_deadline(self) -> None:
        if self._milliseconds_left() == 0.0 and self._ledger.status is None:
            self._deadline_hit = True
            self._order(keeper.END)

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                continue
            if number == signal.SIGCONT and self._ledger.main:
                self._terminal.lend(self._ledger.main)
            if number not in (signal.SIGCONT, signal.SIGWINCH):
                self._sent.append(number)
            self._order(self._escalated(number) if number in _ENDING else number)

    def _escalated(self, number: int) -> int:
        """What to order: the signal itself first, then haste, then death, each within 2 s of the last."""
        now = time.monotonic()
        self._asked = self._asked + 1 if now - self._asked_at < _AGAIN else 1
        self._asked_at = now
        name = signals.name(number)
        if self._asked == 1:
            limited = number == signal.SIGTERM or self._launch.interrupt_ends
            limit = f", for at most {self._launch.grace:g} s" if limited else ""
            voice.say(f"{name} passed on; waiting for the command to end{limit} (again: faster)")
            return number
        if self._asked == 2:
            voice.say(f"{name} again: SIGTERM to every process of the run (again: SIGKILL)")
            return keeper.HURRY
        voice.say(f"{name} again: SIGKILL to every process of the run")
        return keeper.KILL

    def _on_typed(self) -> None:
        """Ctrl-C, which the terminal has sent already. Only of a server is it known that it must end."""
        if self._launch.interrupt_ends:
            self._typed = True
            order = self._escalated(int(signal.SIGINT))
            self._order(keeper.AWAIT if order == signal.SIGINT else order)

    def _order(self, byte: int) -> None:
        try:
            os.write(self._control, bytes([byte]))
        except BrokenPipeError:
            return  # the keeper is gone, which its report pipe tells as well

    def _on_report(self, data: bytes) -> None:
        if not data:
            self._on_lost_keeper()
            return
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            word = self._ledger.hear(os.fsdecode(line))
            if word == "stopped":
                self._on_stopped()
            elif word == "typed":
                self._on_typed()

    def _on_stopped(self) -> None:
        """The command was stopped (Ctrl-Z): stop with our whole job, so that the shell sees it."""
        if not self._terminal.lent:
            return
        self._terminal.take_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)
        signals.listen((signal.SIGTSTP,), signal.set_wakeup_fd(-1))

    def _on_lost_keeper(self) -> None:
        """The keeper died: its orphans are our children now."""
        ledger = self._ledger
        contained = self._launch.cgroup if ledger.contained == "cgroup" else ""
        ended = tree.end(self._reaper, _KEEPER_LOST, contained)
        segments = ledger.segments.union(ended.segments)
        if ledger.contained == "group":
            segments |= leftovers.end_group(ledger.main, self._launch.run_id)[1]
        launch = self._launch
        removed = leftovers.remove(segments, launch.private, contained, launch.present)
        ledger.close_without_keeper(ended, removed)

    def _finish(self) -> Result:
        self._had_terminal = self._terminal.lent
        self._terminal.take_back()
        outside = bool(self._sent) or self._typed or self._deadline_hit
        for stream in self._streams:
            stream.finish(_STALLED_READER if outside else None)
        ledger = self._ledger
        if ledger.errno:
            raise execute.failure(self._launch, ledger.errno)
        seconds = time.monotonic() - self._started
        outcome = ledger.outcome(self._ended_by(ledger.killer), seconds, self._deadline_hit)
        if outcome.signal:
            self._terminal.restore()
        lost = sum(stream.lost for stream in self._streams)
        found = (tuple(ledger.survivors), tuple(ledger.stays), tuple(ledger.strays))
        return Result(outcome, self._keeper, ledger.contained, *found, lost)

    def _first_wish(self) -> str:
        return f"{signals.name(self._sent[0])} sent to vllm-guard" if self._sent else "Ctrl-C"

    def _ended_by(self, killer: int) -> str:
        if self._deadline_hit:
            return f"the deadline of {self._launch.deadline:g} s"
        if self._ledger.status is None:
            return "the loss of its keeper process"
        if self._sent or self._typed:
            late = self._ledger.expired and killer
            killed = f", which it ignored: {signals.name(killer)}" if late else ""
            return f"{self._first_wish()}{killed}"
        if killer == signal.SIGKILL:
            return "SIGKILL from outside: kill -9, or the kernel's out-of-memory killer"
        if killer == signal.SIGINT and self._had_terminal:
            return "Ctrl-C"
        return signals.name(killer) if killer else "itself"
