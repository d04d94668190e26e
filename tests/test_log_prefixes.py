"""What runners, launchers and loggers put before a line is taken off, and what it tells is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.prefixes import Line, Parser

TEXT = "ValueError: (1, 2) is not [3]: no"
TIME = "2026-11-12T12:12:12.123456789Z"

#: What stands before the text, the process and the level that it tells.
PREFIXES = [
    ("", "", ""),
    (f"{TIME} stdout F ", "", ""),
    (f"{TIME} ", "", ""),
    ("2026-11-12T12:12:12,123+01:00 ", "", ""),
    ("2026-11-12T12:12:12+0100 node-1 vllm[12]: ", "", ""),
    ("[pod/vllm-0/server] ", "", ""),
    ("vllm-server-1  | ", "", ""),
    ("Nov 12 12:12:12 node-1 vllm.service[12]: ", "", ""),
    ("Nov  2 12:12:12 node-1 docker/abc[1]: ", "", ""),
    ("0: ", "", ""),
    (" 12: ", "", ""),
    ("##[error]", "", ""),
    (f"INFO {TIME} [resource.labels.containerName: vllm] ", "", ""),
    ("(EngineCore_DP0 pid=7) ", "EngineCore_DP0 pid=7", ""),
    ("(Worker_PP0_TP1 pid=7) ", "Worker_PP0_TP1 pid=7", ""),
    ("(VllmWorker rank=1 pid=7) ", "VllmWorker rank=1 pid=7", ""),
    ("(RayWorkerWrapper pid=7, ip=192.0.2.1) ", "RayWorkerWrapper pid=7", ""),
    ("(EngineCore_DP0 pid=7) (RayWorkerWrapper pid=8) ", "RayWorkerWrapper pid=8", ""),
    ("(pid=7) ", "pid=7", ""),
    ("(raylet) ", "raylet", ""),
    ("[rank1]: ", "rank1", ""),
    ("[default0]:", "default0", ""),
    ("INFO 11-12 12:12:12 [core.py:708] ", "", "INFO"),
    ("ERROR 11-12 12:12:12.123 [v1/engine/core.py:708] ", "", "ERROR"),
    ("WARNING 11-12 12:12:12 config.py:1563] ", "", "WARNING"),
    ("INFO 2026-11-12 12:12:12 [core.py:708] ", "", "INFO"),
    ("ERROR:    ", "", "ERROR"),
    ("ERROR:asyncio:", "", "ERROR"),
    ("[E1112 12:12:12.123456789 ProcessGroupNCCL.cpp:629] ", "", "ERROR"),
    ("[rank0]:[W1112 12:12:12.1 socket.cpp:1] ", "rank0", "WARNING"),
    ("(Worker pid=7) CRITICAL 11-12 12:12:12 [a.py:1] ", "Worker pid=7", "CRITICAL"),
    ("(VllmWorkerProcess pid=7) ERROR 11-12 12:12:12 a.py:1] ", "VllmWorkerProcess pid=7", "ERROR"),
    (f"{TIME} stderr F (Worker pid=7) ERROR 11-12 12:12:12 [a.py:1] ", "Worker pid=7", "ERROR"),
    (f"[pod/a/b] {TIME} (Worker pid=7) ", "Worker pid=7", ""),
    ("vllm-1  | (Worker pid=7) ", "Worker pid=7", ""),
    (" 3: [rank3]: ", "rank3", ""),
    ("\ufeff", "", ""),
    ("<30>Jan  2 03:04:05 node-1 vllm[12]: ", "", ""),
    ("[2026-11-12 12:12:12] ", "", ""),
    ("[2026-11-12T12:12:12.123Z]", "", ""),
    ("2026-11-12 12:12:12 ", "", ""),
    ("Nov 12 12:12:12 ", "", ""),
    ("Nov 12 12:12:12 node-1 kernel: ", "", ""),
    ("Nov 12 12:12:12.123456 node-1 vllm[12]: ", "", ""),
    ("Thu 2026-11-12 12:12:12 UTC node-1 vllm[12]: ", "", ""),
    ("[   12.345678] node-1 vllm[12]: ", "", ""),
    ("[12.345678] ", "", ""),
    ("1762949532.123456 node-1 vllm[12]: ", "", ""),
    ("[1,0]<stderr>:", "", ""),
    ("[1,13]<stdout>: ", "", ""),
    ("[0] ", "", ""),
    (f"vllm\tStart server\t{TIME} ", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "process", "level"), PREFIXES)
def test_what_stands_before_a_line(prefix: str, process: str, level: str) -> None:
    found = Parser().parse(7, (prefix + TEXT).encode())

    assert (found.number, found.process, found.level, found.text) == (7, process, level, TEXT)


@pytest.mark.parametrize(
    ("prefix", "source"),
    [
        ("[pod/vllm-0/server] ", "pod/vllm-0/server"),
        (f"[pod/vllm-0/server] {TIME} ", "pod/vllm-0/server"),
        ("web-1  | ", "web-1"),
        ("Nov  2 12:12:12 node-1 vllm[1]: ", "node-1"),
        ("Nov  2 12:12:12 node-1 kernel: ", "node-1"),
        ("2026-11-12T12:12:12+0100 node-1 vllm[12]: ", "node-1"),
        (" 3: ", ""),
        ("[1,0]<stderr>:", ""),
    ],
)
def test_who_passes_a_line_on_is_its_source(prefix: str, source: str) -> None:
    assert Parser().parse(7, (prefix + TEXT).encode()) == Line(7, "", "", TEXT, source)


@pytest.mark.parametrize(
    ("column", "source"),
    [
        ("node1: ", "node1"),
        ("vllm-0 server ", "vllm-0 server"),
        ("gpu-7.example.com  ", "gpu-7.example.com"),
    ],
)
def test_a_column_is_learnt_from_vllms_own_prefix(column: str, source: str) -> None:
    parser = Parser()
    raw = f"{column}{TEXT}".encode()
    before = parser.parse(1, raw)
    own = parser.parse(2, f"{TIME} {column}(Worker pid=7) ERROR 11-12 12:12:12 [a.py:1] x".encode())
    after = parser.parse(3, raw)

    assert (before.text, before.source) == (column + TEXT, "")
    assert (own.process, own.level, own.text, own.source) == ("Worker pid=7", "ERROR", "x", source)
    assert (after.text, after.source) == (TEXT, source)


@pytest.mark.parametrize(
    "text",
    [
        '  File "/opt/x.py", line 7, in f',
        "    raise ValueError(",
        "",
        "(1, 2)",
        "key: value",
        "[0] NCCL INFO x",
        "node-1:271:271 [0] NCL WARN x",
        "Traceback (most recent call last):",
        "vllm: error: unrecognized arguments: --x",
    ],
)
def test_what_is_a_lines_own_stays(text: str) -> None:
    assert Parser().parse(1, f"(Worker pid=7) {text}".encode()).text == text
    assert Parser().parse(1, text.encode()).text == text


@pytest.mark.parametrize(
    ("prefix", "process"),
    [
        ("node-1:271:280 [0] ", "pid=271"),
        ("[2025-06-06 09:52:01] node-1:271:280 [0] ", "pid=271"),
        (f"{TIME} stdout F node-1.example.com:271:280 [3] ", "pid=271"),
        ("(RayWorkerWrapper pid=7) node-1:271:280 [0] ", "RayWorkerWrapper pid=7"),
    ],
)
@pytest.mark.parametrize("text", ["NCCL WARN x", "misc/socket.cc:58 NCCL WARN x"])
def test_nccl_tells_the_process_by_its_number(prefix: str, process: str, text: str) -> None:
    assert Parser().parse(7, (prefix + text).encode()) == Line(7, process, "", text)


@given(st.binary(max_size=4096))
def test_every_line_has_an_end_of_prefixes(line: bytes) -> None:
    text = line.decode("utf-8", "replace")

    assert text.endswith(Parser().parse(1, line).text)
