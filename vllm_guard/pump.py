"""The command's output on its way: forward first, then log. Bytes in, the same bytes out, in order.

One pipe where stdout and stderr are the same file (two would lose their order), two where they
differ, a pty where the file is a terminal (colours and progress bars stay).
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time

from vllm_guard import libc, terminal, voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BLOCK = 256 << 10  #: bytes read at once, and held by the command's pipe
_F_SETPIPE_SZ = 1031  #: <linux/fcntl.h>
_PTMX = os.makedev(5, 2)  #: <linux/major.h>: the master of a pty
_PIPE_BUF = 4096  #: after POLLOUT, a write of so much to a pipe does not block (POSIX)
_HIGH_WATER = 4 << 20  #: bytes held for a slow reader
_RUSH = 0.0005  #: seconds; small pieces that follow each other faster are waited for a little,
_PAUSE = 0.0003  #: so long: 1000 lines then cost about as much as one
_NOT_SHOWN = b"\r\n[vllm-guard: %d bytes are not shown here; the log has them]\r\n"


class Stream:
    """One source (the command's side) and its sink (ours).

    A slow reader of a pipe makes the command wait, as it would bare: what it was promised is not dropped.
    A stopped terminal does not: what it misses is in the log, and is counted.
    """

    def __init__(self, source: int, sink: int, keep: Callable[[bytes], None]) -> None:
        os.set_blocking(source, False)
        self.source = source
        self.lost = 0  #: bytes that the sink would not take
        self._sink = sink
        self._keep = keep
        self._pending = bytearray()
        self.is_terminal = os.isatty(sink)
        self._skipped = 0  #: bytes since the terminal was last up to date
        self._broken = False
        self._read_at = 0.0  #: when the last small piece came (monotonic)
        self.out, self._never_blocks = _without_blocking(sink)
        self._is_pipe = _is_pipe(sink)
        self._is_ours = is_open(2) and os.path.samestat(os.fstat(sink), os.fstat(2))

    def interests(self) -> Iterable[tuple[int, int]]:
        """(fd, poll events) this stream waits for now."""
        if self.source >= 0 and (self.is_terminal or len(self._pending) < _HIGH_WATER):
            yield self.source, select.POLLIN
        if self._pending:
            yield self.out, select.POLLOUT
        elif self._is_pipe and self.source >= 0:
            yield self.out, 0  # POLLERR, which is told unasked: its reader left

    def fill(self) -> None:
        """Take what the command wrote and pass it on as far as the sink takes it."""
        if time.monotonic() - self._read_at < _RUSH:
            time.sleep(_PAUSE)
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
        self._read_at = time.monotonic() if len(data) < _BLOCK // 2 else 0.0
        written = 0 if self._pending else self._write(data)
        if written < len(data):
            self._hold(data[written:])
        self._keep(data)

    def flush(self) -> None:
        """Write pending bytes while that cannot block; with none, the reader has left."""
        if self._is_pipe and not self._pending:
            self._give_up_sink(errno.EPIPE)
        while self._pending and (written := self._write(self._pending)):
            del self._pending[:written]
        if self._skipped and not self._pending and not self._broken:
            self._pending += _NOT_SHOWN % self._skipped
            self._skipped = 0
        self._let_go()

    @property
    def pending(self) -> bool:
        """Is there something that the sink has not taken yet?"""
        return bool(self._pending)

    def copy_size(self) -> bool:
        """Give the command's pty the terminal's size; True when that changed it."""
        ours = self.is_terminal and self.source >= 0
        return ours and terminal.copy_size(self._sink, self.source)

    def take_rest(self) -> None:
        """After the end of the run: what is still in the pipe."""
        while self.source >= 0 and _ready(self.source, select.POLLIN, 0):
            self.fill()
        self._close_source()

    def give_up(self) -> None:
        """Count what the sink did not take."""
        self.lost += len(self._pending)
        self._pending.clear()

    def _write(self, data: bytes | bytearray) -> int:
        """Write as much as goes without blocking; returns how much."""
        if not self._never_blocks and not _ready(self.out, select.POLLOUT, 0):
            return 0
        if self.is_terminal:
            voice.erase()
        try:
            written = os.write(self.out, data if self._never_blocks else data[:_PIPE_BUF])
        except BlockingIOError:
            return 0
        except OSError as error:
            self._give_up_sink(error.errno)
            return 0
        if self._is_ours and written:
            voice.passed(data[written - 1])
        return written

    def _hold(self, data: bytes) -> None:
        """Keep for later what the sink did not take, or count it."""
        if self._broken:
            self.lost += len(data)
        elif self.is_terminal and (self._skipped or len(self._pending) >= _HIGH_WATER):
            self._skipped += len(data)
            self.lost += len(data)
        else:
            self._pending += data

    def _give_up_sink(self, error: int | None) -> None:
        """A reader that left ends the writer, as it would bare; a full disk does not."""
        self._broken = True
        self.lost += len(self._pending)
        self._pending.clear()
        if error == errno.EPIPE:
            self._close_source()

    def _close_source(self) -> None:
        if self.source >= 0:
            os.close(self.source)
            self.source = -1
            self._let_go()

    def _let_go(self) -> None:
        """The command is done with it, so its reader shall see the end; 2 is also for our own words."""
        if self.source < 0 and not self._pending and self._sink != 2:
            point_at_null(self._sink)
            if self.out != self._sink:
                os.close(self.out)
                self.out = self._sink


def channels(watch: bool) -> tuple[tuple[int, ...], ...]:
    """Which of our descriptors 1 and 2 pass through the guard, those of one file together."""
    ours = tuple(fd for fd in (1, 2) if watch and is_open(fd))
    if len(ours) == 2 and os.path.samestat(os.fstat(1), os.fstat(2)):
        return (ours,)
    return tuple((fd,) for fd in ours)


def open_channel(sink: int) -> tuple[int, int]:
    """(our end, the command's end) of what stands in for our descriptor `sink`."""
    if os.isatty(sink):
        return terminal.open_pty(sink)
    ours, theirs = os.pipe()
    libc.call("fcntl", ours, _F_SETPIPE_SZ, _BLOCK)  # or as it was: a fast writer then waits more
    return ours, theirs


def point_at_null(fd: int) -> None:
    """Let go of a file, but keep its number taken."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_pipe(fd: int) -> bool:
    """An anonymous pipe, to which no reader can come once the last has left."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


def _without_blocking(sink: int) -> tuple[int, bool]:
    """A descriptor of the same file, and whether writes to it return at once.

    O_NONBLOCK belongs to the open file, which others share; /proc gives one of our own, for pipes and
    terminals, where they belong to this user.
    """
    info = os.fstat(sink)
    if stat.S_ISREG(info.st_mode) or os.path.samestat(info, os.stat(os.devnull)):
        return sink, True
    # Opened again, a master is that of another pty.
    is_master = stat.S_ISCHR(info.st_mode) and info.st_rdev == _PTMX
    if is_master or not (stat.S_ISFIFO(info.st_mode) or os.isatty(sink)):
        return sink, False
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{sink}", flags), True
    except OSError:
        return sink, False


def _ready(fd: int, event: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(milliseconds))
