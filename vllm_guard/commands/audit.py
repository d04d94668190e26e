"""`vllm-guard env audit`: what of an environment is left over, misspelt, without effect or contradictory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import click

from vllm_guard import (
    assignments,
    audit,
    contradictions,
    environment,
    facts,
    journal,
    nvml,
    paths,
    provenance,
    report,
    target,
)
from vllm_guard.commands import inside, output
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.frozen import replace
from vllm_guard.host import Host
from vllm_guard.model import Finding
from vllm_guard.redact import Redactor
from vllm_guard.target import install

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.target.install import VllmInstall

_LIMIT = 4 << 20  #: bytes of one file
_COMMANDS = (("vllm",), ("python",))


@dataclass(frozen=True)
class Scene:
    """One environment to look at."""

    env: Mapping[str, str]
    where: Mapping[str, str] = field(
        default_factory=dict
    )  #: name -> file:line, of what a file sets
    label: str = ""  #: whose it is; empty for the caller's own
    origins: provenance.Origins | None = None


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--pid", type=click.IntRange(1), help="That process and all below it, not this environment."
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help=(
        "What this file sets: .env, Dockerfile, Compose or Kubernetes manifest, Slurm or shell script."
    ),
)
@output.python_option
@output.strict_option
@output.json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def env_audit(  # noqa: PLR0913, PLR0917  (click passes one argument for each option)
    pid: int | None,
    files: tuple[str, ...],
    python: str | None,
    strict: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Say what debugging left behind in the environment, what it costs and where it came from.

    With COMMAND, also what does not go together with it. The names and values of VLLM_* are compared with the
    vLLM that COMMAND (default: `vllm`, then `python`) would use.
    """
    if pid and files:
        raise GuardError("--pid and --file cannot be used together", exit_code=USAGE)
    scenes = _of_files(files) if files else _of_processes(pid) if pid else _of_caller()
    commands: Sequence[tuple[str, ...]] = (command,) if command else _COMMANDS
    if pid:
        commands = (_command_of(pid), *commands)
    vllm = _vllm(commands, scenes[0].env, python)
    found = list(_merged(_look(scene, vllm, command) for scene in scenes))
    where = [] if files else list(inside.findings(scenes[0].env))
    version = vllm.version if vllm else ""
    with output.readable():
        if as_json:
            labels = [scene.label or "environment" for scene in scenes]
            output.print_json(version, findings=[*found, *where], looked_at=labels)
        else:
            output.print_findings(found)
            click.echo(_summary(scenes, vllm, found))
            output.print_findings(where)
    return output.verdict(found, strict)


def residue(env: Mapping[str, str]) -> list[str]:
    """What debugging left in an environment, and the links of a Kubernetes Service; not what is active."""
    found = audit.check_environment(env, facts.variables(), None)
    left = [f.subject.partition("=")[0] for f in found if f.id == "debug-left-on"]
    purposes = journal.purposes(env)
    return [name for name in (*left, *audit.service_links(env)) if name not in purposes]


def _of_caller() -> list[Scene]:
    env = environment.view(environment.inherited())
    origins = provenance.Origins(env, paths.cwd(), os.getppid())
    return [
        Scene(env, origins=origins),
        *_of_files(_nccl_files(env), missing_ok=True, set_here=env),
    ]


def _nccl_files(env: Mapping[str, str]) -> list[str]:
    """The files that NCCL reads by itself; what the environment has wins (src/misc/param.cc)."""
    own = env.get("NCCL_CONF_FILE") or os.path.join(paths.home(env), ".nccl.conf")
    return ["/etc/nccl.conf", own]


def _of_files(
    files: Sequence[str], missing_ok: bool = False, set_here: Mapping[str, str] | None = None
) -> list[Scene]:
    scenes = []
    for path in files:
        try:
            text = paths.peek(path, _LIMIT).decode("utf-8", "surrogateescape")
            found = assignments.read(path, text)
        except OSError as error:
            if missing_ok:
                continue
            raise GuardError(
                f"--file: cannot read {path}: {error.strerror}", exit_code=USAGE
            ) from None
        except ValueError as error:
            raise GuardError(f"--file: {path}: {error}", exit_code=USAGE) from None
        for scope in dict.fromkeys(item.scope for item in found):
            rows = [i for i in found if i.scope == scope and i.name not in (set_here or {})]
            env = {i.name: i.value for i in rows if i.value is not None}
            where = {i.name: f"{path}:{i.line}" for i in rows}
            scenes.append(Scene(env, where, f"{path} {scope}".strip()))
    return scenes or ([] if missing_ok else [Scene({}, label=files[0])])


def _of_processes(pid: int) -> list[Scene]:
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
        first = environment.view(environment.of_process(pid))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        raise GuardError(f"--pid: there is no process {pid}", exit_code=USAGE) from None
    except PermissionError:
        hint = "it belongs to another user: sudo?"
        raise GuardError(
            f"--pid: the environment of {pid} cannot be read", hint, exit_code=USAGE
        ) from None
    scenes = [
        Scene(first, label=_process_words(root), origins=provenance.Origins(first, _cwd(pid), pid))
    ]
    for process in tree[1:]:
        try:
            env = environment.view(environment.of_process(process.pid))
            scenes.append(Scene(env, label=_process_words(process), origins=scenes[0].origins))
        except OSError:
            continue
    return scenes


def _process_words(process: Any) -> str:
    import psutil

    try:
        return f"process {process.pid} ({process.name()})"
    except psutil.Error:  # it ended meanwhile
        return f"process {process.pid} (ended)"


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return "/"


def _command_of(pid: int) -> tuple[str, ...]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
    except OSError:  # it ended meanwhile
        words = []
    return tuple(map(os.fsdecode, words)) or ("vllm",)


def _vllm(
    commands: Sequence[tuple[str, ...]], env: Mapping[str, str], python: str | None
) -> VllmInstall | None:
    for command in commands:
        found = target.find_target(command, {**os.environ, **env}, python)
        if python and found is not None and found.problem:
            raise GuardError(f"--python: {found.problem}", "name a Python", exit_code=USAGE)
        if found is not None and found.vllm is not None:
            return found.vllm
    return None


def _look(
    scene: Scene, vllm: VllmInstall | None, command: Sequence[str]
) -> Iterator[tuple[str, Finding]]:
    """Each finding, and what it is of: processes of one tree have that in common."""
    table = install.env_table(vllm) if vllm else None
    found = [
        *audit.check_environment(scene.env, facts.variables(), table),
        *contradictions.find(scene.env, command, nvml.count(Host())),
        *_network(scene),
    ]
    mask = Redactor(facts.load("redact")).knowing(scene.env)
    purposes = journal.purposes(scene.env)
    for finding in map(partial(_with_purpose, purposes), found):
        name, equals, value = finding.subject.partition("=")
        shown = f"{name}={mask.value(name, value)}" if equals else finding.subject
        place = scene.where.get(name, scene.label)
        evidence = tuple(scene.origins.of(name, scene.env.get(name, ""))) if scene.origins else ()
        subject = f"{place}: {shown}" if place else shown
        named = replace(finding, subject=subject, evidence=evidence)
        yield shown if scene.origins else subject, report.masked_finding(named, mask)


def _with_purpose(purposes: Mapping[str, str], finding: Finding) -> Finding:
    """What the shell's active profile set is no leftover."""
    name = finding.subject.partition("=")[0]
    if finding.id != "debug-left-on" or name not in purposes:
        return finding
    return Finding("active-in-shell", "note", finding.subject, purposes[name], uri=finding.uri)


def _network(scene: Scene) -> Iterator[Finding]:
    """Addresses and interfaces are those of this host, so only what is to run here is compared."""
    from vllm_guard.probes.python import network

    if scene.where:
        return
    yield from (f for f in network.named(scene.env) if f.status != "ok")


def _merged(found: Iterator[Iterator[tuple[str, Finding]]]) -> Iterator[Finding]:
    """What several processes have in common is said once, of the first, with a count."""
    seen: dict[tuple[str, str], list[Finding]] = {}
    for findings in found:
        for what, finding in findings:
            seen.setdefault((finding.id, what), []).append(finding)
    for same in seen.values():
        more = f"and in {report.count(len(same) - 1, 'process', 'es')} below it"
        first = same[0]
        yield replace(first, evidence=(*first.evidence, more)) if len(same) > 1 else first


def _summary(scenes: Sequence[Scene], vllm: VllmInstall | None, found: Sequence[Finding]) -> str:
    names = {name for scene in scenes for name in scene.env}
    families = facts.variables()["families"]
    ours = [name for name in names if facts.family_of(name, families)]
    against = (
        f"vLLM {vllm.version}" if vllm else "no vLLM found, so names of VLLM_* were not compared"
    )
    counts = [(s, sum(f.status == s for f in found)) for s in ("fail", "warn", "note")]
    tally = (
        ", ".join(f"{number} {status}" for status, number in counts if number) or "nothing found"
    )
    return f"{len(names)} variables, {len(ours)} of vLLM's stack; {against}: {tally}"
