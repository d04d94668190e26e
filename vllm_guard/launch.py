"""Start the keeper, stream what the command writes, pass signals on, and learn how it ended.

    shell -> guard (this) -> keeper (own group, subreaper) -> command (own group, the terminal)

One thread, one poll loop, no polling interval: an idle guard does nothing at all. Only a watch over a
vLLM wants to look from time to time.
"""

from __future__ import annotations

import gc
import os
import select
import time

from vllm_guard import execute, keeper, leftovers, pump, signals, tree, voice
from vllm_guard.ledger import ENDING, Ledger, Wishes
from vllm_guard.model import Outcome
from vllm_guard.outlet import Outlet
from vllm_guard.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from dataclasses import dataclass

    from vllm_guard.model import Containment, Launch
    from vllm_guard.signals import Inherited
    from vllm_guard.watch import Watch
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

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


@dataclass(frozen=True)
class Hooks:
    """What is called while the command runs."""

    keep: Callable[[bytes], None]  #: with every byte that it wrote
    on_start: Callable[[int], None]  #: with the keeper's pid
    watch: Watch | None = None  #: when it is due


def supervise(
    launch: Launch,
    closed: tuple[int, ...],
    inherited: Inherited,
    hooks: Hooks,
) -> Result:
    """Run the command to its end.

    Every signal is blocked when this is called, by `signals.hold`, which returned `inherited`.
    Raises GuardError when the command could not be started at all.
    """
    return _Supervisor(launch, closed, hooks).run(inherited)


def wait_for_keeper(pid: int) -> None:
    """Its last word was that it is done: not even a zombie of the run outlives us."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:  # it was lost, and reaped with the rest
        return


class _Supervisor:
    def __init__(self, launch: Launch, closed: tuple[int, ...], hooks: Hooks) -> None:
        self._launch = launch
        self._closed = closed
        self._hooks = hooks
        self._watch = hooks.watch
        self._lines = b""
        self._ledger = Ledger()
        self._over = ""  #: why the guard ends it: a limit that the user set
        self._stalled = 0.0  #: until when a stalled reader is waited for (monotonic); 0: for ever

    def run(self, inherited: Inherited) -> Result:
        self._started = time.monotonic()
        voice.be_brief()
        self._wishes = Wishes(inherited.ignored, self._launch)
        signals.become_subreaper()
        self._fork(inherited)
        signals.ignore((signal.SIGTTOU, signal.SIGTTIN))
        self._wakeup, wakeup_write = os.pipe()
        for fd in (self._wakeup, wakeup_write):
            os.set_blocking(fd, False)
        self._reaper = tree.Reaper(self._wakeup)
        signals.listen(signals.FORWARDED | {int(signal.SIGCHLD)}, wakeup_write)
        self._hooks.on_start(self._keeper)
        while not self._ledger.done:
            self._step()
        return self._finish()

    def _fork(self, inherited: Inherited) -> None:
        """Fork the keeper, with the command's ends of all channels."""
        self._terminal = Terminal()
        try:
            control_read, self._control = os.pipe()
            self._report, report_write = os.pipe()
            self._outlet = Outlet(self._launch, self._hooks.keep)
            placed = tuple(
                -1 if fd in self._closed else s for fd, s in enumerate(self._outlet.stdio)
            )
            gc.freeze()
            gc.enable()
            self._keeper = os.fork()
        except OSError as error:
            raise execute.failure(self._launch, error.errno or 0) from None
        if self._keeper == 0:
            for fd in (self._control, self._report):
                os.close(fd)
            self._outlet.close_ours()
            ends = execute.Ends(control_read, report_write, placed, self._terminal.lendable)  # type: ignore[arg-type]
            keeper.keep(self._launch, ends, inherited)
        for fd in (control_read, report_write):
            os.close(fd)
        self._outlet.close_theirs()
        pump.point_at_null(0)  # who writes to it shall see when the command closes it

    def _step(self) -> None:
        """Wait for something to happen and deal with all of it."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.register(self._report, select.POLLIN)
        wanted = self._outlet.register(poll)
        ready = {fd for fd, _ in poll.poll(self._milliseconds_left())}
        self._outlet.serve(wanted, ready)
        if self._wakeup in ready:
            self._on_signals(tree.drain(self._wakeup))
        if self._report in ready:
            self._on_report(os.read(self._report, 65536))
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._end(f"the deadline of {self._launch.deadline:g} s")
        if self._watch is not None:
            self._watch.tick(self._terminal.lent or self._terminal.is_ours())
            if self._watch.ends:
                self._end(self._watch.ends)

    def _end(self, why: str) -> None:
        """Once, unless the command has ended meanwhile."""
        if not self._over and self._ledger.status is None:
            self._over = why
            self._order(keeper.END)

    def _milliseconds_left(self) -> float | None:
        due = self._watch.due if self._watch is not None else None
        moments = [moment for moment in (self._deadline, due) if moment is not None]
        return tree.milliseconds_until(min(moments)) if moments else None

    @property
    def _deadline(self) -> float | None:
        """When the run must end (monotonic); None where it need not, or does already."""
        if self._launch.deadline is None or self._over or self._ledger.status is not None:
            return None
        return self._started + self._launch.deadline

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                if self._watch is not None:
                    self._watch.child_ended()
                continue
            if number == signal.SIGCONT and self._ledger.main:
                self._lend()
            elif number == signal.SIGWINCH:
                self._outlet.copy_size()
            if self._wishes.note(number):
                self._ask(number, number)
            else:
                self._order(number)

    def _ask(self, number: int, first: int) -> None:
        """To end: by the order `first`, asked again with haste, and once more by death."""
        times = self._wishes.ask(time.monotonic())
        self._order(first if times == 1 else keeper.HURRY if times == 2 else keeper.KILL)
        voice.say(self._wishes.words(number))

    def _on_typed(self) -> None:
        """Ctrl-C, which the terminal has sent to the command's group, and would have sent to ours.

        A script that called us is in our group. Only of a server is it known that it must end.
        """
        signals.send_to_job(signal.SIGINT)
        if not self._launch.interrupt_ends:
            return
        asks = self._wishes.note(int(signal.SIGINT), "Ctrl-C")
        if asks and self._ledger.status is None:
            self._ask(int(signal.SIGINT), keeper.AWAIT)

    def _lend(self) -> None:
        self._terminal.lend(self._ledger.main)
        if self._terminal.lent:
            self._outlet.copy_size()
            self._order(keeper.LENT)

    def _order(self, byte: int) -> None:
        try:
            os.write(self._control, bytes([byte]))
            os.kill(self._keeper, signal.SIGCONT)  # somebody may have stopped it
        except (BrokenPipeError, ProcessLookupError):
            return  # the keeper is gone, which its report pipe tells as well

    def _on_report(self, data: bytes) -> None:
        if not data:
            self._on_lost_keeper()
            return
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            word, _, rest = os.fsdecode(line).partition(" ")
            self._ledger.hear(word, rest)
            if word == "stopped":
                self._on_stopped(int(rest))
            elif word == "typed":
                self._on_typed()
            elif word == "resized" and self._outlet.copy_size():
                self._order(signal.SIGWINCH)  # its first came before its pty had the new size

    def _on_stopped(self, number: int) -> None:
        """The command was stopped: by Ctrl-Z, or because it wanted the terminal, which it may have then."""
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        ours = self._terminal.is_ours()
        if wants_terminal and ours:
            self._go_on()
        elif wants_terminal or ours or self._terminal.lent:
            self._terminal.take_back()
            if not self._stop_job() and not wants_terminal:
                self._go_on()

    def _go_on(self) -> None:
        self._lend()
        self._order(signal.SIGCONT)

    def _stop_job(self) -> bool:
        """Stop with our whole job, so that the shell sees it; False where the kernel does not let us.

        It does not where nobody could continue it: an orphaned process group (POSIX, 2.4.4).
        """
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0, signal.SIGTSTP)
        signals.listen((signal.SIGTSTP,), signal.set_wakeup_fd(-1))
        numbers = tree.drain(self._wakeup)
        self._on_signals(numbers)
        return signal.SIGCONT in numbers

    def _on_lost_keeper(self) -> None:
        """The keeper died: its orphans are our children now."""
        ledger = self._ledger
        contained = self._launch.cgroup if os.path.isdir(self._launch.cgroup) else ""
        ended = tree.end(self._reaper, _KEEPER_LOST, contained)
        segments = ledger.segments.union(ended.segments)
        if ledger.contained == "group":
            segments |= leftovers.end_group(ledger.main, self._launch.run_id)[1]
        launch = self._launch
        removed = leftovers.remove(segments, launch.private, contained, launch.present)
        ledger.close_without_keeper(ended, removed)

    def _finish(self) -> Result:
        had_terminal = self._terminal.lent
        self._terminal.take_back()
        self._outlet.drain(self._wakeup, self._drained_by)
        ledger = self._ledger
        if ledger.errno:
            raise execute.failure(self._launch, ledger.errno)
        seconds = time.monotonic() - self._started
        ended_by = self._over or ledger.ended_by(self._wishes, had_terminal)
        outcome = ledger.outcome(ended_by, seconds, bool(self._over))
        if outcome.signal:
            self._terminal.restore()
        found = (tuple(ledger.survivors), tuple(ledger.stays), tuple(ledger.strays))
        return Result(outcome, self._keeper, ledger.contained, *found, self._outlet.lost)

    def _drained_by(self, only_terminals: bool) -> float | None:
        """A stalled reader is waited for as the command would have waited: until somebody ends it."""
        for number in tree.drain(self._wakeup):
            if number in ENDING:
                self._wishes.note(number)
        over = self._wishes or self._over or only_terminals
        self._stalled = self._stalled or (time.monotonic() + _STALLED_READER if over else 0.0)
        limits = [self._stalled] if self._stalled else []
        if self._launch.deadline is not None:
            limits.append(self._started + self._launch.deadline)
        return min(limits, default=None)
