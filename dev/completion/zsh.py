"""The tables of the completion of zsh: one call of `_arguments` a verb."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from . import tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .tree import Flag, Value, Verb

_WIDTH = 100
_ACTIONS = {
    tree.FREE: " ",
    tree.FILE: "_files",
    tree.PROFILE: "_vllm_guard_profiles",
    tree.RUN: "_vllm_guard_runs",
    tree.LOG: "_vllm_guard_log",
    tree.VARIABLE: "_parameters -g '*export*'",
}
#: Behind `--`, `_arguments` would complete none of the options of the command. Not in a function of its own:
#: `words` is restored when a function ends.
_DROP_DASHES = (
    "    local -i dashes=$words[(ie)--]",
    "    (( dashes < CURRENT )) && words[dashes]=() && (( CURRENT-- ))",
)


def tables(root: Verb, named: Mapping[str, Iterable[str]]) -> str:
    """The words of each kind, and the function of each verb."""
    lists = "\n".join(line for kind, words in named.items() for line in _list(kind, words))
    return "\n\n".join((lists, *("\n".join(_verb(verb)) for verb in tree.walk(root))))


def _list(kind: str, words: Iterable[str]) -> Iterator[str]:
    yield f"typeset -ga vllm_guard_{kind}=("
    yield from textwrap.wrap(
        " ".join(words),
        _WIDTH,
        break_on_hyphens=False,
        initial_indent="    ",
        subsequent_indent="    ",
    )
    yield ")"


def _verb(verb: Verb) -> Iterator[str]:
    name = "-".join(("_vllm_guard", *verb.path))
    rows = [*(row for flag in verb.flags for row in _flag(flag)), *_arguments(verb)]
    yield f"{name}() {{"
    if verb.takes_command:
        yield from _DROP_DASHES
    if verb.verbs:
        yield "    local curcontext=$curcontext state line"
        yield "    local -A opt_args"
        yield "    local -a verbs"
    nested = "-C " if verb.verbs else ""
    no_more = "-A '-*' " if verb.verbs or verb.takes_command else ""
    yield f"    _arguments {nested}{no_more}-s -S \\"
    yield " \\\n".join(f"        {_quoted(row)}" for row in rows)
    if verb.verbs:
        yield "    case $state in"
        yield "        verb)"
        yield "            verbs=("
        for below in verb.verbs:
            if below.path != tree.BARE:
                yield f"                {_quoted(f'{below.path[-1]}:{below.help}')}"
        yield "            )"
        yield "            _describe command verbs"
        yield "            ;;"
        yield f"        rest) _vllm_guard_enter {name} ;;"
        yield "    esac"
    yield "}"


def _flag(flag: Flag) -> Iterator[str]:
    """`*-p+[help]:profile:_vllm_guard_profiles`, one row a word; without `*` it is given once."""
    often = "*" if flag.many else f"({' '.join(flag.words)})"
    text = _escaped(flag.help)
    for word in flag.words:
        if flag.value is None:
            yield f"{often}{word}[{text}]"
        else:
            joint = "=" if word.startswith("--") else "+"
            yield f"{often}{word}{joint}[{text}]:{flag.label}:{_action(flag.value)}"


def _arguments(verb: Verb) -> Iterator[str]:
    if verb.verbs:
        yield from ("1: :->verb", "*:: :->rest")
    elif verb.takes_command:
        yield from ("(-)1:command:_command_names -e", "*::argument: _normal")
    elif verb.most < 0:
        yield f"*:argument:{_action(verb.argument)}"
    else:
        yield from (f"{n + 1}:argument:{_action(verb.argument)}" for n in range(verb.most))


def _action(value: Value) -> str:
    """What offers the value; behind a space, a function gets no words of `_arguments` before its own."""
    if value.words:
        return f"({' '.join(value.words)})"
    return _ACTIONS.get(value.kind) or f" _vllm_guard_named {value.kind}"


def _escaped(text: str) -> str:
    """For the brackets of `_arguments`."""
    return "".join(f"\\{char}" if char in "\\[]:" else char for char in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
