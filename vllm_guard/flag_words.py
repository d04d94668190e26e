"""The options among a command's words, as argparse reads them, and vLLM's parser before it. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_END = "--"  #: what follows is no option


def candidates(name: str, known: Collection[str]) -> tuple[str, ...]:
    """The long options that a name (`--max_model`) may stand for: itself, else all that begin so, sorted.

    vLLM's parser takes underscores for dashes. Each of `known` may be of `argparse.BooleanOptionalAction`, so
    that `--no-...` is one more. Of several, argparse refuses to choose.
    """
    plain = name.replace("_", "-")
    negated = "--" + plain[5:] if plain.startswith("--no-") else ""
    if plain in known or negated in known:
        return (plain,)
    opposites = ("--no-" + flag[2:] for flag in known)
    return tuple(sorted({flag for flag in (*known, *opposites) if flag.startswith(plain)}))


def resolved(
    words: Sequence[str], options: Callable[[str], Sequence[str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words with each abbreviated name in full, and the names that may be several, which stay.

    `options` gives the `candidates` of a name. Of `--hf-over.key`, a part of JSON, the first part is a name.
    """
    until = words.index(_END) if _END in words else len(words)
    whole, unclear = list(words), []
    for index, word in enumerate(words[:until]):
        if not word.startswith("--"):
            continue
        given, equals, value = word.partition("=")
        name, dot, key = given.partition(".")
        found = options(name)
        if len(found) == 1:
            whole[index] = found[0] + dot + key + equals + value
        elif found:
            unclear.append(given)
    return tuple(whole), tuple(unclear)


def value(words: Sequence[str], names: Collection[str]) -> str | None:
    """The last value given to one of these options."""
    found = None
    for index, word in enumerate(words):
        name, equals, inline = word.partition("=")
        if name.replace("_", "-") not in names:
            continue
        if equals:
            found = inline
        elif index + 1 < len(words):
            found = words[index + 1]
    return found


def given(words: Sequence[str], names: Collection[str]) -> bool:
    """Is one of these options given, with a value or without, and not taken back by a later `--no-...` of it?

    Short names among `names` are the same option as the long ones.
    """
    opposites = {_opposite(name): name for name in names if name.startswith("--")}
    short = {name for name in names if not name.startswith("--")}
    there: set[str] = set()
    for word in words:
        name = word.partition("=")[0].replace("_", "-")
        if name in names:
            there.add(name)
        elif name in opposites:
            there -= {opposites[name], *short}
    return bool(there)


def _opposite(name: str) -> str:
    return "--" + name[5:] if name.startswith("--no-") else "--no-" + name[2:]
