"""What may come of writing guards, besides a script with guards."""

from __future__ import annotations

from typing import NamedTuple

LAUNCH = "vllm-guard -- python SCRIPT"  #: in hints


class RefusedError(Exception):
    """The script cannot be guarded safely: `reason` in one line, and the way out."""

    def __init__(self, line: int, reason: str, hint: str, is_library: bool = False) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.hint = hint
        self.is_library = is_library  #: the file is there to be imported, not to be run

    def way_out(self, launch: str) -> str:
        """The hint; `launch` is the command line that runs the script as it is."""
        return self.hint.replace(LAUNCH, launch)


class UnwritableError(Exception):
    """LibCST cannot read the source, or not without changing it."""


class Note(NamedTuple):
    """What the reader of the change should know."""

    line: int
    text: str
