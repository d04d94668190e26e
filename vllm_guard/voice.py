"""How the guard speaks: on stderr, one prefixed line at a time, never failing because of it."""

from __future__ import annotations

import os
import select
import sys

from vllm_guard import screen
from vllm_guard.model import worst_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_guard.errors import GuardError
    from vllm_guard.model import Finding

PREFIX = "vllm-guard: "
_PIPE_BUF = 4096
_NEWLINE = 10
_COLUMNS = 80  #: of a terminal that does not know its size
_STALLED = 1.0  #: seconds
_patience: float | None = (
    None  #: how long a stalled reader is waited for, in seconds; None: for ever
)
_mid_line = False  #: the command's last byte on the file of our stderr was no newline
_live = False  #: a line that is written over stands there
_ERASE = "\r\x1b[K"
_COLOURS = {"fail": "31", "error": "31", "warn": "33", "ok": "32", "note": "36", "hint": "36"}


def say(line: str, tone: str = "") -> None:
    """Write one line to stderr; `tone` (a status, `error` or `hint`) colours its first word."""
    global _mid_line
    erase()
    begin = "\n" if _mid_line else ""
    _mid_line = False
    write(2, f"{begin}{PREFIX}{_coloured(line, tone)}\n")


def say_error(error: GuardError) -> None:
    """`error: ...`, then `hint: ...`."""
    say(f"error: {screen.printable(error.message)}", "error")
    if error.hint:
        say(f"hint: {screen.printable(error.hint)}", "hint")


def say_findings(findings: Sequence[Finding], verbose: bool) -> None:
    """The worst first: one line for each (status, id, subject, fact), its fix, then why under `verbose`."""
    for finding in worst_first(findings):
        say(
            f"{finding.status} {finding.id}: "
            f"{screen.shortened(finding.subject, 200)}: {screen.printable(finding.fact)}",
            finding.status,
        )
        if finding.fix:
            say(f"  fix: {screen.printable(finding.fix)}")
        if verbose and finding.why:
            say(f"  why: {screen.printable(finding.why)}")
        if verbose and finding.uri:
            say(f"  see: {finding.uri}")


def progress(what: str, seconds: float) -> None:
    """On a terminal, one line that is written over: what takes so long; empty when it is over."""
    if what:
        live(f"{what}: {seconds:.0f} s")
    else:
        erase()


def live(text: str) -> None:
    """On a terminal, a line that is written over, or erased before anything else is written.

    None in the middle of a line of the command's, nor where the terminal is to get no escapes.
    """
    global _live
    if os.isatty(2) and screen.wants_colour(os.environ, True) and not _mid_line and _takes(2, 0.0):
        columns = os.get_terminal_size(2).columns or _COLUMNS
        write(2, f"{_ERASE}{PREFIX}{text}"[: len(_ERASE) + columns - 1])
        _live = True


def erase() -> None:
    """Make room for what is written next."""
    global _live
    if _live and _takes(2, 0.0):
        _live = False
        write(2, _ERASE)


def passed(last: int) -> None:
    """The command's output went to the file of our stderr, up to this byte."""
    global _mid_line
    _mid_line = last != _NEWLINE


def be_brief() -> None:
    """From now on there is more to do than to wait for a reader: one that stalls is waited for once."""
    global _patience
    _patience = _STALLED


def write(fd: int, text: str) -> None:
    """Write to a stream that may be closed, full or gone; then there is nobody to tell, so go on."""
    global _patience
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    data = memoryview(text.encode(encoding, "backslashreplace"))
    try:
        while data:
            if _patience is not None and not _takes(fd, _patience):
                _patience = 0.0
                return
            data = data[os.write(fd, data[:_PIPE_BUF]) :]
    except OSError:
        return


def _takes(fd: int, seconds: float) -> bool:
    """Will a write of up to PIPE_BUF return at once, now or within that time?"""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _coloured(line: str, tone: str) -> str:
    colour = _COLOURS.get(tone)
    if not colour or not screen.wants_colour(os.environ, os.isatty(2)):
        return line
    first, space, rest = line.partition(" ")
    return f"\x1b[{colour}m{first}\x1b[0m{space}{rest}"


def silence_stdout() -> None:
    """Point stdout at /dev/null: its reader left, and flushing at exit must not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
