"""What a known failure looks like in a log, and what to do about it: `data/signatures/*.toml`, checked. Pure.

A signature is looked for by its needles, literals that cost little to find in megabytes; its regular
expression sees only lines that hold one. docs/signatures.md lists all, docs/explain.md says how.
"""

from __future__ import annotations

import re

from vllm_guard import schema
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from dataclasses import dataclass
    from typing import Any, Literal

    #: `cause`; `envelope`: it says that another process failed; `hint`: it contributes, and is named beside a
    #: failure only; `noise`: it looks like a failure and is none.
    Kind = Literal["cause", "envelope", "hint", "noise"]
else:
    from vllm_guard.frozen import dataclass

KINDS = ("cause", "envelope", "hint", "noise")
SHORTEST_NEEDLE = 6  #: characters
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TEXTS = ("family", "title", "kind", "regex", "cause", "fix", "vllm", "uri", "source")
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
    needles: tuple[str, ...]  #: a line that matches holds at least one of them
    absent: tuple[str, ...]  #: a line that matches holds none of them
    context: tuple[
        str, ...
    ]  #: one of them stood in the last lines of the same process, if any are named
    regex: str  #: searched in the line; empty for none
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


def best(known: Iterable[Signature], line: str, was_said: Callable[[str], bool]) -> Match | None:
    """The signature that tells most of the line; `was_said`: did its process say this shortly before?"""
    found = [match for match in (_match(s, line, was_said) for s in known) if match is not None]
    return max(found, key=lambda match: match.weight, default=None)


def fill(template: str, groups: Mapping[str, str | None]) -> str:
    """The text with what was caught: `{a}`, `{a|text where it is missing}`, `{a/b}` to two decimals, down."""
    return _FIELD.sub(lambda field: _filled(field, groups), template)


def expression(signature: Signature) -> re.Pattern[str]:
    """Its regular expression, which `re` keeps compiled."""
    return re.compile(signature.regex)


def _match(signature: Signature, line: str, was_said: Callable[[str], bool]) -> Match | None:
    longest = max((len(needle) for needle in signature.needles if needle in line), default=0)
    if not longest or any(text in line for text in signature.absent):
        return None
    groups: Mapping[str, str | None] = {}
    if signature.regex:
        found = expression(signature).search(line)
        if found is None:
            return None
        groups = found.groupdict()
    if signature.context and not any(text in line or was_said(text) for text in signature.context):
        return None
    return Match(signature, groups, (longest, bool(signature.regex)))


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
    schema.only(row, (*_TEXTS, *_LISTS, "signal"), f"{place}.")
    texts = {key: schema.line(row.get(key, ""), f"{place}.{key}") for key in _TEXTS}
    lists = {key: schema.words(row.get(key, []), f"{place}.{key}") for key in _LISTS}
    signal = row.get("signal", 0)
    if not isinstance(signal, int):
        raise GuardError(f"{place}.signal is {schema.kind(signal)}, not a number")
    signature = Signature(id=name, signal=signal, **texts, **lists)  # type: ignore[arg-type]
    for problem in _problems(signature):
        raise GuardError(f"{place}: {problem}")
    return signature


def _problems(signature: Signature) -> Iterator[str]:
    """What is wrong with it beyond the types."""
    if signature.kind not in KINDS:
        yield f"kind is none of {', '.join(KINDS)}"
    if bool(signature.signal) == bool(signature.needles):
        yield "it needs either needles or a signal"
    if any(len(needle) < SHORTEST_NEEDLE for needle in signature.needles):
        yield f"a needle has fewer than {SHORTEST_NEEDLE} characters"
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
