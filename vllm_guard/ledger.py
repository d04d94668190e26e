"""What is known of a run under way: what the keeper has told, and what we were asked. Pure but for constants.

The keeper's words are listed in `keeper`.
"""

from __future__ import annotations

import os

from vllm_guard import signals
from vllm_guard.errors import DEADLINE, GUARD_FAILED
from vllm_guard.model import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from vllm_guard.leftovers import Removed
    from vllm_guard.model import Containment, Launch
    from vllm_guard.segments import Segment
    from vllm_guard.tree import Ended
else:
    import _signal as signal

ENDING = frozenset((int(signal.SIGINT), int(signal.SIGTERM)))
_AGAIN = 2.0  #: seconds within which the same wish again means: faster
#: Not about the end of the run.
_NEUTRAL = frozenset((int(signal.SIGCONT), int(signal.SIGTSTP), int(signal.SIGWINCH)))
_SIGNALLED = 128
#: Who ended it, in words, where nobody of ours did.
KILLED = "SIGKILL from outside: kill -9, or the kernel's out-of-memory killer"
#: Words that say one number, and the field that it goes to.
_NUMBERS = {
    "started": "main",
    "failed": "errno",
    "exited": "status",
    "ended": "left",
    "removed": "freed",
    "stay": "daemons",
}


def one_line(path: str) -> str:
    """A path as it stands in the keeper's words: whoever named the file could write words of his own."""
    return path.replace("%", "%25").replace("\n", "%0A")


def _path(word: str) -> str:
    return word.replace("%0A", "\n").replace("%25", "%")


class Ledger:
    """Filled by `hear`, one line after the other."""

    def __init__(self) -> None:
        self.main = 0  #: the command's pid
        self.errno = 0  #: why it could not be started
        self.status: int | None = None  #: its wait status
        self.contained: Containment = "keeper"
        self.expired = False  #: it did not end within its grace
        self.left = 0  #: processes that outlived it and were ended
        self.freed = 0  #: bytes of shared memory that they left
        self.daemons = 0  #: processes that were allowed to live on
        self.survivors: list[int] = []  #: processes that nothing could end
        self.stays: list[str] = []  #: files that could not be removed
        self.strays: list[str] = []  #: files of /dev/shm that may be the run's
        self.segments: set[Segment] = set()
        self.done = False

    def hear(self, word: str, rest: str) -> None:
        """Enter one line."""
        if word in _NUMBERS:
            setattr(self, _NUMBERS[word], int(rest))
            self.done = self.done or word == "failed"
        elif word == "segment":
            inode, _, path = rest.partition(" ")
            self.segments.add((int(inode), _path(path)))
        elif word == "contained":
            self.contained = rest  # type: ignore[assignment]
        elif word == "survivor":
            self.survivors.append(int(rest))
        elif word in ("stays", "stray"):
            (self.stays if word == "stays" else self.strays).append(_path(rest))
        elif word in ("expired", "done"):
            setattr(self, word, True)

    def close_without_keeper(self, ended: Ended, removed: Removed) -> None:
        """The keeper is gone; the guard has done its work."""
        self.left = ended.left_behind
        self.freed = removed.freed
        self.survivors += ended.survivors
        self.stays += removed.stays
        self.done = True

    @property
    def killer(self) -> int:
        """The signal that killed the command, or 0."""
        status = self.status
        return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0

    def ended_by(self, wishes: Wishes, had_terminal: bool) -> str:
        """Who ended the command, in words, where the guard did not."""
        killer = self.killer
        if self.status is None:
            return "the loss of its keeper process"
        if wishes:
            late = self.expired and killer
            killed = f", which it ignored: {signals.name(killer)}" if late else ""
            return f"{wishes}{killed}"
        if killer == signal.SIGKILL:
            return KILLED
        if killer == signal.SIGINT and had_terminal:
            return "Ctrl-C"
        return signals.name(killer) if killer else "itself"

    def outcome(self, ended_by: str, seconds: float, over: bool) -> Outcome:
        """How the command ended; `over`: the guard ended it, at a limit that the user set."""
        status, killer = self.status, self.killer
        kind, code = "exited", os.WEXITSTATUS(status or 0)
        if over:
            kind, code = "deadline", DEADLINE
        elif status is None:
            kind, code = "lost", GUARD_FAILED
        elif killer:
            kind, code = "signalled", _SIGNALLED + killer
        return Outcome(
            kind,  # type: ignore[arg-type]
            code,
            signal=killer,
            core=bool(killer) and os.WCOREDUMP(status or 0),
            ended_by=ended_by,
            seconds=round(seconds, 3),
            left_behind=self.left,
            freed=self.freed,
            daemons=self.daemons,
        )


class Wishes:
    """What the guard was asked while the command ran; filled by `note` and `ask`.

    The first wish is passed on as it is; the same again, within two seconds, hurries; once more kills.
    """

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
