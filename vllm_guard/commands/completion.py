"""`vllm-guard completion SHELL`: the script that makes the shell complete our words."""

from __future__ import annotations

import os

import click

from vllm_guard import paths

#: The file of each shell in `completions/`, as its own loader wants it called.
FILES = {
    "bash": "vllm-guard.bash",
    "zsh": "_vllm-guard",
    "fish": "vllm-guard.fish",
    "powershell": "vllm-guard.ps1",
}


@click.command()
@click.argument("shell", type=click.Choice(list(FILES)))
def completion(shell: str) -> int:
    """Print the completion script for a shell.

    For example: vllm-guard completion bash > ~/.local/share/bash-completion/completions/vllm-guard
    """
    path = os.path.join(paths.shipped("completions"), FILES[shell])
    with open(path, encoding="utf-8") as file:
        click.echo(file.read(), nl=False)
    return 0
