"""What the guard was asked while the command ran, and what follows from asking again. Pure but for names.

The first wish is passed on as it is; the same again, within two seconds, hurries; once more kills.
"""

from __future__ import annotations

from vllm_guard import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from vllm_guard.model import Launch
else:
    import _signal as signal

ENDING = frozenset((int(signal.SIGINT), int(signal.SIGTERM)))
_AGAIN = 2.0  #: seconds within which the same wish again means: faster
#: Not about the end of the run.
_NEUTRAL = frozenset((int(signal.SIGCONT), int(signal.SIGTSTP), int(signal.SIGWINCH)))


class Wishes:
    """Filled by `note` and `ask`."""

    def __init__(self, ignored: frozenset[int], launch: Launch) -> None:
        self._ignored = ignored  #: what the command, too, ignores is passed on and no more
        self._grace = launch.grace
        self._limited = ENDING if launch.interrupt_ends else (int(signal.SIGTERM),)
        self._first = ""  #: the first signal's name, and who sent it
        self._asked = 0  #: how often in a row
        self._asked_at = 0.0  #: monotonic

    def __bool__(self) -> bool:
        """Was the run to end from outside?"""
        return bool(self._first)

    def __str__(self) -> str:
        return self._first

    def note(self, number: int, sender: str = "") -> bool:
        """Enter a signal; True when it asks for the end."""
        if number in self._ignored:
            return False
        if number not in _NEUTRAL and not self._first:
            self._first = sender or f"{signals.name(number)} sent to vllm-guard"
        return number in ENDING

    def ask(self, now: float) -> int:
        """How often in a row the end has been asked for by now (monotonic): 1 for the first time."""
        self._asked = self._asked + 1 if now - self._asked_at < _AGAIN else 1
        self._asked_at = now
        return self._asked

    def words(self, number: int) -> str:
        """What is done about it."""
        name = signals.name(number)
        if self._asked == 1:
            limit = f", for at most {self._grace:g} s" if number in self._limited else ""
            return f"{name} passed on; waiting for the command to end{limit} (again: faster)"
        if self._asked == 2:
            return f"{name} again: SIGTERM to every process of the run (again: SIGKILL)"
        return f"{name} again: SIGKILL to every process of the run"
