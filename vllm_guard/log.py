"""The log of a run: what the command wrote, on disk, within limits. Nothing here disturbs the run."""

from __future__ import annotations

import os

from vllm_guard import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD_LIMIT = 32 << 20  #: bytes of output.log: the start, and mostly the first error
TAIL_LIMIT = 16 << 20  #: bytes of output.tail.log and of its predecessor: the end
_TAIL = "output.tail.log"


def parts(path: str) -> list[str]:
    """The files of a log that are there, in the order in which they were written; `path`: of the first."""
    tail = os.path.join(os.path.dirname(path), _TAIL)
    return [part for part in (path, f"{tail}.1", tail) if os.path.isfile(part)]


class Log:
    """What the command wrote, with the known secrets masked: the beginning, and the end.

    `output.log` holds the first HEAD_LIMIT bytes; what comes later goes to `output.tail.log`, of which
    one full predecessor is kept (`output.tail.log.1`).
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self.path = ""  #: of output.log; empty where there is none
        self.problem = ""  #: why there is none, although there is a folder for it
        self.kept = 0  #: bytes that were written
        self.lost = 0  #: bytes that are in none of the files
        self._tail = ""
        self.masked = 0  #: how often a known secret stood in it
        self._secrets = secrets
        self._overlap = max((len(s) for s in secrets), default=1) - 1
        self._held = b""
        self._room = HEAD_LIMIT
        self._fd = -1

    def open(self, folder: str) -> None:
        """Begin, before the first `keep`; without a folder nothing is kept."""
        path = os.path.join(folder, "output.log")
        self._tail = os.path.join(folder, _TAIL)
        try:
            self._fd = paths.new_private(path) if folder else -1
        except OSError as error:
            self.problem = f"no log is kept: {error}"
        else:
            self.path = path if folder else ""

    def keep(self, data: bytes) -> None:
        """Add to the log, holding back what could be the start of a secret."""
        if self._fd < 0:
            self.lost += len(data) if self.path else 0
            return
        if self._secrets:
            data = self._masked(self._held + data)
            cut = max(0, len(data) - self._overlap)
            self._held = data[cut:]
            data = data[:cut]
        self._append(data)

    def close(self) -> None:
        self._append(self._held)
        self._let_go()

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _masked(self, data: bytes) -> bytes:
        for secret in self._secrets:
            if found := data.count(secret):
                self.masked += found
                data = data.replace(secret, b"[masked]")
        return data

    def _append(self, data: bytes) -> None:
        while data and self._fd >= 0:
            try:
                if not self._room:
                    self._rotate()
                written = self._fitting(data)
                paths.write_all(self._fd, data[:written])
            except OSError:  # a full disk, a removed folder
                self._let_go()
                break
            self.kept += written
            self._room = self._room - written if written == len(data) else 0
            data = data[written:]
        self.lost += len(data)

    def _fitting(self, data: bytes) -> int:
        """Bytes that still go into this file: whole lines if possible, for a half secret has no shape."""
        if len(data) <= self._room:
            return len(data)
        return data.rfind(b"\n", 0, self._room) + 1 or self._room

    def _rotate(self) -> None:
        """Begin a new tail; the one before it is kept, the one before that is not."""
        self._let_go()
        if os.path.exists(self._tail):
            if os.path.exists(f"{self._tail}.1"):
                self.lost += TAIL_LIMIT
            os.replace(self._tail, f"{self._tail}.1")
        self._fd = paths.new_private(self._tail)
        self._room = TAIL_LIMIT
