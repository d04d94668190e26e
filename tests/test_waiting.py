"""Which process is stuck, and in what: by stacks as py-spy tells them, and the rows of `data/stalls.toml`."""

from __future__ import annotations

import pytest

from vllm_guard import facts
from vllm_guard.stacks import Frame, Stack, Thread
from vllm_guard.waiting import blame, text, words

ROWS = facts.load("stalls")["waits"]
SITE = "/v/lib/python3.12/site-packages"
QUIET = "no output, reading, CPU or GPU use for 60 s"


def stack(pid: int, title: str, *calls: str, **known: str) -> Stack:
    """`calls`: "function file", the innermost first."""
    frames = tuple(Frame(*call.split(" ", 1), line=7) for call in calls)
    threads = (Thread("Thread-1", (Frame("other", "other.py", 1),)), Thread("MainThread", frames))
    return Stack(pid, title, threads=threads if calls else (), **known)


API = stack(
    10,
    "python vllm serve m",
    f"poll {SITE}/zmq/sugar/poll.py",
    f"wait_for_engine_startup {SITE}/vllm/v1/engine/utils.py",
)
ENGINE = stack(
    20,
    "VLLM::EngineCore",
    "wait /usr/lib/python3.12/multiprocessing/connection.py",
    f"wait_for_ready {SITE}/vllm/v1/executor/multiproc_executor.py",
)
TRACKER = stack(40, "python -c from multiprocessing.resource_tracker import main;main(5)")
IDLE = stack(31, "VLLM::Worker_TP1", f"dequeue {SITE}/vllm/distributed/shm_broadcast.py")
JOINS = stack(
    30,
    "VLLM::Worker_TP0",
    f"_create_c10d_store {SITE}/torch/distributed/rendezvous.py",
    f"init_distributed_environment {SITE}/vllm/distributed/parallel_state.py",
)
READS = stack(
    31,
    "VLLM::Worker_TP1",
    f"safetensors_weights_iterator {SITE}/vllm/model_executor/model_loader/weight_utils.py",
    waits="open of /m/x.safetensors, a FIFO",
)
COMPILES = stack(
    32,
    "VLLM::Worker",
    "wait /usr/lib/python3.12/threading.py",
    f"compile_fx {SITE}/torch/_inductor/compile_fx.py",
)
DOWNLOADS = stack(
    33,
    "VLLM::Worker",
    "read /usr/lib/python3.12/ssl.py",
    f"http_get {SITE}/huggingface_hub/file_download.py",
    f"load_weights {SITE}/vllm/model_executor/model_loader/default_loader.py",
)
IMPORTS = stack(34, "VLLM::Worker", "get_data <frozen importlib._bootstrap_external>")
OWN = stack(35, "python my.py", "mine /home/u/my.py")


@pytest.mark.parametrize(
    ("stacks", "pid", "row", "function"),
    [
        ([API, ENGINE, JOINS, TRACKER], 30, "rendezvous", "_create_c10d_store"),
        ([API, ENGINE, JOINS, READS], 31, "fifo", "safetensors_weights_iterator"),
        ([API, ENGINE, IDLE, COMPILES], 32, "compile", "compile_fx"),
        ([API, ENGINE, IDLE, DOWNLOADS], 33, "download", "http_get"),
        ([API, ENGINE, IMPORTS], 34, "import", "get_data"),
        ([API, OWN], 35, "", "mine"),
        ([API, ENGINE], 20, "follower", "wait_for_ready"),
        ([TRACKER], 40, "", None),
        ([stack(1, "x", state="stopped by a signal"), READS], 1, "", None),
        ([stack(1, "x", waits="flock of /m/x.lock"), API], 1, "file-lock", None),
        ([stack(5, "VLLM::Worker"), stack(6, TRACKER.title), stack(4, "VLLM::EngineCore")], 5, "", None),
    ],
)  # fmt: skip
def test_the_process_that_the_others_wait_for_is_named(stacks, pid, row, function) -> None:
    found = blame(stacks, ROWS)

    assert found is not None
    assert (found.stack.pid, found.row.get("id", "")) == (pid, row)
    assert (found.frame and found.frame.function) == function


def told(*stacks: Stack) -> tuple[str, str]:
    return words(QUIET, stacks, blame(stacks, ROWS))


def test_the_fact_names_process_frame_and_file_and_the_fix_what_to_do() -> None:
    fact, fix = told(API, ENGINE, JOINS, READS)

    assert fact == (
        f"{QUIET}: VLLM::Worker_TP1 (pid 31): waits for somebody to write to a FIFO in "
        "safetensors_weights_iterator (weight_utils.py:7) [open of /m/x.safetensors, a FIFO]; "
        "3 more processes"
    )
    assert fix == "put the file itself in the FIFO's place"


def test_a_stopped_process_is_to_be_continued() -> None:
    fact, fix = told(API, stack(31, "VLLM::Worker", state="stopped by a signal", problem="x"))

    assert fact == f"{QUIET}: VLLM::Worker (pid 31): stopped by a signal; 1 more process"
    assert fix == "kill -CONT 31"


@pytest.mark.parametrize(
    ("known", "does"),
    [
        ({"waits": "read of pipe:[7]", "problem": "no stack"}, "waits: read of pipe:[7]; no stack"),
        ({"state": "uninterruptible, in the kernel's nfs_wait"}, "uninterruptible, in the kernel's nfs_wait"),
        ({}, "runs"),
    ],
)  # fmt: skip
def test_without_a_python_stack_the_kernels_view_is_told(known, does) -> None:
    assert told(stack(5, "VLLM::Worker", **known))[0] == f"{QUIET}: VLLM::Worker (pid 5): {does}"


def test_a_run_without_processes_is_not_looked_into() -> None:
    assert told() == (QUIET, "")


def test_the_file_has_the_fact_the_fix_and_all_threads() -> None:
    lines = text(("fact", "fix"), [READS, TRACKER]).splitlines()

    assert lines == [
        "fact",
        "fix",
        "",
        "pid 31: VLLM::Worker_TP1 (open of /m/x.safetensors, a FIFO)",
        "  thread Thread-1",
        "    other (other.py:1)",
        "  thread MainThread",
        f"    safetensors_weights_iterator ({SITE}/vllm/model_executor/model_loader/weight_utils.py:7)",
        "",
        f"pid 40: {TRACKER.title}",
    ]


def test_what_a_frame_is_called_cannot_drive_the_terminal() -> None:
    fact, _ = told(stack(1, "x", "a\x1b[2J\u202e b\n.py"))

    assert "a\\x1b[2J\\u202e (b\\n.py:7)" in fact


def test_every_row_is_one_that_the_rules_know() -> None:
    keys = {"id", "kernel", "frames", "means", "fix", "for", "last"}

    assert len({row["id"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert set(row) <= keys
        assert {"id", "means"} <= set(row)
        assert row.get("kernel") or row.get("frames")
        assert row.get("for", "ranks") in ("ranks", "process")
