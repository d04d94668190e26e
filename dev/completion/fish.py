"""The tables of the completion of fish: one `complete` a flag, a verb and a kind of argument."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from . import tree
from .bash import path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .tree import Flag, Value, Verb

_WIDTH = 100
_OFFERS = {
    tree.FILE: "-F",
    tree.PROFILE: "-a '(__vllm_guard_profiles)'",
    tree.RUN: "-k -a '(__vllm_guard_runs)'",
    tree.LOG: "-F -a '(__vllm_guard_named log; __vllm_guard_runs)'",
    tree.VARIABLE: "-a '(set -nx)'",
    tree.COMMAND: "-a '(__vllm_guard_command)'",
}


def tables(root: Verb, named: Mapping[str, Iterable[str]]) -> str:
    """The functions that know verbs and flags, and the calls of `complete`."""
    verbs = list(tree.walk(root))
    blocks = (
        _function("is_verb", "Is this the path of a verb?", _cases(map(path, verbs))),
        _function(
            "takes_value",
            "Does the flag take a value?",
            _cases(f"{path(verb)} {word}" for verb in verbs for word, _ in verb.valued),
        ),
        _function(
            "takes_command",
            "Is what follows the verb (` --`: or these two dashes) a command?",
            _cases(_before_commands(verbs), "$argv[1]$argv[2]"),
        ),
        _function("named", "The words of a kind that are always there.", _named(named)),
        ("complete -c vllm-guard -f", *(row for verb in verbs for row in _completions(verb))),
        ("complete -c vllm-guard -n __vllm_guard_in_command -a '(__vllm_guard_command)'",),
    )
    return "\n\n".join(map("\n".join, blocks))


def _function(name: str, purpose: str, body: Iterable[str]) -> Iterator[str]:
    yield f"# {purpose}"
    yield f"function __vllm_guard_{name}"
    yield from (f"    {line}" for line in body)
    yield "end"


def _cases(words: Iterable[str], subject: str = "$argv[1]") -> Iterator[str]:
    """True for these words only."""
    yield f'switch "{subject}"'
    yield from (f"    case {_quoted(word)}" for word in words)
    yield "    case '*'"
    yield "        return 1"
    yield "end"


def _before_commands(verbs: Iterable[Verb]) -> Iterator[str]:
    for verb in verbs:
        if verb.takes_command:
            yield from (path(verb), f"{path(verb)}--")
        elif verb.path in ((), tree.BARE):
            yield f"{path(verb)}--"


def _named(named: Mapping[str, Iterable[str]]) -> Iterator[str]:
    yield "switch $argv[1]"
    for kind, words in named.items():
        lines = textwrap.wrap(" ".join(words), _WIDTH, break_on_hyphens=False)
        yield f"    case {kind}"
        yield "        string split ' ' -- \\"
        yield " \\\n".join(f"            '{line}'" for line in lines)
    yield "end"


def _completions(verb: Verb) -> Iterator[str]:
    start = f'complete -c vllm-guard -n "__vllm_guard_at {_quoted(path(verb))}"'
    for below in verb.verbs:
        if below.path != tree.BARE:
            yield f"{start} -a {below.path[-1]} -d {_quoted(below.help)}"
    yield from (f"{start} {_flag(flag)}" for flag in verb.flags)
    if offers := _offers(verb.argument):
        yield f"{start} {offers}"


def _flag(flag: Flag) -> str:
    words = " ".join(
        f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in flag.words
    )
    value = ""
    if flag.value is not None:
        offers = _offers(flag.value)
        value = f" -r {offers}" if "-F" in offers else f" -x {offers}".rstrip()
    return f"{words}{value} -d {_quoted(flag.help)}"


def _offers(value: Value) -> str:
    """The part of `complete` that says what may stand there; empty for anything."""
    if value.words:
        return f"-a {_quoted(' '.join(value.words))}"
    if not value.kind:
        return ""
    return _OFFERS.get(value.kind) or f"-a '(__vllm_guard_named {value.kind})'"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
