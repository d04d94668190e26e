"""What a known failure looks like in a log, and what to do about it: `data/signatures/*.toml`, checked. Pure.

A signature is looked for by its needles, literals that cost little to find in megabytes; its regular
expression sees only lines that hold one. docs/signatures.md lists all, docs/explain.md says how.
"""

from __future__ import annotations

import re

from vllm_guard import prefixes, schema
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from dataclasses import dataclass
    from typing import Any, Literal

    from vllm_guard.prefixes import Line

    #: `cause`; `envelope`: it says that another process failed; `request`: the end of a request, not of a
    #: process; `hint`: it contributes, and is named beside a failure only; `noise`: it looks like a failure
    #: and is none.
    Kind = Literal["cause", "envelope", "request", "hint", "noise"]
else:
    from vllm_guard.frozen import dataclass

_KINDS = {
    "cause": "a cause",
    "envelope": "says that another process failed: the cause is elsewhere in the log",
    "request": "the end of a request; the server lives on",
    "hint": "contributes to a failure; is none by itself",
    "noise": "looks like a failure and is none",
}
#: So begins what somebody asked in a line without a level, as proxies log it: it may quote any error.
_REQUESTS = (
    '"messages":',
    '"prompt":',
    '"content":',
    "'messages':",
    "'prompt':",
    "'content':",
    "prompt: '",
    'prompt: "',
)
#: The lowest level of a line that counts, unless a signature says otherwise: prompts are logged at INFO.
_LEVELS = {
    "cause": "ERROR",
    "envelope": "ERROR",
    "request": "ERROR",
    "hint": "WARNING",
    "noise": "DEBUG",
}
SHORTEST_NEEDLE = 6  #: characters
_HEXADECIMAL = frozenset("0123456789abcdef")  #: `needles` looks for what else there is
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TEXTS = ("family", "title", "kind", "level", "regex", "cause", "fix", "vllm", "uri", "source")
_LISTS = ("needles", "absent", "context", "confirm", "refute", "next", "examples", "near_misses")
_TEMPLATES = ("cause", "fix", "confirm", "refute", "next")
_FIELD = re.compile(r"\{(\w+)(?:\|([^{}]*)|/(\w+))?\}")  #: {a}, {a|instead}, {a/b}
_UNKNOWN = "?"


@dataclass(frozen=True)
class Signature:
    """One row of the data. `cause`, `fix`, `confirm`, `refute` and `next` are templates for `fill`."""

    id: str
    family: str
    title: str
    kind: Kind
    level: str  #: the lowest of a line that matches; a line without a level may always
    needles: tuple[str, ...]  #: a line that matches holds at least one of them
    absent: tuple[str, ...]  #: a line that matches holds none of them
    context: tuple[
        str, ...
    ]  #: one of them stood in the last lines of the same process, if any are named
    regex: str  #: searched in the line; empty for none
    last: bool  #: it counts only where no other line stands behind it, but empty ones
    signal: int  #: an exit by this signal that no line explains, instead of needles; 0 for none
    cause: str
    fix: str
    confirm: tuple[str, ...]
    refute: tuple[str, ...]
    next: tuple[str, ...]
    vllm: str  #: version specifier, PEP 440; empty for all
    uri: str
    source: str
    examples: tuple[str, ...]
    near_misses: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A line that is told by a signature, and what the groups of its expression caught."""

    signature: Signature
    groups: Mapping[str, str | None]
    weight: tuple[int, bool]  #: of two signatures for a line the heavier one holds


def parse(rows: Mapping[str, Mapping[str, Any]]) -> tuple[Signature, ...]:
    """The rows of `facts.signatures` as signatures. Raises GuardError for what is not in the schema."""
    return tuple(_signature(name, row) for name, row in rows.items())


def fitting(known: Iterable[Signature], version: str) -> tuple[list[Signature], list[Signature]]:
    """The signatures for that version of vLLM, and the others; none others where it is no version."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        parsed = Version(version)
    except InvalidVersion:
        return [*known], []
    known = list(known)
    fits = {
        specifier: SpecifierSet(specifier).contains(parsed, prereleases=True)
        for specifier in {signature.vllm for signature in known}
    }
    those = [signature for signature in known if fits[signature.vllm]]
    return those, [signature for signature in known if not fits[signature.vllm]]


def best(known: Iterable[Signature], line: Line, was_said: Callable[[str], bool]) -> Match | None:
    """The signature that tells most of the line; `was_said`: did its process say this shortly before?"""
    highest = prefixes.LEVELS.index(line.level) if line.level else len(prefixes.LEVELS)
    levels = prefixes.LEVELS[: highest + 1]
    fitting = (_match(s, line, was_said) for s in known if s.level in levels)
    found = [match for match in fitting if match is not None]
    return max(found, key=lambda match: match.weight, default=None)


def fill(template: str, groups: Mapping[str, str | None]) -> str:
    """The text with what was caught: `{a}`, `{a|text where it is missing}`, `{a/b}` to two decimals, down."""
    return _FIELD.sub(lambda field: _filled(field, groups), template)


def described(signature: Signature) -> Iterator[tuple[str, str]]:
    """(label, text) of all that a reader wants to know; what a log would fill in stands in capitals."""
    yield "kind", _KINDS[signature.kind]
    for key in ("cause", "fix", "confirm", "refute"):
        value = getattr(signature, key)
        for text in (value,) if isinstance(value, str) else value:
            yield key, _FIELD.sub(_named, text)
    for step in signature.next:
        yield "next", f"vllm-guard {step} -- COMMAND"
    yield "vLLM", signature.vllm or "all versions"
    if signature.signal:
        yield "says", f"nothing: a process was ended by signal {signature.signal}"
    yield from (("says", line) for line in signature.examples)
    yield "source", signature.source
    yield "see", signature.uri


def _named(field: re.Match[str]) -> str:
    name, _, divisor = field.groups()
    return f"{name}/{divisor}".upper() if divisor else str(name).upper()


def expression(signature: Signature) -> re.Pattern[str]:
    """Its regular expression, which `re` keeps compiled."""
    return re.compile(signature.regex)


def _match(signature: Signature, line: Line, was_said: Callable[[str], bool]) -> Match | None:
    text = line.text
    held = [len(needle) for needle in signature.needles if needle in text]  # not one in most
    if held and not line.level and any(mark in text for mark in _REQUESTS):
        return None
    if not held or any(absent in text for absent in signature.absent):
        return None
    groups: Mapping[str, str | None] = {}
    if signature.regex:
        found = expression(signature).search(text)
        if found is None:
            return None
        groups = found.groupdict()
    if signature.context and not any(said in text or was_said(said) for said in signature.context):
        return None
    return Match(signature, groups, (max(held), bool(signature.regex)))


def _filled(field: re.Match[str], groups: Mapping[str, str | None]) -> str:
    name, instead, divisor = field.groups()
    caught = groups.get(name)
    if divisor is not None:
        return _quotient(caught, groups.get(divisor))
    return caught or instead or _UNKNOWN


def _quotient(above: str | None, below: str | None) -> str:
    """Rounded down: it is a share that must fit."""
    try:
        hundredths = int(100 * float(above or "") / float(below or ""))
    except (ValueError, ZeroDivisionError, OverflowError):
        return _UNKNOWN
    return f"{hundredths / 100:.2f}"


def _signature(name: str, row: Mapping[str, Any]) -> Signature:
    place = f"signatures.{name}"
    if not _ID.fullmatch(name):
        raise GuardError(f"{place}: the id is not in lower case with hyphens")
    schema.only(row, (*_TEXTS, *_LISTS, "signal", "last"), f"{place}.")
    texts = {key: schema.line(row.get(key, ""), f"{place}.{key}") for key in _TEXTS}
    texts["level"] = texts["level"] or _LEVELS.get(texts["kind"], "")
    lists = {key: schema.words(row.get(key, []), f"{place}.{key}") for key in _LISTS}
    signal = row.get("signal", 0)
    if not isinstance(signal, int):
        raise GuardError(f"{place}.signal is {schema.kind(signal)}, not a number")
    last = row.get("last", False)
    if not isinstance(last, bool):
        raise GuardError(f"{place}.last is {schema.kind(last)}, not true or false")
    signature = Signature(id=name, signal=signal, last=last, **texts, **lists)  # type: ignore[arg-type]
    for problem in _problems(signature):
        raise GuardError(f"{place}: {problem}")
    return signature


def _problems(signature: Signature) -> Iterator[str]:
    """What is wrong with it beyond the types."""
    if signature.kind not in _KINDS:
        yield f"kind is none of {', '.join(_KINDS)}"
    elif signature.level not in prefixes.LEVELS:
        yield f"level is none of {', '.join(prefixes.LEVELS)}"
    if bool(signature.signal) == bool(signature.needles):
        yield "it needs either needles or a signal"
    if any(len(needle) < SHORTEST_NEEDLE for needle in signature.needles):
        yield f"a needle has fewer than {SHORTEST_NEEDLE} characters"
    if any(set(needle) <= _HEXADECIMAL for needle in signature.needles):
        yield "a needle is a hexadecimal number"
    try:
        names = set(expression(signature).groupindex)
    except re.error as error:
        yield f"regex: {error}"
        return
    for key, used in _fields(signature):
        if used not in names:
            yield f"{key} names the group {used!r}, which regex does not have"


def _fields(signature: Signature) -> Iterator[tuple[str, str]]:
    """(key, group) for each field of its templates."""
    for key in _TEMPLATES:
        value = getattr(signature, key)
        for text in (value,) if isinstance(value, str) else value:
            for name, _, divisor in _FIELD.findall(text):
                yield from ((key, group) for group in (name, divisor) if group)
