"""What the pages of the documentation tell their readers to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from dev import cli_docs
from tests.kit import ROOT
from vllm_guard import options
from vllm_guard.errors import GuardError

PAGES = sorted((ROOT / "docs").rglob("*.md")) + sorted(ROOT.glob("README*.md"))
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"(?<![`\\])`([^`\n]+)`(?!`)")
_COMMENT = re.compile(r"\s+#.*$|\s{2,}.*$")
_SYNOPSIS = re.compile(r"\[|\.\.\.|->")
#: Where a command of ours begins, and its words: up to the end of a quotation, substitution or pipeline, or
#: to a redirection.
_OWN = re.compile(r"(?:^|\$ |\(|exec |=\S+ )vllm-guard ((?:'[^'\n]*'|[^|)>'\n])*)", re.MULTILINE)


def consoles(text: str) -> list[str]:
    """The blocks that show commands with what they print."""
    return [body for body in _FENCED.findall(text) if body.startswith("$ ")]


def fenced(text: str, language: str) -> list[str]:
    """The blocks that say they are of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def indented(text: str) -> list[str]:
    """The commands in indented blocks, without their comments."""
    return [_COMMENT.sub("", line) for line in _INDENTED.findall(_FENCED.sub("", text))]


def inline(text: str) -> list[str]:
    """What stands in backticks within a sentence and has our name in it."""
    return [code for code in _INLINE.findall(_FENCED.sub("", text)) if "vllm-guard " in code]


def own_words(text: str) -> Iterator[list[str]]:
    """The words behind `vllm-guard` of each command on a page; synopses and drawings are left out."""
    blocks = (body.replace("\\\n", " ") for body in _FENCED.findall(text))
    for part in (*indented(text), *inline(text), *blocks):
        for words in _OWN.findall(part.replace(r"\|", "|")):  # as tables write it
            if not _SYNOPSIS.search(words):
                yield shlex.split(words, comments=True)


def problem(words: list[str]) -> str:
    """Why these are no words that vllm-guard takes; empty where they are, or are only too few."""
    try:
        if options.parse_launch(words) is None:
            _parse(words)
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        return ""
    except (GuardError, click.UsageError) as error:
        return "" if str(error) == "no command given" else str(error)
    return ""


def _parse(words: list[str]) -> None:
    known = {tuple(c.command_path.split()[1:]): c for c in cli_docs.contexts()}
    depth = max(n for n in range(len(words) + 1) if tuple(words[:n]) in known)
    context, rest = known[tuple(words[:depth])], words[depth:]
    if not isinstance(context.command, click.Group):
        context.command.make_context(context.info_name, rest, parent=context.parent)
    elif rest:
        raise click.UsageError(f"no such command: {rest[0]}")
