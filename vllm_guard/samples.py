"""What the run's processes use, over time: one JSON line each, in the record."""

from __future__ import annotations

import os

from vllm_guard import paths, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.gpu import Meter
    from vllm_guard.watch import Moment

NAME = "samples.jsonl"
LIMIT = 10_000  #: lines, 83 hours at one each 30 s; nothing is written after them
STARTING, READY = 5.0, 30.0  #: seconds between two


class Samples:
    """The file in a record's folder; without a folder nothing is kept. A full disk ends it, not the run."""

    def __init__(self, folder: str, gpus: Meter) -> None:
        self.path = ""  #: of the file; empty where there is none
        self._folder = folder
        self._fd = -1
        self._left = LIMIT if folder else 0
        self._next = 0.0  #: seconds since the start
        self._gpus = gpus

    def add(self, moment: Moment) -> None:
        """Write a line, if it is time."""
        if moment.seconds < self._next or not self._left:
            return
        self._next = moment.seconds + (READY if moment.is_ready else STARTING)
        self._left -= 1
        try:
            self._open()
            paths.write_all(self._fd, self._line(moment))
        except OSError:
            self._left = 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd < 0:
            path = os.path.join(self._folder, NAME)
            self._fd = paths.new_private(path)
            self.path = path

    def _line(self, moment: Moment) -> bytes:
        counters = moment.counters
        values = {
            "seconds": round(moment.seconds, 3),
            "phase": moment.phase,
            "processes": len(counters.processes),
            "rss": counters.rss,
            "cpu": round(counters.cpu, 2),
            "read": counters.read,
            "gpus": self._gpus.used(),
        }
        return (record.json_text(values) + "\n").encode("ascii")
