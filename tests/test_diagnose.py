"""The diagnosis: the first cause of each log of the corpus, and the rules that find it."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.logs import CLEAN, NOT_RECOGNISED, corpus, diagnosed, first, known
from vllm_guard import signatures
from vllm_guard.diagnose import Diagnosis
from vllm_guard.model import Incident, Outcome

LOGS = corpus()
KEYS = {"name", "vllm", "origin", "expect", "text"}


def test_the_corpus_is_in_order() -> None:
    names = [log["name"] for log in LOGS]
    ids = {signature.id for signature in known()}

    assert len(names) == len(set(names))
    assert [log["name"] for log in LOGS if set(log) != KEYS] == []
    assert {log["expect"] for log in LOGS} - ids <= {CLEAN, NOT_RECOGNISED}


@pytest.mark.parametrize("log", LOGS, ids=[log["name"] for log in LOGS])
def test_the_first_incident_of_a_log_is_its_cause(log: dict[str, Any]) -> None:
    assert first(diagnosed(log["text"])) == log["expect"]


# ---- the rules

ROWS = {
    "alpha": {"kind": "cause", "needles": ["alpha broke"], "regex": r"at (?P<at>\d+)", "cause": "at {at}"},
    "beta": {"kind": "cause", "needles": ["beta broke"], "context": ["long before"]},
    "wrapped": {"kind": "envelope", "needles": ["others failed"], "regex": r"failed(?:: (?P<code>-?\d+))?"},
    "slow": {"kind": "hint", "needles": ["it is slow"]},
    "tidy": {"kind": "noise", "needles": ["NoError: all tidy"]},
    "oom": {"kind": "cause", "signal": 9, "cause": "killed"},
    "refused": {"kind": "request", "needles": ["no such thing"]},
    "warned": {"kind": "cause", "needles": ["soon to break"], "level": "WARNING"},
    "ended": {"kind": "cause", "needles": ["delta broke"], "last": True},
    "old": {"kind": "cause", "needles": ["gamma broke"], "regex": "broke", "vllm": "<0.9"},
    "new": {"kind": "cause", "needles": ["gamma broke"], "vllm": ">=0.9"},
}  # fmt: skip
TRACEBACK = (
    "Traceback (most recent call last):",
    '  File "/opt/x.py", line 6, in above',
    "    f()",
    '  File "/opt/x.py", line 7, in f',
    "    raise OddError(1)",
    "    ^^^^^^^^^^^^^^^^^",
)
SIGNATURES = signatures.parse(ROWS)
READY = "INFO:     Application startup complete."
ASGI = (
    "ERROR:    Exception in ASGI application",
    TRACEBACK[0],
    '  File "/opt/site-packages/starlette/routing.py", line 7, in app',
    "    await f()",
    "    ^^^^^^^^^",
    "OddError: 1",
)
START = "(APIServer pid=1) INFO 11-12 12:12:12 [api_server.py:1839] vLLM API server version 0.11.0"
BANNER = "(APIServer pid=1) INFO 11-28 22:08:13 [api_utils.py:347]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.32.0"


def of(*lines: str, outcome: Outcome | None = None) -> list[str]:
    """What is said of a log with these lines, first things first: `id process:line`."""
    return [f"{i.id or '?'} {i.process}:{i.line}" for i in incidents(*lines, outcome=outcome)]


def incidents(*lines: str, outcome: Outcome | None = None) -> tuple[Incident, ...]:
    diagnosis = Diagnosis(SIGNATURES, lambda text: text.replace("hunter2", "[masked]"))
    for line in lines:
        diagnosis.feed(f"{line}\n".encode())
    return diagnosis.finish(outcome)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], []),
        (["all is well", "it is slow", "NoError: all tidy"], []),
        (["alpha broke at 1"], ["alpha :1"]),
        (["alpha broke"], []),
        # the deepest process, then the earliest line
        (["(APIServer pid=1) alpha broke at 1", "(Worker pid=3) alpha broke at 2"], ["alpha Worker pid=3:2"]),
        (["(W pid=2) alpha broke at 1", "(W pid=2) alpha broke at 2"], ["alpha W pid=2:1"]),
        # some words mean something as the last line only
        (["delta broke", "", "  "], ["ended :1"]),
        (["delta broke", "delta broke"], ["ended :2"]),
        (["delta broke", "means this"], []),
        (["INFO:     Shutting down", "delta broke"], []),
        # a line of a request quotes what somebody asked
        (['{"messages": [{"content": "alpha broke at 1"}]}'], []),
        (["request: {'prompt': 'alpha broke at 1'}"], []),
        # an error in an exception group, and what stands before it of the source
        (['    |   File "x.py", line 1, in f', "    |     alpha broke at 1", "    | OddError: 1"], ["? :3"]),
        (['    |   File "x.py", line 1, in f', "    |     f()", "    | E: alpha broke at 3"], ["alpha :3"]),
        # what is known comes first, what only wraps it last
        (["OddError: 1", "alpha broke at 2"], ["alpha :2"]),
        (["others failed", "OddError: 1"], ["? :2"]),
        (["others failed"], ["wrapped :1"]),
        (["bdb.OddError", "others failed"], ["? :1"]),
        # what others say after that comes after what was said before
        (["(W pid=1) OddError: 1", "(E pid=2) others failed", "(W pid=3) alpha broke at 3"], ["? W pid=1:1"]),
        (["(E pid=2) others failed", "(E pid=2) alpha broke at 2"], ["alpha E pid=2:2"]),
        (["(E pid=2) others failed", "(W pid=3) alpha broke at 2"], ["alpha W pid=3:2"]),
        # only a server's own words end it, and an engine that starts after them is another run's
        (["Shutting down previous Ray cluster", "alpha broke at 2"], ["alpha :2"]),
        (["INFO:     Shutting down", "alpha broke at 2"], []),
        (
            ["INFO:     Shutting down", "Initializing a V1 LLM engine (v0.11.0) with", "alpha broke at 3"],
            ["alpha :3"],
        ),
        # of what is said twice the first counts, also behind another one
        (
            ["(W pid=1) alpha broke at 1", "long before", "beta broke", "alpha broke at 4"],
            ["alpha W pid=1:1", "beta :3"],
        ),
        (
            ["(W pid=1) alpha broke at 1", "(V pid=3) OddError: 1", "(E pid=2) alpha broke at 1"],
            ["alpha W pid=1:1"],
        ),
        # what hands on the words of the first cause is no other cause
        (
            ["(W pid=1) alpha broke at 7: beta broke", "(E pid=2) long before", "(E pid=2) E: 'beta broke'"],
            ["alpha W pid=1:1"],
        ),
        # the end of a request is never that of a process
        (["no such thing"], ["refused :1"]),
        (["no such thing", "OddError: 1"], ["? :2"]),
        (["no such thing", "others failed"], ["wrapped :2"]),
        (["no such thing", "others failed: -9"], ["oom :0"]),
        (["no such thing", "alpha broke at 2"], ["alpha :2"]),
        # a level below ERROR counts only where the signature says so
        (["INFO 11-12 12:12:12 [a.py:1] prompt: 'alpha broke at 1'"], []),
        (["WARNING 11-12 12:12:12 [a.py:1] alpha broke at 1"], []),
        (["ERROR 11-12 12:12:12 [a.py:1] alpha broke at 1"], ["alpha :1"]),
        (["WARNING 11-12 12:12:12 [a.py:1] soon to break"], ["warned :1"]),
        (["INFO 11-12 12:12:12 [a.py:1] soon to break"], []),
        (["INFO 11-12 12:12:12 [a.py:1] it is slow", "alpha broke at 2"], ["alpha :2"]),
        # what a traceback quotes of the source is said by nobody
        (['  File "x.py", line 1, in f', "    raise OddError('alpha broke at 1')", "OddError: 1"], ["? :3"]),
        (
            ['  File "x.py", line 1, in f', "    raise OddError(", "        'alpha broke at 1'", "    ^^^^^"],
            [],
        ),
        (['  |   File "x.py", line 1, in f', "  |     alpha broke at 1"], []),
        (['(W pid=1)   File "x.py", line 1', "(W pid=2)     alpha broke at 1"], ["alpha W pid=2:2"]),
        (["A message:", "    alpha broke at 1"], ["alpha :2"]),
        # NCCL knows a process by its number, vLLM by its name
        (
            ["(Worker_TP0 pid=7) at work", "node:7:9 [0] NCCL WARN alpha broke at 1"],
            ["alpha Worker_TP0 pid=7:2"],
        ),
        (
            ["(EngineCore pid=1) alpha broke at 1", "node:7:9 [0] NCCL WARN alpha broke at 1"],
            ["alpha pid=7:2"],
        ),
        # contributions, beside a failure only; each once
        (["it is slow", "it is slow", "alpha broke at 3"], ["alpha :3", "slow :1"]),
        (["(W pid=1) alpha broke at 1", "(W pid=2) alpha broke at 2"], ["alpha W pid=1:1"]),
        # context: said by the same process before
        (["long before", "beta broke"], ["beta :2"]),
        (["(W pid=1) long before", "(W pid=2) beta broke"], []),
        # errors that are none
        (["WARNING 11-12 12:12:12 [a.py:1] OddError: 1"], []),
        (["CancelledError", "ConnectionResetError: [Errno 104]", "a OddError: within"], []),
        # a server's life
        (["alpha broke at 1", "INFO:     Application startup complete."], []),
        (["it is slow", "Application startup complete.", "alpha broke at 3"], ["alpha :3", "slow :1"]),
        (["INFO:     Shutting down", "OddError: 1", "alpha broke at 3"], []),
        (["others failed", "INFO:     Shutting down", "alpha broke at 3"], ["alpha :3"]),
        (["INFO:     Shutting down", "vLLM API server version 1", "alpha broke at 3"], ["alpha :3"]),
        (
            ["others failed", "Uvicorn running on http", "(W pid=1) alpha broke at 1", "OddError: 1"],
            ["alpha W pid=1:3"],
        ),
        (["[shutdown] API server: shutdown triggered", "alpha broke at 1"], []),
        # several servers in one log: none is healed by another, each has its own life
        (["a-1 | alpha broke at 1", "b-1 | INFO:     Application startup complete."], ["alpha :1"]),
        ([f"a-1 | {START}", "a-1 | alpha broke at 1", f"b-1 | {START}"], ["alpha :2"]),
        (["a-1 | INFO:     Shutting down", "b-1 | alpha broke at 1"], ["alpha :2"]),
        (["a-1 | long before", "b-1 | beta broke"], []),
        (["a-1 | others failed", "b-1 | (W pid=3) OddError: 2"], ["? b-1: W pid=3:2", "wrapped a-1:1"]),
        (
            ["a-1 | alpha broke at 1: no room", "b-1 | alpha broke at 1: no room"],
            ["alpha a-1:1", "alpha b-1:2"],
        ),
        (["[pod/a/b] alpha broke at 1", "[pod/c/d] Uvicorn running on http"], ["alpha :1"]),
        # what a ready server survives is named where nothing else is
        ([READY, *ASGI], ["? :7"]),
        ([READY, *ASGI, "others failed"], ["wrapped :8"]),
        ([READY, *ASGI, "(EngineCore pid=2) OddError: 1", "EvenError: 9"], ["? EngineCore pid=2:8"]),
        ([READY, *ASGI[:-1], "alpha broke at 7", "(W pid=2) EvenError: 1"], ["? W pid=2:8"]),
        (
            [READY, "(APIServer pid=1) OddError: 2", "(EngineCore pid=2) EvenError: 3"],
            ["? EngineCore pid=2:3"],
        ),
        ([READY, "(APIServer pid=1) OddError: 2", "(APIServer pid=1) alpha broke at 3"],
         ["alpha APIServer pid=1:3"]),
        ([READY, TRACEBACK[0], "OddError: 1", "others failed"], ["? :3"]),
        # who only says that a subprocess failed has an envelope
        (["subprocess.CalledProcessError: Command 'x' returned 1", "OddError: 1"], ["? :2"]),
        (["subprocess.CalledProcessError: Command 'x' returned 1"], ["? :1"]),
        # too short a message is in many a line
        (["E: alpha broke at 1: 7", "(V pid=2) soon to break 7"], ["alpha :1", "warned V pid=2:2"]),
        # several runs: the last one that failed
        ([START, "alpha broke at 1", START, "OddError: 1"], ["? :4"]),
        ([START, "alpha broke at 1", START, "no such thing"], ["alpha :2"]),
        ([START, "alpha broke at 1", BANNER], ["alpha :2"]),
        ([START, "alpha broke at 1", BANNER, "Application startup complete."], []),
        ([START, "it is slow", START, "OddError: 1"], ["? :4", "slow :2"]),
        ([START, "alpha broke at 1", "prompt: 'vLLM API server version 1'", "OddError: 1"], ["alpha :2"]),
        ([START, "alpha broke at 1", "prompt: '█  version 0.32.0'", "OddError: 1"], ["alpha :2"]),
        # signatures of this version before those of others
        (["gamma broke"], ["old :1"]),
        ([START, "gamma broke"], ["new :2"]),
        ([" ▄▄ █  version 0.8.5", "gamma broke"], ["old :2"]),
        (["vLLM API server version 0.8.5", "prompt: 'LLM engine (v0.11.0)'", "gamma broke"], ["old :3"]),
        (["Initializing an LLM engine (v0.11.0) with config", "gamma broke"], ["new :2"]),
        (["Initializing a V1 LLM engine (v0.11.1rc2.dev12+g12) with config", "gamma broke"], ["new :2"]),
        (["vLLM API server version dev", "gamma broke"], ["old :2"]),
        # killed: an envelope tells the exit status
        (["others failed: -9"], ["oom :0"]),
        (["others failed: 137"], ["oom :0"]),
        (["others failed: -11"], ["wrapped :1"]),
        (["alpha broke at 1", "others failed: -9"], ["alpha :1"]),
    ],
)  # fmt: skip
def test_the_rules(lines: list[str], told: list[str]) -> None:
    assert of(*lines) == told


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome("signalled", 137, signal=9), ["oom :0"]),
        (Outcome("exited", 137), ["oom :0"]),
        (Outcome("exited", 1), []),
        (Outcome("exited", 0), []),
    ],
)
def test_an_outcome_tells_what_no_line_does(outcome: Outcome, told: list[str]) -> None:
    assert of("all is well", outcome=outcome) == told
    assert of("alpha broke at 1", outcome=outcome) == ["alpha :1"]


def test_an_incident_quotes_the_frame_that_raised_it_and_not_another_processs() -> None:
    mixed = [
        line for text in TRACEBACK for line in (f"(W pid=1) {text}", f"(W pid=2) at work: {text}")
    ]
    (incident,) = incidents(*mixed, "(W pid=1) OddError: 1")

    assert incident.lines == (*TRACEBACK[3:5], "OddError: 1")
    assert (incident.status, incident.cause, incident.line) == ("not recognised", "OddError: 1", 13)


def test_an_incident_is_filled_and_masked() -> None:
    (incident,) = incidents("(hunter2 pid=1) alpha broke at 71 hunter2")

    assert (incident.cause, incident.status) == ("at 71", "known")
    assert incident.lines == ("alpha broke at 71 [masked]",)
    assert incident.process == "[masked] pid=1"


@pytest.mark.parametrize(
    ("lines", "before"),
    [
        ([START, "alpha broke at 1"], 0),
        (
            ["alpha broke at 1", START, "alpha broke at 3"],
            0,
        ),  # survived, for all that the log tells
        ([START, "alpha broke at 1", BANNER, "alpha broke at 3"], 1),
        ([START, "alpha broke at 1", BANNER, START, "alpha broke at 3", START], 1),
        ([START, "no such thing", START, "alpha broke at 3"], 0),
        (
            [START, "alpha broke at 1", START, "Application startup complete.", "alpha broke at 3"],
            1,
        ),
    ],
)
def test_it_is_counted_how_many_earlier_runs_have_failed(lines: list[str], before: int) -> None:
    diagnosis = Diagnosis(SIGNATURES, str)
    for line in lines:
        diagnosis.feed(f"{line}\n".encode())

    assert diagnosis.finish()[0].id == "alpha"
    assert diagnosis.failed_before == before


def test_context_reaches_back_over_blocks_but_not_for_ever() -> None:
    def told(between: int) -> int:
        return len(incidents("long before", *["at work"] * between, "beta broke"))

    assert told(400) == 1
    assert told(3000) == 0


@given(st.data())
def test_how_the_log_comes_makes_no_difference(data: st.DataObject) -> None:
    log = data.draw(st.sampled_from(LOGS))["text"].encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=8)))
    diagnosis = Diagnosis(known(), str)
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        diagnosis.feed(log[start:end])

    assert diagnosis.finish() == diagnosed(log)


@given(st.binary(max_size=3000))
def test_no_bytes_break_the_diagnosis(log: bytes) -> None:
    assert all(incident.lines for incident in diagnosed(log))


def test_errors_that_nobody_knows_do_not_crowd_out_a_known_one() -> None:
    odd = [f"(W{number} pid=1) OddError: {number}" for number in range(600)]

    assert of(*odd, "alpha broke at 1")[0] == "alpha :601"


def test_so_many_servers_are_told_apart_and_no_more() -> None:
    diagnosis = Diagnosis(SIGNATURES, str)
    for number in range(200):
        diagnosis.feed(b"web-%d | OddError: %d\n" % (number, number))

    assert len(diagnosis._servers) == 64
    assert diagnosis.finish()[0].process == "web-0"


def test_a_log_of_nothing_but_errors_takes_bounded_memory() -> None:
    diagnosis = Diagnosis(SIGNATURES, str)
    tracemalloc.start()
    for number in range(60):
        diagnosis.feed(
            b"".join(
                b"(W%d pid=1) OddError: %d\n" % (i, number) for i in range(number, number + 200)
            )
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert diagnosis.finish()[0].process == "W0 pid=1"
    assert peak < 4 << 20


def test_a_line_that_is_said_again_and_again_costs_no_more_than_others() -> None:
    """A full disk, told by every line of the log that cannot be written."""
    line = b"OSError: [Errno 28] No space left on device\n"
    started = time.process_time()

    found = diagnosed(line.decode() * 20_000)

    assert [incident.id for incident in found] == ["no-space"]
    assert time.process_time() - started < 5
