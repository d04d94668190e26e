"""The file of `--json FILE`: opened before anything is started, written when all is known."""

from __future__ import annotations

import os
import stat

from vllm_guard import record, voice
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.model import Run


def opened(path: str) -> int:
    """A descriptor; what is there is emptied when there is something to write. Raises GuardError 125."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GuardError(f"--json: cannot write {path}: {error.strerror}") from None


def write(sink: int, run: Run) -> None:
    """Write the run as one JSON document, and close."""
    try:
        with os.fdopen(sink, "wb") as file:
            if stat.S_ISREG(os.fstat(sink).st_mode):
                os.ftruncate(sink, 0)
            file.write(record.to_json(run))
    except OSError as error:
        voice.say(f"warn --json: not written: {error.strerror}", "warn")
