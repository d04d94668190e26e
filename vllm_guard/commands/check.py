"""`vllm-guard check`: which scripts need `if __name__ == "__main__":`, and where."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from vllm_guard import __version__, importers, report, screen, scripts, unguarded
from vllm_guard.commands import output
from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.scripts import Script
    from vllm_guard.unguarded import Placed

_FORMATS = ("text", "json", "github", "sarif")
_CHILDREN = {
    "child": "run it",
    "main": "leave it out",
    "inherited": "have its effect",
    "partly": "run a part",
}


@click.command()
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), default="text", help="How to print it."
)
@click.option(
    "--explain",
    is_flag=True,
    help="Also each top-level line: whether child processes run it, and why.",
)
@output.strict_option
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def check(form: str, explain: bool, strict: bool, paths: tuple[str, ...]) -> int:
    """Say which scripts start processes when they are imported, and so need a main guard.

    PATH is a script, a notebook, a folder (the *.py below it) or - for stdin. Nothing is imported or run.

    Exit status: 0 none needs a guard, 1 one does, 2 one could not be read.
    """
    if explain and form not in ("text", "json"):
        raise GuardError(f"--explain has no --format {form}", exit_code=USAGE)
    found: list[Placed] = []
    explained = []
    names = scripts.found(paths)
    for name in names:
        script = scripts.read(name)
        refusal = partial(importers.refusal, script, names)
        found += unguarded.judge(script, scripts.neighbours(name), refusal)
        if explain and not script.problem and not script.is_notebook:
            explained.append((name, list(_statements(script)), list(_sent(script))))
    if form == "text":
        for name, rows, sent in explained:
            _explain(name, rows, sent)
        _print(found)
        click.echo(_summary(len(names), found))
    else:
        _write(form, names, found, [row for _, rows, _ in explained for row in rows])
    unreadable = any(placed.finding.id == "script-unreadable" for placed in found)
    return USAGE if unreadable else output.verdict((p.finding for p in found), strict)


def _write(
    form: str, names: Sequence[str], found: Sequence[Placed], rows: Sequence[dict[str, object]]
) -> None:
    if form != "json":
        found = [replace(placed, file=_from_here(placed.file)) for placed in found]
    if form == "json":
        findings = [
            {
                **p.finding.__dict__,
                "file": p.file,
                "cell": p.cell,
                "line": p.line,
                "column": p.column,
            }
            for p in found
        ]
        sections = {"statements": rows} if rows else {}
        output.print_json("", findings=findings, looked_at=names, **sections)
    elif form == "sarif":
        from vllm_guard import sarif

        click.echo(json.dumps(sarif.log(found, __version__), indent=1))
    else:
        from vllm_guard import formats  # its XML costs 15 ms

        for line in formats.github_placed(found):
            click.echo(line)


def _from_here(file: str) -> str:
    """As it is called in a checkout that is the current folder; empty for stdin."""
    if file == scripts.STDIN:
        return ""
    below = os.path.isabs(file) and os.path.relpath(file)
    return below if below and not below.startswith(os.pardir) else file


def _statements(script: Script) -> Iterator[dict[str, object]]:
    from vllm_guard.inside.mainguard import statements

    for statement in statements.classify(script.source, script.path).statements:
        row = statement._asdict()
        begin, end = row.pop("span")
        line = script.line(statement.first).encode()
        if statement.first == statement.last and line[end:].lstrip().startswith(b";"):
            line = line[:end]
        yield {"file": script.path, **row, "code": line[begin:].decode()}


def _sent(script: Script) -> Iterator[tuple[str, str]]:
    """(name, why) of the values that children are sent."""
    from vllm_guard.inside.mainguard import needs

    yield from needs.explained(needs.read(script.source, script.path))


def _explain(name: str, rows: Sequence[dict[str, object]], sent: Sequence[tuple[str, str]]) -> None:
    width = max(30, shutil.get_terminal_size().columns // 3) if sys.stdout.isatty() else 80
    click.echo(f"{screen.printable(name)}: what its child processes do with each line")
    output.print_table(
        ("LINES", "CODE", "CHILDREN", "WHY"),
        (
            (
                "-".join(dict.fromkeys((str(row["first"]), str(row["last"])))),
                screen.shortened(str(row["code"]), width),
                _CHILDREN[str(row["verdict"])],
                str(row["reason"]),
            )
            for row in rows
        ),
    )
    if sent:
        click.echo("The values that they are sent, where these are plain data:")
        output.print_table(("VALUE", "WHY"), sent)


def _print(found: Sequence[Placed]) -> None:
    """`FILE:LINE: FACT`, as compilers write it, so that editors find the place."""
    for placed in found:
        finding = placed.finding
        word = "" if finding.status == "unknown" else f"{output.coloured(finding.status)}: "
        subject, fact = map(screen.printable, (finding.subject, finding.fact))
        click.echo(f"{subject}: {word}{fact}")
        if finding.fix:
            click.echo(f"  fix: {screen.printable(finding.fix)}")


def _summary(looked: int, found: Sequence[Placed]) -> str:
    """`3 scripts checked: 1 needs a main guard, 1 may need one`."""

    def files(id_: str, status: str) -> set[str]:
        return {p.file for p in found if (p.finding.id, p.finding.status) == (id_, status)}

    certain = files("main-guard-missing", "fail")
    perhaps = files("main-guard-missing", "warn") - certain
    unread = files("script-unreadable", "unknown")
    others = [
        p for p in found if p.finding.status == "warn" and p.finding.id != "main-guard-missing"
    ]
    words = [f"{len(certain)} need{'s' if len(certain) == 1 else ''} a main guard"]
    words += [f"{len(perhaps)} may need one"] if perhaps else []
    words += [report.count(len(others), "other warning")] if others else []
    words += [f"{len(unread)} could not be read"] if unread else []
    return f"{report.count(looked, 'script')} checked: {', '.join(words)}"
