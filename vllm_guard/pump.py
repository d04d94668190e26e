"""The command's output on its way: forward first, then log. Bytes in, the same bytes out, in order.

One pipe where stdout and stderr are the same file (two would lose their order), two where they
differ, a pty where the file is a terminal (colours and progress bars stay).
"""

from __future__ import annotations

import errno
import os
import select
import stat

from vllm_guard import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BLOCK = 65536
_PIPE_BUF = 4096  #: after POLLOUT, a write of so much to a pipe does not block (POSIX)
_HIGH_WATER = (
    4 << 20
)  #: bytes held for a slow reader before the command has to wait, as it would bare


class Stream:
    """One source (the command's side) and its sink (ours)."""

    def __init__(self, source: int, sink: int, keep: Callable[[bytes], None]) -> None:
        os.set_blocking(source, False)
        self.source = source
        self.sink = sink
        self.bytes = 0
        self.lost = 0  #: bytes that the sink would not take
        self._keep = keep
        self._pending = bytearray()
        self._is_tty = os.isatty(source)
        mode = os.fstat(sink).st_mode
        self._never_blocks = stat.S_ISREG(mode) or os.path.samestat(
            os.fstat(sink), os.stat(os.devnull)
        )
        self._broken = False

    def interests(self) -> Iterable[tuple[int, int]]:
        """(fd, poll events) this stream waits for now."""
        if self.source >= 0 and len(self._pending) < _HIGH_WATER:
            yield self.source, select.POLLIN
        if self._pending:
            yield self.sink, select.POLLOUT

    def fill(self) -> None:
        """Take what the command wrote and pass it on as far as the sink takes it."""
        try:
            data = os.read(self.source, _BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # how a pty says end of file
                raise
            data = b""
        if not data:
            self._close_source()
            return
        self.bytes += len(data)
        if self._is_tty and os.isatty(self.sink):
            terminal.copy_size(self.sink, self.source)
        self._pending += data
        self.flush()
        self._keep(data)

    def flush(self) -> None:
        """Write pending bytes while that cannot block."""
        while self._pending and not self._broken and (self._never_blocks or _writable(self.sink)):
            size = len(self._pending) if self._never_blocks else _PIPE_BUF
            try:
                written = os.write(self.sink, self._pending[:size])
            except BlockingIOError:
                return
            except OSError as error:
                self._give_up_sink(error)
                return
            del self._pending[:written]
        if self._broken:
            self.lost += len(self._pending)
            self._pending.clear()

    def finish(self, patience: float | None) -> None:
        """After the end of the run: what is still in the pipe, then what is still pending.

        `patience` (seconds) bounds the wait for a stalled reader; None waits as the command would.
        """
        while self.source >= 0 and _readable(self.source):
            self.fill()
        self._close_source()
        milliseconds = None if patience is None else int(patience * 1000)
        while self._pending and not self._broken and _writable(self.sink, milliseconds):
            self.flush()
        self.lost += len(self._pending)

    def _give_up_sink(self, error: OSError) -> None:
        """A reader that left ends the writer, as it would bare; a full disk does not."""
        self._broken = True
        self.lost += len(self._pending)
        self._pending.clear()
        if error.errno == errno.EPIPE:
            self._close_source()

    def _close_source(self) -> None:
        if self.source >= 0:
            os.close(self.source)
            self.source = -1


def channels(watch: bool) -> tuple[tuple[int, ...], ...]:
    """Which of our descriptors 1 and 2 pass through the guard, those of one file together."""
    ours = tuple(fd for fd in (1, 2) if watch and is_open(fd))
    if len(ours) == 2 and os.path.samestat(os.fstat(1), os.fstat(2)):
        return (ours,)
    return tuple((fd,) for fd in ours)


def open_channel(sink: int) -> tuple[int, int]:
    """(our end, the command's end) of what stands in for our descriptor `sink`."""
    return terminal.open_pty(sink) if os.isatty(sink) else os.pipe()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _writable(fd: int, milliseconds: int | None = 0) -> bool:
    return _ready(fd, select.POLLOUT, milliseconds)


def _readable(fd: int) -> bool:
    return _ready(fd, select.POLLIN, 0)


def _ready(fd: int, event: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(milliseconds))
