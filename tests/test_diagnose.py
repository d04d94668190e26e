"""The diagnosis: the first cause of each log of the corpus, and the rules that find it."""

from __future__ import annotations

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
        # what is known comes first, what only wraps it last
        (["OddError: 1", "alpha broke at 2"], ["alpha :2"]),
        (["others failed", "OddError: 1"], ["? :2"]),
        (["others failed"], ["wrapped :1"]),
        (["bdb.OddError", "others failed"], ["? :1"]),
        # what others say after that comes after what was said before
        (["(W pid=1) OddError: 1", "(E pid=2) others failed", "(W pid=3) alpha broke at 3"], ["? W pid=1:1"]),
        (["(E pid=2) others failed", "(E pid=2) alpha broke at 2"], ["alpha E pid=2:2"]),
        (["(E pid=2) others failed", "(W pid=3) alpha broke at 2"], ["alpha W pid=3:2"]),
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


def test_a_log_of_nothing_but_errors_takes_bounded_memory() -> None:
    diagnosis = Diagnosis(SIGNATURES, str)
    tracemalloc.start()
    for number in range(300):
        diagnosis.feed(
            b"".join(
                b"(W%d pid=1) OddError: %d\n" % (i, number) for i in range(number, number + 200)
            )
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert diagnosis.finish()[0].process == "W0 pid=1"
    assert peak < 4 << 20
