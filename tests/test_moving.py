"""Does a vLLM move? The limits, and what counts as a sign of life: tables and Hypothesis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import facts
from vllm_guard.counters import Counters, Process
from vllm_guard.moving import Movement
from vllm_guard.watch import Moment

LIMITS = {"import": {"quiet": 60, "busy": 300}, "load": {"quiet": 60, "busy": 600}}
TICK = 5.0
STILL = {"rss": 0, "cpu": 1.0, "read": 0, "asked": 0, "faults": 0, "stopped": False}


def at(seconds: float, *processes: dict[str, Any], **changes: Any) -> Moment:
    """A moment of a run in which nothing has moved since its start, but for the changes."""
    found = {10 + n: Process(**{**STILL, **each}) for n, each in enumerate(processes or ({}, {}))}
    fields = {"phase": "load", "in_phase": seconds, "is_ready": False, "idle": seconds}
    fields |= {"downloaded": 0, "foreground": True, "late": False, "gpu_busy": False}
    return Moment(seconds=seconds, counters=Counters(found), **{**fields, **changes})


def told(moments: Iterable[Moment], after: float | None = None, script: bool = False) -> list[Any]:
    """When something was told, and what of it: the stall, or nothing for its end."""
    movement = Movement(LIMITS, after, script)
    return [(m.seconds, movement.stall) for m in moments if movement.look(m)]


def ticks(count: int, *processes: dict[str, Any], **changes: Any) -> list[Moment]:
    return [at(n * TICK, *processes, **changes) for n in range(1, count + 1)]


def test_what_does_not_move_is_told_once_at_its_limit() -> None:
    ((seconds, what),) = told(ticks(100))

    # The first look sees the processes for the first time.
    assert seconds == 65
    assert what == "no output, reading, CPU or GPU use for 60 s"


def test_the_users_limit_holds_in_every_phase_that_has_one() -> None:
    ((seconds, _),) = told([at(n / 2) for n in range(1, 100)], after=2.0)

    assert seconds == 2.5
    assert told(ticks(1000, phase="serving"), after=2.0) == []
    assert told(ticks(1000, phase="ready")) == []


def test_a_script_may_do_anything_between_its_imports() -> None:
    assert told(ticks(1000, phase="import"), script=True) == []
    assert told(ticks(1000, phase="import"), after=1.0, script=True) == []
    assert len(told(ticks(1000, phase="load"), script=True)) == 1
    assert len(told(ticks(1000, phase="import"))) == 1


def moving(n: int) -> dict[str, Any]:
    return {"cpu": n * TICK * 0.5}


@pytest.mark.parametrize(
    "process",
    [
        pytest.param(lambda n: {"cpu": n * TICK * 0.25}, id="CPU"),
        pytest.param(lambda n: {"asked": n << 20}, id="read(2)"),
        pytest.param(lambda n: {"faults": n * 10}, id="mapped files"),
    ],
)
def test_what_a_process_does_is_a_sign_of_life_until_it_is_silent_too_long(process) -> None:
    ((seconds, what),) = told(at(n * TICK, process(n), {}) for n in range(1, 200))

    assert seconds == 600
    assert what.startswith("no output or reading for 600 s, with ")


def test_how_many_cpus_are_in_use_is_told() -> None:
    ((_, what),) = told(at(n * TICK, {"cpu": n * TICK}, {"cpu": n * TICK / 2}) for n in range(150))

    assert what.endswith(" with 1.5 CPUs in use")


@pytest.mark.parametrize(
    "process",
    [
        pytest.param(lambda n: {"cpu": n * TICK * 0.15}, id="CPU"),
        pytest.param(lambda n: {"asked": n * 100_000}, id="read(2)"),
        pytest.param(lambda n: {"faults": n * 9}, id="mapped files"),
    ],
)
def test_what_a_waiting_process_does_is_none(process) -> None:
    ((seconds, _),) = told(at(n * TICK, process(n), {}) for n in range(1, 100))

    assert seconds == 65


@pytest.mark.parametrize("changes", [{"gpu_busy": True}, {"idle": 1.0}])
def test_a_gpu_or_output_is_a_sign_of_life(changes) -> None:
    assert told(ticks(100, **changes)) == []


def test_processes_that_come_and_go_are_a_sign_of_life() -> None:
    assert told(at(n * TICK, *({},) * (1 + n % 2)) for n in range(1, 100)) == []


def test_one_stopped_process_is_told_also_when_the_server_is_ready() -> None:
    stopped = ticks(20, {}, {"stopped": True}, phase="serving", is_ready=True, idle=0.5)
    ((seconds, what), end) = told([*stopped, at(105), at(110)])

    assert (seconds, what) == (35, "a process is stopped, for 30 s")
    assert end == (105, "")


def test_a_job_that_is_stopped_as_a_whole_is_no_stall_and_none_when_it_goes_on() -> None:
    stopped = ticks(100, {"stopped": True}, {"stopped": True})
    after = [at(500 + n * TICK) for n in range(1, 12)]

    assert told(stopped) == []
    assert told([*stopped, *after]) == []
    assert len(told([*stopped, *after, at(560)])) == 1


def test_a_machine_that_slept_is_no_stall() -> None:
    assert told([*ticks(5), at(5000, late=True), at(5055)]) == []
    assert len(told([*ticks(5), at(5000, late=True), at(5060)])) == 1


def test_a_stall_that_ends_says_so_and_then_more_patience_is_had() -> None:
    first = ticks(20)
    moves = [at(105, idle=2.0)]
    again = [at(105 + n * TICK, idle=n * TICK) for n in range(1, 40)]

    assert [seconds for seconds, _ in told([*first, *moves, *again])] == [65, 105, 225]


def test_a_busy_stall_ends_with_output_only() -> None:
    busy = [at(n * TICK, moving(n)) for n in range(1, 200)]
    found = told([*busy, at(1000, moving(200), idle=1.0)])

    assert [(seconds, bool(what)) for seconds, what in found] == [(600, True), (1000, False)]


@given(st.lists(st.floats(0.5, 5.0), min_size=1, max_size=200), st.integers(1, 12))
def test_whatever_writes_more_often_than_its_limit_is_never_stalled(pauses, every) -> None:
    """`every`: each so many looks there was output: at most 60 s apart."""
    now = wrote = 0.0
    moments = []
    for number, pause in enumerate(pauses):
        now += pause
        if number % every == 0:
            wrote = now - pause / 2
        moments.append(at(now, idle=now - wrote))

    assert told(moments) == []


@given(st.lists(st.floats(0.1, 8.0), min_size=1, max_size=200))
def test_whenever_it_is_looked_at_a_dead_run_is_found_at_the_first_look_after_its_limit(
    pauses,
) -> None:
    times = [sum(pauses[: n + 1]) for n in range(len(pauses))]
    due = [time for time in times if time - times[0] >= 60]

    assert [seconds for seconds, _ in told(map(at, times))] == due[:1]


def test_every_limit_is_of_a_phase_that_there_is() -> None:
    phases = {step["phase"] for step in facts.load("phases")["steps"]}
    limits = facts.load("stalls")["limits"]

    assert set(limits) == phases - {"ready", "serving"}
    assert all(0 < limit["quiet"] < limit["busy"] for limit in limits.values())
