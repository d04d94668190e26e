"""The record of a run on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import frozen, record
from vllm_guard.model import EnvPlan, Outcome, Run

DATA = Path(__file__).parent / "data"


def a_run(**changes) -> Run:
    base = Run(
        id="20261124-143015-7f3a9c2e",
        command=("vllm", 'a "b" \\ é \x00'),
        cwd="/",
        profiles=(),
        interpreter="",
        vllm="",
        started="",
        plan=EnvPlan(),
        findings=(),
        containment="keeper",
        outcome=Outcome("exited", 1, left_behind=0, seconds=0.5),
    )
    return frozen.replace(base, **changes)


@given(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
def test_the_record_is_json_with_every_value_of_its_own_type(text, number, flag, real) -> None:
    outcome = Outcome("exited", number, core=flag, seconds=real, ended_by=text)

    document = json.loads(record.to_json(a_run(outcome=outcome, command=(text,))))

    assert document["schema_version"] == 1
    for key, value in (("code", number), ("core", flag), ("seconds", real), ("ended_by", text)):
        assert document["outcome"][key] == value
        assert type(document["outcome"][key]) is type(value)
    assert document["command"] == [text]


def test_old_records_are_dropped_and_the_newest_kept(monkeypatch) -> None:
    shelf = record.Shelf(os.environ)
    for index in range(record.KEPT_RUNS + 25):
        run_id = f"20260101-000000-{index:08x}"
        folder = Path(shelf.open(run_id))
        if index % 2:
            (folder / "traces").mkdir()  # of VLLM_TRACE_FUNCTION
            (folder / "traces" / "log").touch()
        shelf.write(a_run(id=run_id))
    shelf.prune()

    kept = sorted(os.listdir(Path(shelf.root) / "runs"))
    assert len(kept) == record.KEPT_RUNS
    assert kept[-1].endswith(f"{record.KEPT_RUNS + 24:08x}")
    assert shelf.problem == ""
