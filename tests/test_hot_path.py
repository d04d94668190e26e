"""What a launch loads: a pinned set of modules, for each costs time before every command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kit import guard_env

FORBIDDEN = {
    *("asyncio", "click", "contextlib", "ctypes", "dataclasses", "difflib", "enum", "functools"),
    *("hashlib", "importlib.metadata", "inspect", "json", "logging", "netifaces", "packaging"),
    *("pathlib", "psutil", "re", "rich", "shutil", "signal", "socket", "subprocess", "tempfile"),
    *("termios", "threading", "tomli", "tomllib", "typing"),
}

#: Ends as `vllm-guard` does, but says first which modules it has loaded. `os._exit` is called in the
#: forked processes, too: only the guard itself speaks.
TELL = """
import os, sys
guard, leave, out = os.getpid(), os._exit, os.dup(1)
def tell(status):
    if os.getpid() == guard:
        os.write(out, "\\n".join(sorted(set(sys.modules) - before)).encode())
    leave(status)
os._exit = tell
before = set(sys.modules)
sys.argv[0] = "vllm-guard"
from vllm_guard import cli
cli.main()
"""

ALWAYS = """
vllm_guard vllm_guard.cache vllm_guard.cgroup vllm_guard.cli vllm_guard.command vllm_guard.commands
vllm_guard.commands.order vllm_guard.commands.run
vllm_guard.ending vllm_guard.environment vllm_guard.errors vllm_guard.execute
vllm_guard.facts
vllm_guard.frozen vllm_guard.host vllm_guard.keeper vllm_guard.launch vllm_guard.ledger vllm_guard.leftovers
vllm_guard.libc vllm_guard.log vllm_guard.marker vllm_guard.model vllm_guard.options vllm_guard.outlet
vllm_guard.paths
vllm_guard.plan vllm_guard.prepare
vllm_guard.probes vllm_guard.probes.command vllm_guard.probes.command.dead_runs
vllm_guard.probes.command.no_python
vllm_guard.profiles vllm_guard.pump vllm_guard.record vllm_guard.redact vllm_guard.report
vllm_guard.repository vllm_guard.temporary
vllm_guard.screen vllm_guard.segments vllm_guard.signals vllm_guard.target
vllm_guard.target.rewrite vllm_guard.target.words vllm_guard.terminal vllm_guard.tree
vllm_guard.voice
__future__ _ctypes errno gc select
"""
WITH_PYTHON = """
vllm_guard.probes.python vllm_guard.probes.python.network vllm_guard.probes.python.script
vllm_guard.probes.python.vllm_install
vllm_guard.target.install vllm_guard.target.python
"""


def loaded(*words: str) -> set[str]:
    """The modules that a launch loads beyond those of `python -c pass`; the second time, with caches."""
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", TELL, *words],
            env=guard_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,  # no terminal: a launch on one loads termios as well
            check=True,
        )
    return set(done.stdout.decode().split())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["true"], ALWAYS),
        ([sys.executable, "-c", "pass"], ALWAYS + WITH_PYTHON),
    ],
    ids=["a command", "python"],
)
def test_a_launch_loads_these_modules_and_no_others(command: list[str], expected: str) -> None:
    found = loaded("-p", "debug", "--", *command)

    assert found & FORBIDDEN == set()
    assert {name for name in found if not name.startswith("encodings")} == set(expected.split())


def test_the_record_of_awkward_words_loads_json_only_when_it_is_needed() -> None:
    assert "json" not in loaded("--", "true", "plain")
    assert "json" in loaded("--", "true", 'a "quoted" word')
