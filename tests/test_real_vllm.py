"""The main job on a real vLLM: `vllm-guard --profile debug -- vllm serve MODEL`."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit import environ_of, gone, guard, kill_at_once
from tests.kit.serving import READY, Machine, Serving, carriers, port_is_free, vllm_env

pytestmark = pytest.mark.vllm

DEBUG = {
    "VLLM_LOGGING_LEVEL": "DEBUG",
    "VLLM_LOG_STATS_INTERVAL": "1",
    "NCCL_DEBUG": "TRACE",
    "CUDA_LAUNCH_BLOCKING": "1",
    "PYTHONFAULTHANDLER": "1",
}


#: The phases of an eager start on a CPU, and of a server after it.
STARTED = ("import", "config", "engine", "distributed init", "load", "profile", "api server")
SERVED = ("ready", "serving", "shutdown")


@pytest.fixture
def machine(clean_world: Path) -> Machine:
    return Machine(Path(os.environ["TMPDIR"]))


@pytest.fixture
def serving(clean_world: Path) -> Iterator[list[Serving]]:
    """Servers that the test starts; whatever happens, they do not outlive it."""
    started: list[Serving] = []
    yield started
    for server in started:
        server.kill()


def nothing_left(server: Serving, machine: Machine) -> None:
    """The run is over and the machine is as it was."""
    gone(server.pids)
    assert machine.left() == {}
    assert port_is_free(server.port)
    (record,) = records()
    assert carriers(record["id"]) == []
    assert list(state().glob("active/*")) == []


def records() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(state().glob("runs/*/run.json"))]


def state() -> Path:
    return Path(os.environ["HOME"], ".local/state/vllm-guard")


def test_two_workers_serve_under_debug_and_end_with_ctrl_cs_signal(clean_world, machine, serving):
    before = environ_of(os.getpid()), dict(os.environ)
    server = Serving(clean_world, "--tensor-parallel-size", "2", guard=("-p", "debug"))
    serving.append(server)
    server.until_ready()
    text = server.complete("The quick brown fox")

    (engine,) = server.named("VLLM::EngineCore")
    workers = server.named("VLLM::Worker")
    assert len(workers) == 2
    for pid in (server.api_server, engine, *workers):
        env = environ_of(pid)
        assert {name: env.get(name) for name in DEBUG} == DEBUG
        assert env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert " DEBUG " in server.said()
    assert text

    server.process.send_signal(signal.SIGINT)
    assert server.ended() == 0
    nothing_left(server, machine)
    assert (environ_of(os.getpid()), dict(os.environ)) == before
    (record,) = records()
    assert record["vllm"] == "0.32.0+cpu"
    assert record["outcome"]["ended_by"] == "SIGINT sent to vllm-guard"
    assert record["outcome"]["freed"] > 0, "vLLM leaves its CPU workers' shared memory behind"
    assert "left behind: nothing" in server.said()
    assert_phases(record, *STARTED, *SERVED)
    assert f"ready after {record['phases'][-3]['started']:.1f} s: import " in server.said()
    samples = [json.loads(line) for line in Path(record["samples"]).read_text().splitlines()]
    assert {"import", "engine"} <= {sample["phase"] for sample in samples}
    assert max(sample["processes"] for sample in samples) >= 4
    assert max(sample["rss"] for sample in samples) > 1 << 30


def assert_phases(record: dict, *names: str) -> None:
    """Those phases, in this order, from the start of the run to its end without a gap."""
    phases = record["phases"]
    assert [phase["name"] for phase in phases] == list(names)
    ends = [phase["started"] + phase["seconds"] for phase in phases]
    assert [phase["started"] for phase in phases] == pytest.approx([0, *ends[:-1]], abs=0.01)
    assert phases[0]["seconds"] > 1, "importing torch takes longer"
    assert ends[-1] == pytest.approx(record["outcome"]["seconds"], abs=2)


@pytest.mark.soak
def test_a_server_that_compiles_goes_through_that_phase_too(clean_world, machine, serving):
    server = Serving(clean_world, "--no-enforce-eager", guard=("--progress",))
    serving.append(server)
    server.until_ready()
    assert server.complete("One, two,")

    server.process.terminate()
    assert server.ended() == 0
    nothing_left(server, machine)
    (record,) = records()
    assert_phases(record, *STARTED[:-2], "compile", *STARTED[-2:], *SERVED)


@pytest.mark.soak
def test_a_script_is_ready_when_its_engine_is(clean_world):
    code = (
        "if __name__ == '__main__':\n"
        "    from vllm import LLM, SamplingParams\n"
        f"    llm = LLM({os.environ['VGUARD_TEST_MODEL']!r}, max_model_len=128, enforce_eager=True)\n"
        "    llm.generate(['One, two,'], SamplingParams(max_tokens=4))\n"
    )
    script = clean_world / "offline.py"
    script.write_text(code)

    result = guard("--progress", "--", "python", str(script), env=vllm_env(), timeout=READY)

    assert result.returncode == 0
    (record,) = records()
    assert_phases(record, *STARTED[:-1], "ready", "serving", "shutdown")


def test_sigterm_ends_one_worker_and_leaves_nothing(clean_world, machine, serving):
    server = Serving(clean_world, guard=("-p", "eager", "-p", "stats"))
    serving.append(server)
    server.until_ready()
    assert server.complete("One, two,")

    server.process.terminate()
    assert server.ended() == 0
    nothing_left(server, machine)
    assert "note engine-option-kept: --enforce-eager" in server.said()


def test_a_start_that_fails_in_a_worker_leaves_nothing_and_keeps_its_status(
    clean_world, machine, serving
):
    broken = clean_world / "broken"
    shutil.copytree(os.environ["VGUARD_TEST_MODEL"], broken)
    weights = broken / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    flags = ("--tensor-parallel-size", "2")
    words = ("-p", "debug", "--ignore", "model-complete")
    server = Serving(clean_world, *flags, guard=words, model=str(broken))
    serving.append(server)
    server.note_pids()

    assert server.process.wait(300) == 1
    nothing_left(server, machine)
    assert "exited 1 after" in server.said()


def test_a_start_that_is_certain_to_fail_is_refused_before_it_starts(clean_world):
    missing = clean_world / "no-such-model"

    result = guard("-p", "debug", "--", "vllm", "serve", f"{missing}", env=vllm_env())

    assert result.returncode == 78
    assert f"fail model-path: {missing}: no such folder".encode() in result.stderr
    assert result.stdout == b""


def test_every_builtin_profile_is_known_to_the_installed_vllm(clean_world):
    result = guard("profile", "check", "--strict", "--json", env=vllm_env())
    answer = json.loads(result.stdout)

    assert result.returncode == 0
    assert answer["vllm"] == "0.32.0+cpu"
    assert [f["id"] for f in answer["findings"]] == ["profile-valid"] * 11


def test_an_unguarded_script_gets_the_profile_too(clean_world):
    code = "import os, vllm.envs as e; print(e.VLLM_LOGGING_LEVEL, os.environ['NCCL_DEBUG'])"

    result = guard("-p", "debug", "--", "python", "-c", code, env=vllm_env(), timeout=120)

    assert result.stdout.splitlines()[-1] == b"DEBUG TRACE"


ONE, TWO = (), ("--tensor-parallel-size", "2")
WITHIN = 10.0  #: seconds after which nothing may be left


def victims(server: Serving, who: str) -> list[int]:
    if who in ("EngineCore", "Worker"):
        return server.named(f"VLLM::{who}")[:1]
    known = {
        "guard": [server.process.pid],
        "keeper": [server.keeper],
        "guard and keeper": [server.keeper, server.process.pid],
        "API server": [server.api_server],
    }
    return known[who]


@pytest.mark.parametrize(
    ("flags", "who", "status"),
    [
        (ONE, "guard", -signal.SIGKILL),
        (ONE, "keeper", 125),
        (ONE, "guard and keeper", -signal.SIGKILL),
        (ONE, "API server", 128 + signal.SIGKILL),
        (ONE, "EngineCore", 0),
        *(
            pytest.param(TWO, *case, marks=pytest.mark.soak)
            for case in [
                ("guard", -signal.SIGKILL),
                ("keeper", 125),
                ("guard and keeper", -signal.SIGKILL),
                ("API server", 128 + signal.SIGKILL),
                ("EngineCore", 0),
                ("Worker", 0),
            ]
        ),
    ],
)
def test_whoever_is_killed_nothing_is_left(flags, who, status, clean_world, machine, serving):
    server = Serving(clean_world, *flags)
    serving.append(server)
    server.until_ready()
    pids = victims(server, who)
    assert pids

    kill_at_once(*pids)
    found = server.process.wait(30)
    if who == "guard and keeper":
        swept = guard("--", "true")
        assert b"note dead-run: " in swept.stderr

    gone(server.pids, WITHIN)
    assert machine.left() == {}
    assert port_is_free(server.port)
    assert found == status
    if who in ("EngineCore", "Worker"):
        assert "warn server-ended" in server.said()


@pytest.mark.parametrize(
    ("flags", "phase", "number"),
    [
        (ONE, "import", signal.SIGTERM),
        (ONE, "load", signal.SIGINT),
        *(
            pytest.param(flags, phase, number, marks=pytest.mark.soak)
            for flags in (ONE, TWO)
            for phase in ("import", "load", "serving")
            for number in (signal.SIGTERM, signal.SIGINT)
        ),
    ],
)
def test_asked_to_end_in_any_phase_nothing_is_left(
    flags, phase, number, clean_world, machine, serving
):
    server = Serving(clean_world, *flags)
    serving.append(server)
    if phase == "import":
        server.until_it_imports_torch()
    elif phase == "load":
        server.until("Starting to load model")
    else:
        server.until_ready()

    server.process.send_signal(number)
    server.process.wait(30)

    gone(server.pids, WITHIN)
    assert machine.left() == {}
    assert port_is_free(server.port)
    assert "left behind: nothing" in server.said()
