"""A report as markdown that fills the form of vLLM's bug reports (`400-bug-report.yml`). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vllm_guard import __version__, screen
from vllm_guard.reporting import incident_rows, value_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.reporting import Excerpt, Report

#: GitHub takes 65,536 characters; what the reporter adds has to fit as well.
LIMIT = 60_000
_LONGEST = 2_000  #: characters of a line


def markdown(report: Report) -> str:
    """The report, at most LIMIT characters: excerpts of the log are shortened first, from their beginning."""
    kept = list(report.excerpts)
    while True:
        text = "\n".join(_lines(report, kept)) + "\n"
        too_long = len(text) - LIMIT
        if too_long <= 0 or not any(excerpt.lines for excerpt in kept):
            return text[:LIMIT]
        longest = max(range(len(kept)), key=lambda i: sum(map(len, kept[i].lines)))
        kept[longest] = _shortened(kept[longest], too_long)


def _shortened(excerpt: Excerpt, by: int) -> Excerpt:
    from vllm_guard.reporting import Excerpt

    dropped = size = 0
    while dropped < len(excerpt.lines) and size <= by:
        size += min(len(excerpt.lines[dropped]), _LONGEST) + 1
        dropped += 1
    return Excerpt(excerpt.title, excerpt.first + dropped, excerpt.lines[dropped:], excerpt.marked)


def _lines(report: Report, excerpts: Sequence[Excerpt]) -> Iterator[str]:
    yield "### Your current environment"
    yield ""
    yield "<details>"
    yield f"<summary>The output of <code>vllm-guard report</code> (vllm-guard {__version__})</summary>"
    yield ""
    yield from _fenced(_environment(report), "text")
    yield ""
    yield "</details>"
    yield ""
    yield "### 🐛 Describe the bug"
    yield ""
    yield from _fenced([report.run["command_line"]], "sh")
    yield ""
    yield f"It {_code(report.outcome)}."
    yield ""
    for incident in report.run.get("incidents", ())[:1]:
        yield from _incident(incident)
    yield from _phases(report.run.get("phases", ()))
    yield from _findings(report.findings)
    for excerpt in excerpts:
        yield f"{excerpt.title} (from line {excerpt.first}):"
        yield ""
        yield from _fenced(excerpt.lines, "text")
        yield ""
    yield from _ledger(report.masked)


def _environment(report: Report) -> Iterator[str]:
    """As the command got it, before vLLM set anything itself; then what `collect-env` leaves out."""
    run = report.run
    yield f"vLLM                {run['vllm'] or 'not found'}"
    yield f"interpreter         {run['interpreter'] or 'not found'}"
    yield f"started             {run['started']} in {run['cwd']}"
    yield f"profiles            {', '.join(run['profiles']) or 'none'}"
    for label, text in report.machine:
        yield f"{label:19} {text}"
    packages = [f["fact"] for f in run["findings"] if f["id"] == "packages"]
    yield from (f"packages            {fact}" for fact in packages)
    yield ""
    yield "Environment variables that the command got:"
    yield from (f"  {name}={value}" for name, value in report.environment)
    if report.left_out:
        yield f"  {report.left_out}"
    changes = run["plan"]["changes"]
    if changes:
        yield "of which vllm-guard changed for this run:"
    for change in changes:
        before, after = (value_words(change[key]) for key in ("before", "after"))
        yield f"  {change['name']}: {before} -> {after} ({change['origin']})"


def _incident(incident: Mapping[str, Any]) -> Iterator[str]:
    name = incident["id"] or incident["status"]
    where = f", line {incident['line']}" * bool(incident["line"])
    who = f" in {incident['process']}" * bool(incident["process"])
    yield f"First cause that vllm-guard recognises: {_code(name + who + where)}"
    yield ""
    if incident["title"]:
        yield f"- what: {_code(incident['title'])}"
    yield from (f"- {label}: {_code(text)}" for label, text in incident_rows(incident))
    yield ""
    yield from _fenced(incident["lines"], "text")
    yield ""


def _phases(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if phases:
        yield "| phase | from | took |"
        yield "| --- | ---: | ---: |"
        for phase in phases:
            name = _code(phase["name"]).replace("|", "\\|")
            yield f"| {name} | {phase['started']:.1f} s | {phase['seconds']:.1f} s |"
        yield ""


def _findings(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for finding in findings:
        words = f"{finding['subject']}: {finding['fact']}"
        yield f"- {finding['status']} {_code(finding['id'])}: {_code(words)}"
    if findings:
        yield ""


def _ledger(masked: Mapping[str, int]) -> Iterator[str]:
    what = ", ".join(f"{count} x {name}" for name, count in sorted(masked.items())) or "nothing"
    yield f"Masked as secret: {_code(what)}. Please read the text through before you post it."


def _fenced(lines: Iterable[str], language: str) -> Iterator[str]:
    """A block that nothing in it can end: its fence is longer than any run of backticks."""
    shown = [screen.printable(line[:_LONGEST]) for line in lines]
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{language}"
    yield from shown
    yield fence


def _code(text: str) -> str:
    """A code span: no markup, no mention and no link in it is followed."""
    shown = screen.printable(text[:_LONGEST]).strip()
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{ticks}{pad}{shown or ' '}{pad}{ticks}"
