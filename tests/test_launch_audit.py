"""The audit before a launch: what the caller left on is said, what was asked for is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, guard_env

ENVS = """
import os
environment_variables = {
    "VLLM_LOGGING_LEVEL": lambda: os.getenv("VLLM_LOGGING_LEVEL", "INFO").upper(),
    "VLLM_LOG_STATS_INTERVAL": lambda: float(os.getenv("VLLM_LOG_STATS_INTERVAL", "10.")),
    "VLLM_TRACE_FUNCTION": lambda: int(os.getenv("VLLM_TRACE_FUNCTION", "0")),
    "VLLM_PORT": lambda: int(os.getenv("VLLM_PORT", "0")),
}
def compile_factors():
    ignored_factors = {"VLLM_LOGGING_LEVEL", "VLLM_PORT", "VLLM_LOG_STATS_INTERVAL"}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with as much of a vLLM as the audit reads."""
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").touch()
    (tmp_path / "vllm/envs.py").write_text(ENVS)
    metadata = tmp_path / "vllm-0.30.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: vllm\nVersion: 0.30.0\n\n")
    return tmp_path


def launch(site: Path, *words: str, **env: str | None) -> tuple[int, dict[str, str]]:
    """The exit status, and the findings about variables of a launch: `id NAME` -> status."""
    record = site / "run.json"
    command = [sys.executable, "-c", "pass"]
    done = subprocess.run(
        [*GUARD, f"--json={record}", *words, "--", *command],
        env=guard_env(PYTHONPATH=f"{ROOT}:{site}", PYTHONDONTWRITEBYTECODE=None, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    found = json.loads(record.read_bytes())["findings"]
    ours = [f for f in found if f["id"].startswith(("debug-", "variable-", "service-", "cold-"))]
    names = {f"{f['id']} {f['subject'].partition('=')[0]}": f["status"] for f in ours}
    return done.returncode, names


@pytest.mark.parametrize(
    ("env", "words", "expected"),
    [
        ({}, [], {}),
        ({"NCCL_P2P_DISABLE": "1"}, [], {"debug-left-on NCCL_P2P_DISABLE": "warn"}),
        ({"NCCL_P2P_DISABLE": "1"}, ["-p", "clean"], {}),
        ({}, ["-e", "NCCL_P2P_DISABLE=1"], {}),
        ({}, ["-p", "debug"], {}),
        ({"VLLM_LOGGING_LEVEL": "DEBUG"}, ["-p", "debug"], {}),
        ({}, ["-e", "VLLM_LOGING_LEVEL=x"], {"variable-unknown VLLM_LOGING_LEVEL": "warn"}),
        ({"VLLM_USE_V1": "1"}, [], {"variable-removed VLLM_USE_V1": "warn"}),
        (
            {},
            ["-e", "VLLM_TRACE_FUNCTION=1"],
            {"cold-compile VLLM_TRACE_FUNCTION": "note"},
        ),
        ({"VLLM_TRACE_FUNCTION": "1"}, [], {"debug-left-on VLLM_TRACE_FUNCTION": "warn"}),
    ],
)
def test_what_was_left_on_is_said_and_what_was_asked_for_is_not(
    site: Path, env: dict[str, str], words: list[str], expected: dict[str, str]
) -> None:
    assert launch(site, *words, **env) == (0, expected)


def test_what_vllm_would_stop_at_is_not_started_unless_it_is_ignored(site: Path) -> None:
    status, found = launch(site, VLLM_PORT="tcp://10.0.0.1:8000", VLLM_SERVICE_HOST="10.0.0.1")

    assert (status, found) == (78, {"service-link VLLM_PORT": "fail"})
    assert launch(site, "--unset", "VLLM_PORT", VLLM_PORT="tcp://10.0.0.1:8000") == (0, {})
    assert launch(site, "-p", "clean", VLLM_PORT="tcp://10.0.0.1:8000") == (0, {})
    assert launch(site, "--ignore", "variable-value", VLLM_TRACE_FUNCTION="on")[0] == 0
    assert launch(site, VLLM_TRACE_FUNCTION="on")[0] == 78


def test_what_an_active_shell_has_set_was_asked_for(site: Path) -> None:
    """And what was set by hand in it was not."""
    activate = [*GUARD, "env", "activate", "p2p-off", "--shell", "sh"]
    code = subprocess.run(
        activate, env=guard_env(), stdin=subprocess.DEVNULL, capture_output=True, check=True
    ).stdout.decode()
    printed = subprocess.run(
        ["sh", "-c", f"{code}\nexec env -0"], env=guard_env(), capture_output=True, check=True
    ).stdout.decode()
    entries = dict(entry.partition("=")[::2] for entry in printed.split("\0") if entry)
    active = {name: entries[name] for name in ("NCCL_P2P_DISABLE", "VGUARD_SHELL")}

    assert launch(site, **active) == (0, {})
    assert launch(site, **active, NCCL_SHM_DISABLE="1") == (
        0,
        {"debug-left-on NCCL_SHM_DISABLE": "warn"},
    )


def test_of_a_vllm_for_the_cpu_the_variables_of_gpus_are_not_judged(site: Path) -> None:
    left = {"CUDA_LAUNCH_BLOCKING": "1", "NCCL_P2P_DISABLE": "1", "VLLM_TRACE_FUNCTION": "1"}
    for_gpus = launch(site, **left)[1]
    metadata = site / "vllm-0.30.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("0.30.0", "0.30.0+cpu"))

    assert set(for_gpus) == {f"debug-left-on {name}" for name in left}
    assert launch(site, **left)[1] == {"debug-left-on VLLM_TRACE_FUNCTION": "warn"}
