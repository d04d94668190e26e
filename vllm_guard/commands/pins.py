"""`vllm-guard profile pin | verify | diff`: profiles kept in a repository, with a lock."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

import click

from vllm_guard import pins, profiles, report, repository, screen, verifying
from vllm_guard.commands import against, output, shown
from vllm_guard.errors import FAILED, USAGE, GuardError
from vllm_guard.unguarded import Placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.model import Finding, Profile
    from vllm_guard.pins import Pin


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option(
    "--in",
    "folder",
    type=click.Choice(repository.FOLDERS),
    default=repository.FOLDERS[0],
    show_default=True,
    help="The folder for the copies.",
)
@click.option(
    "--vllm", "versions", multiple=True, metavar="VERSION", help="Also check against this vLLM."
)
@click.option("--force", is_flag=True, help="Overwrite copies that were edited.")
@output.python_option
def pin(
    names: tuple[str, ...],
    folder: str,
    versions: tuple[str, ...],
    force: bool,
    python: str | None,
) -> int:
    """Copy profiles into this repository, with what they extend, and lock them in vllm-guard.lock.

    A FILE in the repository's .vllm-guard/ or profiles/ is locked as it is. Exit status: 0 pinned, 1 a check
    failed, 2 no repository or no such profile, 125 it cannot be pinned.
    """
    for version in versions:
        _refuse_no_version(version)
    root = pins.root_here()
    old = pins.read_lock(root)
    items = [_wanted(name, old) for name in names]
    for item in items:
        _refuse_secrets(item, root)
    found = against.vllm(python)
    wanted = tuple(dict.fromkeys((*((found.version,) if found else ()), *versions)))
    findings = [f for item in items for f in against.findings(item, found)]
    installed = against.names(found)
    findings += [f for item in items for f in verifying.unknown_keys(item, wanted, installed)]
    if found is None and not versions:
        findings.append(against.none_found(python))
    output.print_findings(findings)
    if output.verdict(findings, strict=False):
        raise GuardError("nothing is pinned: a check failed", exit_code=FAILED)
    files, new = pins.copies(items, root, folder, wanted, old)
    if not force:
        _refuse_edited(root, files, old)
    kept = [row for row in old if row.file not in files]
    pins.write(root, {**files, pins.LOCK: pins.lock_text((*kept, *new))})
    for row in new:
        click.echo(f"{row.name}: {row.file}, sha256 {row.sha256[:12]}.. ({row.origin})")
    click.echo(f"{pins.LOCK}: {report.count(len(kept) + len(new), 'profile')}")
    return 0


@click.command()
@click.option("--outdated", is_flag=True, help="Fail also where the built-in profile is newer.")
@output.python_option
@output.strict_option
@click.option("--json", "form", flag_value="json", help="One JSON document on stdout.")
@click.option(
    "--format", "form", type=click.Choice(("text", "json", "github")), default="text", help="Form."
)
def verify(outdated: bool, python: str | None, strict: bool, form: str) -> int:
    """Check this repository's pinned profiles against vllm-guard.lock; for CI. Grants no trust.

    Exit status: 0 all are as locked, 1 one is not, 2 there is no lock that can be read.
    """
    root = pins.root_here()
    rows = _lock(root)
    found = against.vllm(python)
    placed = list(verifying.verify(root, rows, os.environ, against.names(found)))
    placed += verifying.outdated(rows) if outdated else ()
    findings = [finding for _, finding in placed]
    with output.readable():
        if form == "json":
            version = found.version if found else ""
            output.print_json(version, pins=rows, findings=_with_files(placed))
        elif form == "github":
            from vllm_guard import formats  # its XML costs 15 ms

            lines = formats.github_placed(Placed(finding, file) for file, finding in placed)
            click.echo("\n".join(lines), nl=bool(placed))
        else:
            output.print_findings(findings)
            click.echo(f"{report.count(len(rows), 'profile')} checked against {pins.LOCK}")
    return output.verdict(findings, strict)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
def diff(names: tuple[str, ...]) -> int:
    """Show how pinned profiles differ from those that they were copied from, as they are now."""
    root = pins.root_here()
    rows = _lock(root)
    unknown = [name for name in names if name not in {row.name for row in rows}]
    if unknown:
        raise GuardError(f"not in {pins.LOCK}: {unknown[0]}", exit_code=USAGE)
    for row in rows:
        if not names or row.name in names:
            for line in _diff(root, row):
                click.echo(screen.printable(line))
    return 0


def _refuse_no_version(word: str) -> None:
    if not pins.is_version(word):
        hint = "for example --vllm 0.12.0"
        raise GuardError(f"--vllm {word!r} is no version", hint, exit_code=USAGE)


def _lock(root: str) -> Sequence[Pin]:
    rows = pins.read_lock(root)
    if not rows:
        raise GuardError(
            f"no {pins.LOCK} in {root}", "vllm-guard profile pin NAME", exit_code=USAGE
        )
    return rows


def _wanted(name: str, old: Sequence[Pin]) -> Profile:
    """What a name means: once pinned from elsewhere, it is not the copy that is copied again."""
    copied = {row.name for row in old if row.origin in ("builtin", "user")}
    load = profiles.load_own if name in copied else profiles.load_profile
    return load(name, os.environ)


def _refuse_edited(root: str, files: dict[str, bytes], old: Sequence[Pin]) -> None:
    """A file that nobody has locked as it is would be lost."""
    from hashlib import sha256

    locked = {row.file: row.sha256 for row in old}
    for file, content in files.items():
        path = os.path.join(root, file)
        if not os.path.isfile(path):
            continue
        there = profiles.load_profile(path, os.environ).digest
        if there not in (sha256(content).hexdigest(), locked.get(file)):
            hint = f"lock it as it is: vllm-guard profile pin {file}; or overwrite it: --force"
            raise GuardError(f"nothing is pinned: {file} was edited", hint)


def _with_files(placed: Sequence[tuple[str, Finding]]) -> list[dict[str, object]]:
    return [{**finding.__dict__, "file": file} for file, finding in placed]


def _diff(root: str, row: Pin) -> Iterator[str]:
    source = pins.upstream(row, os.environ)
    if source is None:
        yield f"{row.file}: written here; nothing to compare with"
        return
    own = profiles.load_profile(os.path.join(root, row.file), os.environ)
    is_secret = any(shown.secrets(item) for item in (own, source))
    if is_secret:
        yield f"{row.name} holds secrets: what it does is compared, and not its text"
    pinned, now = (_settings(item) if is_secret else _text(item) for item in (own, source))
    label = f"{row.name} ({source.origin})"
    yield from difflib.unified_diff(pinned, now, row.file, label, lineterm="")


def _text(item: Profile) -> list[str]:
    text = profiles.content_of(item.sources[-1]).decode("utf-8-sig")
    return shown.text(text).splitlines()  # a comment can hold a secret, too


def _settings(item: Profile) -> list[str]:
    return [line for part in shown.masked(item).parts for line in shown.part_lines(part)]


def _refuse_secrets(item: Profile, root: str) -> None:
    """Raise GuardError where a secret of the user's own would come into the repository."""
    is_copied = any(not pins.place_of(source, root) for source in item.sources)
    names = shown.secrets(item) if is_copied else ()
    if names:
        fact = f"nothing is pinned: profile {item.name} holds secrets: {', '.join(names)}"
        raise GuardError(fact, f'ask for it instead: {names[0]} = {{ required = "..." }}')
