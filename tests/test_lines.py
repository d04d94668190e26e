"""Blocks of bytes as lines: however they are cut, whatever is in them, within limits."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.lines import LIMIT, Lines


def read(*blocks: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """(number, line) of all lines, and the bytes that were dropped."""
    lines = Lines()
    rows = [lines.feed(block) for block in blocks] + [lines.finish()]
    return [
        pair for row in rows for pair in zip(row.numbers, row.lines, strict=True)
    ], lines.dropped


def docker(text: str) -> bytes:
    return json.dumps({"log": text, "stream": "stderr"}, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", []),
        (b"one", [(1, b"one")]),
        (b"one\ntwo\n", [(1, b"one"), (2, b"two")]),
        (b"one\r\ntwo", [(1, b"one"), (1, b""), (2, b"two")]),
        (b"10%\r100%\ndone\n", [(1, b"10%"), (1, b"100%"), (2, b"done")]),
        (b"\x1b[1;31mred\x1b[0m\x1b]0;title\x07 \x1b(plain\n", [(1, b"red \x1b(plain")]),
        (b"\x1b]8;;https://example.com\x1b\\link\n", [(1, b"link")]),
        (b"bad \xff\x00 bytes\n", [(1, b"bad \xff\x00 bytes")]),
        (docker("a \"b\" <c>\n") + docker("\x1b[31mred\n"), [(1, b'a "b" <c>'), (2, b"red")]),
        (docker("10%\r100%\r") + docker("\u00e4\ud800\n"), [(1, b"100%"), (2, b"\xc3\xa4?")]),
        (b'{"stream": "stderr", "log": "a b\\n"}\n', [(1, b"a b")]),
        (b'{"_HOSTNAME": "node", "MESSAGE": "a b"}\n', [(1, b"node journal[0]: a b")]),
        (b'{"MESSAGE": [97, 27, 91, 109, 98]}\n{"MESSAGE": null}\n', [(1, b"ab"), (2, b'{"MESSAGE": null}')]),
        (b'{"log":"cut\n{"log":7}\n{"log":"a"}\n', [(1, b'{"log":"cut'), (2, b'{"log":7}'), (3, b"a")]),
    ],
)  # fmt: skip
def test_lines_of_a_block(data: bytes, rows: list[tuple[int, bytes]]) -> None:
    assert read(data) == (rows, 0)


PIECES = st.sampled_from(
    [b"\n", b"\r", b"\x1b[31m", b"\x1b", b"[0m", b"text", docker("a\r"), b"x" * LIMIT, b"y" * 3000]
)


@given(st.lists(PIECES).map(b"".join), st.data())
def test_how_the_bytes_are_cut_makes_no_difference(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    blocks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    rows, dropped = read(*blocks)

    assert (rows, dropped) == read(data)
    assert all(len(line) <= LIMIT for _, line in rows)
    assert [number for number, _ in rows] == sorted(number for number, _ in rows)


def test_a_line_without_an_end_takes_no_more_memory_than_its_limit() -> None:
    lines = Lines()
    block = b"x" * (1 << 16)
    tracemalloc.start()
    for _ in range(200):
        lines.feed(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines.finish().lines == [b"x" * LIMIT]
    assert lines.dropped == 200 * len(block) - LIMIT
    assert peak < 10 * len(block)
