"""Which variables a file sets, and on which line: shell scripts, start-up files, .env, manifests. Pure.

A file is read as text and never run. A value that only running it could tell (`$(...)`, `$OTHER`, a secret's
reference) is None.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELL_WORDS = ("export", "declare", "typeset", "readonly", "local", "env")
_CONTINUED = re.compile(r"\\\r?\n")
_SBATCH = re.compile(r"#SBATCH\s+--export[= ](\S+)")


@dataclass(frozen=True)
class Assignment:
    """One variable that a file sets."""

    name: str
    value: str | None  #: None: not to be told without running it
    line: int  #: 1 for the first
    scope: str = ""  #: the container, job or service that it is set for; empty for all


def read(path: str, text: str) -> list[Assignment]:
    """The assignments of a file, whose kind its name and text tell. Raises ValueError for broken YAML."""
    return list(_kind(path, text)(text))


def shell(text: str) -> Iterator[Assignment]:
    """A script of sh, bash or zsh, with Slurm's `#SBATCH --export`."""
    for line, content in _logical_lines(text):
        slurm = _SBATCH.match(content)
        words = slurm[1].split(",") if slurm else _words(content)
        yield from _of_words(words, line)


def fish(text: str) -> Iterator[Assignment]:
    """`set -gx NAME VALUE` and `export NAME=VALUE`."""
    for line, content in _logical_lines(text):
        words = _words(content)
        if words[:1] != ["set"]:
            yield from _of_words(words, line)
            continue
        flags = [word for word in words[1:] if word.startswith("-")]
        rest = [word for word in words[1:] if not word.startswith("-")]
        exported = any(f == "--export" or (f[1:2] != "-" and "x" in f) for f in flags)
        erased = any(f == "--erase" or (f[1:2] != "-" and "e" in f) for f in flags)
        if exported and not erased and rest and _NAME.match(rest[0]):
            yield Assignment(rest[0], _literal(" ".join(rest[1:])), line)


def fish_variables(text: str) -> Iterator[Assignment]:
    """Universal variables of fish: `SETUVAR --export NAME:VALUE`."""
    for line, content in enumerate(text.splitlines(), 1):
        name, colon, value = content.removeprefix("SETUVAR --export ").partition(":")
        if colon and content.startswith("SETUVAR --export "):
            yield Assignment(name, value, line)


def csh(text: str) -> Iterator[Assignment]:
    """`setenv NAME VALUE`."""
    for line, content in _logical_lines(text):
        words = _words(content)
        if words[:1] == ["setenv"] and len(words) > 1 and _NAME.match(words[1]):
            yield Assignment(words[1], _literal(" ".join(words[2:3])), line)


def plain(text: str) -> Iterator[Assignment]:
    """`NAME=VALUE` lines: .env, /etc/environment, environment.d, nccl.conf, docker's --env-file."""
    for line, content in enumerate(text.splitlines(), 1):
        name, equals, value = content.strip().removeprefix("export ").partition("=")
        if equals and _NAME.match(name.strip()):
            yield Assignment(name.strip(), _literal(_unquoted(value.strip())), line)


def systemd(text: str) -> Iterator[Assignment]:
    """`Environment=` and `DefaultEnvironment=` of systemd's units and configuration."""
    for line, content in _logical_lines(text):
        key, equals, value = content.partition("=")
        if equals and key.strip() in ("Environment", "DefaultEnvironment"):
            yield from _of_words(["env", *_words(value)], line)


def dockerfile(text: str) -> Iterator[Assignment]:
    """`ENV NAME=VALUE ...` and the old `ENV NAME VALUE`."""
    for line, content in _logical_lines(text):
        if not content.upper().startswith("ENV "):
            continue
        words = _words(content[4:])
        if words and "=" not in words[0]:
            words = [f"{words[0]}={' '.join(words[1:])}"]
        yield from _of_words(["env", *words], line)


def manifest(text: str) -> Iterator[Assignment]:
    """The `env` and `environment` parts of Kubernetes, Compose, Helm and workflow files."""
    import yaml

    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    for document in documents:
        if document is not None:
            yield from _of_node(document, "")


def _kind(path: str, text: str) -> Callable[[str], Iterable[Assignment]]:
    name = path.rpartition("/")[2]
    if name.endswith((".yaml", ".yml")):
        return manifest
    if name.startswith(("Dockerfile", "Containerfile")) or name.endswith(".dockerfile"):
        return dockerfile
    if name == "fish_variables":
        return fish_variables
    if name.endswith((".service", ".slice", ".scope")) or "/systemd/" in path:
        return systemd
    if name.endswith(".fish"):
        return fish
    if name.endswith((".csh", ".tcsh")) or name in (".cshrc", ".tcshrc", ".login"):
        return csh
    is_plain = name in ("environment", ".pam_environment") or name.endswith((".conf", ".env"))
    if is_plain or (name.startswith(".env") and name != ".envrc"):
        return plain
    return (
        shell if text.startswith("#!") or name.endswith((".sh", "rc", "profile")) else _guess(text)
    )


def _guess(text: str) -> Callable[[str], Iterable[Assignment]]:
    """A file whose name tells nothing."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    if first.upper().startswith(("FROM ", "ARG ")):
        return dockerfile
    if re.match(r"(apiVersion|kind|services|version):", first):
        return manifest
    return shell


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, by the number of the first."""
    number = 1
    for chunk in re.split(r"(?<!\\)\n", text):
        yield number, _CONTINUED.sub(" ", chunk).strip()
        number += chunk.count("\n") + 1


def _words(content: str) -> list[str]:
    """The words of a command; none of a line whose quotes go on in the next."""
    lexer = shlex.shlex(content, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.escape = "\\"
    try:
        return list(lexer)
    except ValueError:
        return []


def _of_words(words: list[str], line: int) -> Iterator[Assignment]:
    """The leading `NAME=VALUE` words of each command, and those after `export` and its like."""
    at_start, exporting = True, False
    for word in words:
        if word and set(word) <= set(";&|"):
            at_start, exporting = True, False
            continue
        name, equals, value = word.partition("=")
        if equals and _NAME.match(name) and (at_start or exporting):
            yield Assignment(name, _literal(value), line)
        elif at_start and word in _SHELL_WORDS:
            at_start, exporting = False, True
        elif not (exporting and word.startswith("-")):
            at_start = at_start and word in ("if", "then", "do", "else", "{", "ALL", "NONE")


def _literal(value: str) -> str | None:
    return None if "$" in value or "`" in value else value


def _unquoted(value: str) -> str:
    """A value of a .env file: quotes off, a comment behind it off."""
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[1:end] if end > 0 else value
    return value.partition(" #")[0].rstrip()


def _of_node(node: object, scope: str) -> Iterator[Assignment]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _of_node(item, scope)
    elif isinstance(node, yaml.MappingNode):
        fields = {k.value: v for k, v in node.value if isinstance(k, yaml.ScalarNode)}
        named = fields.get("name")
        inner = named.value if isinstance(named, yaml.ScalarNode) else scope
        for key, value in fields.items():
            if key in ("env", "environment"):
                yield from _of_env(value, inner)
            else:
                child = key if scope == "" and isinstance(value, yaml.MappingNode) else inner
                yield from _of_node(value, child)


def _of_env(node: object, scope: str) -> Iterator[Assignment]:
    """`- name: A, value: b`, `- A=b` or `A: b`."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            text = value.value if isinstance(value, yaml.ScalarNode) else None
            yield Assignment(str(key.value), text, key.start_mark.line + 1, scope)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            line = item.start_mark.line + 1
            if isinstance(item, yaml.ScalarNode):
                name, equals, value = item.value.partition("=")
                yield Assignment(name, _literal(value) if equals else None, line, scope)
            elif isinstance(item, yaml.MappingNode):
                fields = {k.value: v for k, v in item.value}
                name, value = fields.get("name"), fields.get("value")
                if isinstance(name, yaml.ScalarNode):
                    text = value.value if isinstance(value, yaml.ScalarNode) else None
                    yield Assignment(name.value, text, line, scope)
