"""A vLLM that does not move any more: in which phase, which process, and what that waits for."""

from __future__ import annotations

import os

from vllm_guard import facts, libc, paths, screen, signals, voice
from vllm_guard.model import Finding
from vllm_guard.moving import Movement

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from dataclasses import dataclass
    from typing import NoReturn

    from vllm_guard.redact import Redactor
    from vllm_guard.watch import Moment
else:
    import _signal as signal

    from vllm_guard.frozen import dataclass

_PATIENCE = 60.0  #: seconds that looking may take before a run is ended all the same
_PR_SET_PDEATHSIG = 1
_ANSWER = 1 << 16  #: bytes, what a pipe takes at once


@dataclass(frozen=True)
class Asked:
    """What is to be done about a stall, and what it takes to look."""

    after: float | None  #: seconds, in every phase of the start; None: by `data/stalls.toml`
    ends: bool  #: the run is ended then
    script: bool  #: it is not known that the command is a server
    path: str  #: the command's PATH
    interpreter: str  #: the command's; empty where it is not known
    dumps: str  #: where vLLM's own watchdog writes; empty for none
    redactor: Redactor


class Stalls:
    """`look` at each tick, `child_ended` at each SIGCHLD, then `end`. A stall is told once."""

    def __init__(self, asked: Asked, folder: str) -> None:
        self._asked = asked
        self._folder = folder  #: of the record; empty for none
        self._movement = Movement(facts.load("stalls")["limits"], asked.after, asked.script)
        self._phase = ""  #: of the last stall
        self._what = ""  #: that did not move
        self._child = 0  #: the pid of who looks at it
        self._answer = -1  #: what that found comes here
        self.findings: list[Finding] = []
        self.ends = ""  #: why the run is to be ended now

    def look(self, moment: Moment) -> None:
        """Has a stall begun or ended?"""
        movement = self._movement
        if movement.look(moment):
            if movement.stall:
                self._phase, self._what = moment.phase, movement.stall
                self._start(moment)
            else:
                said = f"{movement.seconds:.0f} s after a stall was found in phase {self._phase}"
                voice.say(f"the run moves again, {said}")
        elif movement.stall and movement.seconds > _PATIENCE:
            self._consider_the_end()

    def child_ended(self) -> None:
        """Who looked may have ended."""
        if self._child and self._is_gone(os.WNOHANG):
            voice.say_findings([self._found()], verbose=False)
            self._consider_the_end()

    def end(self) -> None:
        """The run is over, and so is looking."""
        if self._child:
            os.killpg(self._child, signal.SIGKILL)
            self._is_gone(0)
            self._found()

    def _start(self, moment: Moment) -> None:
        """In a process of its own: reading stacks takes seconds, and signals do not wait."""
        self.end()
        number = len(self.findings) + 1
        path = f"{self._folder}/stacks-{number}.txt" if self._folder else ""
        self._answer, answer = os.pipe()
        try:
            self._child = os.fork()
        except OSError:  # no process is left: then what is known must do
            os.close(answer)
            voice.say_findings([self._found()], verbose=False)
            return
        if self._child == 0:
            _work(self._asked, moment, self._what, path, answer)
        os.close(answer)
        try:
            os.setpgid(
                self._child, self._child
            )  # with py-spy, which it starts; done by the child, too
        except (PermissionError, ProcessLookupError):
            return

    def _is_gone(self, how: int) -> bool:
        try:
            gone = os.waitpid(self._child, how)[0] != 0
        except ChildProcessError:  # the keeper was lost, and all our children were reaped
            gone = True
        if gone:
            self._child = 0
        return gone

    def _found(self) -> Finding:
        """What the child has told, as far as it came."""
        told = os.read(self._answer, _ANSWER).decode("utf-8", "replace")
        os.close(self._answer)
        fact, _, fix = told.partition("\n")
        finding = Finding("stall", "warn", f"phase {self._phase}", fact or self._what, fix=fix)
        self.findings.append(finding)
        return finding

    def _consider_the_end(self) -> None:
        if self._asked.ends and self._movement.stall:
            self.ends = f"--stall kill in phase {self._phase}: {self._what}"


def _work(asked: Asked, moment: Moment, what: str, path: str, answer: int) -> NoReturn:
    """In the child; nothing of the guard's is kept open, above all no pipe whose end tells its death.

    `path`: the file for the stacks, or empty; `answer`: the descriptor for what was found.
    """
    try:
        parent = os.getppid()
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signals.give_back(signals.Inherited(frozenset(), frozenset()))
        libc.call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.closerange(3, answer)
        os.closerange(answer + 1, os.sysconf("SC_OPEN_MAX"))
        if os.getppid() == parent:
            _tell(asked, moment, what, path, answer)
    finally:
        os._exit(0)


def _tell(asked: Asked, moment: Moment, what: str, path: str, answer: int) -> None:
    from vllm_guard import stacks, waiting

    tool = stacks.find_tool(asked.path, asked.interpreter)
    found = stacks.look(sorted(moment.counters.processes), tool, asked.redactor)
    blamed = waiting.blame(found, facts.load("stalls")["waits"])
    fact, fix = waiting.words(what, found, blamed)
    mask = asked.redactor.text
    if path:
        text = mask(waiting.text((fact, fix), found)).encode("utf-8", "backslashreplace")
        try:
            paths.write_private(path, text)
            fact += f"; stacks: {path}"
        except OSError as error:
            fact += f"; the stacks are not kept: {error.strerror}"
    if asked.dumps and blamed is not None:
        own = f"VLLM_STACK_DUMP_for_*_{blamed.stack.pid}.log"
        fact += f"; vLLM's own, after its timeout: {asked.dumps}/{own}"
    lines = (screen.printable(mask(line)) for line in (fact, fix))
    os.write(answer, "\n".join(lines).encode("utf-8", "backslashreplace"))
