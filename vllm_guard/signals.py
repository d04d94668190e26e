"""Signal state as it was inherited, given back to the command untouched; and the subreaper call.

`signal` itself imports `enum` (5 ms before every launch); its C half has all that is needed here.
"""

from __future__ import annotations

import os

from vllm_guard import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from dataclasses import dataclass
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

ALL = frozenset(int(number) for number in signal.valid_signals())
#: Sent by the kernel for a fault of the process itself, or not to be caught: never forwarded (as tini).
_NOT_OURS = frozenset(
    int(s)
    for s in (
        signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
        signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS, signal.SIGTTIN, signal.SIGTTOU,
    )
)  # fmt: skip
#: Python ignores these two at start without keeping what was inherited; `subprocess` restores them too.
#: They are answers to this process's own writes (a reader that left, a file too large), and never forwarded.
_CHANGED_BY_PYTHON = frozenset(int(s) for s in (signal.SIGPIPE, signal.SIGXFSZ))
FORWARDED = ALL - _NOT_OURS - _CHANGED_BY_PYTHON
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Inherited:
    """The blocked and the ignored signals this process was started with."""

    blocked: frozenset[int]
    ignored: frozenset[int]


def hold() -> Inherited:
    """Block every signal and return what was inherited; called once, before the first fork."""
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ALL)
    ignored = {s for s in ALL if signal.getsignal(s) == signal.SIG_IGN} - _CHANGED_BY_PYTHON
    return Inherited(frozenset(int(s) for s in blocked), frozenset(ignored))


def give_back(inherited: Inherited) -> None:
    """Dispositions, then the mask: the last thing before exec."""
    for number in ALL - {int(signal.SIGKILL), int(signal.SIGSTOP)}:
        wanted = signal.SIG_IGN if number in inherited.ignored else signal.SIG_DFL
        if signal.getsignal(number) != wanted:  # 60 system calls less before every command
            signal.signal(number, wanted)
    signal.pthread_sigmask(signal.SIG_SETMASK, inherited.blocked)


def ignore(numbers: Iterable[int]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def listen(numbers: Iterable[int], wakeup: int) -> None:
    """From now on each of these signals is one byte in the (non-blocking) `wakeup` pipe, in order."""
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, woken)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def send_to_job(number: int) -> None:
    """To all of our process group but ourselves."""
    ours = signal.signal(number, signal.SIG_IGN)
    os.kill(0, number)
    signal.signal(number, ours)


def name(number: int) -> str:
    """`SIGTERM` for 15; real-time signals by number."""
    for key, value in vars(signal).items():
        if value == number and key.startswith("SIG") and not key.startswith("SIG_"):
            return key
    return f"signal {number}"


def become_subreaper() -> bool:
    """Orphans of this process's descendants become its children (Linux 3.4); False where refused."""
    return libc.call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def woken(*_: object) -> None:
    """The wakeup pipe has the byte; nothing is done inside a handler."""
