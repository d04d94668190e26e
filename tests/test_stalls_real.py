"""Stalls of a real vLLM: found within the limit, told with process and frame, and nothing is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit import gone, wait_for
from tests.kit.serving import READY, Serving, free_port

pytestmark = pytest.mark.vllm

AFTER = 15  #: seconds; a start on two busy cores has shorter pauses


@contextmanager
def server(
    world: Path, *flags: str, model: str = "", guard: tuple[str, ...] = ()
) -> Iterator[Serving]:
    """A server with that limit, which does not outlive the test."""
    limit = ("--stall-after", str(AFTER), "--preflight", "off")
    serving = Serving(world, *flags, guard=(*guard, *limit), model=model)
    try:
        yield serving
    finally:
        serving.kill()


@contextmanager
def stalling(world: Path, *flags: str, **options: Any) -> Iterator[Serving]:
    """Such a server; when it has stalled it is asked to end, and ends."""
    with server(world, *flags, **options) as serving:
        yield serving
        assert serving.named("VLLM::EngineCore"), "nothing was killed"
        assert serving.named("VLLM::Worker")
        serving.process.terminate()
        # While it loads a model it does not answer SIGTERM: then grace is over after 8 s.
        ends = (0, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
        assert serving.ended() in ends, serving.said()
        gone(serving.pids)
        assert "left behind: nothing" in serving.said()


def record() -> dict[str, Any]:
    (path,) = Path(os.environ["HOME"], ".local/state/vllm-guard/runs").glob("*/run.json")
    return json.loads(path.read_text())


def stalls() -> list[dict[str, Any]]:
    return [finding for finding in record()["findings"] if finding["id"] == "stall"]


def stacks(found: dict[str, Any]) -> str:
    """The file that the finding names."""
    return Path(found["fact"].rpartition("; stacks: ")[2]).read_text()


def test_a_worker_that_was_stopped_is_named_and_told_to_move_again(clean_world) -> None:
    with stalling(clean_world) as serving:
        (worker,) = wait_for(lambda: serving.named("VLLM::Worker"), "a worker", READY)
        os.kill(worker, signal.SIGSTOP)
        serving.until(" is stopped, for ")
        serving.until(f"  fix: kill -CONT {worker}\n")
        os.kill(worker, signal.SIGCONT)
        serving.until("the run moves again, ")
    (found,) = stalls()

    assert f": VLLM::Worker (pid {worker}): stopped by a signal in " in found["fact"]
    assert found["fix"] == f"kill -CONT {worker}"
    assert f"\npid {worker}: VLLM::Worker (stopped by a signal" in stacks(found)
    assert "VLLM::EngineCore" in stacks(found)


def test_a_node_that_nobody_joins_waits_in_a_rendezvous(clean_world) -> None:
    port = str(free_port())
    flags = (
        "--nnodes",
        "2",
        "--node-rank",
        "0",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        port,
    )
    with stalling(clean_world, *flags, "--tensor-parallel-size", "2") as serving:
        serving.until(" warn stall: ")
        serving.until("  fix: are all nodes started")
    (found,) = stalls()

    assert ": waits for other ranks to join in " in found["fact"]
    assert "rendezvous.py" in stacks(found)


def with_a_fifo(world: Path) -> str:
    """The folder of a model whose weights are a FIFO."""
    model = world / "model"
    shutil.copytree(os.environ["VGUARD_TEST_MODEL"], model)
    weights = model / "model.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    return str(model)


def test_a_model_file_that_is_a_fifo_is_named(clean_world) -> None:
    """Under DEBUG vLLM says each 10 s that it waits: that is no sign of life."""
    model = with_a_fifo(clean_world)
    with stalling(clean_world, model=model, guard=("-p", "debug")) as serving:
        serving.until("  fix: put the file itself in the FIFO's place")
        assert " core engine proc(s) to start" in serving.said()
    (found,) = stalls()

    assert "waits for somebody to write to a FIFO in " in found["fact"]
    assert f"[open of {model}/model.safetensors, a FIFO]" in found["fact"]


@pytest.mark.soak
def test_a_stalled_server_is_ended_where_that_is_asked(clean_world) -> None:
    model = with_a_fifo(clean_world)
    with server(clean_world, model=model, guard=("--stall", "kill")) as serving:
        serving.until("  fix: put the file itself in the FIFO's place")
        assert serving.ended() == 124
        gone(serving.pids)
        assert "left behind: nothing" in serving.said()
    assert record()["outcome"]["kind"] == "deadline"
    assert record()["outcome"]["ended_by"].startswith("--stall kill in phase load: no output")
