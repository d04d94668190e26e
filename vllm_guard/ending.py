"""How this process ends: as its command did, as far as a process can."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from vllm_guard.model import Outcome
else:
    import _signal as signal


def end_as(outcome: Outcome) -> NoReturn:
    """End with the command's status, or of the SIGINT that it died of."""
    if outcome.kind == "signalled" and outcome.signal == signal.SIGINT:
        die_of_sigint()
    leave(outcome.code)


def die_of_sigint() -> NoReturn:
    """Die of SIGINT, so that a calling shell script stops too (a mere exit status 130 lets it go on)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)
    leave(128 + signal.SIGINT)  # PID 1 of a container cannot be killed, not even by itself


def leave(status: int) -> NoReturn:
    """Exit at once: tearing Python down takes longer than a launch."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(status)
