"""The controlling terminal: who has its foreground, and its settings as we found them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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

            self._saved = termios.tcgetattr(self._fd)
        self.lent = self.is_ours()

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
            self.lent = self._set(pgid)

    def take_back(self) -> None:
        """Only what is lent: after Ctrl-Z and `bg` the foreground is the shell's."""
        if self.lent:
            self._set(os.getpgrp())
            self.lent = False

    def restore(self) -> None:
        """The settings as they were: a command that was killed could not restore them itself."""
        if self._saved is not None and self.is_ours():
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def _set(self, pgid: int) -> bool:
        try:
            os.tcsetpgrp(self._fd, pgid)
        except OSError:
            return False
        return True


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

    size = fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8)
    if size == fcntl.ioctl(pty, termios.TIOCGWINSZ, b"\0" * 8):
        return False
    fcntl.ioctl(pty, termios.TIOCSWINSZ, size)
    return True
