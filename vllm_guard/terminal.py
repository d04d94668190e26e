"""The controlling terminal: who has its foreground, its settings as found, and what is typed there."""

from __future__ import annotations

import os
import stat

from vllm_guard import libc, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal

_PR_SET_PDEATHSIG = 1
_SI_KERNEL = 0x80  #: <asm-generic/siginfo.h>: from the terminal, not from a process
_DISMISSED = int(signal.SIGUSR1)
_TYPED = {int(signal.SIGINT): b"typed\n", int(signal.SIGWINCH): b"resized\n"}


class Terminal:
    """The controlling terminal, if there is one; every method is harmless where there is none.

    SIGTTOU must be ignored or blocked: the guard is in the background while the command runs.
    """

    def __init__(self) -> None:
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self._saved: list[Any] | None = None
        if self._fd >= 0:
            import termios

            try:
                self._saved = termios.tcgetattr(self._fd)
            except termios.error:  # it has hung up
                self._fd = -1
        self.lent = self.is_ours() and _only_one_reads()

    @property
    def lendable(self) -> int:
        """The descriptor for the command to take the foreground with; -1 when it is not ours to give.

        Started with `&` the guard has no foreground, and must not steal it.
        """
        return self._fd if self.lent else -1

    def is_ours(self) -> bool:
        """Does this process's group have the foreground?"""
        try:
            return self._fd >= 0 and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return False

    def lend(self, pgid: int) -> None:
        """Give the foreground to that group, if it is ours to give."""
        if self.is_ours():
            self.lent = give(self._fd, pgid)

    def take_back(self) -> None:
        """Only what is lent: after Ctrl-Z and `bg` the foreground is the shell's."""
        if self.lent:
            give(self._fd, os.getpgrp())
            self.lent = False

    def restore(self) -> None:
        """The settings as they were: a command that was killed could not restore them itself."""
        if self._saved is not None and self.is_ours():
            import termios

            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
            except termios.error:  # it has hung up
                return


def hand_over(terminal: int, of: int, to: int) -> None:
    """The foreground that group `of` has goes to group `to`, if there is such a terminal."""
    try:
        if terminal >= 0 and os.tcgetpgrp(terminal) == of:
            os.tcsetpgrp(terminal, to)
    except OSError:
        return


def _only_one_reads() -> bool:
    """Will the command be the one of our job that reads the terminal? In `command | less` less is.

    A command that reads there in spite of that is stopped by the kernel, and gets it then.
    """
    if not os.isatty(0):
        return False
    try:
        return not stat.S_ISFIFO(os.fstat(1).st_mode)
    except OSError:
        return True


def give(terminal: int, pgid: int) -> bool:
    """Give the foreground to that group; False where the terminal is not ours any more (it hung up)."""
    try:
        os.tcsetpgrp(terminal, pgid)
    except OSError:
        return False
    return True


def post_witness(group: int, status: int) -> int:
    """Fork a process of that group that tells `status` of each Ctrl-C and each resize; its pid, or 0.

    What is typed goes to the foreground group, past the guard: without it a server that ends at Ctrl-C
    looks like one that ended by itself, and nobody would hurry one that does not end. It ends with its
    parent or at `dismiss_witness`, holds no other file, and no other signal touches it.
    """
    keeper = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        return 0
    if pid == 0:
        try:
            _stand_by(group, status, keeper)
        finally:
            os._exit(0)
    return pid


def _stand_by(group: int, status: int, keeper: int) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, signals.ALL)
    libc.call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != keeper:
        return
    os.closerange(0, status)
    os.closerange(status + 1, os.sysconf("SC_OPEN_MAX"))
    os.setpgid(0, group)
    for number in (*_TYPED, _DISMISSED):
        signal.signal(number, signals.woken)  # one that is ignored is never waited for
    while True:
        info = signal.sigwaitinfo(
            (*_TYPED, _DISMISSED)
        )  # the lowest number first: what was typed comes first
        if info.si_signo == _DISMISSED and info.si_pid == keeper:
            return
        if (
            info.si_code == _SI_KERNEL or info.si_signo == signal.SIGWINCH
        ):  # which may be one with ours
            os.write(status, _TYPED.get(info.si_signo, b""))


def dismiss_witness(pid: int) -> None:
    """Let it tell what it has seen, and end."""
    os.kill(pid, _DISMISSED)
    os.kill(pid, signal.SIGCONT)  # the command's group may have been stopped
    os.waitpid(pid, 0)


def open_pty(like: int) -> tuple[int, int]:
    """(master, slave) of a pty of the size of terminal `like`, which passes bytes on unchanged.

    Output processing stays with the real terminal: done twice, every newline would get two returns.
    """
    import termios

    master, slave = os.openpty()
    settings = termios.tcgetattr(slave)
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    copy_size(like, master)
    return master, slave


def copy_size(source: int, pty: int) -> bool:
    """Give the pty the window size of terminal `source`; True when that changed it."""
    import fcntl
    import termios

    try:
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
        if size == fcntl.ioctl(pty, termios.TIOCGWINSZ, b"\0" * 8):
            return False
        fcntl.ioctl(pty, termios.TIOCSWINSZ, size)
    except OSError:  # one of them has hung up
        return False
    return True
