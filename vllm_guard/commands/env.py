"""`vllm-guard env`: the variables of the stack, and what a profile would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vllm_guard import environment, facts, prepare, report
from vllm_guard.commands import audit, output
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Finding
from vllm_guard.options import finish_values
from vllm_guard.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.prepare import Prepared


@click.group()
def env() -> None:
    """Show the environment's variables that matter to vLLM, or what a profile would change."""


env.add_command(audit.env_audit, "audit")


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
    if as_json:
        output.print_json("", variables=rows, findings=[])
    elif rows:
        cells = ((row["name"], row["value"], row["family"]) for row in rows)
        output.print_table(("VARIABLE", "VALUE", "FAMILY"), cells)
    else:
        click.echo("none of them is set" if names else "no variable of vLLM's stack is set")
    return 0


@env.command(context_settings={"allow_interspersed_args": False})
@click.option("-p", "--profile", "profiles", multiple=True, metavar="NAME", help="As for `run`.")
@click.option("-e", "--env", "pairs", multiple=True, metavar="NAME=VALUE", help="As for `run`.")
@click.option("--unset", multiple=True, metavar="NAME", help="As for `run`.")
@output.python_option
@output.json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def diff(  # noqa: PLR0913, PLR0917  (click passes one argument for each option)
    profiles: tuple[str, ...],
    pairs: tuple[str, ...],
    unset: tuple[str, ...],
    python: str | None,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Show what profiles would change for COMMAND (default: `vllm serve`); nothing is started."""
    asked: Mapping[str, object] = {
        "profiles": profiles,
        "env": pairs,
        "unset": unset,
        "python": python or "",
        "preflight": "off",
        "command": command or ("vllm", "serve"),
    }
    prepared = prepare.prepare(finish_values(dict(asked)))
    target = prepared.target
    if python and target and target.problem:
        raise GuardError(f"--python: {target.problem}", "name a Python", exit_code=USAGE)
    version = target.vllm.version if target and target.vllm else ""
    findings = [*prepared.findings, *_left_out(prepared, version)]
    changes = [c for c in prepared.plan.changes if c.origin != prepare.OWN]
    if as_json:
        mask = prepared.redactor
        rows = [
            {**report.masked(change, mask).__dict__, "before_set": change.before is not None}
            for change in changes
        ]
        output.print_json(version, changes=rows, findings=findings)
        return output.verdict(findings, strict=False)
    for change in changes:
        sign = "-" if change.after is None else "+" if change.before is None else "~"
        words = report.change_words(change, prepared.redactor).removeprefix("unset ")
        was = report.before_words(change, prepared.redactor)
        click.echo(f"{sign} {words}   (was {was}; {change.origin})")
    if not changes:
        click.echo("no changes")
    output.print_findings(findings)
    return output.verdict(findings, strict=False)


def _left_out(prepared: Prepared, version: str) -> Iterator[Finding]:
    """Which profiles have parts for some versions of vLLM only, where no vLLM was found."""
    for item in prepared.profiles:
        specifiers = list(dict.fromkeys(part.vllm for part in item.parts if part.vllm))
        if specifiers and not version:
            fact = f"no vLLM found: left out is what it sets for vLLM {' or '.join(specifiers)}"
            fix = "name its interpreter with --python"
            yield Finding("vllm-not-found", "skip", f"profile {item.name}", fact, fix=fix)
