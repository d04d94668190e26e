"""`vllm-guard explain`: why it failed, by any log of a vLLM; or what an id means."""

from __future__ import annotations

import importlib
import os
import re
import stat
import time
import zlib
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from vllm_guard import closing, facts, finding_ids, log, phases, report, screen, signatures, voice
from vllm_guard.commands import output, runs
from vllm_guard.diagnose import Diagnosis
from vllm_guard.errors import FAILED, USAGE, GuardError
from vllm_guard.lines import LIMIT
from vllm_guard.model import Outcome
from vllm_guard.record import Shelf
from vllm_guard.redact import Redactor

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it
    LZMAError = EOFError  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from typing import BinaryIO

    from vllm_guard.model import Incident
    from vllm_guard.signatures import Signature

_STDIN = "-"
#: The first bytes of a packed file, and the module of the standard library that unpacks it.
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "lzma", b"BZh": "bz2"}
_BLOCK = 1 << 18  #: bytes
_TICK = 0.2  #: seconds between two looks at the progress
_WIDTH = 400  #: characters of a quoted line
_ALSO = 3  #: incidents that are named beside the first
_DAMAGE = (
    EOFError,
    OSError,
    zlib.error,
    LZMAError,
)  #: what reading raises, of a gzip file also in the middle
_RUN = re.compile(r"\d{8}[0-9a-f-]*")  #: the id of a run, or its beginning


@click.command()
@output.json_option
@click.argument("what", required=False, metavar="[LOG|-|ID]")
def explain(what: str | None, as_json: bool) -> int:
    """Say why it failed, by a log of any vLLM (default: that of the last run); or what an ID means.

    LOG is a file, also one of gzip, xz or bzip2, or - for stdin; Docker, Kubernetes, Slurm, Ray or journald
    may have put something before its lines. ID is that of a recorded run, of a signature, or of a finding.

    Exit status: 0 no failure in the log, 1 a failure, 2 it could not be read.
    """
    if what is None and stat.S_ISFIFO(os.fstat(0).st_mode):
        voice.say("note stdin is not read; for that: vllm-guard explain -", "note")
    if what in facts.signatures():
        (known,) = signatures.parse({what: facts.signatures()[what]})
        return _describe(known, as_json)
    if what == _STDIN or (what and os.path.exists(what) and what not in finding_ids.rows()):
        return _tell(what, *_read(what), as_json)
    if what is None or _RUN.fullmatch(what):
        return _tell_run(what or "", as_json)
    return _describe_finding(what, as_json)


def _read(name: str) -> tuple[tuple[Incident, ...], Diagnosis, str]:
    """The incidents of a log, what has read it, and the phase of a start that it ends in, if any.

    Raises GuardError where nothing can be read.
    """
    mask = Redactor(facts.load("redact")).knowing(os.environ)
    diagnosis = Diagnosis(signatures.parse(facts.signatures()), mask.line)
    start = phases.Phases()
    problem, is_binary, is_empty = "", False, True
    try:
        for block in _blocks(name):
            is_binary = is_binary or b"\0" in block
            is_empty = False
            diagnosis.feed(block)
            start.feed(block)
    except _DAMAGE as error:
        problem = getattr(error, "strerror", None) or str(error)
    found = diagnosis.finish()
    if is_empty and not problem:
        raise GuardError(f"{name}: is empty", exit_code=USAGE)
    if problem and not found:
        raise GuardError(f"{name}: {problem}", exit_code=USAGE)
    if is_binary and not found:
        hint = "unpack it first (gzip, xz and bzip2 are unpacked here), or iconv -f UTF-16 -t UTF-8"
        raise GuardError(f"{name}: is no text: it holds zero bytes", hint, exit_code=USAGE)
    if problem:
        voice.say(f"warn {screen.printable(name)}: read in part: {problem}", "warn")
    if diagnosis.dropped:
        voice.say(f"note {diagnosis.dropped} bytes of overlong lines were not looked at", "note")
    under_way = start.seen and not start.is_ready and start.name != phases.SHUTDOWN
    return found, diagnosis, start.name if under_way else ""


def _blocks(name: str) -> Iterator[bytes]:
    """The bytes of a file or of stdin, unpacked; how far it is, on a terminal."""
    with open(0 if name == _STDIN else name, "rb", closefd=name != _STDIN) as file:
        size = os.fstat(file.fileno()).st_size
        first = file.peek(8)
        module = next((name for magic, name in _PACKED.items() if first.startswith(magic)), "")
        source = _unpacked(file, module) if module else file
        begun = shown = time.monotonic()
        done = 0
        while block := source.read1(_BLOCK):
            yield block
            done += len(block)
            if (now := time.monotonic()) >= shown + _TICK:
                shown = now
                voice.progress(_progress(name, file.tell() if size else done, size), now - begun)
        voice.progress("", 0.0)


def _unpacked(file: BinaryIO, module: str) -> BufferedReader:
    """Raises GuardError where this Python was built without the module."""
    try:
        return importlib.import_module(module).open(file)  # type: ignore[no-any-return]
    except ImportError:
        text = f"this Python cannot unpack it: it has no module {module}"
        raise GuardError(text, exit_code=USAGE) from None


def _progress(name: str, done: int, size: int) -> str:
    far = f"{100 * done // size} %" if size else f"{done >> 20} MiB"
    return f"reading {screen.shortened(name, 40)}: {far}"


def _tell(
    name: str, found: tuple[Incident, ...], diagnosis: Diagnosis, phase: str, as_json: bool
) -> int:
    """Print what a log tells, and return the exit status."""
    before = diagnosis.failed_before if found else 0
    with output.readable():
        _print(name, found, (diagnosis.count, before), as_json)
        if not (found or as_json):
            for line in _doubts(diagnosis, phase):
                click.echo(line)
    return FAILED if found else 0


def _doubts(diagnosis: Diagnosis, phase: str) -> Iterator[str]:
    """Why a log without a failure is not that of a healthy server."""
    if phase:
        yield f"not ready: the log ends in phase {phase}; if nothing more comes, it hangs there"
        yield "next: vllm-guard -p debug -- COMMAND"
    if diagnosis.dropped:
        yield f"not looked at: {diagnosis.dropped} bytes, in lines longer than {LIMIT} bytes"


def _print(name: str, found: tuple[Incident, ...], counts: tuple[int, int], as_json: bool) -> None:
    lines, before = counts
    if as_json:
        row = {"name": name, "lines": lines, "failed_before": before}
        output.print_json("", findings=(), incidents=found, log=row)
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
        seen = [str(row["name"]) for row in document.get("phases", ())]
        told = bool(document.get("incidents"))
    except runs.GARBAGE:
        raise GuardError(f"the record of {run_id} cannot be read", exit_code=USAGE) from None
    mask = Redactor(facts.load("redact")).knowing(os.environ)
    found, diagnosis = closing.incidents(path, ended, seen, mask.line)
    if path and not log.parts(path):
        voice.say(f"warn its log is gone: {screen.printable(path)}", "warn")
    failed = ended is not None and (ended.kind, ended.code) != ("exited", 0)
    if ended is not None and not failed and not told:  # it ended well, whatever its log holds
        found = ()
    if as_json:
        _tell(run_id, found, diagnosis, "", as_json)
        return FAILED if found or failed else 0
    if found or not failed:
        if found:
            click.echo(f"run: {run_id}")
        return _tell(run_id, found, diagnosis, "", as_json)
    assert ended is not None
    where = f" in phase {seen[-1]}" if seen else ""
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
