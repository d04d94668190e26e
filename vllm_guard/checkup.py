"""Every check, one by one, each within its limit: what `doctor` does, and `--preflight full`.

A launch calls the quick probes in its own process, where they cost nothing. Here a forked one calls them,
so that one that hangs, in a dead NFS mount for example, is a finding and not the end of the others.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vllm_guard import aside, kept, nvml, prepare, probes, report, trial
from vllm_guard.errors import NOT_EXECUTABLE, NOT_FOUND, USAGE, GuardError
from vllm_guard.frozen import plain
from vllm_guard.model import SEVERITY, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from vllm_guard.model import Status
    from vllm_guard.prepare import Prepared
    from vllm_guard.probes import Context
    from vllm_guard.trial import Start

    #: Is told which check is under way, and for how many seconds; empty when it is over.
    Progress = Callable[[str, float], None]

#: They find nothing where there is no GPU, which is not as if it were well.
_OF_GPUS = ("gpu-health", "gpu-links", "gpu-memory")
_LIMIT = 5.0  #: seconds for a quick probe that does not say otherwise
NEEDS = {
    "command": "nothing",
    "python": "the command's Python",
    "vllm": "vLLM",
    "machine": "a command that uses vLLM",
    "server": "a `vllm serve` command",
}


@dataclass(frozen=True)
class Check:
    """Something that can be checked: a probe, or the command and its plan."""

    id: str
    tier: Literal["quick", "full"]
    area: str  #: the folder of the probe
    name: str  #: the file of the probe; empty for the command
    title: str
    needs: str
    limit: float  #: seconds


@dataclass(frozen=True)
class Checked:
    """What came of it."""

    check: Check
    findings: tuple[Finding, ...]
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        return worst(self.findings)


_COMMAND = Check("command", "quick", "command", "", "the command and its variables", "nothing", 0.0)


def catalogue() -> list[Check]:
    """Every check there is, the quick ones first."""
    return [_COMMAND, *_in_folders(*probes.FOLDERS), *_in_folders(probes.FULL)]


def select(only: Sequence[str], skip: Sequence[str], full: bool) -> list[Check]:
    """The checks that were asked for; a full one that is named needs no `--full`. Raises GuardError 2."""
    known = catalogue()
    ids = [check.id for check in known]
    for option, names in (("--only", only), ("--skip", skip)):
        for name in names:
            if name not in ids:
                near = get_close_matches(name, ids, 1)
                hint = f"did you mean {near[0]}?" if near else "see vllm-guard doctor --list"
                raise GuardError(f"{option}: no such check: {name}", hint, exit_code=USAGE)
    wanted = only or [check.id for check in known if full or check.tier == "quick"]
    return [check for check in known if check.id in wanted and check.id not in skip]


def run(
    prepared: Prepared,
    checks: Sequence[Check],
    start: Start,
    progress: Progress,
    keep: bool = False,
) -> Iterator[Checked]:
    """Carry the checks out, in order; `start` carries out a launch, for the full ones.

    `keep`: a full one that went well before, on the same machine and for the same, is not repeated.
    """
    with contextlib.closing(_quick(prepared, checks)) as quick:
        for check in checks:
            begun = time.monotonic()
            if check == _COMMAND:
                found = _of_command(prepared)
                seconds = time.monotonic() - begun
            elif check.tier == "quick":
                found, seconds = next(quick)
            else:
                trials = trial.Trials(prepared, start, _progress_of(check, progress))
                found = _full(prepared, check, trials, keep)
                seconds = time.monotonic() - begun
                progress("", 0.0)
            masked = [report.masked_finding(finding, prepared.redactor) for finding in found]
            yield Checked(check, prepare.demoted(masked, prepared.options.ignore), seconds)


def worst(findings: Iterable[Finding]) -> Status:
    """The status that counts; `ok` where nothing was found."""
    there = {finding.status for finding in findings}
    return next((status for status in SEVERITY if status in there), "ok")


def _in_folders(*folders: str) -> Iterator[Check]:
    for folder in folders:
        full = folder == probes.FULL
        for name in probes.names(folder):
            try:
                probe = probes.load(folder, name)
                title = probe.TITLE
            except Exception:  # noqa: BLE001  (running it will say what is wrong with it)
                probe, title = None, name
            needs = NEEDS.get(folder, folder)
            yield Check(
                id=probes.id_of(name),
                tier="full" if full else "quick",
                area=folder,
                name=name,
                title=title,
                needs=getattr(probe, "NEEDS", needs),
                limit=getattr(probe, "LIMIT", _LIMIT),
            )


def _progress_of(check: Check, progress: Progress) -> Callable[[float], None]:
    return lambda seconds: progress(f"{check.id} (at most {check.limit:.0f} s)", seconds)


def _of_command(prepared: Prepared) -> list[Finding]:
    """What a launch would refuse before any probe."""
    found = list(prepared.findings)
    try:
        if prepared.options.command != probes.BARE[0]:
            prepare.executable(prepared)
    except GuardError as error:
        name = {NOT_FOUND: "command-not-found", NOT_EXECUTABLE: "command-not-executable"}
        found.append(
            Finding(
                name.get(error.exit_code, "command-unusable"),
                "fail",
                prepared.argv[0],
                error.message,
                fix=error.hint,
            )
        )
    return found


def _quick(
    prepared: Prepared, checks: Sequence[Check]
) -> Generator[tuple[list[Finding], float], None, None]:
    """What each of the quick ones found, in order, and the seconds it took."""
    context = prepared.context
    quick = [check for check in checks if check.tier == "quick" and check != _COMMAND]
    can = [check for check in quick if check.area in context.folders]
    jobs = [partial(_look, check, context) for check in can]
    with contextlib.closing(aside.in_turn(jobs, [check.limit for check in can])) as answers:
        for check in quick:
            if check not in can:
                yield [_not_checked(check, f"needs {check.needs}")], 0.0
                continue
            answer = next(answers)
            if isinstance(answer, Exception):
                lost = Finding(f"probe-{check.id}", "unknown", check.title, str(answer))
                seconds = check.limit if isinstance(answer, TimeoutError) else 0.0
                yield [lost], seconds
            else:
                rows, seconds = answer
                yield (
                    [Finding(**{**row, "evidence": tuple(row["evidence"])}) for row in rows],
                    seconds,
                )


def _look(check: Check, context: Context) -> tuple[list[Any], float]:
    """In the forked process: the findings as JSON has them, and the seconds it took."""
    begun = time.monotonic()
    if check.id in _OF_GPUS and nvml.survey(context.host) is None:
        found: Iterable[Finding] = [_not_checked(check, nvml.NO_DRIVER)]
    else:
        found = probes.run_one(check.area, check.name, context)
    rows = [plain(finding) for finding in found]
    return rows, time.monotonic() - begun


def _full(prepared: Prepared, check: Check, trials: trial.Trials, keep: bool) -> list[Finding]:
    def look() -> list[Finding]:
        found = probe.check(prepared.context, trials.ask)
        return [report.masked_finding(finding, prepared.redactor) for finding in found]

    try:
        probe = probes.load_full(check.name)
        reason = probe.why_not(prepared.context)
        if reason:
            return [_not_checked(check, reason)]
        is_shared = getattr(probe, "is_shared", None)
        if keep and not (is_shared and is_shared(prepared.context)):
            return kept.remembered(check.id, prepared, look)
        return look()
    except Exception as error:  # noqa: BLE001  (as for the quick ones: it must not stop the others)
        fact = f"could not look: {type(error).__name__}: {error}"
        return [Finding(f"probe-{check.id}", "unknown", check.title, fact)]


def _not_checked(check: Check, reason: str) -> Finding:
    return Finding(f"probe-{check.id}", "skip", check.title, reason)
