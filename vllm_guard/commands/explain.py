"""`vllm-guard explain`: why it failed, by any log of a vLLM; or what an id means."""

from __future__ import annotations

import gzip
import io
import os
import re
import time
import zlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from vllm_guard import closing, facts, finding_ids, report, screen, signatures, voice
from vllm_guard.commands import output, runs
from vllm_guard.diagnose import Diagnosis
from vllm_guard.errors import FAILED, USAGE, GuardError
from vllm_guard.model import Outcome
from vllm_guard.record import Shelf
from vllm_guard.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Incident
    from vllm_guard.signatures import Signature

_STDIN = "-"
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 18  #: bytes
_TICK = 0.2  #: seconds between two looks at the progress
_WIDTH = 400  #: characters of a quoted line
_ALSO = 3  #: incidents that are named beside the first
_DAMAGE = (EOFError, OSError, zlib.error)  #: what reading raises, of a gzip file also in the middle
_RUN = re.compile(r"\d{8}[0-9a-f-]*")  #: the id of a run, or its beginning


@click.command()
@output.json_option
@click.argument("what", required=False, metavar="[LOG|-|ID]")
def explain(what: str | None, as_json: bool) -> int:
    """Say why it failed, by a log of any vLLM (default: that of the last run); or what an ID means.

    LOG is a file, also one of gzip, or - for stdin; Docker, Kubernetes, Slurm, Ray or journald may have put
    something before its lines. ID is that of a recorded run, of a signature, or of a finding.

    Exit status: 0 no failure in the log, 1 a failure, 2 it could not be read.
    """
    if what == _STDIN or (what and os.path.exists(what)):
        return _tell(what, *_read(what), as_json)
    if what is None or _RUN.fullmatch(what):
        return _tell_run(what or "", as_json)
    for signature in signatures.parse(facts.signatures()):
        if signature.id == what:
            return _describe(signature, as_json)
    return _describe_finding(what, as_json)


def _read(name: str) -> tuple[tuple[Incident, ...], Diagnosis]:
    """The incidents of a log, and what has read it. Raises GuardError where nothing can be read."""
    mask = Redactor(facts.load("redact")).knowing(os.environ)
    diagnosis = Diagnosis(signatures.parse(facts.signatures()), mask.text)
    problem, is_binary = "", False
    try:
        for block in _blocks(name):
            is_binary = is_binary or b"\0" in block
            diagnosis.feed(block)
    except _DAMAGE as error:
        problem = getattr(error, "strerror", None) or str(error)
    found = diagnosis.finish()
    if problem and not found:
        raise GuardError(f"{name}: {problem}", exit_code=USAGE)
    if is_binary and not found:
        hint = "unpack it first (only gzip is unpacked here), or iconv -f UTF-16 -t UTF-8"
        raise GuardError(f"{name}: is no text: it holds zero bytes", hint, exit_code=USAGE)
    if problem:
        voice.say(f"warn {screen.printable(name)}: read in part: {problem}", "warn")
    if diagnosis.dropped:
        voice.say(f"note {diagnosis.dropped} bytes of overlong lines were not looked at", "note")
    return found, diagnosis


def _blocks(name: str) -> Iterator[bytes]:
    """The bytes of a file or of stdin, unpacked; how far it is, on a terminal."""
    with open(0 if name == _STDIN else name, "rb", closefd=name != _STDIN) as file:
        size = os.fstat(file.fileno()).st_size
        packed = file.peek(len(_GZIP)).startswith(_GZIP)
        source: gzip.GzipFile | io.BufferedReader = gzip.GzipFile(fileobj=file) if packed else file
        begun = shown = time.monotonic()
        done = 0
        while block := source.read1(_BLOCK):
            yield block
            done += len(block)
            if (now := time.monotonic()) >= shown + _TICK:
                shown = now
                voice.progress(_progress(name, file.tell() if size else done, size), now - begun)
        voice.progress("", 0.0)


def _progress(name: str, done: int, size: int) -> str:
    far = f"{100 * done // size} %" if size else f"{done >> 20} MiB"
    return f"reading {screen.shortened(name, 40)}: {far}"


def _tell(name: str, found: tuple[Incident, ...], diagnosis: Diagnosis, as_json: bool) -> int:
    """Print what a log tells, and return the exit status."""
    before = diagnosis.failed_before if found else 0
    with output.readable():
        _print(name, found, (diagnosis.count, before), as_json)
    return FAILED if found else 0


def _print(name: str, found: tuple[Incident, ...], counts: tuple[int, int], as_json: bool) -> None:
    lines, before = counts
    if as_json:
        log = {"name": name, "lines": lines, "failed_before": before}
        output.print_json("", findings=(), incidents=found, log=log)
    elif not found:
        click.echo(f"no failure found: {screen.printable(name)}, {lines} lines")
    else:
        for line in _lines(*found):
            click.echo(line)
        if before:
            click.echo(f"before: {report.count(before, 'earlier run')} in this log failed as well")


def _tell_run(wanted: str, as_json: bool) -> int:
    """The same for a recorded run, whose outcome is known."""
    shelf = Shelf(os.environ)
    run_id = runs.chosen(shelf, wanted)
    document = shelf.read(run_id) or {}
    try:
        path, outcome = str(document["log"]), document["outcome"]
        ended = Outcome(**outcome) if outcome else None
        phases = [str(row["name"]) for row in document.get("phases", ())]
    except runs.GARBAGE:
        raise GuardError(f"the record of {run_id} cannot be read", exit_code=USAGE) from None
    mask = Redactor(facts.load("redact")).knowing(os.environ)
    found, diagnosis = closing.incidents(path, ended, phases, mask.text)
    failed = ended is not None and (ended.kind, ended.code) != ("exited", 0)
    if found or not failed:
        return _tell(run_id, found, diagnosis, as_json)
    assert ended is not None
    if as_json:
        _tell(run_id, found, diagnosis, as_json)
        return FAILED
    where = f" in phase {phases[-1]}" if phases else ""
    click.echo(f"{run_id} {report.outcome_words(ended)}{where}")
    click.echo(f"not explained: none of the {diagnosis.count} lines of its log tells why")
    for row in document["findings"]:
        if row["id"] == "stall":
            click.echo(f"stall: {screen.printable(str(row['fact']))}")
    return FAILED


def _lines(first: Incident, *others: Incident) -> Iterator[str]:
    """All about the first incident; which others there are."""
    what, *why_and_fix = closing.words(first)
    yield click.style(screen.printable(what), fg="red")
    yield from map(screen.printable, why_and_fix)
    for line in first.lines:
        yield f"  | {screen.shortened(line, _WIDTH)}"
    steps = [f"vllm-guard {step} -- COMMAND" for step in first.next]
    labels = {"confirm": first.confirm, "refute": first.refute, "next": steps, "see": [first.uri]}
    for label, texts in labels.items():
        yield from (f"{label}: {screen.printable(text)}" for text in texts if text)
    for other in others[:_ALSO]:
        where = [other.process, f"line {other.line}" if other.line else ""]
        yield screen.printable(f"also: {', '.join(filter(None, (_name(other), *where)))}")
    if len(others) > _ALSO:
        yield f"also: {len(others) - _ALSO} more (--json has all)"


def _name(incident: Incident) -> str:
    return incident.id or incident.status


def _describe(signature: Signature, as_json: bool) -> int:
    if as_json:
        output.print_json("", findings=(), signature=signature)
        return 0
    click.echo(f"{signature.id}: {signature.title}")
    for label, text in signatures.described(signature):
        click.echo(f"{label}: {screen.printable(text)}")
    return 0


def _describe_finding(name: str, as_json: bool) -> int:
    """A row of docs/checks.md. Raises GuardError where nothing is called so."""
    rows = finding_ids.rows()
    if name not in rows:
        near = get_close_matches(name, [*rows, *facts.signatures()], 1)
        hint = f"did you mean {near[0]}?" if near else "name a log, a run, or the id of a finding"
        raise GuardError(f"{name}: no such file, and no such id", hint, exit_code=USAGE)
    status, meaning = rows[name]
    if as_json:
        row = {"id": name, "status": status, "meaning": meaning}
        output.print_json("", findings=(), finding=row)
        return 0
    click.echo(f"{name} ({status}): {meaning}")
    return 0
