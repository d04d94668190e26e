"""Work with a time limit in a process of its own: what may hang is ended, and nothing of it stays."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from vllm_guard import libc, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any, NoReturn

_UNKILLABLE = 1.0  #: seconds to wait for a process after SIGKILL: in a stuck system call it stays
_PR_SET_PDEATHSIG = 1


def in_turn(
    jobs: Sequence[Callable[[], Any]], limits: Sequence[float]
) -> Generator[Any, None, None]:
    """What each function returns, as JSON has it; where it died or took more seconds, that error.

    One process calls them all: what one has looked up, the next need not. It is replaced when it is lost.
    """
    done = 0
    while done < len(jobs):
        child = Child((json.dumps(job()) for job in jobs[done:]), ending=0.0)
        try:
            for limit in limits[done:]:
                done += 1
                yield json.loads(child.line(limit))
        except (TimeoutError, ChildProcessError) as error:
            yield error
        finally:
            child.close()


class Child:
    """A forked process that writes lines to a pipe; nothing of it stays, whatever happens here."""

    def __init__(self, lines: Iterator[str], ending: float) -> None:
        self._ending = ending  #: seconds that it may take to end when it is told to
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._read, write = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._read)
            _work(lines, write, parent)
        os.close(write)
        self._text = b""
        self._ended = False

    def close(self) -> None:
        """End it, however far it is."""
        os.close(self._read)
        self._end(signal.SIGTERM, self._ending)
        self._end(signal.SIGKILL, _UNKILLABLE)

    def line(self, seconds: float, progress: Callable[[float], None] = lambda _: None) -> str:
        """The next that it writes. Raises TimeoutError, and ChildProcessError where it died instead."""
        start = time.monotonic()
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        while b"\n" not in self._text:
            passed = time.monotonic() - start
            if passed >= seconds:
                raise TimeoutError(f"no answer within {seconds:g} s")
            progress(passed)
            if not poll.poll(min(1.0, seconds - passed) * 1000):
                continue
            data = os.read(self._read, 65536)
            self._text += data
            if not data:
                why = self._text.decode("utf-8", "replace") or self._how()
                raise ChildProcessError(f"the process that looked died: {why}")
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def _how(self) -> str:
        _, status = os.waitpid(self._pid, 0)
        self._ended = True
        code = os.waitstatus_to_exitcode(status)
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def _end(self, number: int, seconds: float) -> None:
        """It ends by itself once it has written; who has not is told, and waited for."""
        deadline = time.monotonic() + seconds
        told = False
        while not self._ended and time.monotonic() < deadline:
            pid, _ = os.waitpid(self._pid, os.WNOHANG)
            self._ended = pid != 0
            if not self._ended and not told:
                told = True
                os.kill(self._pid, number)
            time.sleep(0 if self._ended else 0.005)


def _work(lines: Iterator[str], write: int, parent: int) -> NoReturn:
    """In the child: a session of its own, so that Ctrl-C reaches only the parent, which tells us."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        libc.call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() == parent:
            for line in lines:
                paths.write_all(write, line.encode() + b"\n")
            status = 0
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent is to know it)
        words = " ".join(f"{type(error).__name__}: {error}".split())
        paths.write_all(write, words.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)
