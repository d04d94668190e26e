"""The commands of README, quick start and troubleshooting run; those of the README print what it says."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, guard_env, pages
from vllm_guard import checkup

README = (ROOT / "README.md").read_text()
#: Pages whose commands are run, and the exit statuses that they may have on any machine.
GUIDES = {"README.md": (0,), "docs/quickstart.md": (0, 1), "docs/troubleshooting.md": (0, 1)}
#: What is not run here.
ELSEWHERE = {
    "make demo": "starts a real vLLM: a minute, for people to look at",
    "make test": "this is it",
    "pip install vllm-guard": "test_install",
}
FULL = ("--full", *(f"--only {check.id}" for check in checkup.catalogue() if check.tier == "full"))
COMMANDS = [
    (page, command)
    for page in GUIDES
    for command in pages.indented((ROOT / page).read_text())
    if command not in ELSEWHERE and not any(words in command for words in FULL)  # minutes
]

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
    """A folder with the README's scripts, and a PATH with this guard and a real vLLM."""
    programs = clean_world / "bin"
    programs.mkdir()
    (programs / "vllm-guard").write_text(f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n')
    (programs / "vllm-guard").chmod(0o755)
    vllm = f"{os.environ['VGUARD_TEST_VLLM']}/bin"
    monkeypatch.setenv("PATH", f"{programs}:{vllm}:{os.environ['PATH']}")
    (clean_world / "script.py").write_text(SCRIPT)
    (clean_world / "my_script.py").write_text("print('ran')\n")
    (clean_world / "server.log").write_text(
        "ValueError: No available memory for the cache blocks\n"
    )
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
    """The commands that a line stands for, with a real model; what would start vLLM only says its plan."""
    command, _, more = command.partition(" [")
    first, *others = command.split(" | ")
    above = " ".join(first.split()[:2])
    lines = [first, *(f"{above} {other}" for other in others)]
    lines += [f"{command} {more.rstrip(']')}"] if more.startswith("-") else []
    return [planned(line).replace("MODEL", os.environ["VGUARD_TEST_MODEL"]) for line in lines]


def planned(line: str) -> str:
    before, launch, _ = line.partition(" -- ")
    is_launch = launch and " doctor" not in before and " my_script.py" not in line
    return line.replace("vllm-guard", "vllm-guard -n", 1) if is_launch else line


def test_there_are_commands_to_run() -> None:
    assert len(COMMANDS) > 40
    assert set(ELSEWHERE) <= set(pages.indented(README))


@pytest.mark.vllm
@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_each_command_runs(page, command, world) -> None:
    shell("vllm-guard -- true")  # so that there is a run to show

    for line in runnable(command):
        ran = shell(line)
        assert ran.returncode in GUIDES[page], (line, ran.stderr)
        assert ran.stdout + ran.stderr or "eval" in line, line


@pytest.mark.vllm
@pytest.mark.parametrize("block", pages.consoles(README))
def test_each_block_is_printed(block, world) -> None:
    """Line by line, in that order; what only this machine has to say may stand between."""
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]

    ran = shell(SHOWN + "\n".join(f"run {shlex.quote(command)}" for command in commands))

    printed = iter(ran.stdout.splitlines())
    assert [line for line in block.splitlines() if line not in printed] == [], ran.stdout
