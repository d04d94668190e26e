"""Phases in logs of vLLM 0.8.5 to 0.33: `tests/data/phases/*.toml`, recorded or after the sources."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT
from vllm_guard import facts
from vllm_guard.phases import Phases, table

FILES = sorted((ROOT / "tests/data/phases").glob("*.toml"))
LOGS = [
    pytest.param(log, id=f"{file['vllm']}: {log['name']}")
    for file in (tomli.loads(path.read_text()) for path in FILES)
    for log in file["log"]
]
ORDER = (
    *("import", "config", "engine", "distributed init", "load", "download", "load", "profile"),
    *("compile", "profile", "graph capture", "api server", "ready", "serving", "shutdown"),
)


def fed(log: dict[str, Any], *cuts: int) -> list[str]:
    """What begins in a log that comes in blocks, cut at these places."""
    phases = Phases(log.get("script", False))
    text = log["text"].encode()
    places = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
    blocks = (text[start:end] for start, end in pairwise(places))
    return [name for block in blocks for name in phases.feed(block)]


@pytest.mark.parametrize("log", LOGS)
def test_each_log_has_its_phases_in_their_order(log: dict[str, Any]) -> None:
    assert fed(log) == log["expect"]


def test_there_is_a_log_of_each_version_that_the_table_speaks_of() -> None:
    assert [path.stem for path in FILES] == [
        *("0.10.2", "0.12.0", "0.16.0", "0.20.2", "0.24.0", "0.28.0", "0.32.0", "0.33.0", "0.8.5")
    ]


@given(st.sampled_from([param.values[0] for param in LOGS]), st.lists(st.integers(0, 1 << 20)))
def test_however_the_output_is_cut_into_blocks_the_phases_are_the_same(
    log: dict[str, Any], cuts: list[int]
) -> None:
    assert fed(log, *cuts) == log["expect"]


def test_nothing_is_said_twice_however_often_the_lines_come() -> None:
    for param in LOGS:
        log = param.values[0]
        assert fed({**log, "text": log["text"] * 3}) == log["expect"]


def test_each_literal_is_found_in_a_log_or_of_a_version_between_them() -> None:
    lines = "\n".join(param.values[0]["text"] for param in LOGS)
    said = lines + lines.replace("\n", "\r\n")
    never = {
        says for row in facts.load("phases")["steps"] for says in row["says"] if says not in said
    }

    assert never == {"Directly load AOT compilation "}, "that is where the cache is warm"


@pytest.mark.parametrize("script", [False, True])
def test_the_table_is_in_the_order_of_a_start(script: bool) -> None:
    steps = table(script)
    wanted = [name for name in ORDER if not (script and name == "api server")]

    assert [step.phase for step in steps] == wanted
    assert all(len(says) >= 6 for step in steps for says in step.says)


def test_the_page_explains_each_phase_in_the_same_order() -> None:
    page = (ROOT / "docs/phases.md").read_text()
    rows = re.findall(r"^\| `([a-z ]+)` \| .* \|.*\|$", page, re.MULTILINE)
    wanted = list(dict.fromkeys(ORDER))

    assert [name for name in rows if name in wanted] == wanted


def test_the_rows_have_no_unknown_keys() -> None:
    for row in facts.load("phases")["steps"]:
        assert set(row) <= {"phase", "kind", "begins", "says", "source"}
        assert row.get("kind") in (None, "server", "script")


def test_a_download_is_a_phase_only_between_the_start_of_loading_and_the_weights() -> None:
    phases = Phases()
    assert phases.downloads() == []
    phases.feed(b"INFO [x.py:1] Starting to load model example/llama...\n")
    assert phases.downloads() == ["download"]
    assert phases.downloads() == []
    assert phases.feed(b"INFO [x.py:1] Time spent downloading weights for it: 3.1 seconds\n") == [
        "load"
    ]
    assert phases.downloads() == []


def test_a_server_that_answers_is_ready_whoever_said_so() -> None:
    phases = Phases()

    said = b'INFO:     192.0.2.7:51102 - "POST /v1/completions HTTP/1.1" 200 OK\n'
    assert phases.feed(said) == ["ready", "serving"]
    assert phases.is_ready


STARTUP = "Application startup complete"


@pytest.mark.parametrize(
    "line",
    [
        f"INFO 05-06 09:16:09 [x.py:39] request cmpl-1: prompt: '{STARTUP}.'",
        "INFO 05-06 09:16:09 [wrapper.py:194] Shutting down profiler",
        f"the log says {STARTUP}",
        f"{'x' * 600} INFO:     {STARTUP}.",
        "a client sends POST /v1/chat/completions",
        "my script: init engine (profile",
        "prompt: '[shutdown] now'",
        "user: Adding requests: 1",
    ],
)
@pytest.mark.parametrize("script", [False, True])
@given(cut=st.integers(0, 700), more=st.integers(0, 700))
def test_what_a_client_or_a_user_writes_in_a_line_is_no_phase(
    line: str, script: bool, cut: int, more: int
) -> None:
    phases = Phases(script)
    phases._enter(len(table(script)) - 4)  # the next ones are ready, serving, shutdown
    data = f"\n{line}\n".encode()
    first, second = sorted((cut, more))

    parts = (data[:first], data[first:second], data[second:])
    said = [name for part in parts for name in phases.feed(part)]

    assert said == []


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "INFO:     ",
        "\x1b[32mINFO\x1b[0m:     ",
        "\x1b[0;36m(APIServer pid=12)\x1b[0;0m \x1b[32mINFO\x1b[0m:     ",
        "0: (APIServer pid=12) INFO:     ",
        "vllm-1  | INFO:     ",
        "x\rINFO:     ",
    ],
)
def test_ready_is_found_behind_the_known_prefixes(prefix: str) -> None:
    assert Phases().feed(f"x\n{prefix}{STARTUP}.\n".encode()) == ["ready"]


@pytest.mark.parametrize("asks", ["192.0.2.7:51102 - ", "2001:db8::1:8000 - ", "- "])
def test_a_request_is_found_whoever_asks(asks: str) -> None:
    phases = Phases()
    phases.feed(f"INFO:     {STARTUP}.\n".encode())

    assert phases.feed(f'INFO:     {asks}"\x1b[1mPOST /v1/x'.encode()) == ["serving"]


def test_after_output_that_was_not_looked_at_a_line_has_no_known_beginning() -> None:
    phases = Phases()
    phases.miss()

    assert phases.feed(f"{STARTUP}' was the prompt\n".encode()) == []
    assert phases.feed(f"{STARTUP}\n".encode()) == ["ready"]


@pytest.mark.parametrize("script", [False, True])
def test_a_start_that_fails_was_never_ready(script: bool) -> None:
    phases = Phases(script)
    said = b"Starting to load model m...\nERROR [core.py:1] EngineCore failed to start.\n[shutdown] x\n"

    assert phases.feed(said) == ["load", "shutdown"]
    assert not phases.is_ready
    assert phases.answers() == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "INFO:     Started server process [101]",
        "(APIServer pid=1) INFO 02-11 10:01:31 [launcher.py:46] Route: /v1/completions, Methods: POST",
        "INFO 05-06 09:16:09 [loggers.py:111] Engine 000: GPU KV cache usage: 0.0%, Running: 0 reqs",
        'INFO:     192.0.2.7:51102 - "GET /v1/models HTTP/1.1" 200 OK',
        "host:12:34 [0] NCCL INFO Connected all rings",
        "application startup complete",
    ],
)
def test_other_lines_begin_no_phase(line: str) -> None:
    assert Phases().feed(f"{line}\n".encode()) == []
