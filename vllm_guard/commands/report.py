"""`vllm-guard report`: a run as markdown for a bug report, as JSON, or as one HTML page."""

from __future__ import annotations

import os

import click

from vllm_guard import environment, facts, paths
from vllm_guard.commands import output, runs
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.record import Shelf
from vllm_guard.redact import Redactor
from vllm_guard.reporting import Report

FORMATS = ("markdown", "json", "html")
_STDOUT = "-"
#: What is called so is never replaced: `/dev/stdout` is a link, to a regular file where it is redirected.
_DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")
_DATA = os.path.join(paths.PACKAGE, "data", "report")


@click.command()
@click.argument("run_id", required=False, metavar="[RUN]")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="markdown",
    help="How it is written (default: markdown, which fills vLLM's form for bugs).",
)
@click.option("-o", "--output", "path", metavar="FILE", help="Write it there instead of to stdout.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def report(run_id: str | None, form: str, path: str | None, as_json: bool) -> int:
    """Report a run (default: the newest): what failed and why, timeline, environment, log; secrets masked.

    RUN is the id of a run, or its beginning. FILE is replaced, also where it is a link; - is stdout.

    Exit status: 0 written, 2 there is no such run, or its record or log cannot be read, 125 FILE cannot be
    written.
    """
    if path == "":
        raise GuardError("-o: the name of the file is empty", exit_code=USAGE)
    shelf = Shelf(os.environ)
    chosen = runs.chosen(shelf, run_id or "")
    state = runs.UNKNOWN[runs.states(shelf).get(chosen, "ended")]
    mask = Redactor(facts.load("redact")).knowing(environment.view(environment.inherited()))
    from vllm_guard.reporting import gathering

    try:
        found = gathering.gather(shelf, chosen, state, mask)
        text = _written(found, "json" if as_json else form)
    except OSError as error:
        wrong = f"cannot read {error.filename}: {error.strerror}"
        raise GuardError(wrong, exit_code=USAGE) from None
    except runs.GARBAGE:
        wrong, hint = f"the record of {chosen} cannot be read", "see vllm-guard runs list"
        raise GuardError(wrong, hint, exit_code=USAGE) from None
    if path in (None, _STDOUT):
        click.echo(text, nl=False)
        return 0
    _write(path, text)
    masked = sum(found.masked.values())
    click.echo(f"{path}: {len(text) >> 10} KiB, {masked} secrets masked", err=True)
    return 0


def _written(found: Report, form: str) -> str:
    if form == "json":
        sections = {**found.__dict__, "findings": found.findings}
        return output.json_text(found.run["vllm"], **sections) + "\n"
    if form == "html":
        from vllm_guard.reporting import page

        style, script = (_asset(name) for name in ("style.css", "script.js"))
        return page.page(found, style, script)
    from vllm_guard.reporting import markdown

    return markdown.markdown(found)


def _asset(name: str) -> str:
    with open(os.path.join(_DATA, name), encoding="utf-8") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    """Whole or not at all, for nobody else to read; into what is no regular file as it comes."""
    try:
        is_device = os.path.dirname(path) in _DEVICES
        if is_device or (os.path.exists(path) and not os.path.isfile(path)):
            with open(path, "ab") as file:
                file.write(text.encode())
        else:
            paths.write_private(path, text.encode())
    except OSError as error:
        raise GuardError(f"cannot write {path}: {error.strerror}") from None
