"""`vllm-guard profile list | show | check | allow | deny`; `pin | verify | diff` are in `pins`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from vllm_guard import profiles, report, screen, trust
from vllm_guard.commands import against, output, pins, shown
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.frozen import plain
from vllm_guard.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.model import Profile
    from vllm_guard.profiles import Found
    from vllm_guard.target.install import VllmInstall
    from vllm_guard.trust import Doubt


_TRUST = {
    "denied": "denied: it is never used",
    "allowed": "allowed by you, as long as it stays as it is",
    "safe": "a repository's; all that it changes is known to be safe",
    "blocked": "not allowed: see vllm-guard profile allow",
}


@click.group()
def profile() -> None:
    """List, show and check profiles; allow and deny those of a repository; pin them there."""


profile.add_command(pins.pin)
profile.add_command(pins.verify)
profile.add_command(pins.diff)


@profile.command("list")
@output.json_option
def list_(as_json: bool) -> int:
    """List the profiles that can be named with -p."""
    found = profiles.list_profiles(os.environ)
    rows = [{**plain(row), "summary": _summary(row)} for row in found]
    if as_json:
        output.print_json("", profiles=rows, findings=[])
        return 0
    cells = (
        (row.name, row.origin + (" (hidden)" if row.shadowed else ""), _summary(row))
        for row in found
    )
    output.print_table(("PROFILE", "FROM", "SUMMARY"), cells)
    return 0


@profile.command()
@click.argument("name")
@output.json_option
def show(name: str, as_json: bool) -> int:
    """Show what a profile does, with the reason for each change."""
    item = profiles.load_profile(name, os.environ)
    if as_json:
        output.print_json("", profile=shown.masked(item), trust=_trust(item), findings=[])
        return 0
    for label, text in (
        ("profile", f"{item.name} ({item.origin}: {item.path})"),
        ("summary", item.summary),
        ("cost", item.cost),
        ("for vLLM", item.vllm or "any"),
        ("see", item.uri),
        ("sha256", item.digest),
        *_trust_rows(item),
    ):
        if text:
            click.echo(screen.printable(f"{label:9} {text}"))
    _print_parts(shown.masked(item))
    return 0


@profile.command()
@click.argument("name", metavar="NAME|FILE")
def allow(name: str) -> int:
    """Let a repository's profile be used, as long as it and what it extends stay as they are."""
    item = profiles.load_profile(name, os.environ)
    if not item.is_doubted:
        click.echo(f"no repository has a say in {trust.quoted(item.path)}: nothing to allow")
        return 0
    trust.allow(item, os.environ)
    masked = shown.masked(item)
    _print_doubted(masked, trust.doubts(item))
    _print_parts(masked)
    click.echo(f"allowed, until a byte of it changes: {trust.quoted(item.path)}")
    return 0


@profile.command()
@click.argument("name", metavar="NAME|FILE")
def deny(name: str) -> int:
    """Never use this profile of a repository, whatever comes to be in it."""
    found = profiles.find(name, os.environ)
    if found.origin != "repository":
        path = screen.printable(found.path)
        raise GuardError(f"{path} is no repository's profile", "delete it", exit_code=USAGE)
    trust.deny(found.path, os.environ)
    click.echo(f"denied, whatever is in it: {trust.quoted(found.path)}")
    return 0


@profile.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]...")
@output.python_option
@output.strict_option
@output.json_option
def check(names: tuple[str, ...], python: str | None, strict: bool, as_json: bool) -> int:
    """Check profiles against the schema and against the installed vLLM (all profiles by default)."""
    wanted = names or tuple(row.path for row in profiles.list_profiles(os.environ))
    vllm = against.vllm(python)
    findings = [finding for name in wanted for finding in _check_one(name, vllm)]
    if vllm is None:
        findings.append(against.none_found(python))
    version = vllm.version if vllm else ""
    with output.readable():
        if as_json:
            output.print_json(version, findings=findings)
        else:
            output.print_findings(findings)
            held_to = f"vLLM {version}" if version else "the schema only"
            click.echo(f"{report.count(len(wanted), 'profile')} checked against {held_to}")
    return output.verdict(findings, strict)


def _check_one(name: str, vllm: VllmInstall | None) -> Iterator[Finding]:
    try:
        item = profiles.load_profile(name, os.environ)
    except GuardError as error:
        if error.exit_code == USAGE:
            raise
        yield Finding("profile-invalid", "fail", name, error.message, fix=error.hint)
        return
    problems = list(against.findings(item, vllm))
    yield from problems
    if not problems:
        count = sum(len(p.settings) + len(p.engine) + len(p.remove) for p in item.parts)
        yield Finding("profile-valid", "ok", item.name, report.count(count, "setting"))


def _summary(row: Found) -> str:
    try:
        return profiles.load_found(row, os.environ).summary
    except GuardError:
        return "cannot be used: see `vllm-guard profile check`"


def _trust(item: Profile) -> dict[str, object] | None:
    """What is decided about a profile in which a repository has a say; None for every other."""
    if not item.is_doubted:
        return None
    digest = trust.PREFIX + trust.key(item)
    state = trust.state(item, os.environ)
    return {"state": state, "digest": digest, "reasons": list(trust.reasons(item))}


def _trust_rows(item: Profile) -> Iterator[tuple[str, str]]:
    if item.is_doubted:
        yield "trust", _TRUST[trust.state(item, os.environ)]
        yield from (("because", reason) for reason in trust.reasons(item))
        yield "for CI", f"--trust {trust.PREFIX}{trust.key(item)}"


def _print_doubted(item: Profile, doubts: Sequence[Doubt]) -> None:
    """What is not known to be safe, the worst first, each with the reason beside it."""
    if doubts:
        click.echo("not known to be safe:")
    for doubt in doubts:
        words = [words for part in item.parts for words in shown.words_of(doubt.name, part)]
        for line in dict.fromkeys(words):
            click.echo(screen.printable(f"  {line}   # {doubt.phrase}"))
    if doubts:
        click.echo("all that it does:")


def _print_parts(item: Profile) -> None:
    for part in item.parts:
        for line in shown.part_lines(part):
            click.echo(screen.printable(line))
