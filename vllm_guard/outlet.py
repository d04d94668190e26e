"""All that the command writes: its streams, opened, served while it runs, and drained when it has ended."""

from __future__ import annotations

import os
import select

from vllm_guard import pump, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_guard.model import Launch


def plug_closed() -> tuple[int, ...]:
    """Open /dev/null for each of 0, 1, 2 that is closed, so that no file of ours gets that number."""
    closed = tuple(fd for fd in (0, 1, 2) if not pump.is_open(fd))
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number, each time
    return closed


class Outlet:
    """The streams that stand in for our stdout and stderr."""

    def __init__(self, launch: Launch, keep: Callable[[bytes], None]) -> None:
        """Open them; raises OSError where no descriptor is left."""
        self.stdio = [0, 1, 2]  #: what becomes 0, 1 and 2 of the command
        self._streams: list[pump.Stream] = []
        self._theirs: list[int] = []
        groups = pump.channels(launch.watch)
        if launch.quiet and groups:
            groups = (tuple(fd for group in groups for fd in group),)
        for group in groups:
            sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if launch.quiet else group[0]
            ours, theirs = pump.open_channel(sink)
            self._streams.append(pump.Stream(ours, sink, keep))
            self._theirs.append(theirs)
            for fd in group:
                self.stdio[fd] = theirs

    @property
    def lost(self) -> int:
        """Bytes that could not be written."""
        return sum(stream.lost for stream in self._streams)

    def close_ours(self) -> None:
        """In the keeper."""
        for stream in self._streams:
            os.close(stream.source)

    def close_theirs(self) -> None:
        """In the guard."""
        for fd in self._theirs:
            os.close(fd)

    def register(self, poll: select.poll) -> list[tuple[int, pump.Stream]]:
        """What `serve` needs, with the answer of that poll."""
        wanted = [(fd, event, s) for s in self._streams for fd, event in s.interests()]
        for fd, event, _ in wanted:
            poll.register(fd, event)
        return [(fd, stream) for fd, _, stream in wanted]

    def serve(self, wanted: list[tuple[int, pump.Stream]], ready: set[int]) -> None:
        """Read and write as far as that cannot block."""
        for fd, stream in wanted:
            if fd in ready:
                stream.fill() if fd == stream.source else stream.flush()

    def copy_size(self) -> bool:
        """Give the command's ptys the size of our terminals; True when that changed one."""
        return any(list(map(pump.Stream.copy_size, self._streams)))

    def drain(self, wakeup: int, limit: Callable[[bool], float | None]) -> None:
        """Write what is still on its way, until the time (monotonic) that `limit` says.

        It is asked again at each signal (a byte in `wakeup`, which it reads), and told whether only terminals
        are left, which may be stopped for ever.
        """
        for stream in self._streams:
            stream.take_rest()
        while left := [stream for stream in self._streams if stream.pending]:
            until = limit(all(stream.is_terminal for stream in left))
            poll = select.poll()
            poll.register(wakeup, select.POLLIN)
            for stream in left:
                poll.register(stream.out, select.POLLOUT)
            ready = {
                fd for fd, _ in poll.poll(None if until is None else tree.milliseconds_until(until))
            }
            if not ready:
                break
            for stream in left:
                if stream.out in ready:
                    stream.flush()
        for stream in self._streams:
            stream.give_up()
