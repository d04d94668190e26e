"""What the keeper has told of a run, and what it amounts to. Pure but for the constants of wait(2).

The keeper's words are listed in `keeper`.
"""

from __future__ import annotations

import os

from vllm_guard.errors import DEADLINE, GUARD_FAILED
from vllm_guard.model import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.leftovers import Removed
    from vllm_guard.model import Containment
    from vllm_guard.segments import Segment
    from vllm_guard.tree import Ended

_SIGNALLED = 128
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

    def outcome(self, ended_by: str, seconds: float, deadline_hit: bool) -> Outcome:
        """How the command ended."""
        status, killer = self.status, self.killer
        kind, code = "exited", os.WEXITSTATUS(status or 0)
        if deadline_hit:
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
