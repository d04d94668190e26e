"""`vllm-guard env`: the variables of the stack, and what a profile would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vllm_guard import environment, facts, report, screen, shellcode
from vllm_guard.commands import audit, inside, output, planned, shells
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.prepare import Prepared


@click.group()
def env() -> None:
    """What of the environment matters to vLLM or is left over; profiles for a whole shell."""


env.add_command(audit.env_audit, "audit")
env.add_command(shells.activate)
env.add_command(shells.deactivate)
env.add_command(shells.clean)


@env.command()
@click.option("--all", "everything", is_flag=True, help="Every variable, not only vLLM's stack.")
@output.json_option
@click.argument("names", nargs=-1)
def show(everything: bool, as_json: bool, names: tuple[str, ...]) -> int:
    """Show the variables of vLLM's stack that are set here, secrets masked."""
    current = environment.view(environment.inherited())
    mask = Redactor(facts.load("redact")).knowing(current)
    rows = [
        {"name": name, "value": mask.value(name, value), "family": facts.family_of(name)}
        for name, value in sorted(current.items())
        if (name in names) or (not names and (everything or facts.family_of(name)))
    ]
    where = list(inside.findings(current))
    if as_json:
        output.print_json("", variables=rows, findings=where)
        return 0
    if rows:
        cells = ((row["name"], row["value"], row["family"]) for row in rows)
        output.print_table(("VARIABLE", "VALUE", "FAMILY"), cells)
    else:
        click.echo("none of them is set" if names else "no variable of vLLM's stack is set")
    output.print_findings(where)
    return 0


@env.command(context_settings={"allow_interspersed_args": False})
@click.option("-p", "--profile", "profiles", multiple=True, metavar="NAME", help="As for `run`.")
@click.option("-e", "--env", "pairs", multiple=True, metavar="NAME=VALUE", help="As for `run`.")
@click.option("--unset", multiple=True, metavar="NAME", help="As for `run`.")
@output.trust_option
@output.python_option
@output.json_option
@click.option(
    "--shell",
    "form",
    type=click.Choice((*shellcode.EXPORTS, *shellcode.SHELLS)),
    help="Only the changes, in this form, with values as they are.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def diff(  # noqa: PLR0913, PLR0917  (click passes one argument for each option)
    profiles: tuple[str, ...],
    pairs: tuple[str, ...],
    unset: tuple[str, ...],
    trust: tuple[str, ...],
    python: str | None,
    as_json: bool,
    form: str | None,
    command: tuple[str, ...],
) -> int:
    """Show what profiles would change for COMMAND (default: `vllm serve`); nothing is started."""
    if as_json and form:
        raise GuardError("--json and --shell cannot be used together", exit_code=USAGE)
    asked = {"profiles": profiles, "env": pairs, "unset": unset, "trust": trust, "python": python}
    prepared = planned.prepared_for({**asked, "command": command})
    findings = planned.findings_of(prepared)
    if form:
        text = shellcode.written(form, planned.exported(prepared))
        return planned.emit(text, [*findings, *planned.flags_apart(prepared)])
    if as_json:
        rows = list(_rows(prepared))
        flags = prepared.redactor.argv(planned.flags_of(prepared))
        version = planned.version_of(prepared)
        output.print_json(version, changes=rows, flags=flags, findings=findings)
    else:
        lines = list(_lines(prepared))
        click.echo("\n".join(lines) or "no changes")
        output.print_findings(findings)
    return output.verdict(findings, strict=False)


def _rows(prepared: Prepared) -> Iterator[dict[str, object]]:
    for change in planned.changes_of(prepared):
        shown = report.masked(change, prepared.redactor)
        yield {**shown.__dict__, "before_set": change.before is not None}


def _lines(prepared: Prepared) -> Iterator[str]:
    """One for each variable, one for the flags that the command gets."""
    for change in planned.changes_of(prepared):
        sign = "-" if change.after is None else "+" if change.before is None else "~"
        words = report.change_words(change, prepared.redactor).removeprefix("unset ")
        was = report.before_words(change, prepared.redactor)
        yield f"{sign} {words}   (was {was}; {change.origin})"
    flags = planned.flags_of(prepared)
    if flags:
        words = report.command_line(flags, prepared.redactor)
        whose = screen.shortened(" ".join(prepared.options.command[:2]))
        yield f"+ {words}   (arguments of {whose})"
