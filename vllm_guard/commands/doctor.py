"""`vllm-guard doctor`: every check that applies to a command, each within its limit; nothing is started."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import click

from vllm_guard import checkup, prepare, probes, report, screen, target, voice
from vllm_guard.commands import output, planned, run
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.options import finish_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.checkup import Check, Checked
    from vllm_guard.prepare import Prepared

_FORMS = ("text", "json", "nagios", "github", "junit")
_MOST_NAMED = 7  #: checks that are not made for the same reason
_NAGIOS_UNKNOWN = 3
_NAGIOS = frozenset({"--format=nagios"})


class _Doctor(click.Command):
    """For Nagios wrong usage is UNKNOWN, also that which click finds."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = args[: args.index("--")] if "--" in args else args
        try:
            return super().parse_args(ctx, list(args))
        except click.UsageError as error:
            if not _NAGIOS & {*words}.union(map("=".join, itertools.pairwise(words))):
                raise
            _say_unknown(error.format_message())
            ctx.exit(_NAGIOS_UNKNOWN)


@click.command(cls=_Doctor, context_settings={"allow_interspersed_args": False})
@click.option("--full", is_flag=True, help="Also the full checks: minutes, in the target's Python.")
@click.option("--only", multiple=True, metavar="ID", help="Only this check (of any tier).")
@click.option("--skip", multiple=True, metavar="ID", help="Not this check.")
@click.option("--ignore", multiple=True, metavar="ID", help="A failing finding becomes a warning.")
@click.option("--list", "as_list", is_flag=True, help="List the checks; check nothing.")
@click.option("-p", "--profile", "profiles", multiple=True, metavar="NAME", help="As under it.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="As with this variable.")
@click.option("--unset", multiple=True, metavar="NAME", help="As without this variable.")
@output.trust_option
@output.python_option
@output.strict_option
@click.option("-v", "--verbose", is_flag=True, help="Every finding, and how long each check took.")
@click.option("--json", "form", flag_value="json", help="One JSON document on stdout.")
@click.option("--format", "form", type=click.Choice(_FORMS), default="text", help="For programs.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def doctor(form: str, **asked: Any) -> int:
    """Check what COMMAND needs (without one: what any vLLM here needs); it is not started."""
    try:
        return _doctor(form, asked)
    except GuardError as error:
        if form != "nagios":
            raise
        _say_unknown(error.message)
        return _NAGIOS_UNKNOWN


def _say_unknown(text: str) -> None:
    line = " ".join(screen.printable(text).split()).replace("|", "/")
    click.echo(f"VLLM-GUARD UNKNOWN - {line}")


def _doctor(form: str, asked: dict[str, Any]) -> int:
    checks = checkup.select(asked["only"], asked["skip"], asked["full"])
    if asked["as_list"]:
        return _list(form, checkup.catalogue())
    prepared = _prepared(asked)
    start = time.monotonic()
    done = list(checkup.run(prepared, checks, run.run, voice.progress))
    with output.readable():
        if form == "text":
            _print(done, asked["verbose"], time.monotonic() - start)
        elif form == "json":
            output.print_json(planned.version_of(prepared), **_sections(done))
        elif form == "nagios":
            _refuse_nothing(done)
            return _print_for_nagios(done)
        else:
            _print_for_ci(done, form)
    _refuse_nothing(done)
    return output.verdict([f for item in done for f in item.findings], asked["strict"])


def _refuse_nothing(done: Sequence[Checked]) -> None:
    """Raise GuardError 2 where none of the checks applied: nothing is known, which is not `all ok`."""
    if any(item.status != "skip" for item in done):
        return
    reasons = (f"{', '.join(ids)}: {why}" for why, ids in _not_checked(done).items())
    raise GuardError(f"nothing was checked: {'; '.join(reasons)}", exit_code=USAGE)


def _print_for_nagios(done: Sequence[Checked]) -> int:
    from vllm_guard import formats  # its XML costs 15 ms

    line, status = formats.nagios(done)
    click.echo(line)
    return status


def _print_for_ci(done: Sequence[Checked], form: str) -> None:
    from vllm_guard import formats

    lines = formats.github(done) if form == "github" else formats.junit(done)
    for line in lines:
        click.echo(line)


def _prepared(asked: dict[str, Any]) -> Prepared:
    """What a launch would do, planned only."""
    python = asked["python"] or ""
    command = asked["command"] or _stand_in(python)
    values = {name: asked[name] for name in ("profiles", "env", "unset", "ignore", "trust")}
    values |= {"python": python, "command": command, "preflight": "off"}
    prepared = prepare.prepare(finish_values(values))
    found = prepared.target
    if python and found and found.problem:
        raise GuardError(f"--python: {found.problem}", "name a Python", exit_code=USAGE)
    return prepared


def _stand_in(python: str) -> tuple[str, ...]:
    """Where no command is given: `vllm`, else `python`, whichever there is."""
    from vllm_guard import environment

    env = environment.view(environment.inherited())
    known = (c for c in probes.BARE if python or target.find_target(c, env) is not None)
    return next(known, probes.BARE[0])


def _list(form: str, checks: Sequence[Check]) -> int:
    if form == "json":
        output.print_json("", checks=[_shown(check) for check in checks], findings=[])
        return 0
    rows = ((c.id, c.tier, c.needs, _limit(c), c.title) for c in checks)
    output.print_table(("CHECK", "TIER", "NEEDS", "LIMIT", "TITLE"), rows)
    return 0


def _limit(check: Check) -> str:
    return f"{check.limit:g} s" if check.limit else ""


def _shown(check: Check) -> dict[str, object]:
    return {
        "id": check.id,
        "tier": check.tier,
        "needs": check.needs,
        "limit_s": check.limit,
        "title": check.title,
    }


def _sections(done: Sequence[Checked]) -> dict[str, object]:
    findings = [
        {**finding.__dict__, "check": item.check.id, "duration_ms": _milliseconds(item)}
        for item in done
        for finding in item.findings
    ]
    checks = [
        {**_shown(item.check), "status": item.status, "duration_ms": _milliseconds(item)}
        for item in done
    ]
    return {"findings": findings, "checks": checks}


def _milliseconds(item: Checked) -> float:
    return round(item.seconds * 1000, 3)


def _print(done: Sequence[Checked], verbose: bool, seconds: float) -> None:
    """One line for each area, then what is not as it should be, then what was not checked."""
    output.print_table(("", "AREA", "CHECKS", "TOOK"), _areas(done, verbose))
    shown = [f for item in done for f in item.findings if verbose or f.status not in ("ok", "skip")]
    if shown:
        click.echo()
        output.print_findings(shown, verbose)
    missing = [item for item in done if item.status == "skip"]
    if len(missing) == len(done):
        return  # the error says it
    if missing:
        click.echo()
        for why, ids in _not_checked(missing).items():
            many = len(ids) > _MOST_NAMED and not verbose
            which = f"{len(ids)} checks (-v names them)" if many else ", ".join(ids)
            click.echo(f"not checked: {which}: {screen.printable(why)}")
    click.echo(_summary(done, seconds))


def _not_checked(missing: Sequence[Checked]) -> dict[str, list[str]]:
    """Why -> the checks for which that is the reason."""
    found: dict[str, list[str]] = {}
    for item in missing:
        reasons = (finding.fact for finding in item.findings)
        found.setdefault("; ".join(reasons), []).append(item.check.id)
    return found


def _areas(done: Sequence[Checked], verbose: bool) -> Iterator[tuple[str, ...]]:
    """A row for each area; for each check where it is a full one, or with `-v`."""
    groups: dict[str, list[Checked]] = {}
    for item in done:
        alone = verbose or item.check.tier == "full"
        name = f"{item.check.area}: {item.check.id}" if alone else item.check.area
        groups.setdefault(name, []).append(item)
    for name, items in groups.items():
        status = checkup.worst(f for item in items for f in item.findings)
        looked = sum(item.status != "skip" for item in items)
        took = sum(item.seconds for item in items)
        yield status, name, str(looked), _duration(took)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _summary(done: Sequence[Checked], seconds: float) -> str:
    looked = sum(item.status != "skip" for item in done)
    found = [finding.status for item in done for finding in item.findings]
    counts = [(status, found.count(status)) for status in ("fail", "warn", "unknown", "note")]
    tally = ", ".join(f"{number} {status}" for status, number in counts if number)
    missing = sum(item.status == "skip" for item in done)
    more = f", {missing} not checked" if missing else ""
    return f"{report.count(looked, 'check')} in {_duration(seconds)}{more}: {tally or 'all ok'}"
