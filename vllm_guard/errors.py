"""The one exception that is meant for the user, and the exit statuses (design, section 2)."""

from __future__ import annotations

FAILED = 1  #: a report command found something that failed
USAGE = 2
REFUSED = 78  #: preflight is certain that the run would fail (EX_CONFIG: a restart will not help)
DEADLINE = 124
GUARD_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class GuardError(Exception):
    """Something the user can act on: printed as `error: ...` and `hint: ...`, never a traceback.

    `exit_code` is the status of the whole program; each raiser chooses it by the contract above.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = GUARD_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
