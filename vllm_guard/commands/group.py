"""The click group: wiring, and one way out for every error."""

from __future__ import annotations

import io
import os
import shutil
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from vllm_guard import __version__, ending, options, screen, voice
from vllm_guard.commands import run
from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = ("-h", "--help")
_SETTINGS = {"help_option_names": list(_HELP)}
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # click 8.1 has none
_VERBS = (
    "check",
    "completion",
    "doctor",
    "env",
    "explain",
    "fix",
    "profile",
    "report",
    "runs",
)  #: modules of `commands`
_EPILOG = "The bare form `vllm-guard [RUN OPTIONS] -- COMMAND` is short for `vllm-guard run`."


class _Group(click.Group):
    """Imports a command when it is asked for: the others would cost 0.1 s."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_VERBS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _VERBS and cmd_name not in self.commands:
            module = import_module(f"vllm_guard.commands.{cmd_name}")
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            raise GuardError(f"no such command: {name}", _hint(name, known), exit_code=USAGE)
        return super().resolve_command(ctx, args)


def main(words: Sequence[str]) -> int:
    """Run a command other than the launch form; returns its exit status."""
    if sys.stdout is None:
        raise GuardError("stdout is closed: there is nowhere to write to")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal cannot show is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = root.main(
            _with_verb(words),
            prog_name="vllm-guard",
            standalone_mode=False,
            color=screen.wants_colour(os.environ, sys.stdout.isatty()),
        )
    except click.UsageError as error:
        if isinstance(error, _NO_ARGUMENTS):
            click.echo(error.format_message(), err=True)
            return USAGE
        hint = f"see {error.ctx.command_path} --help" if error.ctx else ""
        message = " ".join(error.format_message().split())
        raise GuardError(message, hint, exit_code=USAGE) from None
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ending.die_of_sigint()
    except (BrokenPipeError, SystemExit):  # click turns the one into the other
        return _reader_left()
    except OSError as error:
        raise GuardError(f"{error.filename or 'stdout'}: {error.strerror}") from None
    return status if isinstance(status, int) else 0


def _with_verb(words: Sequence[str]) -> list[str]:
    """The bare launch form comes here when it asks for help: `vllm-guard -p debug --help`."""
    first = words[0] if words else ""
    of_root = (*_HELP, "--version")
    return ["run", *words] if first.startswith("-") and first not in of_root else list(words)


@click.group(cls=_Group, invoke_without_command=True, epilog=_EPILOG, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="vllm-guard")
@click.pass_context
def root(ctx: click.Context) -> int:
    """Run a vLLM command under debug settings that exist for that one run only."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return USAGE
    return 0


def _run_options() -> list[click.Parameter]:
    """The click form of `options.OPTIONS`."""
    parameters: list[click.Parameter] = [
        click.Option(
            [word for word in (option.short, option.long, option.field) if word],
            multiple=option.many,
            **({"metavar": option.metavar} if option.metavar else {"is_flag": True}),
            type=click.Choice(option.choices) if option.choices else None,
            help=option.help,
        )
        for option in options.OPTIONS
    ]
    command = click.Argument(["command"], nargs=-1, type=click.UNPROCESSED)
    return [*parameters, command]


def _run(**values: Any) -> None:
    """Launch COMMAND under profiles, and end as it ends."""
    given = {name: value for name, value in values.items() if value not in (None, (), False)}
    run.start(options.finish_values(given))


root.add_command(
    click.Command(
        "run",
        params=_run_options(),
        callback=_run,
        help=_run.__doc__,
        context_settings={"allow_interspersed_args": False},
    )
)


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    if near:
        return f"did you mean {near[0]}?"
    if shutil.which(name):
        return f"to launch it, put `--` before it: vllm-guard -- {name}"
    return "see vllm-guard --help"


def _reader_left() -> int:
    """`vllm-guard profile list | head -1`: nobody reads on, which is no failure."""
    voice.silence_stdout()
    return 0
