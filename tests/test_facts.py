"""The facts, held against the sampled releases of vLLM."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.kit import ROOT
from vllm_guard import facts, profiles, values
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
ROWS = KNOWN["rows"]
SOURCES = sorted((ROOT / "vllm_guard/data/vars").glob("*.toml"))
TEXTS = (
    "since",
    "deprecated",
    "removed",
    "instead",
    "overwritten",
    "spared",
    "inert",
    "needs",
    "wrong",
    "cost",
    "unit",
)
KEYS = {
    **dict.fromkeys((*TEXTS, "type", "risk", "group", "default", "separator", "status"), str),
    **dict.fromkeys(("ignore_case", "internal", "debugging", "compile_key"), bool),
    **dict.fromkeys(("min", "max"), int),
    "values": list,
    "left_on": (list, bool),
}
ONE_OF = {
    "type": {
        *(
            "flag",
            "int",
            "number",
            "text",
            "path",
            "choice",
            "choices",
            "algorithms",
            "url",
            "gpus",
            "interfaces",
        ),
        *("secret", "nonempty", "python-flag", "hf-bool", "torch-bool", "triton-bool"),
    },
    "risk": {"safe", "perf", "exec", "network", "secret", "privacy"},
    "group": {"system", "debugging"},
    "status": {"note", "warn", "fail"},
}
#: What executes code, moves caches, or sends data elsewhere (the project's threat model).
DANGEROUS = (DATA / "dangerous.txt").read_text().split()


def breaches(row: dict[str, Any]) -> list[str]:
    """What in a row is none of the schema's."""
    found = [f"{key}: unknown" for key in row if key not in KEYS]
    found += [
        f"{key}: {row[key]!r}" for key in row if not isinstance(row[key], KEYS.get(key, object))
    ]
    found += [
        f"{key}: {row[key]!r}" for key in ONE_OF if row.get(key, "") not in ONE_OF[key] | {""}
    ]
    found += [f"{key}: empty" for key in TEXTS if row.get(key) == ""]
    found += ["no risk"] * ("risk" not in row)
    found += ["left on without a cost"] * ("left_on" in row and "cost" not in row)
    found += ["a cost of nothing"] * ("cost" in row and "left_on" not in row)
    found += ["left_on = false"] * (row.get("left_on") is False)
    found += ["a choice of nothing"] * (
        row.get("type", "text").startswith("choice") and not row.get("values")
    )
    found += ["min > max"] * ("max" in row and row["min"] > row["max"])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_row_of_the_facts_keeps_to_the_schema(path: Path) -> None:
    table = tomli.loads(path.read_text())
    rows = table.get("variables", {})

    assert set(table) <= {"family", "prefixes", "names", "source", "variables", "removed"}
    assert table.get("source", "").startswith("https://") or not rows
    assert {name: breaches(row) for name, row in rows.items() if breaches(row)} == {}
    assert all(
        set(row) <= {"name", "last", "absent", "instead", "reason"}
        for row in table.get("removed", ())
    )


@pytest.mark.parametrize(
    "row",
    [
        {"risk": "safe", "ignorecase": True},
        {"risk": "dangerous"},
        {"type": "flag"},
        {"risk": "safe", "left_on": ["1"]},
        {"risk": "safe", "left_on": False, "cost": "x"},
        {"risk": "safe", "min": "0"},
        {"risk": "safe", "min": 2, "max": 1},
        {"risk": "safe", "type": "choice"},
        {"risk": "safe", "type": "bool"},
        {"risk": "safe", "wrong": ""},
    ],
)
def test_the_schema_refuses(row: dict[str, Any]) -> None:
    assert breaches(row)


def test_no_variable_stands_in_two_files() -> None:
    names = [
        name for path in SOURCES for name in tomli.loads(path.read_text()).get("variables", {})
    ]

    assert sorted(names) == sorted(set(names)) == sorted(ROWS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_is_left_on_can_be_set_and_what_is_the_default_is_neither_wrong_nor_left_on(
    name: str,
) -> None:
    row = ROWS[name]
    words = row["left_on"] if isinstance(row.get("left_on"), list) else []
    default = row.get("default", "")

    assert [word for word in words if values.problem(word, row, None)] == []
    assert [word for word in words if not values.is_left_on(word, row, None)] == []
    assert values.problem(default, row, None) is None
    assert not values.is_left_on(default, row, None)


@pytest.mark.parametrize("version", sorted(TABLES))
def test_no_default_of_a_release_is_left_on_and_what_is_left_on_can_be_set_there(
    version: str,
) -> None:
    table = TABLES[version]
    known = {name: row for name, row in ROWS.items() if name in table}
    defaults = {n: table[n]["default"] for n in known if isinstance(table[n]["default"], str)}

    assert len(known) > 30
    assert [
        n for n, value in defaults.items() if values.is_left_on(value, known[n], table[n])
    ] == []
    for name, row in known.items():
        for word in row["left_on"] if isinstance(row.get("left_on"), list) else ():
            assert values.problem(word, row, table[name]) is None, name


def test_nccls_own_split_of_its_variables_is_whole() -> None:
    groups = {
        g: [n for n, row in ROWS.items() if row.get("group") == g] for g in ("system", "debugging")
    }

    assert {group: len(names) for group, names in groups.items()} == {"system": 44, "debugging": 69}
    assert all(name.startswith("NCCL_") for names in groups.values() for name in names)


@pytest.mark.parametrize("name", sorted(name for name in ROWS if name.startswith("VLLM_")))
def test_every_variable_of_vllm_is_one_of_a_release_or_marked_as_internal(name: str) -> None:
    assert bool(ROWS[name].get("internal")) is not any(name in table for table in TABLES.values())


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_can_execute_code_or_send_data_away_is_not_called_safe(name: str) -> None:
    assert ROWS[name]["risk"] != "safe"


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
