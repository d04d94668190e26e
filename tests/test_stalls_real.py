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
def stalling(world: Path, *flags: str, model: str = "") -> Iterator[Serving]:
    """A server with that limit; when it has stalled it is asked to end, and ends."""
    guard = ("--stall-after", str(AFTER), "--preflight", "off")
    server = Serving(world, *flags, guard=guard, model=model)
    try:
        yield server
        assert server.named("VLLM::EngineCore"), "nothing was killed"
        assert server.named("VLLM::Worker")
        server.process.terminate()
        # While it loads a model it does not answer SIGTERM: then grace is over after 8 s.
        ends = (0, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
        assert server.ended() in ends, server.said()
        gone(server.pids)
        assert "left behind: nothing" in server.said()
    finally:
        server.kill()


def stalls() -> list[dict[str, Any]]:
    (path,) = Path(os.environ["HOME"], ".local/state/vllm-guard/runs").glob("*/run.json")
    return [f for f in json.loads(path.read_text())["findings"] if f["id"] == "stall"]


def stacks(found: dict[str, Any]) -> str:
    """The file that the finding names."""
    return Path(found["fact"].rpartition("; stacks: ")[2]).read_text()


def test_a_worker_that_was_stopped_is_named_and_told_to_move_again(clean_world) -> None:
    with stalling(clean_world) as server:
        (worker,) = wait_for(lambda: server.named("VLLM::Worker"), "a worker", READY)
        os.kill(worker, signal.SIGSTOP)
        server.until(" is stopped, for ")
        server.until(f"  fix: kill -CONT {worker}\n")
        os.kill(worker, signal.SIGCONT)
        server.until("the run moves again, ")
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
    with stalling(clean_world, *flags, "--tensor-parallel-size", "2") as server:
        server.until(" warn stall: ")
        server.until("  fix: are all nodes started")
    (found,) = stalls()

    assert ": waits for other ranks to join in " in found["fact"]
    assert "rendezvous.py" in stacks(found)


def test_a_model_file_that_is_a_fifo_is_named(clean_world) -> None:
    model = clean_world / "model"
    shutil.copytree(os.environ["VGUARD_TEST_MODEL"], model)
    weights = model / "model.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    with stalling(clean_world, model=str(model)) as server:
        server.until("  fix: put the file itself in the FIFO's place")
    (found,) = stalls()

    assert "waits for somebody to write to a FIFO in " in found["fact"]
    assert f"[open of {weights}, a FIFO]" in found["fact"]
