"""The tables of the completion of PowerShell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import tree
from .bash import kind, path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .tree import Verb


def tables(root: Verb, named: Mapping[str, Iterable[str]]) -> str:
    """Three hash tables: the verbs, the values of their flags, and the words of each kind."""
    blocks = (_table("verbs", _verbs(root)), _table("flags", _flags(root)))
    lists = ((name, f"@({', '.join(map(_quoted, words))})") for name, words in named.items())
    return "\n\n".join("\n".join(block) for block in (*blocks, _table("named", lists)))


def _table(name: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Its keys in their own case: `-n` is not `-N`."""
    yield f"    ${name} = [hashtable]::new([StringComparer]::Ordinal)"
    yield from (f"    ${name}[{_quoted(key)}] = {value}" for key, value in rows)


def _verbs(root: Verb) -> Iterator[tuple[str, str]]:
    for verb in tree.walk(root):
        below = " ".join(inner.path[-1] for inner in verb.verbs if inner.path != tree.BARE)
        words = " ".join(word for flag in verb.flags for word in flag.words)
        fields = {"verbs": below, "argument": kind(verb.argument), "flags": words}
        row = "; ".join(f"{name} = {_quoted(text)}" for name, text in fields.items())
        yield path(verb), f"@{{ {row}; most = {verb.most} }}"


def _flags(root: Verb) -> Iterator[tuple[str, str]]:
    for verb in tree.walk(root):
        for word, value in verb.valued:
            yield f"{path(verb)} {word}", _quoted(kind(value) or "free")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
