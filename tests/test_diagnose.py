"""The diagnosis: the first cause of each log of the corpus, and the rules that find it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.logs import CLEAN, NOT_RECOGNISED, corpus, diagnosed, first, known

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
