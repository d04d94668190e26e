"""A report as one self-contained HTML page: nothing is loaded, and nothing in it can run. Pure."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from vllm_guard import __version__, screen
from vllm_guard.report import count
from vllm_guard.reporting import charts, incident_rows, value_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vllm_guard.reporting import Excerpt, Report


def page(report: Report, style: str, script: str) -> str:
    """The whole document; `style` and `script` are the package's own, and all that the policy lets in."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = "".join(_sections(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{screen.html(report.run['id'])} - vllm-guard</title><style>{style}</style></head>"
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def _sections(report: Report) -> Iterator[str]:
    run = report.run
    yield f"<header><h1>{screen.html(run['command_line'])}</h1>"
    yield f'<p class="outcome">{screen.html(report.outcome)}</p>'
    facts = {
        "started": run["started"],
        "vLLM": run["vllm"] or "not found",
        "profiles": ", ".join(run["profiles"]) or "none",
        "run": run["id"],
    }
    yield "".join(
        f"<span><b>{label}</b> {screen.html(value)}</span> " for label, value in facts.items()
    )
    yield '<label class="search">search <input id="search" type="search"></label>'
    yield '<output id="found"></output></header><main>'
    yield from map(_incident, run.get("incidents", ()))
    yield from _timeline(run.get("phases", ()))
    yield from _memory(report)
    yield from _table("findings", "Findings", *_findings(report.findings))
    yield from _table("changes", "Environment: changed for this run", *_changes(run["plan"]))
    rows = [*report.environment, *([("", report.left_out)] if report.left_out else ())]
    yield from _table("environment", "Environment of the command", ("variable", "value"), rows)
    yield from _table("machine", "Machine, when this report was made", ("", ""), report.machine)
    for excerpt in report.excerpts:
        yield _excerpt(excerpt)
    rows = [(name, str(times)) for name, times in sorted(report.masked.items())]
    yield from _table("masked", "Masked as secret", ("known by", "times"), rows)
    masked = count(sum(report.masked.values()), "secret")
    yield f"</main><footer>vllm-guard {__version__}, {masked} masked</footer>"


def _incident(incident: Mapping[str, Any]) -> str:
    where = f"line {incident['line']}" if incident["line"] else ""
    about = ", ".join(filter(None, (incident["process"], where)))
    rows = "".join(
        f"<dt>{label}</dt><dd>{screen.html(text)}</dd>" for label, text in incident_rows(incident)
    )
    quoted = "".join(f"{screen.html(line)}\n" for line in incident["lines"])
    name = incident["id"] or incident["status"]
    return (
        f'<section class="incident"><h2>{screen.html(incident["title"] or incident["status"])}</h2>'
        f"<p><code>{screen.html(name)}</code> {screen.html(about)}</p>"
        f"<dl>{rows}</dl><pre>{quoted}</pre></section>"
    )


def _timeline(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [(p["name"], f"{p['started']:.1f} s", f"{p['seconds']:.1f} s") for p in phases]
    yield from _table(
        "timeline", "Timeline", ("phase", "from", "took"), rows, above=charts.timeline(phases)
    )


def _memory(report: Report) -> Iterator[str]:
    chart = charts.memory(report.samples)
    if chart:
        keys = "".join(
            f'<li class="{css}">{screen.html(name)}: at most {charts.size(most)}</li>'
            for css, name, most in charts.legend(report.samples)
        )
        yield f'<section id="memory"><h2>Memory against time</h2>{chart}'
        yield f'<ul class="legend">{keys}</ul></section>'


def _findings(
    findings: Sequence[Mapping[str, Any]],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = ("status", "id", "subject", "fact", "fix")
    return header, [tuple(str(finding[key]) for key in header) for finding in findings]


def _changes(plan: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header = ("variable", "before", "in this run", "by", "why")
    return header, [
        (c["name"], value_words(c["before"]), value_words(c["after"]), c["origin"], c["why"])
        for c in plan["changes"]
    ]


def _table(
    name: str,
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    above: str = "",
) -> Iterator[str]:
    """A section with a table; nothing where it would be empty."""
    body = "".join(
        f'<tr class="{_status(row)}">{"".join(f"<td>{screen.html(cell)}</td>" for cell in row)}</tr>'
        for row in rows
    )
    if body:
        head = "".join(f"<th>{label}</th>" for label in header)
        yield (
            f'<section id="{name}"><h2>{title}</h2>{above}<div class="wide"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
        )


def _status(row: Sequence[str]) -> str:
    return row[0] if row[0] in ("fail", "warn", "unknown", "note") else ""


def _excerpt(excerpt: Excerpt) -> str:
    rows = "".join(
        f'<li value="{number}"{" class=marked" * (number == excerpt.marked)}>{screen.html(line)}</li>'
        for number, line in enumerate(excerpt.lines, excerpt.first)
    )
    return f'<section class="log"><h2>{screen.html(excerpt.title)}</h2><ol>{rows}</ol></section>'
