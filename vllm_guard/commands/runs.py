"""`vllm-guard runs list | show | clean`: the records, and what dead runs left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from vllm_guard import leftovers, report, screen
from vllm_guard.commands import output
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Outcome
from vllm_guard.record import Shelf
from vllm_guard.target.script import as_typed

if TYPE_CHECKING:
    from collections.abc import Iterator


#: What became of a run without an outcome, by its state.
UNKNOWN = {
    "running": "still running",
    "elsewhere": "it was started on another host or in another container",
    "unreadable": "its marker cannot be read",
    "dead": "its guard was killed; `vllm-guard runs clean` removes what it left",
    "ended": "its guard was killed",
}
#: What a record raises that is none of ours.
GARBAGE = (AttributeError, KeyError, TypeError, ValueError)


@click.group()
def runs() -> None:
    """List and show the records of runs, and remove what killed ones left."""


@runs.command("list")
@output.json_option
def list_(as_json: bool) -> int:
    """List the runs that are recorded or under way, the newest last."""
    shelf = Shelf(os.environ)
    known = states(shelf)
    rows = [_row(i, known.get(i, ""), shelf.read(i)) for i in _ids(shelf)]
    if as_json:
        output.print_json("", runs=rows, findings=[])
    elif rows:
        cells = ((r["id"], r["state"], r["outcome"], _short(as_typed(r["command"]))) for r in rows)
        output.print_table(("RUN", "STATE", "OUTCOME", "COMMAND"), cells)
    else:
        click.echo("no runs are recorded")
    return 0


@runs.command()
@click.argument("run_id", required=False, metavar="[RUN]")
@output.json_option
def show(run_id: str | None, as_json: bool) -> int:
    """Show the record of a run (default: the newest)."""
    shelf = Shelf(os.environ)
    run_id = chosen(shelf, run_id or "")
    document = shelf.read(run_id) or {}
    try:
        lines = list(_lines(document, states(shelf).get(run_id, "ended")))
    except GARBAGE:
        text, hint = f"the record of {run_id} cannot be read", "see vllm-guard runs list"
        raise GuardError(text, hint, exit_code=USAGE) from None
    if as_json:
        output.print_json(document["vllm"], run=document, findings=document["findings"])
    else:
        for line in lines:
            click.echo(line)
    return 0


@runs.command()
@click.option("--records", is_flag=True, help="Remove the records of ended runs as well.")
@output.json_option
def clean(records: bool, as_json: bool) -> int:
    """End and remove what is left of runs whose guard and keeper were killed."""
    shelf = Shelf(os.environ)
    findings = list(leftovers.sweep_dead(shelf))
    removed = 0
    if records:
        recorded = (
            shelf.ids()
        )  # first: a run that starts meanwhile has its marker before its record
        active = shelf.marked()
        removed = sum(shelf.remove(run_id) for run_id in recorded if run_id not in active)
    if as_json:
        output.print_json("", records_removed=removed, findings=findings)
        return 0
    output.print_findings(findings)
    if not findings:
        click.echo("no dead runs: nothing to end or remove")
    if records:
        click.echo(f"{report.count(removed, 'record')} removed")
    return 0


def _ids(shelf: Shelf) -> list[str]:
    """Recorded or marked, by the time of their start."""
    return sorted({*shelf.ids(), *shelf.marked()})


def states(shelf: Shelf) -> dict[str, str]:
    """The state of each run that has a marker: a key of `UNKNOWN`."""
    unread = dict.fromkeys(shelf.marked(), "unreadable")
    return unread | {marker.run_id: marker.state for marker in shelf.markers()}


def _row(run_id: str, state: str, document: dict[str, Any] | None) -> dict[str, Any]:
    """One run of the list; `state` is empty where it has no marker."""
    outcome, words = "", list[str]()
    try:
        outcome, words = _summary(document or {})
    except GARBAGE:
        state = state or "unreadable"
    return {"id": run_id, "state": state or "ended", "outcome": outcome, "command": words}


def _summary(document: dict[str, Any]) -> tuple[str, list[str]]:
    outcome = document["outcome"]
    words = report.outcome_words(Outcome(**outcome)) if outcome else ""
    return words, [str(word) for word in document["command"]]


def _short(words: list[str]) -> str:
    return screen.shortened(" ".join(words), 60)


def chosen(shelf: Shelf, wanted: str) -> str:
    """The newest run whose id begins so. Raises GuardError where there is none, or several are meant."""
    known = _ids(shelf)
    found = [run_id for run_id in known if run_id.startswith(wanted)]
    if not found:
        text = f"no record of {wanted}" if known else "no runs are recorded"
        raise GuardError(text, "see vllm-guard runs list", exit_code=USAGE)
    if wanted and len(found) > 1:
        raise GuardError(f"{wanted} is the beginning of {len(found)} runs", exit_code=USAGE)
    return found[-1]


def _phase(row: dict[str, Any]) -> str:
    return f"{row['name']} {row['seconds']:.1f} s"


def _lines(document: dict[str, Any], state: str) -> Iterator[str]:
    outcome = document["outcome"]
    for label, text in (
        ("run", document["id"]),
        ("command", " ".join(document["command"])),
        ("folder", document["cwd"]),
        ("profiles", ", ".join(document["profiles"]) or "none"),
        ("vLLM", document["vllm"] or "none found"),
        ("started", document["started"]),
        ("outcome", report.outcome_words(Outcome(**outcome)) if outcome else UNKNOWN[state]),
        ("held by", document["containment"] if outcome else ""),
        ("phases", ", ".join(map(_phase, document.get("phases", ())))),
        ("log", document["log"]),
    ):
        if text:
            yield f"{label:9} {screen.printable(text)}"
    for change in document["plan"]["changes"]:
        before = "unset" if change["before"] is None else change["before"]
        after = "unset" if change["after"] is None else change["after"]
        name = screen.printable(change["name"])
        yield f"  {name}: {screen.printable(before)} -> {screen.printable(after)}"
    for finding in (*document["findings"], *document["leftovers"]):
        if finding["status"] not in ("ok", "skip"):
            subject, fact = (screen.printable(finding[key]) for key in ("subject", "fact"))
            yield f"{finding['status']} {finding['id']}: {subject}: {fact}"
