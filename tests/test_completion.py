"""Completion: the files are what the program prints, and real shells complete with them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, guard, guard_env
from tests.test_terminal import screen
from vllm_guard.commands import completion

FILES = {shell: ROOT / "completions" / name for shell, name in completion.FILES.items()}

# What bash does when TAB is pressed after the last word.
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_vllm_guard_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(clean_world: Path) -> str:
    """A PATH on which `vllm-guard` is the one of this checkout."""
    program = clean_world / "bin" / "vllm-guard"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def in_bash(path: str, *words: str) -> list[str]:
    """The words that bash offers for the last of these."""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", BASH, "bash", FILES["bash"], *words],
        env=guard_env(PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("shell", FILES)
def test_the_file_is_what_the_program_prints(shell) -> None:
    done = guard("completion", shell)

    assert (done.returncode, done.stderr) == (0, b"")
    assert FILES[shell].read_bytes() == done.stdout, "run `make completions`"


def test_every_file_belongs_to_a_shell() -> None:
    assert set((ROOT / "completions").iterdir()) == set(FILES.values())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pro"], ["profile"]),
        (["profile", "sh"], ["show"]),
        (["run", "--pref"], ["--preflight"]),
        (["run", "--preflight", "o"], ["off"]),
        (["completion", ""], list(FILES)),
        (["profile", "no-such"], []),
    ],
)
def test_bash_offers_commands_options_and_choices(words, offered, path) -> None:
    assert in_bash(path, "vllm-guard", *words) == offered


def test_completion_launches_nothing(path, clean_world) -> None:
    in_bash(path, "vllm-guard", "run", "-p", "debug", "--", "touch", f"{clean_world}/made", "")

    assert not (clean_world / "made").exists()


def test_the_tab_key_completes_in_a_terminal(path) -> None:
    with screen("bash", "--norc", "--noprofile", "-i", PATH=path) as terminal:
        terminal.type(f"source {FILES['bash']}; echo load''ed\r")
        terminal.until("loaded")

        terminal.type("vllm-guard pro\t")
        terminal.until("file ")
        terminal.type("show debug\r")

        terminal.until("More logging from vLLM")
        terminal.type("exit\r")
        terminal.ended()


def test_completing_the_commands_own_words_is_no_error(path) -> None:
    in_bash(path, "vllm-guard", "--", "touch", "x", "")  # which asserts that nothing is said
