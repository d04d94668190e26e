"""Whole environments, most of them from issues: what is found in each, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from vllm_guard import audit, contradictions, facts
from vllm_guard.model import Finding

DATA = Path(__file__).parent / "data"
KNOWN = facts.variables()
CORPUS: dict[str, dict[str, Any]] = {
    f"{path.stem}/{name}": entry
    for path in sorted((DATA / "environments").glob("*.toml"))
    for name, entry in tomli.loads(path.read_text()).items()
}
CLEAN = [name for name in CORPUS if name.startswith("clean/")]


def look(entry: dict[str, Any]) -> dict[str, Finding]:
    """Every finding, by its id and variable."""
    version = entry["vllm"]
    table = json.loads((DATA / "envs" / f"{version}.json").read_text()) if version else None
    env, command = entry["env"], entry.get("command", ["vllm", "serve", "m"])
    found = [
        *audit.check_environment(env, KNOWN, table),
        *contradictions.find(env, command, entry.get("gpus")),
    ]
    return {f"{f.id} {f.subject.partition('=')[0]}": f for f in found}


@pytest.mark.parametrize("name", CORPUS)
def test_an_environment_has_what_must_be_found_and_no_other_failure_or_warning(name: str) -> None:
    entry = CORPUS[name]
    must, notes = set(entry.get("must", ())), set(entry.get("notes", ()))
    found = look(entry)

    assert must <= set(found)
    assert {key for key, f in found.items() if f.status in ("fail", "warn")} == must - notes
    assert all(found[key].status == "note" for key in notes)
    for banned in entry.get("must_not", ()):
        assert [key for key in found if banned in (key, key.partition(" ")[2])] == []


@pytest.mark.parametrize("name", CORPUS)
def test_an_environment_says_what_it_is_and_where_it_is_from(name: str) -> None:
    entry = CORPUS[name]

    assert set(entry) <= {
        "about",
        "source",
        "vllm",
        "command",
        "gpus",
        "env",
        "must",
        "notes",
        "must_not",
    }
    assert entry["about"]
    assert entry["source"].startswith(("https://", "vllm.md ", "docker/"))
    assert (entry.get("must") or entry.get("must_not")) or name in CLEAN


@pytest.mark.parametrize("name", CORPUS)
def test_a_finding_can_be_acted_upon(name: str) -> None:
    for finding in look(CORPUS[name]).values():
        assert finding.fact, finding
        assert finding.fix or finding.status in ("fail", "warn"), finding
        assert finding.uri.startswith("https://") or finding.id in CONTRADICTIONS, finding


CONTRADICTIONS = ("visible-devices", "p2p-half-off", "proxy-local", "allocator-conflict")


def test_the_corpus_is_large_and_finds_each_kind() -> None:
    kinds = {key.partition(" ")[0] for entry in CORPUS.values() for key in entry.get("must", ())}

    assert len(CORPUS) - len(CLEAN) >= 60
    assert len(CLEAN) >= 10
    assert kinds == {
        *CONTRADICTIONS,
        *("debug-left-on", "variable-inert", "service-link"),
        *("variable-value", "variable-removed", "variable-unknown", "variable-deprecated"),
    }
