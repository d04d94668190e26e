"""The last words about a run that failed: what failed, why, what to do; for people and for machines."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from vllm_guard import facts, formats, log, screen, signatures, voice
from vllm_guard.diagnose import Diagnosis
from vllm_guard.frozen import replace
from vllm_guard.phases import SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vllm_guard.model import Incident, Outcome

#: Kubernetes shows what stands in it at the container's end (its `terminationMessagePath`).
TERMINATION_LOG = "/dev/termination-log"
_TERMINATION_LIMIT = 4096  #: bytes; what is more is cut off by the kubelet
_BLOCK = 1 << 18  #: bytes


def incidents(
    path: str, outcome: Outcome | None, phases: Sequence[str], redact: Callable[[str], str]
) -> tuple[tuple[Incident, ...], Diagnosis]:
    """What the log of a run tells of its failure, and the diagnosis that has read it.

    `path`: of its `output.log`, empty where there is none; `outcome`: how it ended, if that is known;
    `phases`: that it went through.
    """
    diagnosis = Diagnosis(signatures.parse(facts.signatures()), redact)
    for part in log.parts(path):
        with open(part, "rb") as file:
            while block := file.read(_BLOCK):
                diagnosis.feed(block)
    under_way = next((phase for phase in reversed(phases) if phase != SHUTDOWN), "")
    found = diagnosis.finish(outcome)
    return tuple(replace(incident, phase=under_way) for incident in found), diagnosis


def words(incident: Incident) -> tuple[str, str, str]:
    """What failed, why, and what to do."""
    who = f"{incident.process}: " if incident.process else ""
    phase = f", in phase {incident.phase}" if incident.phase else ""
    where = f", line {incident.line} of the log" if incident.line else ""
    name = incident.id or incident.status
    return (
        f"failed: {who}{incident.title} ({name}{phase}{where})",
        f"why: {incident.cause}",
        f"fix: {incident.fix}",
    )


def say(found: Sequence[Incident], record: str, env: Mapping[str, str]) -> None:
    """The first incident, last of all on stderr, in the termination log, and to GitHub; then the record.

    GitHub's runner looks for workflow commands on stderr as well (actions/runner, ScriptHandler.cs); stdout
    is the command's own.
    """
    lines = [screen.printable(line) for line in words(found[0])]
    where = [f"record: {screen.printable(record)}"] if record else []
    for line, tone in zip(lines, ("fail", "", "hint"), strict=True):
        voice.say(line, tone)
    for line in where:
        voice.say(line)
    _leave("\n".join((*lines, *where)) + "\n")
    if env.get("GITHUB_ACTIONS") == "true":
        title = found[0].id or found[0].status
        voice.write(2, formats.annotation("error", title, "\n".join(lines)) + "\n")


def _leave(text: str) -> None:
    """Into the termination log, behind what the command may have left there."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(TERMINATION_LOG, flags)
    except OSError:  # there is none, as nearly everywhere
        return
    try:
        info = os.fstat(fd)
        if stat.S_ISREG(info.st_mode):
            data = text.encode("utf-8", "replace")
            os.write(fd, data[: max(0, _TERMINATION_LIMIT - info.st_size)])
    except OSError:
        return
    finally:
        os.close(fd)
