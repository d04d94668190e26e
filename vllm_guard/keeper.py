"""The keeper: the process between the guard and the command. Standard library only.

It is forked, not executed, so it needs nothing from the disk afterwards. It is a subreaper in a process
group of its own and ignores what a terminal sends. It starts the command, passes on the signals that
the guard asks for, and when the command, or the guard, has ended it ends whatever is left.

The guard writes bytes to the control pipe: 1-64 is a signal for the command's process group, END asks
for its end, AWAIT says that it was asked already, LENT that it got the terminal, HURRY asks every process at
once, KILL is their death. End of file there means that the guard is dead. The keeper answers with lines on
the status pipe: `started PID`, `failed ERRNO`, `contained HOW`, `typed` (Ctrl-C), `resized`, `stopped N`,
`segment INODE PATH`, `expired`, `exited STATUS`, `ended LEFT`, `removed BYTES`, `survivor PID`, `stays PATH`,
`stray PATH`, `stay N` (daemons that may), `done`.
"""

from __future__ import annotations

import os
import select
import time

from vllm_guard import cgroup, execute, leftovers, libc, signals, terminal, tree
from vllm_guard.ledger import ENDING, one_line
from vllm_guard.segments import Watch, abandoned, notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import NoReturn

    from vllm_guard.execute import Ends
    from vllm_guard.model import Containment, Launch
    from vllm_guard.signals import Inherited
else:
    import _signal as signal

END, HURRY, KILL, AWAIT, LENT = 0x80, 0x81, 0x82, 0x83, 0x84
_LOOKS_PER_SECOND = 20  #: at /dev/shm, each some milliseconds
_HURRIED = 3.0  #: seconds from HURRY to SIGKILL
#: What terminals and service managers send to whole groups; other signals are between two processes.
_TO_GROUPS = frozenset(
    int(s)
    for s in (
        signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGCONT,
        signal.SIGWINCH,
    )
)  # fmt: skip
_NOW = 0.0  #: a time that is always over (monotonic)
_EXPIRED = tree.Limits(settle=0.0, term=1.0)
_AT_ONCE = tree.Limits(settle=0.0, term=0.0)
_GUARD_DIED = tree.Limits(settle=0.0, term=0.5, tracker=1.0, kill=5.0)


def keep(launch: Launch, ends: Ends, inherited: Inherited) -> NoReturn:
    """Run as the keeper; every signal is blocked when this is called."""
    status = 125
    try:
        _Keeper(launch, ends, inherited).run()
        status = 0
    finally:
        os._exit(status)


class _Keeper:
    def __init__(self, launch: Launch, ends: Ends, inherited: Inherited) -> None:
        self._launch = launch
        self._ends = ends
        self._main = 0  #: the command's pid and process group
        self._main_ended = False
        self._witness = 0  #: its pid, where the command has the terminal
        ending = ENDING if launch.interrupt_ends else {int(signal.SIGTERM)}
        self._ending = ending - inherited.ignored
        self._give_up: float | None = None  #: when grace is over (monotonic)
        self._job = os.getpgrp()  #: the guard's group
        os.setpgid(0, 0)
        self._contained: Containment = "keeper" if signals.become_subreaper() else "group"
        self._cgroup = ""  #: the one that the command is in
        self._wakeup, self._wakeup_write = _pipe()
        self._reaper = tree.Reaper(self._wakeup)
        self._shm = Watch(launch.present)
        self._claim_at: float | None = None  #: when to look at /dev/shm (monotonic)
        self._looks: list[float] = []  #: when that was done, up to a second ago
        self._inherited = inherited

    def run(self) -> None:
        if not self._start():
            return
        self._let_go_of_files()
        libc.retitle(f"vllm-guard: keeper of {self._launch.run_id}")
        if self._ends.tty >= 0:
            self._watch_terminal()
        # Not sooner: the command would inherit it.
        signals.ignore((*signals.FORWARDED, signal.SIGTTOU))
        signals.listen([signal.SIGCHLD, signal.SIGIO], self._wakeup_write)
        self._claim()
        limits = self._watch()
        if limits is None:
            self._tell(f"stay {len(tree.descendants())}", "done")
        else:
            self._clean_up(limits)

    def _clean_up(self, limits: tree.Limits) -> None:
        """Done here and not by the guard, which may be dead."""
        self._reaper.heed(self._ends.control, KILL)
        self._dismiss_witness()
        if limits is _GUARD_DIED:
            terminal.hand_over(self._ends.tty, self._main, self._job)
        itself = int(not self._main_ended)  # the command does not outlive itself
        ended = tree.end(self._reaper, limits, self._cgroup)
        escaped: set[int] = set()
        segments = set(ended.segments)
        if self._contained == "group":
            escaped, theirs = leftovers.end_group(self._main, self._launch.run_id)
            segments |= theirs
        self._note_the_end()
        self._claim()
        private, before = self._launch.private, self._launch.present
        removed = leftovers.remove(self._shm.claimed | segments, private, self._cgroup, before)
        self._tell(
            f"ended {max(0, ended.left_behind - itself) + len(escaped)}",
            f"removed {removed.freed}",
            *(f"survivor {pid}" for pid in ended.survivors),
            *(f"stays {one_line(path)}" for path in removed.stays),
            *(f"stray {one_line(path)}" for _, path in abandoned(self._shm.unclaimed)),
            "done",
        )

    def _start(self) -> bool:
        """Fork the command; True once it has been executed."""
        try:
            pid, told = self._fork_into_cgroup() if self._launch.cgroup else (0, b"")
            if not told:
                pid, told = self._fork(os.fork)
        except OSError as error:
            self._tell(f"failed {error.errno}")
            return False
        failure = told[len(execute.EXECUTES) :]
        if failure:
            os.waitpid(pid, 0)
            cgroup.remove(self._cgroup)
            self._tell(f"failed {failure.decode()}")
            return False
        self._main = pid
        self._reaper.ended[pid] = None
        self._tell(f"started {pid}", f"contained {self._contained}")
        return True

    def _fork_into_cgroup(self) -> tuple[int, bytes]:
        """As `_fork`; nothing is told where it did not live to execute.

        Linux 6.18 kills it at birth when the cgroup that we are in was ever killed (cgroup_css_set_fork).
        """
        pid, told = self._fork(lambda: cgroup.fork_into(self._launch.cgroup))
        if told:
            self._contained, self._cgroup = "cgroup", self._launch.cgroup
        elif pid > 0:
            os.waitpid(pid, 0)
            cgroup.remove(self._launch.cgroup)
        return pid, told

    def _fork(self, fork: Callable[[], int]) -> tuple[int, bytes]:
        """The command's pid, and what it told: execute.EXECUTES, and the errno where that failed."""
        read, write = os.pipe()
        pid = fork()
        if pid == 0:
            os.close(read)
            execute.become(self._launch, self._ends, self._inherited, write)
        os.close(write)
        told = b""
        if pid > 0:
            try:
                os.setpgid(pid, pid)  # also done by the child: whoever comes first
            except (PermissionError, ProcessLookupError):
                self._main = 0  # it has executed, or ended, already
            told = b"".join(iter(lambda: os.read(read, 4096), b""))
        os.close(read)
        return pid, told

    def _let_go_of_files(self) -> None:
        """Held files and folders would keep the caller's pipes open and its mounts busy."""
        ours = {self._ends.control, self._ends.status, self._wakeup, self._wakeup_write}
        kept = ours | ({notify(), self._ends.tty} - {-1})
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd, inheritable=False)
        start = 3
        for fd in sorted(kept):
            os.closerange(start, fd)
            start = fd + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")

    def _watch(self) -> tree.Limits | None:
        """Until the command has ended, or must; returns how the rest is to be ended, if at all."""
        poll = select.poll()
        poll.register(self._ends.control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._milliseconds_left()))
            if self._wakeup in ready:
                if signal.SIGIO in tree.drain(self._wakeup):
                    self._claim_at = self._next_look()
                self._note_changes()
            if self._claim_at is not None and time.monotonic() >= self._claim_at:
                self._claim()
            if self._main_ended:
                return None if self._launch.allow_daemon else self._rest()
            if self._ends.control in ready and not self._obey(os.read(self._ends.control, 256)):
                return _GUARD_DIED
            if self._give_up is not None and time.monotonic() >= self._give_up:
                self._tell("expired")
                return _AT_ONCE if self._give_up == _NOW else _EXPIRED

    def _rest(self) -> tree.Limits:
        """For what outlived the command: none, if the order to kill all came with its end."""
        return _AT_ONCE if self._give_up == _NOW else tree.Limits()

    def _milliseconds_left(self) -> float | None:
        times = [moment for moment in (self._give_up, self._claim_at) if moment is not None]
        return tree.milliseconds_until(min(times)) if times else None

    def _obey(self, orders: bytes) -> bool:
        """Carry out the guard's bytes; False when there is no guard any more."""
        for order in orders:
            if order == KILL:
                self._give_up = _NOW
            elif order == AWAIT:
                self._expect_the_end(self._launch.grace)
            elif order == LENT:
                self._watch_terminal()
            elif order == HURRY:
                pids = tree.descendants()
                tree.send(pids, signal.SIGTERM)
                tree.send(pids, signal.SIGCONT)
                self._expect_the_end(_HURRIED)
            else:
                number = int(signal.SIGTERM) if order == END else order
                (tree.send_group if number in _TO_GROUPS else tree.send_one)(self._main, number)
                if number in self._ending:
                    tree.send_group(self._main, signal.SIGCONT)  # a stopped process cannot end
                    self._expect_the_end(self._launch.grace)
        return bool(orders)

    def _expect_the_end(self, seconds: float) -> None:
        """SIGKILL follows when that time is over; an earlier limit stays."""
        limit = time.monotonic() + seconds
        self._give_up = limit if self._give_up is None else min(limit, self._give_up)

    def _next_look(self) -> float:
        """Now, unless others make files in /dev/shm all the time."""
        many = len(self._looks) >= _LOOKS_PER_SECOND
        return self._looks[-_LOOKS_PER_SECOND] + 1.0 if many else time.monotonic()

    def _claim(self) -> None:
        """Note new shared memory of the run; the guard is told at once, for it may outlive us."""
        now = time.monotonic()
        self._looks = [moment for moment in self._looks if moment > now - 1.0] + [now]
        self._claim_at = None
        self._tell(
            *(f"segment {i} {one_line(path)}" for i, path in self._shm.claim(tree.descendants))
        )

    def _note_changes(self) -> None:
        for pid, status in self._reaper.reap():
            if pid == self._main and os.WIFSTOPPED(status):
                self._tell(f"stopped {os.WSTOPSIG(status)}")
            elif pid == self._witness:
                self._witness = 0
        self._note_the_end()

    def _note_the_end(self) -> None:
        status = self._reaper.ended.get(self._main)
        if status is not None and not self._main_ended:
            self._main_ended = True
            self._tell(f"exited {status}")
            self._dismiss_witness()

    def _watch_terminal(self) -> None:
        if not self._witness:
            self._witness = terminal.post_witness(self._main, self._ends.status)

    def _dismiss_witness(self) -> None:
        if self._witness:
            terminal.dismiss_witness(self._witness)
            self._witness = 0

    def _tell(self, *lines: str) -> None:
        try:
            os.write(self._ends.status, b"".join(os.fsencode(line) + b"\n" for line in lines))
        except OSError:
            return  # the guard is dead: there is nobody to tell


def _pipe() -> tuple[int, int]:
    """A pipe that no exec inherits and that never blocks."""
    read, write = os.pipe()
    for fd in (read, write):
        os.set_blocking(fd, False)
    return read, write
