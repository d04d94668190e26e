"""Variables as text: code for a shell, or lines for a file. Pure: names and values in, bytes out.

A value is what the kernel holds, byte for byte (surrogate escapes). What a form cannot hold exactly is an
error, never another value. Where a shell has escapes, all that is not printable is escaped: such code passes
every terminal and locale.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: Name and value; None is unset.
    Pair = tuple[str, str | None]

SHELLS = ("bash", "zsh", "sh", "fish", "powershell")
EXPORTS = ("json", "dotenv", "docker", "k8s", "slurm")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BARE = re.compile(r"[A-Za-z0-9_./:,@%+=-]+")
#: In all quotes, python-dotenv expands `${NAME}`, reads `\\` as one backslash and CR LF as LF; Docker Compose
#: does not. A backslash at the end would hide the closing quote.
_NOT_IN_DOTENV = re.compile(r"\$\{|\\\\|\\'|\\\Z|\r")


def written(form: str, pairs: Sequence[Pair]) -> bytes:
    """The text that sets and unsets these variables, for one of SHELLS or EXPORTS.

    Raises GuardError (status 2) for a name or a value that the form cannot hold.
    """
    if form == "json":
        return json.dumps(dict(pairs), indent=1).encode() + b"\n"
    rules = _FORMS[form]
    statements = (_statement(form, name, value) for name, value in pairs)
    text = rules.between.join(filter(None, statements))
    return os.fsencode(f"{rules.head}{text}\n") if text else b""


def can_name(name: str) -> bool:
    """Can a shell have a variable of that name?"""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class _Form:
    quoted: Callable[[str], str]  #: raises ValueError with the reason why it cannot
    set: str
    unset: str
    between: str = "\n"
    head: str = ""


def _statement(form: str, name: str, value: str | None) -> str:
    rules = _FORMS[form]
    if not can_name(name):
        raise GuardError(f"{form} cannot name the variable {name!r}", exit_code=USAGE)
    if value is None:
        return rules.unset.format(name=name)
    try:
        return rules.set.format(name=name, value=rules.quoted(value))
    except ValueError as error:
        message = f"{form} cannot hold the value of {name}: {error}"
        raise GuardError(message, "use another --shell", exit_code=USAGE) from None


def _single(value: str) -> str:
    """POSIX: everything between single quotes is itself."""
    return "'" + value.replace("'", "'\\''") + "'"


def _ansi(value: str) -> str:
    """For bash and zsh: `$'...'` with octal escapes, where single quotes are not enough."""
    if value.isascii() and value.isprintable():
        return _single(value)
    return "$'" + "".join(map(_octal, os.fsencode(value))) + "'"


def _octal(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\{byte:03o}"


def _fish(value: str) -> str:
    """What is printable in single quotes, the rest escaped outside them.

    Not every byte is escaped: fish would take the bytes of one character for several.
    """
    return "".join(_fish_run(shown, run) for shown, run in groupby(value, str.isprintable)) or "''"


def _fish_run(printable: bool, run: Iterable[str]) -> str:
    text = "".join(run)
    if printable:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "".join(f"\\X{byte:02x}" for byte in os.fsencode(text))


def _powershell(value: str) -> str:
    """ASCII only: PowerShell takes typographic quotes for quotes, and its pipes change the ends of lines."""
    _check_text(value)
    if value.isascii() and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return '"' + "".join(_code_point(char) for char in value) + '"'


def _code_point(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"`u{{{ord(char):x}}}"


def _dotenv(value: str) -> str:
    _check_text(value)
    if _NOT_IN_DOTENV.search(value):
        raise ValueError("python-dotenv and Docker Compose would not read it alike")
    return value if _BARE.fullmatch(value) else "'" + value.replace("'", "\\'") + "'"


def _docker(value: str) -> str:
    _check_text(value)
    return value if _BARE.fullmatch(value) else _single(value)


def _yaml(value: str) -> str:
    """A JSON string, which is YAML; `$` is doubled, for Kubernetes replaces `$(NAME)` in it."""
    _check_text(value)
    text = json.dumps(value.replace("$", "$$"), ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in text)


def _check_text(value: str) -> None:
    if any("\udc80" <= char <= "\udcff" for char in value):
        raise ValueError("it is not text")


_POSIX = "export {name}={value}", "unset -v {name}"
#: A universal variable of fish belongs to all shells of the user: it is not erased, and fish cannot hide it.
_FISH = (
    "set -gx {name} {value}",
    "set -eg {name}; set -q {name}; and echo 'vllm-guard: {name} is universal: set -eU {name}' >&2",
)
_YAML = '  - name: "{name}"\n    value: {value}', "  # unset {name}"

_FORMS = {
    "bash": _Form(_ansi, *_POSIX),
    "zsh": _Form(_ansi, *_POSIX),
    "sh": _Form(_single, *_POSIX),
    "fish": _Form(_fish, *_FISH),
    "powershell": _Form(_powershell, "$env:{name} = {value}", "$env:{name} = $null"),
    "slurm": _Form(_single, *_POSIX),
    "dotenv": _Form(_dotenv, "{name}={value}", "# unset {name}"),
    "docker": _Form(_docker, "-e {name}={value}", "", between=" "),
    "k8s": _Form(_yaml, *_YAML, head="env:\n"),
}
