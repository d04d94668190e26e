"""What may be completed: the verbs, their flags and what stands behind them, read from the click tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from vllm_guard.commands import group

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The bare launch form: `vllm-guard [RUN OPTIONS] -- COMMAND`.
BARE = ("-",)
#: What a value may be, besides words of its own and what `names.named` lists.
FREE = ""
FILE = "file"
PROFILE = "profile"
RUN = "run"
LOG = "log"
VARIABLE = "variable"
COMMAND = "command"
_BY_NAME = {
    "profiles": PROFILE,
    "ignore": "finding",
    "only": "check",
    "skip": "check",
    "env": VARIABLE,
    "pairs": VARIABLE,
    "unset": VARIABLE,
    "keep": VARIABLE,
    "run_id": RUN,
    "what": LOG,
    "command": COMMAND,
}
#: What the arguments of a verb are, whatever they are called.
_BY_VERB = {"profile": PROFILE, "env": VARIABLE}
_FILES = re.compile(r"\b(FILE|PATH|LOG)\b")


@dataclass(frozen=True)
class Value:
    """What may stand in one place: one of these words, or of what `kind` names (empty: anything)."""

    kind: str = FREE
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """One option; `value` is None where it takes none."""

    words: tuple[str, ...]
    help: str
    value: Value | None
    many: bool

    @property
    def label(self) -> str:
        """What its value is called: that of `--json FILE` is a file."""
        return self.words[-1].strip("-")


@dataclass(frozen=True)
class Verb:
    """One command; `most` arguments, -1 for any number."""

    path: tuple[str, ...]
    help: str
    flags: tuple[Flag, ...]
    argument: Value = Value()
    most: int = 0
    verbs: tuple[Verb, ...] = ()

    @property
    def takes_command(self) -> bool:
        """Is what follows (here or after `--`) a command with a completion of its own?"""
        return self.argument.kind == COMMAND

    @property
    def valued(self) -> Iterator[tuple[str, Value]]:
        """(word, value) of each flag that takes a value."""
        return (
            (word, flag.value)
            for flag in self.flags
            if flag.value is not None
            for word in flag.words
        )


def read() -> Verb:
    """The program: its verbs, and as the last one the bare form, whose flags it has as well."""
    root = _verb(group.root, (), None)
    (run,) = (verb for verb in root.verbs if verb.path == ("run",))
    known = {flag.words for flag in run.flags}
    flags = (*run.flags, *(flag for flag in root.flags if flag.words not in known))
    bare = Verb(BARE, run.help, flags, Value(words=("--",)), -1)
    return Verb((), root.help, flags, verbs=(*root.verbs, bare))


def walk(verb: Verb) -> Iterator[Verb]:
    """The verb and all below it."""
    yield verb
    for below in verb.verbs:
        yield from walk(below)


def _verb(command: click.Command, path: tuple[str, ...], above: click.Context | None) -> Verb:
    context = click.Context(command, parent=above, **command.context_settings)
    parameters = command.get_params(context)
    arguments = [item for item in parameters if isinstance(item, click.Argument)]
    values = {_value(item, path) for item in arguments}
    assert len(values) <= 1, f"{path}: arguments of different kinds"
    return Verb(
        path=path,
        help=command.get_short_help_str(limit=100),
        flags=tuple(_flag(p, path) for p in parameters if isinstance(p, click.Option)),
        argument=values.pop() if values else Value(),
        most=-1 if any(item.nargs < 0 for item in arguments) else len(arguments),
        verbs=tuple(_below(command, path, context)),
    )


def _below(command: click.Command, path: tuple[str, ...], context: click.Context) -> Iterator[Verb]:
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None, name
        if not inner.hidden:
            yield _verb(inner, (*path, name), context)


def _flag(option: click.Option, path: tuple[str, ...]) -> Flag:
    words = (*option.opts, *option.secondary_opts)
    value = None if option.is_flag or option.count else _value(option, path)
    text = " ".join((option.help or "").split())
    return Flag(tuple(sorted(words, key=len)), text, value, option.multiple)


def _value(parameter: click.Parameter, path: tuple[str, ...]) -> Value:
    if isinstance(parameter.type, click.Choice):
        return Value(words=tuple(map(str, parameter.type.choices)))
    if (kind := _BY_NAME.get(parameter.name or "")) is not None:
        return Value(kind)
    if isinstance(parameter, click.Argument) and path[0] in _BY_VERB:
        return Value(_BY_VERB[path[0]])
    return Value(FILE if _FILES.search(parameter.metavar or "") else FREE)
