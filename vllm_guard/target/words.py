"""A command as its words: which file a word names, what its options are, what a file begins with."""

from __future__ import annotations

import os
import stat

from vllm_guard import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from dataclasses import dataclass
    from typing import Literal

    Reason = Literal["found", "not-found", "not-executable", "is-directory"]
    Options = list[tuple[str, str]]
else:
    from vllm_guard.frozen import dataclass


@dataclass(frozen=True)
class Executable:
    """What `execvp` makes of a word."""

    path: str  #: the file; the word itself when nothing was found
    reason: Reason


@dataclass(frozen=True)
class Command:
    """Words to execute, with the environment and the folder they are executed in."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str  #: absolute

    def but(self, *words: str) -> Command:
        """Other words, in the same place."""
        return Command(words, self.env, self.cwd)

    def behind(self, *words: str) -> Command:
        """These words for the first one; its arguments stay."""
        return self.but(*words, *self.words[1:])

    def find(self) -> Executable:
        """The file that will be executed."""
        word = self.words[0] if self.words else ""
        return find_executable(word, self.env.get("PATH"), self.cwd)


def find_executable(word: str, path: str | None, cwd: str) -> Executable:
    """The file that execvp(3) executes for `word`.

    A word with a slash is a path; others are looked for on `path` (None: PATH is unset), where an
    empty entry means `cwd`. What cannot be executed is passed over, but remembered.
    """
    if "/" in word or not word:
        return Executable(word, reason(os.path.join(cwd, word)) if word else "not-found")
    refused = Executable(word, "not-found")
    for folder in (os.defpath if path is None else path).split(":"):
        file = os.path.join(folder, word)
        found = Executable(file, reason(os.path.join(cwd, file)))
        if found.reason == "found":
            return found
        if refused.reason == "not-found" != found.reason:
            refused = found
    return refused


def reason(file: str) -> Reason:
    """Can this file be executed, and if not, why?"""
    try:
        mode = os.stat(file).st_mode
    except PermissionError:
        return "not-executable"
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return "not-found"
    if stat.S_ISDIR(mode):
        return "is-directory"
    return "found" if stat.S_ISREG(mode) and os.access(file, os.X_OK) else "not-executable"


def interpreter_of(path: str) -> str:
    """The program that a script's first line names; empty for what is no script."""
    line = head(path).partition(b"\n")[0]
    words = line[2:].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def read_options(
    words: Iterable[str], takes_value: Container[str], last: Container[str] = ()
) -> tuple[Options, list[str]]:
    """(option, value) pairs as getopt reads them up to the first word that is none, and the rest.

    `takes_value`: the options with a value, in the same word or the next. `last`: those after which
    no more are read.
    """
    found: Options = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        (*flags, name), value = _split(word, takes_value)
        if value is None:
            value = rest.pop(0) if name in takes_value and rest else ""
        found += [*((flag, "") for flag in flags), (name, value)]
        if name in last:
            break
    return found, rest


def _split(word: str, takes_value: Container[str]) -> tuple[list[str], str | None]:
    """`--name=value` -> --name, value; `-iu` -> -i -u, None; `-n5` -> -n, 5."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return [name], value if equals else None
    names = []
    for index, letter in enumerate(word[1:], 2):
        names.append("-" + letter)
        if names[-1] in takes_value:
            return names, word[index:] or None
    return names, None


def head(path: str, limit: int = 4096) -> bytes:
    """The first bytes of a file; none where it cannot be read. Never waits, whatever the file is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        return paths.read_fd(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)


def upwards(folder: str) -> Iterator[str]:
    """The folder and all those above it."""
    folder = os.path.normpath(folder)
    yield folder
    while (parent := os.path.dirname(folder)) != folder:
        folder = parent
        yield folder
