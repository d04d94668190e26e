"""From what the user asked to what will be executed: profiles, plan, target, command, checks.

Nothing here starts or writes anything; `--dry-run` ends after it.
"""

from __future__ import annotations

import os

from vllm_guard import (
    command,
    environment,
    facts,
    paths,
    plan,
    probes,
    profiles,
    record,
    report,
    repository,
    target,
    temporary,
)
from vllm_guard.errors import NOT_EXECUTABLE, NOT_FOUND, GuardError
from vllm_guard.frozen import replace
from vllm_guard.leftovers import TOKEN
from vllm_guard.model import OWN, Change
from vllm_guard.redact import Redactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from dataclasses import dataclass

    from vllm_guard.model import Entry, EnvPlan, Finding, Part, Profile
    from vllm_guard.options import RunOptions
    from vllm_guard.record import Shelf
    from vllm_guard.target import Target
else:
    from vllm_guard.frozen import dataclass

LEVEL = "VGUARD_LEVEL"


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    run_id: str
    options: RunOptions
    profiles: tuple[Profile, ...]
    before: Mapping[str, str]  #: the caller's environment
    after: Mapping[str, str]  #: the command's
    entries: tuple[Entry, ...]  #: the command's, byte for byte
    plan: EnvPlan
    target: Target | None
    argv: tuple[str, ...]
    findings: tuple[Finding, ...]
    refusal: GuardError | None  #: why only a dry run may go on
    private: str  #: folder for vLLM's sockets and temporary files; empty where none is used
    shelf: Shelf
    redactor: Redactor
    context: probes.Context  #: what the probes look at
    environment: tuple[tuple[str, str], ...]  #: `after`, of vLLM's stack only, as it may be stored

    @property
    def is_server(self) -> bool:
        """Does the command start an API server?"""
        return self.context.is_server

    @property
    def port(self) -> int | None:
        """Where it listens, if it does and that can be told."""
        return self.context.port

    @property
    def full_probes(self) -> tuple[str, ...]:
        """The full probes to run before the start, by their ids: all, or those that a profile asks for."""
        asked = {probe for _, part in self.context.parts for probe in part.probes}
        whole = self.options.preflight == "full"
        if self.options.preflight == "off" or not (whole or asked):
            return ()
        known = map(probes.id_of, probes.names(probes.FULL))
        return tuple(name for name in known if whole or name in asked)

    @property
    def has_vllm(self) -> bool:
        """Is there a vLLM that the command may use?"""
        return self.target is not None and self.target.vllm is not None

    @property
    def refused(self) -> bool:
        """Is it certain that the run would fail?"""
        return any(finding.status == "fail" for finding in self.findings)


def prepare(options: RunOptions) -> Prepared:
    """Everything that can be known before the start. Raises GuardError for what the user must mend."""
    inherited = environment.inherited()
    before = environment.view(inherited)
    shelf = record.Shelf(before)
    run_id = record.new_id()
    options, told = _with_defaults(options, before)
    chosen = tuple(profiles.load_profile(name, before) for name in options.profiles)
    refusal = _refusal(chosen, before, options)
    # What may not be used must not reach a process either: the interpreter is asked where its vLLM is.
    first, _ = _plan(before, () if refusal else _parts(chosen, None, before), options)
    found = target.find_target(options.command, first.apply(before), options.python or None)
    parts = _parts(chosen, _version(found), before)
    env_plan, findings = _plan(before, parts, options)
    findings = [*told, *findings]
    has_vllm = found is not None and found.vllm is not None
    # With --exec nobody is there to make the folder and to remove it.
    private = temporary.private_folder(run_id, before) if has_vllm and not options.exec else ""
    own = _own_changes(before, run_id, found, private)
    env_plan = plan.extend(env_plan, own, {*options.keep, *_named(parts)})
    after = env_plan.apply(before)
    argv, more = command.complete(options, parts, found)
    ours = tuple(change.name for change in env_plan.changes if change.origin == OWN)
    env, cwd = (found.env(after), found.cwd) if found else (after, "")
    context = probes.Context(
        argv, env, before, found, chosen, parts, shelf, options.dry_run, ours, cwd=cwd
    )
    if options.preflight != "off" and not refusal:
        findings = [*findings, *more, *probes.run_all(context)]
    redactor = Redactor(facts.load("redact")).knowing({**after, **env}, argv)
    redactor = redactor.knowing({}, context.server_words)
    findings = [report.masked_finding(finding, redactor) for finding in findings]
    return Prepared(
        run_id=run_id,
        options=options,
        profiles=chosen,
        before=before,
        after=after,
        entries=environment.planned(inherited, env_plan),
        plan=env_plan,
        target=found,
        argv=argv,
        findings=demoted(findings, options.ignore),
        refusal=refusal,
        private=private if _uses(env_plan, private) else "",
        shelf=shelf,
        redactor=redactor,
        context=context,
        environment=_shown(after, redactor),
    )


def _shown(env: Mapping[str, str], redactor: Redactor) -> tuple[tuple[str, str], ...]:
    families = facts.variables()["families"]
    return tuple(
        (name, redactor.value(name, value))
        for name, value in sorted(env.items())
        if facts.family_of(name, families)
    )


def executable(prepared: Prepared) -> str:
    """The file that will be executed. Raises GuardError 127 or 126."""
    word = prepared.argv[0]
    path = prepared.after.get("PATH")
    found = target.find_executable(word, path, paths.cwd())
    if found.reason == "found":
        wanted = target.interpreter_of(found.path)
        if wanted and not os.path.exists(wanted):
            fact = f"cannot run {found.path}: its interpreter {wanted} does not exist"
            hint = "was its virtual environment moved? make it anew in its place"
            raise GuardError(fact, hint, exit_code=NOT_FOUND)
        return found.path
    if found.reason == "not-found":
        where = "" if "/" in word else f" on PATH: {os.defpath if path is None else path}"
        hint = "" if "/" in word else "is its virtual environment active?"
        raise GuardError(f"command not found: {word}{where}", hint, exit_code=NOT_FOUND)
    fact = "is a directory" if found.reason == "is-directory" else "is not executable"
    hint = "" if found.reason == "is-directory" else f"chmod +x {found.path}"
    raise GuardError(f"{found.path} {fact}", hint, exit_code=NOT_EXECUTABLE)


def _with_defaults(
    options: RunOptions, before: Mapping[str, str]
) -> tuple[RunOptions, list[Finding]]:
    if options.ignore:
        from vllm_guard import finding_ids

        finding_ids.refuse_unknown(options.ignore)
    path = repository.defaults_file()
    if not path:
        return options, []
    from vllm_guard import defaults

    return defaults.applied(options, path, before)


def _refusal(
    chosen: Sequence[Profile], before: Mapping[str, str], options: RunOptions
) -> GuardError | None:
    """Raises it at once where more than a dry run was asked for."""
    if not any(profile.is_doubted for profile in chosen):
        return None
    from vllm_guard import trust

    found = (trust.refusal(profile, before, options.trust) for profile in chosen)
    refusal = next(filter(None, found), None)
    if refusal and not options.dry_run:
        raise refusal
    return refusal


def demoted(findings: Sequence[Finding], ignored: Sequence[str]) -> tuple[Finding, ...]:
    """`--ignore ID`: a failing finding becomes a warning; it is never hidden."""
    return tuple(
        replace(f, status="warn") if f.status == "fail" and f.id in ignored else f for f in findings
    )


def _parts(
    chosen: Sequence[Profile], version: str | None, before: Mapping[str, str]
) -> list[tuple[str, Part]]:
    parts = profiles.settings_for(chosen, version)
    if any(part.remove for _, part in parts):
        from vllm_guard import removal

        parts = removal.expanded(parts, before, facts.variables())
    return parts


def _named(parts: Sequence[tuple[str, Part]]) -> set[str]:
    """Variables that profiles speak about, even where they already are as wanted."""
    return {setting.name for _, part in parts for setting in part.settings}


def _version(found: Target | None) -> str | None:
    return found.vllm.version if found is not None and found.vllm is not None else None


def _plan(
    before: Mapping[str, str], parts: Sequence[tuple[str, Part]], options: RunOptions
) -> tuple[EnvPlan, list[Finding]]:
    asked: list[tuple[str, str | None]] = []
    for pair in options.env:
        name, _, value = pair.partition("=")
        asked.append((name, value))
    asked += [(name, None) for name in options.unset]
    return plan.make_plan(before, parts, asked, options.keep)


def _own_changes(
    before: Mapping[str, str], run_id: str, found: Target | None, private: str
) -> list[Change]:
    """What the guard sets for itself: its marks on the tree, and vLLM's litter in one place."""
    level = before.get(LEVEL, "0")
    level = str(int(level) + 1) if level.isdigit() else "1"
    wanted = {
        TOKEN: (run_id, "finds every process of the run"),
        LEVEL: (level, "how deep guards are nested"),
    }
    if private and found is not None:
        if "SPT_NOENV" not in before:
            wanted["SPT_NOENV"] = ("1", "process titles do not overwrite the mark: setproctitle")
        if "VLLM_RPC_BASE_PATH" not in before:
            wanted["VLLM_RPC_BASE_PATH"] = (private, "vLLM never removes its sockets")
        if found.kind.startswith("vllm"):
            wanted["TMPDIR"] = (private, "vLLM leaves files there")
            if "TORCHINDUCTOR_CACHE_DIR" not in before:
                same = "where it was without a private TMPDIR: no cold compile"
                wanted["TORCHINDUCTOR_CACHE_DIR"] = (temporary.inductor_cache(before), same)
    return [
        Change(name, before.get(name), value, why, OWN) for name, (value, why) in wanted.items()
    ]


def _uses(env_plan: EnvPlan, private: str) -> bool:
    return any(change.after == private for change in env_plan.changes)
