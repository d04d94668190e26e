"""What a report tells, gathered: the record of the run, its log and samples, and the machine as it is now."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from vllm_guard import log, paths, report
from vllm_guard.errors import GuardError
from vllm_guard.host import Host
from vllm_guard.lines import Lines, Rows
from vllm_guard.model import Outcome
from vllm_guard.redact import MASK
from vllm_guard.reporting import Excerpt, Report, Sample, machine
from vllm_guard.target.script import as_typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.record import Shelf
    from vllm_guard.redact import Redactor

_BLOCK = 1 << 20
_BEFORE, _BEHIND = 15, 25  #: lines around the one that an incident is about
_LAST = 200  #: lines of the end of the log
_SAMPLES_MAX = 8 << 20  #: bytes
_COMMAND = "-- COMMAND"  #: so signatures call the run's own
_POINTS = 400  #: samples that are drawn


def gather(shelf: Shelf, run_id: str, state: str, mask: Redactor) -> Report:
    """All of a run. Raises KeyError, TypeError and the like for a document that is no record of ours."""
    document = shelf.read(run_id) or {}
    masked = _masked(document, mask)
    variables = [row for row in masked.get("environment", ()) if row[0][:7] != "VGUARD_"]
    command = report.command_line(as_typed(document["command"]), mask)
    outcome = masked["outcome"]
    words = report.outcome_words(Outcome(**outcome)) if outcome else state
    return Report(
        run={
            **masked,
            "command_line": command,
            "environment": variables,
            "incidents": [_with_steps(row, command) for row in masked.get("incidents", ())],
        },
        outcome=words,
        machine=tuple(machine.lines(Host())),
        samples=tuple(_thinned(list(_samples(document.get("samples", ""))))),
        excerpts=tuple(_excerpts(document, mask)),
        masked=_ledger(document, mask),
    )


def _masked(value: Any, mask: Redactor) -> Any:
    """Every text of a document, masked once more: by the rules of this version and the secrets of today."""
    if isinstance(value, str):
        return mask.text(value)
    if isinstance(value, dict):
        return {key: _masked(item, mask) for key, item in value.items()}
    return [_masked(item, mask) for item in value] if isinstance(value, list) else value


def _with_steps(incident: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The incident with commands that can be pasted; a next step that `confirm` has is not said twice."""
    told = [text.replace(_COMMAND, f"-- {command}") for text in incident["confirm"]]
    steps = [f"vllm-guard {step} -- {command}" for step in incident["next"]]
    fresh = [step for step in steps if not any(text.startswith(step) for text in told)]
    return {**incident, "confirm": told, "next": fresh}


def _ledger(document: Mapping[str, Any], mask: Redactor) -> dict[str, int]:
    counts = {str(name): int(count) for name, count in document.get("masked", ())}
    for name, count in mask.masked.items():
        counts[name] = counts.get(name, 0) + count
    return counts


def _samples(path: str) -> Iterator[Sample]:
    """A line that is cut off, for its guard was killed, is left out."""
    try:
        content = paths.read_regular(path, _SAMPLES_MAX) if path else b""
    except GuardError:
        return
    for line in content.splitlines():
        try:
            row = json.loads(line)
            gpus = tuple(int(used) for used in row["gpus"].values())
            yield Sample(float(row["seconds"]), str(row["phase"]), int(row["rss"]), gpus)
        except (ValueError, KeyError, TypeError):
            continue


def _thinned(samples: list[Sample]) -> list[Sample]:
    step = len(samples) // _POINTS + 1
    return samples[::step]


def _excerpts(document: Mapping[str, Any], mask: Redactor) -> Iterator[Excerpt]:
    """The lines around the first cause, and the end of the log."""
    path = str(document["log"])
    incidents = document.get("incidents", ())
    about = int(incidents[0]["line"]) if incidents else 0
    around: list[tuple[int, str]] = []
    last: deque[tuple[int, str]] = deque(maxlen=_LAST)
    for number, line in _without_keys(_numbered(path)):
        if about and about - _BEFORE <= number <= about + _BEHIND:
            around.append((number, line))
        last.append((number, line))
    if around and around[0][0] < last[0][0]:
        yield _excerpt("Log, around the first cause", around, mask, about)
    if last:
        yield _excerpt("Log, its end", list(last), mask, about)


def _without_keys(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Private keys have many lines: while a run is under way, its log still has them (see `masking`)."""
    inside = False
    for number, line in lines:
        inside = inside and "-----END " not in line
        yield number, MASK if inside else line
        inside = inside or ("-----BEGIN " in line and "PRIVATE KEY-----" in line)


def _excerpt(title: str, rows: list[tuple[int, str]], mask: Redactor, about: int) -> Excerpt:
    return Excerpt(title, rows[0][0], tuple(mask.line(line) for _, line in rows), about)


def _numbered(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a log with their numbers, over all its files; of a progress bar the last state."""
    lines = Lines()
    for part in log.parts(path):
        with open(part, "rb") as file:
            while block := file.read(_BLOCK):
                yield from _shown(lines.feed(block))
    yield from _shown(lines.finish())


def _shown(rows: Rows) -> Iterator[tuple[int, str]]:
    latest: dict[int, bytes] = {}
    for number, line in zip(rows.numbers, rows.lines, strict=True):
        if line or number not in latest:
            latest[number] = line
    for number, line in latest.items():
        yield number, line.decode("utf-8", "surrogateescape")
