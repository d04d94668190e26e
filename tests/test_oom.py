"""Out of memory: real memory cgroups, in which the kernel kills."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, cgroups, gone, guard_env, tree_of, wait_for
from vllm_guard import oom

LIMIT = 96 << 20  #: bytes; a guard and a keeper need some 20 MiB
GREEDY = "held = []\nwhile True: held.append(b'x' * (1 << 20))"
#: Eats memory until its guard is gone, which the kernel takes first; then it stays.
OUTLIVES = """
import os, signal
guard = int(open(f"/proc/{os.getppid()}/stat").read().rsplit(")", 1)[1].split()[1])
open("/proc/self/oom_score_adj", "w").write("0")
held = []
while os.path.exists(f"/proc/{guard}/cmdline") and open(f"/proc/{guard}/cmdline").read():
    held.append(b"x" * (1 << 20))
signal.pause()
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A memory cgroup with a limit."""
    folder = cgroups.memory(LIMIT)
    if folder is None:
        pytest.skip("no memory cgroup can be made here")
    yield folder
    cgroups.remove(folder)


@pytest.fixture
def vllm(tmp_path: Path) -> dict[str, str]:
    """The environment of an interpreter that has vLLM, for all that its metadata tell."""
    (tmp_path / "vllm-0.9.0.dist-info").mkdir()
    (tmp_path / "vllm-0.9.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.4\nName: vllm\nVersion: 0.9.0\n\n"
    )
    (tmp_path / "vllm").mkdir()
    for name in ("__init__.py", "envs.py"):
        (tmp_path / "vllm" / name).touch()
    return guard_env(PYTHONPATH=f"{ROOT}:{tmp_path}")


def start_in(memory: Path, script: str, *words: str, **options) -> subprocess.Popen[bytes]:
    """A guard in the memory cgroup, after a line of shell."""
    enter = f'echo $$ > {memory}/cgroup.procs; {script} exec "$@"'
    return subprocess.Popen(
        ["sh", "-c", enter, "sh", *GUARD, *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_command_that_the_kernel_kills_for_memory_is_137_and_says_so(memory, vllm) -> None:
    words = ("--", sys.executable, "-c", GREEDY)

    process = start_in(memory, "", *words, env=vllm)
    _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 137
    assert b"out-of-memory killer struck meanwhile: 1 in " in err
    assert b"whose limit is 96 MiB" in err
    assert b"left behind: nothing" in err


def test_a_worker_that_the_kernel_kills_for_memory_is_named_whatever_the_status(
    memory, vllm, tmp_path
) -> None:
    record = tmp_path / "run.json"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    words = (f"--json={record}", "--", sys.executable, "-c", parent, GREEDY)

    process = start_in(memory, "", *words, env=vllm)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    found = [f for f in json.loads(record.read_bytes())["findings"] if f["id"] == "host-oom-kill"]
    assert [finding["status"] for finding in found] == ["warn"]


def test_a_guard_that_the_kernel_kills_for_memory_leaves_nothing(memory) -> None:
    first = "echo 1000 > /proc/self/oom_score_adj;"

    process = start_in(memory, first, "--", sys.executable, "-c", OUTLIVES, env=guard_env())
    run = wait_for(lambda: list(tree_of(process.pid)), "the keeper and the command")
    process.communicate(timeout=PATIENCE)

    assert process.returncode == -9
    gone(run)


def test_without_a_cgroup_that_counts_the_count_is_the_hosts() -> None:
    kills = oom.read()

    assert kills is not None
    assert kills.since >= 0
    assert oom.Kills("/nowhere", 0).since == 0
