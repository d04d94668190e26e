"""`vllm-guard run`, and the bare launch form: the main job, as a sequence of steps."""

from __future__ import annotations

import os
import time

from vllm_guard import (
    ending,
    execute,
    launch,
    ledger,
    leftovers,
    outlet,
    paths,
    prepare,
    report,
    screen,
    signals,
    temporary,
    voice,
)
from vllm_guard.commands.order import order_of
from vllm_guard.errors import REFUSED, GuardError
from vllm_guard.frozen import replace
from vllm_guard.log import Log
from vllm_guard.model import Finding, Outcome, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from vllm_guard.launch import Result
    from vllm_guard.model import Containment, Incident, Launch, PhaseTime
    from vllm_guard.options import RunOptions
    from vllm_guard.prepare import Prepared
    from vllm_guard.proof import Before
    from vllm_guard.signals import Inherited
    from vllm_guard.watch import Watch


def start(options: RunOptions) -> NoReturn:
    """Carry out a launch and end as its command ended."""
    closed = outlet.plug_closed()
    ending.end_as(run(options, closed))


def run(options: RunOptions, closed_stdio: tuple[int, ...]) -> Outcome:
    """Carry out one launch and return how it ended; raises GuardError when it cannot start."""
    prepared = prepare.prepare(options)
    sink = _open_json(options)
    try:
        if options.dry_run:
            return _dry_run(prepared, sink)
        path = prepare.executable(prepared)
        if prepared.full_probes:
            from vllm_guard.commands import full

            prepared = full.added(prepared, run)
        _say_before(prepared)
        if prepared.refused:
            return _refuse(prepared, sink)
        return _launch(prepared, path, closed_stdio, sink)
    except GuardError as error:
        _not_started(prepared, sink, error.exit_code, error.message)
        raise


def _dry_run(prepared: Prepared, sink: int | None) -> Outcome:
    from vllm_guard.commands import dry

    _say_before(prepared)
    dry.show(prepared)
    if prepared.refused:
        return _refuse(prepared, sink)
    return _not_started(prepared, sink, 0, "--dry-run")


def _launch(
    prepared: Prepared, path: str, closed_stdio: tuple[int, ...], sink: int | None
) -> Outcome:
    order = order_of(prepared, path)
    if prepared.options.exec:
        execute.replace_process(order)
    host = _host(prepared)
    started = time.time()
    inherited = signals.hold()  # from here on there is something to remove
    try:
        result, log, watch = _supervise(prepared, order, closed_stdio, inherited)
    except BaseException:
        leftovers.remove((), order.private, "", order.present)
        prepared.shelf.discard(prepared.run_id)
        raise
    left = leftovers.findings(result.survivors, result.stays, result.strays)
    left = (*left, *leftovers.system_v(started), *(host.differences() if host else ()))
    looked_at = ("processes", "shared memory", *(["private folder"] if order.private else ()))
    masked = _masked(prepared, log)  # before anybody reads the log
    why = _why(prepared, result.outcome, log.path, watch.times if watch else ())
    about = (*_about_the_end(prepared, result, bool(why)), *(host.incidents() if host else ()))
    done = replace(
        _record(prepared, result.outcome, result.contained),
        findings=(*prepared.findings, *about, *(watch.findings if watch else ())),
        leftovers=left,
        looked_at=(*looked_at, *(host.looked_at if host else ())),
        log=log.path,
        masked=masked,
        started=_utc(time.gmtime(started)),
        incidents=why,
        phases=watch.times if watch else (),
        samples=watch.samples if watch else "",
    )
    prepared.shelf.write(done)
    prepared.shelf.unmark(prepared.run_id)
    prepared.shelf.prune()
    _write_json(sink, done)
    _say_after(prepared, done, result, log)
    launch.wait_for_keeper(result.keeper)
    return result.outcome


def _supervise(
    prepared: Prepared, order: Launch, closed_stdio: tuple[int, ...], inherited: Inherited
) -> tuple[Result, Log, Watch | None]:
    """The marker comes before what there is to remove: who finds that must know whose it is."""
    shelf = prepared.shelf
    if order.private:
        shelf.mark(prepared.run_id, order.private, order.cgroup, order.present)
        _make_private(prepared)
    log = Log(prepared.redactor.known_bytes())
    watch = None
    if order.watch and (prepared.has_vllm or prepared.options.watched):
        from vllm_guard.commands import watching

        watch = watching.watch(prepared, log.keep)

    def on_start(keeper: int) -> None:
        if not order.private:
            shelf.mark(prepared.run_id, order.private, order.cgroup, order.present)
        folder = shelf.open(prepared.run_id)
        log.open(folder)
        shelf.add_keeper(prepared.run_id, keeper)
        shelf.write(replace(_record(prepared, None, "none"), log=log.path))
        if watch is not None:
            watch.begin(keeper, folder)

    hooks = launch.Hooks(watch.keep if watch else log.keep, on_start, watch)
    try:
        return launch.supervise(order, closed_stdio, inherited, hooks), log, watch
    finally:
        if watch is not None:
            watch.end()
        log.close()


def _masked(prepared: Prepared, log: Log) -> tuple[tuple[str, int], ...]:
    """The secrets that its log no longer holds: how many, by what they were known by."""
    known = prepared.redactor.known_bytes()
    shapes = prepared.shelf.mask_logs(prepared.run_id, known) if log.kept else {}
    return (*((("known value", log.masked),) if log.masked else ()), *shapes.items())


def _why(
    prepared: Prepared, end: Outcome, log: str, times: Sequence[PhaseTime]
) -> tuple[Incident, ...]:
    """Why it ended as nobody had asked it to; a server does so also when it exits 0."""
    by_itself = ("itself", ledger.KILLED, signals.name(end.signal))
    if end.ended_by not in by_itself or not (end.code or prepared.is_server):
        return ()
    try:
        from vllm_guard import closing

        return closing.incidents(log, end, [t.name for t in times], prepared.redactor.line)[0]
    except (OSError, ImportError) as error:  # the record is gone, or our own files: an upgrade
        prepared.shelf.problem = prepared.shelf.problem or f"not explained: {error}"
        return ()


def _about_the_end(prepared: Prepared, result: Result, explained: bool) -> Iterator[Finding]:
    """A server ends when it is asked to; vLLM returns 0 also when its engine died (vllm#48966)."""
    if result.contained == "group":
        fact = "PR_SET_CHILD_SUBREAPER was refused (seccomp?): orphans were looked for by their run id only"
        yield Finding("containment", "note", "prctl", fact)
    if prepared.is_server and result.outcome.ended_by == "itself" and not result.outcome.code:
        yield Finding(
            "server-ended",
            "warn",
            prepared.argv[0],
            "exited 0 although nobody asked it to: its engine may have died",
            fix="" if explained else "look for the first error in the log of the record",
            uri="https://github.com/vllm-project/vllm/issues/48966",
        )


def _make_private(prepared: Prepared) -> None:
    """The run's own folder; what vLLM would trace into it goes into the record instead."""
    from vllm_guard import folders

    folders.make(prepared.private)
    traced = prepared.after.get("VLLM_TRACE_FUNCTION", "0") != "0"
    folder = prepared.shelf.open(prepared.run_id) if traced else ""
    if folder:
        traces = paths.make_private(os.path.join(folder, "traces"))
        os.symlink(traces, os.path.join(prepared.private, temporary.user(prepared.after)))


def _host(prepared: Prepared) -> Before | None:
    """What to compare with at the end; only vLLM listens on ports and uses GPUs for all we know."""
    if not prepared.has_vllm:
        return None
    from vllm_guard.proof import Before

    return Before(prepared.port)


def _refuse(prepared: Prepared, sink: int | None) -> Outcome:
    ids = [f"--ignore {f.id}" for f in prepared.findings if f.status == "fail"]
    voice.say(f"error: not started: {report.count(len(ids), 'check')} failed", "error")
    voice.say(f"hint: to start it all the same: {' '.join(ids)}", "hint")
    return _not_started(prepared, sink, REFUSED, "preflight")


def _not_started(prepared: Prepared, sink: int | None, code: int, why: str) -> Outcome:
    outcome = Outcome("not-started", code, ended_by=prepared.redactor.text(why))
    _write_json(sink, _record(prepared, outcome, "none"))
    return outcome


def _record(prepared: Prepared, outcome: Outcome | None, contained: Containment) -> Run:
    """The run as it will be stored: redacted."""
    mask = prepared.redactor
    changes = tuple(report.masked(change, mask) for change in prepared.plan.changes)
    vllm = prepared.target.vllm if prepared.target is not None else None
    return Run(
        id=prepared.run_id,
        command=mask.argv(prepared.argv),
        cwd=paths.cwd(),
        profiles=tuple(profile.name for profile in prepared.profiles),
        interpreter=prepared.target.interpreter if prepared.target is not None else "",
        vllm=vllm.version if vllm is not None else "",
        started=_utc(time.gmtime()),
        plan=replace(prepared.plan, changes=changes),
        findings=prepared.findings,
        environment=prepared.environment,
        containment=contained,
        outcome=outcome,
    )


def _say_before(prepared: Prepared) -> None:
    options = prepared.options
    hidden: tuple[str, ...] = () if options.verbose else ("ok", "skip")
    hidden = ("ok", "skip", "note", "unknown") if options.quiet else hidden
    # What a repository changes is never silent.
    told = [p for p in prepared.profiles if not options.quiet or p.origin == "repository"]
    parts = prepared.context.parts
    for line in report.launch_lines(prepared.plan, told, prepared.redactor, parts):
        voice.say(line)
    shown = [f for f in prepared.findings if f.status not in hidden]
    voice.say_findings(shown, options.verbose)


def _say_after(prepared: Prepared, done: Run, result: Result, log: Log) -> None:
    news = [f for f in done.findings[len(prepared.findings) :] if f.id != "stall"]  # it was said
    voice.say_findings((*news, *done.leftovers), prepared.options.verbose)
    lost = f"{log.lost} bytes of the output are not in the log" if log.lost else ""
    for problem in filter(None, (prepared.shelf.problem, log.problem, lost)):
        voice.say(f"note {problem}", "note")
    outcome = result.outcome
    odd = outcome.left_behind or outcome.freed or done.leftovers or news or result.lost_bytes
    plain = outcome.kind == "exited" and outcome.ended_by == "itself" and not odd
    silent = plain and not prepared.options.listens
    for line in () if silent else report.closing_lines(done, result.lost_bytes):
        voice.say(line)
    folder = os.path.dirname(done.log)
    if done.incidents:
        from vllm_guard import closing

        closing.say(done.incidents, folder, os.environ)
    elif folder and not silent:
        voice.say(f"record: {screen.printable(folder)}")


def _open_json(options: RunOptions) -> int | None:
    if not options.json:
        return None
    from vllm_guard.commands import sink

    return sink.opened(options.json)


def _write_json(fd: int | None, run: Run) -> None:
    if fd is not None:
        from vllm_guard.commands import sink

        sink.write(fd, run)


def _utc(moment: time.struct_time) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
