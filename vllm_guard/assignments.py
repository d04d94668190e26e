"""Which variables a file sets, and on which line: shell scripts, start-up files, .env, manifests. Pure.

A file is read as text and never run. A value that only running it could tell (`$(...)`, `$OTHER`, a secret's
reference) is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard import shellwords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELL_WORDS = ("export", "declare", "typeset", "readonly", "local", "env")
#: What a command may stand behind.
_BEFORE = ("if", "then", "do", "else", "elif", "while", "until", "!", "{", "ALL", "NONE")
_SBATCH = re.compile(r"#SBATCH\s+--export[= ](\S+)")
_FISH_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")


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
    for line, content in shellwords.logical_lines(text):
        slurm = _SBATCH.match(content)
        for words in [slurm[1].split(",")] if slurm else shellwords.commands(content):
            yield from _of_words(words, line)


def fish(text: str) -> Iterator[Assignment]:
    """`set -gx NAME VALUE` and `export NAME=VALUE`."""
    for line, content in shellwords.logical_lines(text):
        for words in shellwords.commands(content):
            if words[0] == "set":
                yield from _of_set(words[1:], line)
            else:
                yield from _of_words(words, line)


def _of_set(words: list[str], line: int) -> Iterator[Assignment]:
    flags = [word for word in words if word.startswith("-")]
    rest = [word for word in words if not word.startswith("-")]
    exported = any(f == "--export" or (f[1:2] != "-" and "x" in f) for f in flags)
    erased = any(f == "--erase" or (f[1:2] != "-" and "e" in f) for f in flags)
    if exported and not erased and rest and _NAME.match(rest[0]):
        yield Assignment(rest[0], _told(" ".join(rest[1:])), line)


def fish_variables(text: str) -> Iterator[Assignment]:
    """Universal variables of fish: `SETUVAR --export NAME:VALUE`."""
    for line, content in enumerate(text.split("\n"), 1):
        name, colon, value = content.removeprefix("SETUVAR --export ").partition(":")
        if colon and content.startswith("SETUVAR --export "):
            yield Assignment(name, _FISH_ESCAPE.sub(_fish_character, value), line)


def _fish_character(escape: re.Match[str]) -> str:
    """The items of a list have 0x1e between them, and are exported with spaces."""
    digits = escape[1] or escape[2] or escape[3]
    return (chr(int(digits, 16)) if digits else escape[4]).replace("\x1e", " ")


def csh(text: str) -> Iterator[Assignment]:
    """`setenv NAME VALUE`."""
    for line, content in shellwords.logical_lines(text):
        for words in shellwords.commands(content):
            if words[0] == "setenv" and len(words) > 1 and _NAME.match(words[1]):
                yield Assignment(words[1], _told("".join(words[2:3])), line)


def plain(text: str) -> Iterator[Assignment]:
    """`NAME=VALUE` lines: .env, /etc/environment, environment.d, nccl.conf, docker's --env-file."""
    for line, content in enumerate(text.split("\n"), 1):
        name, equals, value = content.strip().removeprefix("export ").partition("=")
        if equals and _NAME.match(name.strip()):
            bare = value.strip()
            text = _unquoted(bare)
            yield Assignment(name.strip(), text if bare[:1] == "'" else _literal(text), line)


def systemd(text: str) -> Iterator[Assignment]:
    """`Environment=` and `DefaultEnvironment=` of systemd's units and configuration."""
    for line, content in shellwords.logical_lines(text, " "):
        key, equals, value = content.partition("=")
        if equals and key.strip() in ("Environment", "DefaultEnvironment"):
            for words in shellwords.commands(value, alone=True):
                yield from _of_words(["env", *words], line)


def dockerfile(text: str) -> Iterator[Assignment]:
    """`ENV NAME=VALUE ...` and the old `ENV NAME VALUE`."""
    for line, content in shellwords.logical_lines(text):
        if not content.upper().startswith("ENV "):
            continue
        for words in shellwords.commands(content[4:], alone=True):
            old = "=" not in words[0]
            pairs = [f"{words[0]}={' '.join(words[1:])}"] if old else words
            yield from _of_words(["env", *pairs], line)


def manifest(text: str) -> Iterator[Assignment]:
    """The `env` and `environment` parts of Kubernetes, Compose, Helm and workflow files."""
    import yaml

    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    for document in documents:
        yield from _of_node(document, "", set())


_KINDS: tuple[tuple[str, Callable[[str], Iterable[Assignment]]], ...] = (
    (r".*\.ya?ml", manifest),
    (r"(Dockerfile|Containerfile).*|.*\.dockerfile", dockerfile),
    (r"fish_variables", fish_variables),
    (r".*\.(service|slice|scope)", systemd),
    (r".*\.fish", fish),
    (r".*\.t?csh|\.t?cshrc|\.login|csh\.\w+", csh),
    (r"environment|\.pam_environment|.*\.(conf|env)|\.env(?!rc$).*", plain),
    (r".*\.sh|.*rc|.*profile", shell),
)


def _kind(path: str, text: str) -> Callable[[str], Iterable[Assignment]]:
    if "/systemd/" in path:
        return systemd
    name = path.rpartition("/")[2]
    found = next((kind for shape, kind in _KINDS if re.fullmatch(shape, name)), None)
    return found or (shell if text.startswith("#!") else _guess(text))


def _guess(text: str) -> Callable[[str], Iterable[Assignment]]:
    """A file whose name tells nothing."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    if first.upper().startswith(("FROM ", "ARG ")):
        return dockerfile
    if re.match(r"(apiVersion|kind|services|version):", first):
        return manifest
    return shell


def _of_words(words: list[str], line: int) -> Iterator[Assignment]:
    """The leading `NAME=VALUE` words of a command, and those after `export` and its like."""
    at_start, exporting = True, ""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and _NAME.match(name) and (at_start or exporting):
            yield Assignment(name, _told(value), line)
        elif at_start and word in _SHELL_WORDS:
            at_start, exporting = False, word
        elif exporting == "env" and not word.startswith("-"):
            return
        else:
            at_start = at_start and word in _BEFORE


def _told(value: str) -> str | None:
    return None if shellwords.UNKNOWN in value else value


def _literal(value: str) -> str | None:
    return None if "$" in value else value


def _unquoted(value: str) -> str:
    """A value of a .env file: quotes off, a comment behind it off."""
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[1:end] if end > 0 else value
    return value.partition(" #")[0].rstrip()


def _of_node(node: object, scope: str, seen: set[tuple[int, str]]) -> Iterator[Assignment]:
    """Each node once for each scope: aliases may repeat it without end."""
    import yaml

    if (id(node), scope) in seen:
        return
    seen.add((id(node), scope))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _of_node(item, scope, seen)
    fields = _fields(node)
    inner = _text_of(fields.get("name")) or scope
    for key, value in fields.items():
        if key in ("env", "environment"):
            yield from _of_env(value, inner)
        elif key in ("services", "jobs"):
            for name, part in _fields(value).items():
                yield from _of_node(part, name, seen)
        else:
            child = key if scope == "" and isinstance(value, yaml.MappingNode) else inner
            yield from _of_node(value, child, seen)


def _of_env(node: object, scope: str) -> Iterator[Assignment]:
    for name, value, at in _pairs(node):
        if name and _NAME.match(name):
            yield Assignment(name, value and _literal(value), at.start_mark.line + 1, scope)


def _pairs(node: object) -> Iterator[tuple[str | None, str | None, Any]]:
    """`- name: A, value: b`, `- A=b` or `A: b`, with what `<<` merges; and where it stands."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if _text_of(key) == "<<":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    yield from _pairs(part)
            else:
                yield _text_of(key), _text_of(value), key
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            fields = _fields(item)
            name, equals, value = (_text_of(item) or "").partition("=")
            yield name, value if equals else None, item
            yield _text_of(fields.get("name")), _text_of(fields.get("value")), item


def _fields(node: object) -> dict[str, Any]:
    import yaml

    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


def _text_of(node: object) -> str | None:
    """A scalar's text; None for null and for what is no scalar."""
    import yaml

    null = getattr(node, "tag", "") == "tag:yaml.org,2002:null"
    return str(node.value) if isinstance(node, yaml.ScalarNode) and not null else None
