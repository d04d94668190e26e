"""Work with a time limit, in a process of its own: a quick check that may hang, a full one that may crash.

`in_turn` forks and calls functions. `Trials` launches one step of `inside/` in the target's interpreter as
a run like any other: with a keeper, a private folder, a deadline and nothing left behind. The process that
does so is forked, too, and is told to end when this one dies.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_guard import environment, folders, libc, paths, prepare, record
from vllm_guard.errors import GuardError
from vllm_guard.frozen import replace
from vllm_guard.probes.full import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import NoReturn

    from vllm_guard.model import Outcome
    from vllm_guard.options import RunOptions
    from vllm_guard.prepare import Prepared

    Start = Callable[[RunOptions, tuple[int, ...]], Outcome]
    Progress = Callable[[float], None]

_MAIN = os.path.join(os.path.dirname(__file__), "inside", "main.py")
_SPARE = 4.0  #: seconds from the dump of the stacks to the deadline
_ENDING = 30.0  #: seconds that the end of a run may take
_UNKILLABLE = 1.0  #: seconds to wait for a process after SIGKILL: in a stuck system call it stays
_SAID_LINES = 12
_SAID_BYTES = 16_384
_PR_SET_PDEATHSIG = 1


def in_turn(
    jobs: Sequence[Callable[[], Any]], limits: Sequence[float]
) -> Generator[Any, None, None]:
    """What each function returns, as JSON has it; where it died or took more seconds, that error.

    One process calls them all: what one has looked up, the next need not. It is replaced when it is lost.
    """
    done = 0
    while done < len(jobs):
        child = _Child((json.dumps(job()) for job in jobs[done:]), ending=0.0)
        try:
            for limit in limits[done:]:
                done += 1
                yield json.loads(child.line(limit))
        except (TimeoutError, ChildProcessError) as error:
            yield error
        finally:
            child.close()


@dataclass(frozen=True)
class Trials:
    """Steps in the target's interpreter, in the environment that the command would have."""

    prepared: Prepared
    start: Start  #: carries out a launch
    progress: Progress  #: is told the seconds since the start

    def ask(
        self, step: str, asked: dict[str, Any], limit: float, profiles: Sequence[str] = ()
    ) -> Answer:
        """What the step says within its limit in seconds; `profiles`: on top of the command's."""

        def attempt() -> Iterator[str]:
            yield json.dumps(self._attempt(step, asked, limit, tuple(profiles)))

        child = _Child(attempt(), ending=_ENDING)
        try:
            text = child.line(limit + _SPARE + _ENDING, self.progress)
        except (TimeoutError, ChildProcessError) as error:
            return Answer(kind="lost", reason=str(error))
        finally:
            child.close()
        return Answer(**{key: _frozen(value) for key, value in json.loads(text).items()})

    def _attempt(
        self, step: str, asked: dict[str, Any], limit: float, profiles: tuple[str, ...]
    ) -> dict[str, Any]:
        """In the forked process: launch, look at what came of it, remove it."""
        before = environment.view(environment.inherited())
        folder = prepare.private_folder(record.new_id(), before)
        folders.make(folder)
        try:
            os.mkdir(os.path.join(folder, "stacks"))
            _speak_to(os.path.join(folder, "said"))
            order = {
                "step": step,
                "rows": os.path.join(folder, "rows"),
                "stacks": os.path.join(folder, "stacks"),
                "limit": limit,
                "ask": {**asked, "folder": folder},
            }
            ended = self._launch(order, profiles, folder)
            return {**ended, **_found(folder)}
        finally:
            folders.remove(folder)

    def _launch(
        self, order: dict[str, Any], profiles: tuple[str, ...], folder: str
    ) -> dict[str, Any]:
        target = self.prepared.target
        assert target is not None
        options = self.prepared.options
        result = os.path.join(folder, "run.json")
        # What fails in the plan is said by the doctor; here it must not keep the step from running.
        failing = tuple(f.id for f in self.prepared.findings if f.status == "fail")
        mine = replace(
            options,
            command=(target.interpreter, _MAIN, json.dumps(order)),
            profiles=(*options.profiles, *profiles),
            env=(*options.env, f"TMPDIR={folder}"),
            ignore=(*options.ignore, *failing),
            python=target.interpreter,
            preflight="off",
            deadline=order["limit"] + _SPARE,
            json=result,
            exec=False,
            no_watch=True,
            allow_daemon=False,
            dry_run=False,
        )
        try:
            outcome = self.start(mine, ())
        except GuardError as error:
            return {"kind": "not-started", "code": error.exit_code, "reason": error.message}
        document = json.loads(paths.peek(result, 16 << 20))
        record.Shelf(self.prepared.before).remove(document["id"])  # of interest to nobody
        left = tuple(f["subject"] for f in document["leftovers"] if f["id"] == "left-behind")
        return {"kind": outcome.kind, "code": outcome.code, "signal": outcome.signal, "left": left}


class _Child:
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

    def line(self, seconds: float, progress: Progress = lambda _: None) -> str:
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


def _speak_to(path: str) -> None:
    """From now on stdout and stderr go to this file, and stdin is empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd, place in ((null, 0), (said, 1), (said, 2)):
        os.dup2(fd, place)
    os.close(null)
    os.close(said)


def _found(folder: str) -> dict[str, Any]:
    """What the step left in its folder: its rows, its last words, its stacks."""
    rows = [json.loads(line) for line in _text(os.path.join(folder, "rows")).splitlines()]
    stacks = os.path.join(folder, "stacks")
    texts = {name: _text(os.path.join(stacks, name)) for name in sorted(os.listdir(stacks))}
    said = _text(os.path.join(folder, "said"))[-_SAID_BYTES:].splitlines()
    return {
        "rows": rows,
        "said": [line for line in said if line.strip()][-_SAID_LINES:],
        "stacks": {name: text.splitlines() for name, text in texts.items() if text},
    }


def _text(path: str) -> str:
    try:
        return paths.peek(path, 4 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
