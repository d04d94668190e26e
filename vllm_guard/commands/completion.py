"""`vllm-guard completion SHELL`: the script that makes the shell complete our words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "vllm-guard"
VARIABLE = "_VLLM_GUARD_COMPLETE"
#: The file of each shell in `completions/`, as its own loader wants it called.
FILES = {"bash": "vllm-guard.bash", "zsh": "_vllm-guard", "fish": "vllm-guard.fish"}


@click.command()
@click.argument("shell", type=click.Choice(list(FILES)))
def completion(shell: str) -> int:
    """Print the completion script for a shell.

    For example: vllm-guard completion bash > ~/.local/share/bash-completion/completions/vllm-guard
    """
    click.echo(script(shell), nl=False)
    return 0


def script(shell: str) -> str:
    """The completion script, as kept in `completions/`."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    template = kind.source_template
    names = {
        "prog_name": PROGRAM,
        "complete_func": "_vllm_guard_completion",
        "complete_var": VARIABLE,
    }
    return template % names + "\n"
