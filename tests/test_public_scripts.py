"""Public scripts that use vLLM: `check` says of each what a person said who read it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
import tomli

from tests.kit import ROOT, guard

SCRIPTS = tomli.loads((ROOT / "tests/data/scripts.toml").read_text())
CORPUS = os.environ.get(
    "VGUARD_TEST_CORPUS", ""
)  #: where their text lies; without it, only the list is held


def test_every_script_is_named_exactly_and_has_a_label() -> None:
    for key, row in SCRIPTS.items():
        assert re.fullmatch(r"[a-z0-9-]+", key)
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row["repository"])
        assert re.fullmatch(r"[0-9a-f]{40}", row["commit"])
        assert row["verdict"] in {"yes", "no", "unreadable"}
        assert ("line" in row) == (row["verdict"] != "no")
        assert all(path.endswith(".py") for path in (row["path"], *row.get("beside", ())))


def test_there_are_enough_of_every_kind() -> None:
    verdicts = Counter(row["verdict"] for row in SCRIPTS.values())

    assert len(SCRIPTS) >= 44
    assert len({row["repository"] for row in SCRIPTS.values()}) >= 20
    assert min(verdicts["yes"], verdicts["no"]) >= 20
    assert len({row["kind"] for row in SCRIPTS.values()}) >= 8


@pytest.mark.parametrize("key", SCRIPTS if CORPUS else ())
def test_check_agrees_with_the_label(key) -> None:
    row = SCRIPTS[key]
    script = Path(CORPUS, key, Path(row["path"]).name)

    done = guard("check", "--format", "json", str(script))

    found = json.loads(done.stdout)["findings"]
    failed = [(f["id"], f["line"]) for f in found if f["status"] in {"fail", "unknown"}]
    missing = [line for id_, line in failed if id_ == "main-guard-missing"]
    unreadable = [line for id_, line in failed if id_ == "script-unreadable"]
    verdict = "unreadable" if unreadable else "yes" if missing else "no"
    assert (verdict, row.get("line", 0)) == (row["verdict"], max([0, *missing[:1], *unreadable]))
