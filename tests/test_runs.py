"""`vllm-guard runs`: records listed and shown, dead runs cleaned by hand."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.kit import (
    GUARD,
    Lines,
    children,
    gone,
    guard,
    is_alive,
    kill_at_once,
    program,
    start,
    under_way,
    wait_for,
)
from tests.test_supervision import _state
from tests.test_terminal import screen


def answer(*words: str) -> dict:
    result = guard(*words, "--json")
    assert result.returncode == 0
    return json.loads(result.stdout)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def test_runs_are_listed_with_how_they_ended_and_the_newest_is_shown() -> None:
    guard("-p", "debug", "--", "true", "one")
    guard("-e", "HF_TOKEN=s3cr3t-of-mine", "--", "sh", "-c", "echo out; exit 7")

    listed = guard("runs", "list").stdout.decode()
    rows = answer("runs", "list")["runs"]
    shown = guard("runs", "show").stdout.decode()
    first = answer("runs", "show", rows[0]["id"])["run"]

    assert [(row["state"], row["command"][0]) for row in rows] == [
        ("ended", "true"),
        ("ended", "sh"),
    ]
    assert "exited 7 after" in listed
    assert "exited 7 after" in shown
    assert f"held by   {first['containment']}" in shown
    assert "  HF_TOKEN: unset -> [masked] (14 characters)" in shown
    assert "s3cr3t" not in shown
    assert first["profiles"] == ["debug"]


def test_the_list_has_scripts_as_they_were_typed(tmp_path) -> None:
    (tmp_path / "s.py").touch()
    typed = ["python3", "s.py", "--engine", "x"]
    guard("--main-guard", "definitions", "--", *typed, cwd=tmp_path)

    listed = guard("runs", "list").stdout.decode()
    (row,) = answer("runs", "list")["runs"]

    assert listed.rstrip().endswith(f"  {row['command'][0]} s.py --engine x")
    assert row["command"] != typed, "what was executed"


def test_a_narrow_terminal_does_not_break_ids() -> None:
    guard("--", "true")
    (row,) = answer("runs", "list")["runs"]

    with screen(*GUARD, "runs", "list", COLUMNS="60") as terminal:
        assert row["id"] in terminal.until("true")


def test_without_any_run_that_is_said() -> None:
    assert guard("runs", "list").stdout == b"no runs are recorded\n"
    assert guard("runs", "clean").stdout == b"no dead runs: nothing to end or remove\n"
    for words in (["show"], ["show", "nonsense"], ["show", "../../x"]):
        result = guard("runs", *words)
        assert result.returncode == 2
        assert b"error: no " in result.stderr


def test_a_living_run_is_running_and_clean_leaves_it_alone() -> None:
    process = start("--", "cat", stdin=subprocess.PIPE)
    wait_for(under_way, "the start")

    (row,) = answer("runs", "list")["runs"]
    guard("runs", "clean", "--records")
    out, _ = process.communicate(b"still here")

    assert row["state"] == "running"
    assert out == b"still here"
    assert process.returncode == 0


def test_a_dead_run_is_cleaned_by_hand() -> None:
    process = start("--", *program("hydra", 6, "stay"), start_new_session=True)
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    lines.until(b"\n")
    pids = [int(word) for word in lines.seen.split()[1:]]
    (keeper,) = children(process.pid)
    kill_at_once(keeper, process.pid)
    process.communicate()

    (row,) = answer("runs", "list")["runs"]
    assert b"dead-run" not in guard("-n", "--", "true").stderr
    assert all(is_alive(pid) for pid in pids), "a dry run ends nothing"
    cleaned = guard("runs", "clean").stdout

    assert row["state"] == "dead"
    assert b"note dead-run: " in cleaned
    assert b"ended 7 processes" in cleaned
    gone(pids)
    assert list(_state().glob("active/*")) == []


LOOSE = "hf_aBcDeFgHiJaBcDeFgHiJ"
KNOWN = "s3cr3t+of/mine"


def test_no_log_holds_a_secret_and_the_record_counts_them() -> None:
    words = f"echo {LOOSE}; echo x={KNOWN}; printf us:{KNOWN} | base64"
    guard("-e", f"MY_TOKEN={KNOWN}", "--", "sh", "-c", words)

    run = answer("runs", "show")["run"]
    log = Path(run["log"]).read_text()

    assert run["masked"] == [["known value", 2], ["hugging-face-token", 1]]
    assert LOOSE not in log
    assert log.startswith("[masked]" + "*" * (len(LOOSE) - 8) + "\nx=[masked]\n")


def test_the_log_of_a_dead_run_is_masked_when_it_is_swept() -> None:
    words = f"echo {LOOSE}; echo ready; exec cat"
    process = start("--", "sh", "-c", words, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready\n")
    (log,) = _state().glob("runs/*/output.log")
    wait_for(lambda: LOOSE in log.read_text(), "the log")
    (keeper,) = children(process.pid)
    kill_at_once(keeper, process.pid)
    process.communicate()

    guard("runs", "clean")

    assert LOOSE not in log.read_text()


def test_clean_removes_records_only_when_it_is_asked_to() -> None:
    guard("--", "true")

    guard("runs", "clean")
    assert len(list(_state().glob("runs/*"))) == 1
    assert b"1 record removed" in guard("runs", "clean", "--records").stdout
    assert list(_state().glob("runs/*")) == []


GARBAGE = {
    "none": None,
    "empty": b"",
    "no object": b"[]",
    "an empty object": b"{}",
    "nested": b"[" * 100_000,
    "another's": b'{"outcome": {"x": 1}}',
    "of wrong types": b'{"outcome": {"kind": [], "code": 1}, "command": 3}',
    "half": b'{"schema_version": 1, "id": "2026',
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_record_that_is_none_of_ours_is_said_to_be_unreadable(content: bytes | None) -> None:
    guard("--", "true")
    (path,) = _state().glob("runs/*/run.json")
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    (row,) = answer("runs", "list")["runs"]
    listed = guard("runs", "list")
    shown = [guard("runs", "show", *words) for words in ([], ["--json"])]

    assert (row["state"], row["outcome"], row["command"]) == ("unreadable", "", [])
    assert (listed.returncode, listed.stderr) == (0, b"")
    for result in shown:
        assert result.returncode == 2
        assert b"cannot be read" in result.stderr
    assert b"1 record removed" in guard("runs", "clean", "--records").stdout


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), huge])
def test_a_record_that_is_no_file_is_not_waited_for(plant) -> None:
    guard("--", "true")
    (path,) = _state().glob("runs/*/run.json")
    path.unlink()
    plant(path)

    assert answer("runs", "list")["runs"][0]["state"] == "unreadable"
    assert guard("runs", "show").returncode == 2
