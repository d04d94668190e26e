"""The command line: the launch form is parsed by hand (`options`), everything else by click."""

from __future__ import annotations

import os
import sys

from vllm_guard import voice
from vllm_guard.errors import GUARD_FAILED, GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from vllm_guard.model import Outcome
    from vllm_guard.options import RunOptions
else:
    import _signal as signal

_COMPLETION = "_VLLM_GUARD_COMPLETE"


def main() -> NoReturn:
    """The whole program. Leaves by `_exit`: nothing is buffered, and tearing Python down takes time."""
    try:
        status = _dispatch(sys.argv[1:])
    except GuardError as error:
        voice.say_error(error)
        status = error.exit_code
    except KeyboardInterrupt:
        die_of_sigint()
    except Exception as error:  # noqa: BLE001  (the last line of defence: no traceback for users)
        status = _report_bug(error)
    _leave(status)


def start(options: RunOptions) -> NoReturn:
    """Carry out a launch and end as its command ended."""
    from vllm_guard import launch
    from vllm_guard.commands import run

    closed = launch.plug_closed_stdio()
    _end_as(run.run(options, closed))


def die_of_sigint() -> NoReturn:
    """Die of SIGINT, so that a calling shell script stops too (a mere exit status 130 lets it go on)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)
    _leave(128 + signal.SIGINT)  # PID 1 of a container cannot be killed, not even by itself


def _dispatch(words: list[str]) -> int:
    if _COMPLETION not in os.environ:
        from vllm_guard import options

        launch = options.parse_launch(words)
        if launch is not None:
            start(launch)
    from vllm_guard.commands import group

    return group.main(words)


def _end_as(outcome: Outcome) -> NoReturn:
    if outcome.kind == "signalled" and outcome.signal == signal.SIGINT:
        if outcome.ended_by == "Ctrl-C" and os.getpgrp() != os.getpid():
            # The terminal's signal went to the command's group only. The script that called us is in
            # our group, and stops only if it gets the signal itself, as it would have without us.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(0, signal.SIGINT)
        die_of_sigint()
    _leave(outcome.code)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(status)


def _report_bug(error: Exception) -> int:
    """A bug of ours: one line for the user, the traceback into a file for us."""
    import traceback

    from vllm_guard import paths

    text = "".join(traceback.format_exception(error))
    where = os.path.join(paths.base_dir("state", os.environ), "crash.txt")
    try:
        paths.make_private(os.path.dirname(where))
        paths.write_private(where, text.encode("utf-8", "backslashreplace"))
    except OSError:
        where = "nowhere (the state folder cannot be written)"
    message = f"internal error: {type(error).__name__}: {error}"
    voice.say_error(GuardError(message, f"please report it; the traceback is in {where}"))
    return GUARD_FAILED
