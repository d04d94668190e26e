"""The command line: the launch form is parsed by hand (`options`), everything else by click."""

from __future__ import annotations

import errno
import gc
import os
import sys

from vllm_guard import ending, voice
from vllm_guard.errors import GUARD_FAILED, GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

gc.disable()  # a look at all objects so far takes 0.5 ms; `launch` turns it on again


def main() -> NoReturn:
    """The whole program."""
    try:
        status = _dispatch(sys.argv[1:])
    except GuardError as error:
        voice.say_error(error)
        status = error.exit_code
    except KeyboardInterrupt:
        ending.die_of_sigint()
    except Exception as error:  # noqa: BLE001  (the last line of defence: no traceback for users)
        status = _no_memory() if _is_no_memory(error) else _report_bug(error)
    ending.leave(status)


def _dispatch(words: list[str]) -> int:
    from vllm_guard import options

    launch = options.parse_launch(words)
    if launch is not None:
        from vllm_guard.commands import run

        run.start(launch)
    from vllm_guard.commands import group

    return group.main(words)


def _is_no_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM


def _no_memory() -> int:
    voice.say_error(GuardError("no memory is left for vllm-guard: see ulimit -v, free -h"))
    return GUARD_FAILED


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
