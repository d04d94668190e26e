"""Writes docs/cli.md and man/vllm-guard.1 from the commands and options that there are.

python dev/cli_docs.py            write them (`make reference`)
python dev/cli_docs.py --check    1 where one of them is another

"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # it runs where vllm-guard is not installed, too

from vllm_guard.commands import group  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs/cli.md"
MANUAL = ROOT / "man/vllm-guard.1"
STATUSES = ROOT / "docs/exit-status.md"
WIDTH = 90  #: characters of a line of help
HEAD = """# Commands and options

What `--help` prints of each command. Made by `make reference`; do not edit. More about them: [run](run.md),
[doctor](doctor.md), [env](environment.md), [profile](profiles.md), [check](check.md), [fix](fix.md),
[explain](explain.md), [report](report.md). The same as a manual: `man vllm-guard`, from `share/man` of
the wheel.
"""
FILES = (
    ("~/.config/vllm-guard/profiles/*.toml", "profiles of yours (XDG_CONFIG_HOME)"),
    ("~/.local/state/vllm-guard/runs/", "the records of the last runs (XDG_STATE_HOME)"),
    ("~/.cache/vllm-guard/", "what was read from sources of vLLM; may be removed (XDG_CACHE_HOME)"),
)


def main() -> int:
    """0, or 1 if with --check a file is another."""
    made = {PAGE: page(), MANUAL: manual()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.exists() or file.read_text() != made[file] for file in made))
    for file, text in made.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return 0


def contexts(
    command: click.Command = group.root, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Every command of the tree, each before those below it."""
    name = command.name if parent else "vllm-guard"
    context = click.Context(
        command,
        parent,
        name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None, below
            found.name = below  # `env_audit` is called `audit`
            yield from contexts(found, context)


def page() -> str:
    """docs/cli.md."""
    sections = (
        f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n"
        for context in contexts()
    )
    return "\n".join((HEAD, *sections))


def manual() -> str:
    """man/vllm-guard.1, in the macros of man(7)."""
    return "\n".join(_manual()) + "\n"


def _manual() -> Iterator[str]:
    root, *commands = contexts()
    launch = next(context for context in commands if context.info_name == "run")
    yield '.\\" Made by `make reference`; do not edit.'
    yield '.TH VLLM\\-GUARD 1 "" "vllm\\-guard" "User Commands"'
    yield from (".SH NAME", f"vllm\\-guard \\- {_roff(_summary(root.command))}")
    yield from (".SH SYNOPSIS", ".B vllm\\-guard", _roff("[OPTIONS] -- COMMAND [ARG...]"), ".br")
    yield from (".B vllm\\-guard", _roff("NAME [OPTIONS] [ARG...]"))
    yield from (".SH DESCRIPTION", _roff(root.command.help or ""), ".PP")
    yield _roff(root.command.epilog or "")
    yield _roff("Everything after -- reaches the command byte for byte.")
    yield from (".SH OPTIONS", *_options(launch))
    yield ".SH COMMANDS"
    for context in commands:
        if not isinstance(context.command, click.Group):
            yield from (f".SS {_roff(_usage(context))}", *_paragraphs(context.command))
            yield from (
                _options(context) if context is not launch else ("Its options: see OPTIONS.",)
            )
    yield ".SH EXIT STATUS"
    for status, meaning in _statuses():
        yield from (".TP", f".B {_roff(status)}", _roff(meaning))
    yield ".SH FILES"
    for name, meaning in FILES:
        yield from (".TP", f".I {_roff(name)}", _roff(meaning))
    yield from (".SH SEE ALSO", _roff("https://docs.vllm.ai/en/latest/usage/troubleshooting/"))


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", f".B {_roff(record[0])}", _roff(record[1]))


def _usage(context: click.Context) -> str:
    return " ".join((context.command_path, *context.command.collect_usage_pieces(context)))


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(WIDTH).rstrip(".")


def _paragraphs(command: click.Command) -> Iterator[str]:
    for index, text in enumerate((command.help or "").split("\n\n")):
        yield from ([".PP"] if index else [])
        yield _roff(" ".join(text.split()))


def _statuses() -> Iterator[tuple[str, str]]:
    """The rows of the first table of docs/exit-status.md, without its head."""
    table = STATUSES.read_text().partition("| --- ")[2].partition("\n\n")[0]
    for row in table.splitlines()[1:]:
        _, status, meaning, _ = (cell.strip() for cell in row.split("|"))
        yield status, meaning.replace("`", "")


def _roff(text: str) -> str:
    """The text as roff prints it: no requests, no hyphens for minus signs."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.exit(main())
