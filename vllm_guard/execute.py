"""Becoming the command: what the forked child does, and what it means when that fails."""

from __future__ import annotations

import os

from vllm_guard import environment, signals, terminal
from vllm_guard.errors import NOT_EXECUTABLE, NOT_FOUND, GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import NoReturn

    from vllm_guard.model import Launch
    from vllm_guard.signals import Inherited
else:
    from vllm_guard.frozen import dataclass

EXECUTES = b"+"  #: told by the child before it executes


@dataclass(frozen=True)
class Ends:
    """The file descriptors a keeper is born with; -1 where there is none."""

    control: int  #: read: from the guard
    status: int  #: write: to the guard
    stdio: tuple[int, int, int]  #: what becomes 0, 1 and 2 of the command; -1: closed
    tty: int  #: the controlling terminal, when the command shall have its foreground


def become(launch: Launch, ends: Ends, inherited: Inherited, report: int) -> NoReturn:
    """In the child: become the command, with everything as the guard itself inherited it."""
    try:
        os.setpgid(0, 0)
        if ends.tty >= 0:
            terminal.give(ends.tty, os.getpid())  # SIGTTOU is blocked here
        _place_stdio(ends.stdio)
        os.write(report, EXECUTES)
        signals.give_back(inherited)
        os.execve(launch.path, launch.argv, environment.block(launch.env))
    except OSError as error:
        os.write(report, str(error.errno).encode())
    finally:
        os._exit(125)


def _place_stdio(stdio: tuple[int, int, int]) -> None:
    """Make these three 0, 1 and 2. All sources are above 2 or already in place."""
    for target, source in enumerate(stdio):
        if source < 0:
            os.close(target)
        elif source == target:
            os.set_inheritable(target, True)
        else:
            os.dup2(source, target, inheritable=True)


def failure(launch: Launch, number: int) -> GuardError:
    """What an errno of fork or exec means to the user, with the exit status of the contract."""
    import errno

    name = os.fsdecode(launch.path)
    if number == errno.ENOENT:
        from vllm_guard.target.words import interpreter_of

        wanted = interpreter_of(name)
        text = f"its interpreter {wanted} does not exist" if wanted else "it does not exist"
        return GuardError(f"cannot run {name}: {text}", exit_code=NOT_FOUND)
    if number == errno.ENOEXEC:
        hint = "does it lack a first line such as `#!/bin/sh`?"
        return GuardError(f"cannot run {name}: not a program", hint, exit_code=NOT_EXECUTABLE)
    if number in (errno.EAGAIN, errno.ENOMEM, errno.E2BIG, errno.EMFILE, errno.ENFILE):
        return GuardError(f"cannot start {name}: {os.strerror(number)}", "see `ulimit -a`")
    return GuardError(f"cannot run {name}: {os.strerror(number)}", exit_code=NOT_EXECUTABLE)


def replace_process(launch: Launch) -> None:
    """`--exec`: become the command. Returns only when that failed, by raising GuardError."""
    signals.give_back(signals.hold())
    try:
        os.execve(launch.path, launch.argv, environment.block(launch.env))
    except OSError as error:
        raise failure(launch, error.errno or 0) from None
