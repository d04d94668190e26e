"""The commands of the README run, and print what it says."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, guard_env, pages

README = (ROOT / "README.md").read_text()
#: What is run by something else.
ELSEWHERE = {
    "make demo": "test_real_vllm",
    "make test": "this is it",
    "pip install vllm-guard": "test_install",
}
COMMANDS = [command for command in pages.indented(README) if command not in ELSEWHERE]

#: What the README's script may be; it shows the end of it, and the lines 7 and 11.
SCRIPT = """\
from vllm import LLM, SamplingParams


def main():
    # greedy
    params = SamplingParams(temperature=0)
    llm = LLM("facebook/opt-125m")
    print(llm.generate("Hello", params))


main()
"""
#: Shows a command as the README does, and leaves `$?` for it.
SHOWN = """
run() { status=$?; printf '$ %s\\n' "$1"; (exit $status); eval "$1" 2>&1; }
"""


@pytest.fixture
def world(clean_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's scripts, and a PATH with this guard and, if there is one, a real vLLM."""
    programs = clean_world / "bin"
    programs.mkdir()
    (programs / "vllm-guard").write_text(f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n')
    (programs / "vllm-guard").chmod(0o755)
    vllm = os.environ.get("VGUARD_TEST_VLLM", "")
    monkeypatch.setenv("PATH", f"{programs}:{vllm}/bin:{os.environ['PATH']}")
    (clean_world / "script.py").write_text(SCRIPT)
    (clean_world / "my_script.py").write_text("print('ran')\n")
    monkeypatch.chdir(clean_world)
    return clean_world


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def runnable(command: str) -> list[str]:
    """The commands that a line stands for, with a real model, and nothing served."""
    first, *others = command.split(" | ")
    above = " ".join(first.split()[:2])
    lines = [first, *(f"{above} {other}" for other in others)]
    model = os.environ.get("VGUARD_TEST_MODEL", "MODEL")
    return [
        line.replace(
            "vllm-guard ", "vllm-guard -n ", int(" vllm serve " in line and " -n" not in line)
        ).replace("MODEL", model)
        for line in lines
    ]


def test_there_are_commands_to_run() -> None:
    assert len(COMMANDS) >= 7
    assert set(ELSEWHERE) <= set(pages.indented(README))


@pytest.mark.vllm
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(command, world) -> None:
    shell("vllm-guard -- true")  # so that there is a run to show

    for line in runnable(command):
        ran = shell(line)
        assert ran.returncode == 0, (line, ran.stderr)
        assert ran.stdout + ran.stderr, line


@pytest.mark.vllm
@pytest.mark.parametrize("block", pages.consoles(README))
def test_each_block_is_printed(block, world) -> None:
    """Line by line, in that order; what only this machine has to say may stand between."""
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]

    ran = shell(SHOWN + "\n".join(f"run {shlex.quote(command)}" for command in commands))

    printed = iter(ran.stdout.splitlines())
    assert [line for line in block.splitlines() if line not in printed] == [], ran.stdout
