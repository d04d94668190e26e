"""The facts, held against the sampled releases of vLLM."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests.kit import ROOT
from vllm_guard import facts, profiles
from vllm_guard.facts import family_of

DATA = Path(__file__).parent / "data"
TABLES = {path.stem: json.loads(path.read_text()) for path in (DATA / "envs").glob("*.json")}
KNOWN = facts.variables()
REMOVED = KNOWN["removed"]
_VERSIONS, *_ROWS = (DATA / "envs/history.txt").read_text().splitlines()
VERSIONS: list[str] = ast.literal_eval(_VERSIONS)  #: all that were sampled, oldest first
#: Variable -> the last sampled release that reads it, for those that the newest does not.
GONE = {
    name: status.removeprefix("GONE after ")
    for name, _first, status, *_ in (row.split(" | ") for row in _ROWS)
    if status.startswith("GONE after ")
}


@pytest.mark.parametrize("name", REMOVED)
def test_a_removed_variable_was_there_and_is_gone_as_told(name: str) -> None:
    row = REMOVED[name]

    assert GONE[name] == row["last"]
    assert VERSIONS.index(row["absent"]) == VERSIONS.index(row["last"]) + 1
    for version, table in TABLES.items():
        if VERSIONS.index(version) >= VERSIONS.index(row["absent"]):
            assert name not in table, version


def test_no_variable_that_is_gone_since_0_8_is_missing() -> None:
    since = VERSIONS.index("0.8.5")
    names = {n for n, last in GONE.items() if VERSIONS.index(last) >= since}

    assert {name for name in names if name.startswith("VLLM_")} - set(REMOVED) == set()


@pytest.mark.parametrize("name", [name for name in REMOVED if "instead" in REMOVED[name]])
def test_what_replaced_a_variable_is_there_afterwards(name: str) -> None:
    instead = REMOVED[name]["instead"]
    later = VERSIONS[VERSIONS.index(REMOVED[name]["absent"]) :]
    options: set[str] = set()
    variables: set[str] = set()
    for version in later:
        path = DATA / "engine_args" / f"{version}.json"
        if path.exists():
            options |= {flag for flags in json.loads(path.read_text()).values() for flag in flags}
        variables |= set(TABLES.get(version, ()))

    for word in instead.replace(",", " ").split():
        if word.startswith("--"):
            assert word in options
        elif word.startswith("VLLM_"):
            assert word.partition("=")[0] in variables


def test_no_prefix_is_behind_one_that_catches_it_first() -> None:
    earlier: dict[str, str] = {}
    for family, prefixes, _ in KNOWN["families"]:
        for prefix in prefixes:
            caught = [p for p, id_ in earlier.items() if prefix.startswith(p)]
            assert not caught, f"{prefix} of {family}"
        earlier |= dict.fromkeys(prefixes, family)


def test_every_variable_of_vllms_own_belongs_to_its_family() -> None:
    names = {name for table in TABLES.values() for name in table if name.startswith("VLLM_")}

    assert {family_of(name) for name in names} == {"vllm"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.toml")))
def test_every_variable_of_a_built_in_profile_belongs_to_a_family(name: str) -> None:
    profile = profiles.load_profile(name, {"HOME": "/nonexistent"})

    assert [s.name for part in profile.parts for s in part.settings if not family_of(s.name)] == []


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("VLLM_LOGGING_LEVEL", "vllm"),
        ("VGUARD_RUN_ID", "vllm-guard"),
        ("TORCH_NCCL_BLOCKING_WAIT", "torch"),
        ("NCCL_DEBUG", "nccl"),
        ("TP_SOCKET_IFNAME", "gloo"),
        ("PATH", ""),
        ("MY_VLLM_X", ""),
        ("", ""),
    ],
)
def test_the_start_of_a_name_tells_its_family(name: str, family: str) -> None:
    assert family_of(name) == family
