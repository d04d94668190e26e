"""Both ways to find the lines with a literal find them all, and lead to the same diagnosis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit import guard_env
from tests.kit.logs import ROUTINE, corpus, diagnosed, known
from vllm_guard import needles
from vllm_guard.diagnose import Diagnosis

LITERALS = [needle for signature in known() for needle in signature.needles]
LOGS = corpus()
NEEDED = ["a needle", "Errno 28", "needle: (", "über", "0x123abc", "Bus error", "x y z"]


@pytest.fixture(params=["shapes", "hyperscan"])
def finder(request: pytest.FixtureRequest) -> Callable[[list[str]], needles.Finder]:
    if request.param == "shapes":
        return needles.Shapes
    pytest.importorskip("hyperscan")
    return needles.Hyperscan


@given(data=st.data())
@pytest.mark.parametrize("way", ["shapes", "hyperscan"])
def test_every_line_that_holds_a_literal_is_found(way: str, data: st.DataObject) -> None:
    if way == "hyperscan":
        pytest.importorskip("hyperscan")
    pieces = st.sampled_from(
        [*NEEDED, *(n[:-1] for n in NEEDED), " ", "8", "a", "_", "(", "Errno 24"]
    )
    line = st.lists(pieces, max_size=6).map(lambda parts: "".join(parts).encode())
    found = needles.Shapes(NEEDED) if way == "shapes" else needles.Hyperscan(NEEDED)

    for lines in data.draw(
        st.lists(st.lists(line, min_size=1, max_size=8), min_size=1, max_size=4)
    ):
        hits = found.hits(lines)
        holding = [i for i, text in enumerate(lines) if any(n.encode() in text for n in NEEDED)]
        assert set(holding) <= set(hits)
        assert hits == sorted(set(hits))


def test_no_line_of_a_healthy_server_is_looked_at_twice(finder: Any) -> None:
    found = finder(LITERALS)
    lines = [line.encode() for line in ROUTINE]
    found.hits(lines)

    assert found.hits([line.replace(b"1", b"7") for line in lines]) == []


@settings(max_examples=40)
@given(st.data())
def test_both_ways_lead_to_the_same_incidents(data: st.DataObject) -> None:
    pytest.importorskip("hyperscan")
    lines = [line for log in LOGS for line in log["text"].splitlines()]
    log = "\n".join(data.draw(st.lists(st.sampled_from(lines), max_size=30))).encode()

    def incidents(way: Any) -> object:
        diagnosis = Diagnosis(known(), str, way)
        diagnosis.feed(log)
        return diagnosis.finish()

    assert incidents(needles.Hyperscan) == incidents(needles.Shapes) == diagnosed(log)


def test_the_memory_for_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needles, "_MOST_SHAPES", 10)
    found = needles.Shapes(["a needle"])
    for number in range(100):
        found.hits([b"line %s" % (b"x" * number), b"other %s" % (b"x" * number)])

    assert len(found._known) <= 12
    assert found.hits([b"line", b"here is a needle"]) == [1]


def test_without_hyperscan_the_standard_library_does_it() -> None:
    script = "import sys; sys.modules['hyperscan'] = None\n"
    script += "from vllm_guard import needles; print(type(needles.finder(['a needle'])).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=guard_env(), capture_output=True, check=True
    )

    assert done.stdout == b"Shapes\n"
