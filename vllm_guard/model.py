"""The nouns that flow through the program: frozen, printable, ready for JSON.

Text that came from the operating system (names, values, arguments) is held as `str` in Python's
file-system encoding with surrogate escapes, so that `os.fsencode` gives back the very bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from dataclasses import dataclass
    from typing import Any, Literal

    Status = Literal["ok", "note", "warn", "fail", "skip", "unknown"]
    SettingKind = Literal["set", "default", "required", "unset"]
    Removal = Literal["debugging", "service-links"]
    Origin = Literal["builtin", "user", "repository", "path"]
    OutcomeKind = Literal["exited", "signalled", "not-started", "deadline", "lost"]
    #: What holds the processes of a run: a cgroup of its own, a subreaper, or their process group only.
    Containment = Literal["cgroup", "keeper", "group", "none"]
    #: One environment entry as the kernel holds it: (name, value).
    Entry = tuple[bytes, bytes]
else:
    from vllm_guard.frozen import dataclass


@dataclass(frozen=True)
class Setting:
    """What a profile says about one variable."""

    name: str
    kind: SettingKind
    value: str = ""  #: the value; for `required` the text that says how to get one
    why: str = ""


@dataclass(frozen=True)
class Part:
    """Settings that hold for some vLLM versions only (`[[when]]`), or for all (`vllm == ""`)."""

    vllm: str
    settings: tuple[Setting, ...]
    engine: tuple[tuple[str, Any], ...]
    probes: tuple[str, ...]
    remove: tuple[Removal, ...] = ()  #: what of the environment is unset, whatever it is called
    doubted: bool = False  #: a repository says so: `trust` decides whether it may


@dataclass(frozen=True)
class Source:
    """One file of a profile: its own, or one that it extends."""

    path: str  #: its real path
    digest: str  #: sha256 of the bytes that were parsed, hex
    origin: Origin


@dataclass(frozen=True)
class Profile:
    """One parsed TOML file (design, section 5), with what it extends already in `parts`, base first."""

    name: str
    origin: Origin
    path: str
    digest: str  #: sha256 of the file's bytes, hex
    summary: str
    cost: str
    uri: str
    vllm: str  #: version specifier, PEP 440; empty for any
    parts: tuple[Part, ...]
    sources: tuple[Source, ...] = ()  #: what it extends, base first; last its own file

    @property
    def is_doubted(self) -> bool:
        """Does a repository have a say in it?"""
        return any(source.origin == "repository" for source in self.sources)


OWN = "vllm-guard"  #: origin of the changes that a run needs by itself


@dataclass(frozen=True)
class Change:
    """One change to one variable; `None` is unset, which is not the same as empty."""

    name: str
    before: str | None
    after: str | None
    why: str
    origin: str  #: "profile debug", "-e", "vllm-guard"


@dataclass(frozen=True)
class EnvPlan:
    """The ordered changes to one environment: at most one for each name."""

    changes: tuple[Change, ...] = ()

    def apply(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with the changes made; `env` itself is left alone."""
        result = dict(env)
        for change in self.changes:
            if change.after is None:
                result.pop(change.name, None)
            else:
                result[change.name] = change.after
        return result

    def reverse(self) -> EnvPlan:
        """The plan that undoes this one."""
        return EnvPlan(
            tuple(
                Change(c.name, c.after, c.before, f"undo: {c.why}", c.origin)
                for c in reversed(self.changes)
            )
        )


@dataclass(frozen=True)
class Finding:
    """One fact about the run to come, with the fix where there is one."""

    id: str
    status: Status
    subject: str
    fact: str
    fix: str = ""
    why: str = ""
    uri: str = ""
    evidence: tuple[str, ...] = ()


#: The worst first.
SEVERITY: tuple[Status, ...] = ("fail", "warn", "unknown", "note", "ok", "skip")


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """In the order of severity; equal ones as they come."""
    return sorted(findings, key=lambda finding: SEVERITY.index(finding.status))


@dataclass(frozen=True)
class Launch:
    """What will be executed."""

    run_id: str
    path: bytes  #: the executable file
    argv: tuple[bytes, ...]
    env: tuple[Entry, ...]
    private: str  #: folder of the run's own, removed at the end; empty for none
    cgroup: str  #: where to make a cgroup of its own; empty for none
    watch: bool  #: stdout and stderr pass through the guard
    allow_daemon: bool  #: what outlives the command may live on
    deadline: float | None  #: seconds
    grace: float  #: seconds between the first signal that must end it and SIGKILL
    interrupt_ends: bool  #: SIGINT is such a signal, as SIGTERM is
    present: frozenset[int] = frozenset()  #: inodes in /dev/shm before the start: not the run's
    quiet: bool = False  #: what passes through the guard goes to the log only


@dataclass(frozen=True)
class Outcome:
    """How the command ended."""

    kind: OutcomeKind
    code: int  #: the exit status that vllm-guard itself returns
    signal: int = 0  #: the signal that killed the command
    core: bool = False
    ended_by: str = ""  #: "the command", "SIGTERM sent to vllm-guard", "deadline of 5 s"
    seconds: float = 0.0
    left_behind: int = 0  #: descendants that outlived the command and were ended
    freed: int = 0  #: bytes of shared memory that they left and that was removed
    daemons: int = 0  #: processes that live on, as `--allow-daemon` says


@dataclass(frozen=True)
class PhaseTime:
    """One phase of a vLLM's life, as its output told it (`data/phases.toml`)."""

    name: str
    started: float  #: seconds since the start of the run
    seconds: float


@dataclass(frozen=True)
class Incident:
    """What a log tells of a failure: a signature that is known, or the first error that is not. Redacted."""

    id: str  #: of the signature; empty where none is known
    title: str
    status: Literal["known", "not recognised"]
    process: str  #: as the log calls it, `Worker_TP0 pid=12`; empty where it does not
    line: int  #: number in the log, from 1; 0 where no line tells it
    lines: tuple[str, ...]  #: of the log
    cause: str
    fix: str
    confirm: tuple[str, ...] = ()  #: what shows that it is this
    refute: tuple[str, ...] = ()  #: what shows that it is not
    next: tuple[str, ...] = ()  #: our own probes and profiles
    uri: str = ""
    vllm: str = ""  #: the versions that say it so, a specifier; empty for all
    phase: str = ""


@dataclass(frozen=True)
class Run:
    """The record of one run, as it lies on disk."""

    id: str
    command: tuple[str, ...]
    cwd: str
    profiles: tuple[str, ...]
    interpreter: str
    vllm: str
    started: str  #: UTC, ISO 8601
    plan: EnvPlan
    findings: tuple[Finding, ...]
    containment: Containment
    outcome: Outcome | None = None
    leftovers: tuple[Finding, ...] = ()
    looked_at: tuple[str, ...] = ()  #: what was looked at for leftovers
    log: str = ""
    #: The command's variables of the stack: name and value.
    environment: tuple[tuple[str, str], ...] = ()
    incidents: tuple[Incident, ...] = ()  #: the first cause first
    #: Secrets that were in the log: how many, by what they were known by.
    masked: tuple[tuple[str, int], ...] = ()
    phases: tuple[PhaseTime, ...] = ()
    samples: str = ""  #: path of the file with what the run's processes used, over time
