"""The tables of the completion of bash."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from . import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .tree import Value, Verb

_WIDTH = 100


def tables(root: Verb, named: Mapping[str, Iterable[str]]) -> str:
    """The functions that know the verbs, the values of their flags, and the words of each kind."""
    return "\n\n".join(map("\n".join, (_verbs(root), _flags(root), _named(named))))


def _verbs(root: Verb) -> Iterator[str]:
    yield "# Enter the verb of that path."
    yield "_vllm_guard_verb() {"
    yield "    verb=$1 verbs='' flags='' argument='' most=0"
    yield "    case $1 in"
    for verb in tree.walk(root):
        below = " ".join(inner.path[-1] for inner in verb.verbs if inner.path != tree.BARE)
        yield f"        {path(verb)!r})"
        yield f"            verbs={below!r} argument={kind(verb.argument)!r} most={verb.most}"
        yield from _quoted("flags", (word for flag in verb.flags for word in flag.words), 12)
        yield "            ;;"
    yield "    esac"
    yield "}"


def _flags(root: Verb) -> Iterator[str]:
    yield "# What kind of value the flag takes, if any."
    yield "_vllm_guard_flag() {"
    yield "    case $1 in"
    for verb in tree.walk(root):
        for word, value in verb.valued:
            yield f"        {f'{path(verb)} {word}'!r}) kind={kind(value) or 'free'!r} ;;"
    yield "    esac"
    yield "}"


def _named(named: Mapping[str, Iterable[str]]) -> Iterator[str]:
    yield "# Offer the words of that kind that are always there."
    yield "_vllm_guard_named() {"
    yield "    local words=''"
    yield "    case $1 in"
    for kind, words in named.items():
        yield f"        {kind})"
        yield from _quoted("words", words, 12)
        yield "            ;;"
    yield "    esac"
    yield "    _vllm_guard_offer $words"
    yield "}"


def path(verb: Verb) -> str:
    """` profile show`: the verbs on the way, each after a space."""
    return "".join(f" {word}" for word in verb.path)


def kind(value: Value) -> str:
    """The kind of a value, or `=` and its words."""
    return f"={' '.join(value.words)}" if value.words else value.kind


def _quoted(name: str, words: Iterable[str], indent: int) -> Iterator[str]:
    """`NAME='WORDS'`, over as many lines as it needs."""
    lines = textwrap.wrap(f"{name}='{' '.join(words)}'", _WIDTH - indent, break_on_hyphens=False)
    yield from (" " * (indent + 2 * bool(i)) + line for i, line in enumerate(lines))
