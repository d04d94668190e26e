"""Findings as other programs want them: a monitoring plug-in, GitHub's annotations, JUnit. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from vllm_guard import report, screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vllm_guard.checkup import Checked
    from vllm_guard.model import Finding
    from vllm_guard.unguarded import Placed

_NAGIOS = {"fail": (2, "CRITICAL"), "warn": (1, "WARNING"), "unknown": (3, "UNKNOWN")}
_GITHUB = {"fail": "error", "warn": "warning", "unknown": "warning", "note": "notice"}
_NOWHERE: Mapping[str, object] = MappingProxyType({})
_COUNTED = ("fail", "warn", "unknown")


def nagios(checked: Sequence[Checked]) -> tuple[str, int]:
    """One line with performance data, and the plug-in's exit status (0, 1, 2, 3).

    https://www.monitoring-plugins.org/doc/guidelines.html: a `|` begins the performance data.
    """
    found = [finding for item in checked for finding in item.findings]
    first = next((f for status in _COUNTED for f in found if f.status == status), None)
    code, word = _NAGIOS[first.status] if first else (0, "OK")
    looked = sum(item.status != "skip" for item in checked)
    text = _line(first) if first else report.count(looked, "check")
    counts = [f"{s}={sum(f.status == s for f in found)};;;0" for s in _COUNTED]
    seconds = f"time={sum(item.seconds for item in checked):.3f}s;;;0"
    return f"VLLM-GUARD {word} - {text.replace('|', '/')} | {' '.join([*counts, seconds])}", code


def github(checked: Sequence[Checked]) -> Iterator[str]:
    """Workflow commands, one for each finding that is more than ok."""
    for item in checked:
        for finding in item.findings:
            level = _GITHUB.get(finding.status)
            if level:
                yield annotation(level, finding.id, _line(finding))


def github_placed(placed: Iterable[Placed]) -> Iterator[str]:
    """Workflow commands for findings in files: GitHub shows them beside the lines."""
    for item in placed:
        unread = item.finding.status == "unknown"  # which check fails on, with a status of its own
        level = "error" if unread else _GITHUB.get(item.finding.status)
        if level:
            lines = {} if item.cell else {"line": item.line, "col": item.column}
            where = {"file": item.file, **lines}
            known = {name: value for name, value in where.items() if value}
            yield annotation(level, item.finding.id, item.message, known)


def junit(checked: Sequence[Checked]) -> Iterator[str]:
    """A test suite: one case for each finding, and for each check that found nothing."""
    cases = [(item, finding) for item in checked for finding in item.findings or (None,)]
    failed = sum(f is not None and f.status == "fail" for _, f in cases)
    skipped = sum(f is not None and f.status in ("skip", "unknown") for _, f in cases)
    seconds = sum(item.seconds for item in checked)
    counts = f'tests="{len(cases)}" failures="{failed}" skipped="{skipped}" time="{seconds:.3f}"'
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield f'<testsuites><testsuite name="vllm-guard doctor" errors="0" {counts}>'
    for item, finding in cases:
        yield from _case(item, finding)
    yield "</testsuite></testsuites>"


def _case(item: Checked, finding: Finding | None) -> Iterator[str]:
    name = _xml(f"{finding.id}: {finding.subject}" if finding else item.check.title)
    share = item.seconds / max(1, len(item.findings))
    where = f"classname={quoteattr('vllm-guard.' + item.check.id)}"
    yield f'<testcase {where} name={quoteattr(name)} time="{share:.3f}">'
    if finding is not None:
        message = quoteattr(_xml(_line(finding)))
        details = escape("\n".join(map(_xml, finding.evidence)))
        if finding.status == "fail":
            yield f"<failure message={message}>{details}</failure>"
        elif finding.status in ("skip", "unknown"):
            yield f"<skipped message={message}/>"
        else:
            yield f"<system-out>{escape(_xml(f'{finding.status}: {_line(finding)}'))}</system-out>"
    yield "</testcase>"


def _line(finding: Finding) -> str:
    fix = f"; fix: {finding.fix}" if finding.fix else ""
    return screen.printable(f"{finding.id}: {finding.subject}: {finding.fact}{fix}")


def annotation(level: str, title: str, text: str, where: Mapping[str, object] = _NOWHERE) -> str:
    """A workflow command that annotates; `level`: `error`, `warning` or `notice`."""
    properties = {**where, "title": f"vllm-guard {title}"}
    words = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    return f"::{level} {words}::{_data(text)}"


def _xml(text: str) -> str:
    """Only characters that XML has: `printable` leaves no control character and no surrogate."""
    return screen.printable(text).replace("\ufffe", "").replace("\uffff", "")


def _data(text: str) -> str:
    """https://github.com/actions/toolkit, packages/core/src/command.ts: `escapeData`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
