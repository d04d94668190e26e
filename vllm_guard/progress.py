"""How far a start has got: bytes read or downloaded against all there are, for `--progress`."""

from __future__ import annotations

import os

from vllm_guard import phases, voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass

    from vllm_guard.watch import Moment
else:
    from vllm_guard.frozen import dataclass

_SHORT = 0.1  #: seconds; over less, there is no rate


@dataclass(frozen=True)
class Model:
    """What is known of the model before the start."""

    blobs: str = ""  #: its folder in the cache of the hub
    to_read: int | None = None  #: bytes of its weights, as far as they are here
    to_download: int | None = None  #: bytes of its weights that are not

    @property
    def size(self) -> int:
        """Bytes of its weights, as far as they are known; 0 for none."""
        return (self.to_read or 0) + (self.to_download or 0)


class Blobs:
    """The files of one model in the hub's cache, complete ones and those under way (`*.incomplete`)."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._before = self._size()

    def grown(self) -> int:
        """Bytes that came since the start."""
        return max(0, self._size() - self._before)

    def _size(self) -> int:
        if not self._folder:
            return 0
        try:
            with os.scandir(self._folder) as entries:
                return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        except OSError:  # not there yet; or a file was completed, and renamed, meanwhile
            return 0


class Line:
    """The live line; nothing is drawn once the server is ready."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._phase = ""
        self._read = 0  #: bytes when this phase began
        self._last = (0.0, 0)  #: seconds at the last tick, and bytes of this phase by then

    def draw(self, moment: Moment) -> None:
        """Write it over."""
        if moment.is_ready or not moment.foreground:
            voice.erase()
            return
        if moment.phase != self._phase:
            self._phase, self._read = moment.phase, moment.counters.read
            self._last = (moment.seconds, 0)
        moved = self._moved(moment)
        voice.live(f"{moment.phase} {moment.in_phase:.0f} s{moved}; {moment.seconds:.0f} s in all")

    def _moved(self, moment: Moment) -> str:
        """`, 1.2 GiB of 15.2 GiB downloaded, 30 MiB/s`; empty where nothing has moved."""
        if moment.phase == phases.DOWNLOAD:
            size, total, verb = moment.downloaded, self._model.to_download, "downloaded"
        elif moment.phase == phases.LOAD:
            size, total = max(0, moment.counters.read - self._read), self._model.size
            verb = "read from disk"
        else:
            return ""
        (then, before), self._last = self._last, (moment.seconds, size)
        rate = max(0, size - before) / max(moment.seconds - then, _SHORT)
        of = f" of {_words(total)}" if total else ""
        return f", {_words(size)}{of} {verb}, {_words(rate)}/s" if size else ""


def _words(size: float) -> str:
    """In the largest unit of which there is one at least."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.{int(shift == 30)}f} {unit}"
    return f"{size:.0f} B"
