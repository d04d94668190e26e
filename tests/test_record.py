"""Where the guard keeps things: private, atomic, no symlink followed, never trusted when foreign."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import frozen, record
from vllm_guard.model import EnvPlan, Outcome, Run

DATA = Path(__file__).parent / "data"


# ---- records


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

    kept = sorted(os.listdir(Path(shelf.root) / "runs"))
    assert len(kept) == record.KEPT_RUNS
    assert kept[-1].endswith(f"{record.KEPT_RUNS + 24:08x}")
    assert shelf.problem == ""


def test_a_log_masks_a_secret_that_is_written_in_pieces(tmp_path) -> None:
    log = record.Log(str(tmp_path), [b"s3cr3t-value"])
    for piece in (b"before s3cr", b"et", b"-val", b"s3cr3t-va", b"lue after s3cr3t"):
        log.keep(piece)
    log.close()

    kept = Path(log.path).read_bytes()
    assert b"s3cr3t-value" not in kept
    assert kept == b"before s3cret-val[masked] after s3cr3t"


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_of_a_long_log_the_beginning_and_the_end_are_kept(pieces) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "HEAD_LIMIT", 64)
        patch.setattr(record, "TAIL_LIMIT", 32)
        log = record.Log(folder, ())
        for piece in pieces:
            log.keep(piece)
        log.close()
        parts = [Path(folder, f"output{name}") for name in (".log", ".tail.log.1", ".tail.log")]
        head, before, tail = (part.read_bytes() if part.exists() else b"" for part in parts)

    whole = b"".join(pieces)
    assert head == whole[:64]
    assert whole[64:].endswith(before + tail)
    assert len(whole) == len(head + before + tail) + log.lost
    assert len(before + tail) <= 64
