"""What the documents say about the tests is so."""

from __future__ import annotations

import re

from tests.kit import ROOT


def test_every_test_that_the_reliability_table_names_is_there() -> None:
    named = re.findall(r"`([a-z_0-9]+)\.\.\.`", (ROOT / "docs/reliability.md").read_text())
    files = (path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    tests = [name for text in files for name in re.findall(r"^def test_(\w+)", text, re.MULTILINE)]

    assert len(named) > 50
    assert [name for name in named if not any(test.startswith(name) for test in tests)] == []
