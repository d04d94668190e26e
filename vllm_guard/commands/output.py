"""What the report commands print: tables on stdout for people, one JSON document for programs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from vllm_guard import __version__, model, screen, voice
from vllm_guard.frozen import plain
from vllm_guard.record import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm_guard.model import Finding

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
python_option = click.option(
    "--python", metavar="PATH", default=None, help="The interpreter whose vLLM is meant."
)
strict_option = click.option("--strict", is_flag=True, help="Warnings count as failures.")
trust_option = click.option("--trust", multiple=True, metavar="sha256:DIGEST", help="As for `run`.")

_LONGEST = 700  #: characters of a fact, unless all is asked for
_COLOURS = {"fail": "red", "warn": "yellow", "ok": "green", "note": "cyan"}


def print_json(vllm: str, **sections: Any) -> None:
    """`json_text` on stdout."""
    click.echo(json_text(vllm, **sections))


def json_text(vllm: str, **sections: Any) -> str:
    """The envelope of every JSON answer (design, section 2) with these sections."""
    document = {"schema_version": SCHEMA_VERSION, "vllm_guard": __version__, "vllm": vllm}
    return json.dumps({**document, **plain(sections)}, indent=1)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns; wrapped to the terminal, one line a row where there is none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout is not None and sys.stdout.isatty()
    colour = screen.wants_colour(os.environ, terminal)
    console = Console(
        file=sys.stdout,
        width=None if terminal else 10_000,
        force_terminal=colour,
        color_system="standard" if colour else None,  # rich would heed TERM=dumb before FORCE_COLOR
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [[screen.printable(cell) for cell in row] for row in rows]
    longest = max((len(row[0]) for row in shown), default=0)
    for name in header:
        is_whole = name == header[0] and longest * 2 <= console.width  # an id, a name: to be copied
        table.add_column(name, overflow="fold", no_wrap=is_whole)
    for cells in shown:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in cells))
    with console.capture() as captured:
        console.print(table)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    click.echo(text)


def coloured(status: str) -> str:
    """The word in its colour, which `click.echo` leaves out where there is no terminal."""
    return click.style(status, fg=_COLOURS.get(status))


def print_findings(findings: Iterable[Finding], verbose: bool = False) -> None:
    """The worst first: one line each on stdout, then its evidence and its fix; then why under `verbose`."""
    for finding in model.worst_first(findings):
        subject = screen.shortened(finding.subject, 200)
        fact = (
            screen.printable(finding.fact) if verbose else screen.shortened(finding.fact, _LONGEST)
        )
        click.echo(f"{coloured(finding.status)} {finding.id}: {subject}: {fact}")
        for line in finding.evidence:
            click.echo(f"  {screen.printable(line)}")
        if finding.fix:
            click.echo(f"  fix: {screen.printable(finding.fix)}")
        if verbose and finding.why:
            click.echo(f"  why: {screen.printable(finding.why)}")
        if verbose and finding.uri:
            click.echo(f"  see: {screen.printable(finding.uri)}")


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Whoever reads may leave: what is printed after that is lost, and the verdict is not."""
    try:
        yield
    except BrokenPipeError:
        voice.silence_stdout()


def verdict(findings: Iterable[Finding], strict: bool) -> int:
    """0 when nothing failed, else 1; text and JSON give the same."""
    bad = ("fail", "warn") if strict else ("fail",)
    return int(any(finding.status in bad for finding in findings))
