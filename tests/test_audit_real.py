"""What the audit says of values is what the installed vLLM, torch, Triton and hub do with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit import KIT, guard, guard_env
from tests.kit.serving import vllm_env
from vllm_guard import audit, facts, values
from vllm_guard.vllm_source import read_compile_key, read_env_table

pytestmark = pytest.mark.vllm

BOOLEANS = ("int-bool", "tristate", "one-true", "one", "true")
WORDS = [
    "",
    "0",
    "1",
    "2",
    "-1",
    "true",
    "True",
    "TRUE",
    "false",
    "yes",
    "on",
    "off",
    "1.5",
    " 1 ",
    "x",
    "1_0",
]
LEVELS = [
    *("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET", "debug", "Info"),
    *("TRACE", "verbose", "WARN", "FATAL", "10", "VERBOSE "),
]
DIALECT_WORDS = [
    *WORDS,
    "y",
    "Y",
    "n",
    "t",
    "NO",
    "OFF",
    "ON",
    "Yes",
    "detail",
    "OFF",
    "INFO",
    "DETAIL",
    "info",
]
RAY = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"


@pytest.fixture(scope="module")
def packages() -> Path:
    return next(Path(os.environ["VGUARD_TEST_VLLM"]).glob("lib/python3*/site-packages"))


@pytest.fixture(scope="module")
def source(packages: Path) -> bytes:
    return (packages / "vllm/envs.py").read_bytes()


@pytest.fixture(scope="module")
def table(source: bytes) -> dict[str, Any]:
    return dict(read_env_table(source))


@pytest.fixture(scope="module")
def asked(table: dict[str, Any]) -> dict[str, list[list[str]]]:
    rows = {
        name: row
        for name, row in table.items()
        if row["style"] in (*BOOLEANS, "int", "float", "choices")
    }
    return {
        "values": [
            [name, word]
            for name, row in rows.items()
            for word in [*WORDS, *(row["choices"] or ()), *map(str.upper, row["choices"] or ())]
        ],
        "factors": [[name, other(row)] for name, row in rows.items() if other(row)] + [[RAY, "1"]],
        "levels": [["VLLM_LOGGING_LEVEL", word] for word in LEVELS],
        "dialects": [
            [kind, w] for kind in ("hf-bool", "triton-bool", "debug-level") for w in DIALECT_WORDS
        ],
    }


@pytest.fixture(scope="module")
def answers(asked: dict[str, list[list[str]]]) -> dict[str, Any]:
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    ran = subprocess.run(
        [python, "-W", "ignore", KIT / "real_envs.py"],
        input=json.dumps(asked).encode(),
        env=guard_env(PYTHONPATH=None, VLLM_NO_USAGE_STATS="1"),
        capture_output=True,
        timeout=120,
        check=True,
    )
    text = json.loads(ran.stdout.partition(b"ANSWERS")[2])
    return {key: list(zip(asked[key], text[key], strict=True)) for key in asked}


def other(row: dict[str, Any]) -> str:
    """A value that means something else than the default; empty where none is certain."""
    if row["computed"]:
        return ""
    if row["style"] in BOOLEANS:
        on = "true" if row["style"] == "true" else "1"
        return "0" if str(row["default"]).lower() in ("1", "true") else on
    if row["style"] in ("int", "float") and isinstance(row["default"], str):
        return str(int(float(row["default"])) + 7)
    return ""


def test_a_value_stops_vllm_where_the_audit_says_so_and_nowhere_else(
    answers: dict[str, Any], table: dict[str, Any]
) -> None:
    wrong = []
    for (name, value), answer in answers["values"]:
        found = values.problem(value, None, table[name])
        stops = found is not None and found[0] == "fail"
        if stops != answer.get("error", "").startswith("ValueError"):
            wrong.append((name, value, found, answer))

    names = {name for (name, _), _ in answers["values"]}
    assert len(names) > 200
    assert wrong == []


def test_a_boolean_is_true_where_the_audit_takes_it_for_true(
    answers: dict[str, Any], table: dict[str, Any]
) -> None:
    wrong = []
    for (name, value), answer in answers["values"]:
        row = table[name]
        stripped = (
            row["style"] == "one-true" and value != value.strip()
        )  # by some of them, not by others
        if row["style"] not in BOOLEANS or "error" in answer or stripped:
            continue
        fact = {"left_on": ["true" if row["style"] == "true" else "1"]}
        taken = values.is_left_on(value, fact, {**row, "default": None})
        found = values.problem(value, None, row)
        if taken is not bool(answer["value"]) or (found and answer["value"]):
            wrong.append((name, value, taken, found, answer))

    assert wrong == []


def test_a_choice_that_the_audit_lets_through_is_what_vllm_returns(
    answers: dict[str, Any], table: dict[str, Any]
) -> None:
    chosen = [
        (value, answer["value"])
        for (name, value), answer in answers["values"]
        if table[name]["style"] == "choices" and not table[name]["many"] and "value" in answer
    ]

    assert len(chosen) > 30
    assert [(v, a) for v, a in chosen if str(a).lower() != v.lower()] == []


def test_a_variable_is_in_the_compile_key_when_toggling_it_changes_the_key(
    answers: dict[str, Any], source: bytes
) -> None:
    key = set(read_compile_key(source))
    changes = {name: changed for (name, _), changed in answers["factors"]}

    assert sum(changes.values()) > 100
    assert sum(not changed for changed in changes.values()) > 20
    assert {name: name in key for name in changes} == changes
    assert changes["VLLM_TRACE_FUNCTION"]
    assert changes[RAY]
    assert facts.variables()["rows"][RAY]["compile_key"]
    assert not changes["VLLM_SERVER_DEV_MODE"]


def test_a_logging_level_is_wrong_where_logging_cannot_be_configured(
    answers: dict[str, Any], table: dict[str, Any]
) -> None:
    name = "VLLM_LOGGING_LEVEL"
    fact = facts.variables()["rows"][name]
    wrong = [
        (value, answer)
        for (_, value), answer in answers["levels"]
        if bool(values.problem(value, fact, table[name])) is not ("error" in answer)
    ]
    trace = next(answer for (_, value), answer in answers["levels"] if value == "TRACE")

    assert wrong == []
    assert trace["error"].startswith("ValueError: Unable to configure")


@pytest.mark.parametrize(
    ("kind", "name"), [("hf-bool", "HF_DEBUG"), ("triton-bool", "TRITON_INTERPRET")]
)
def test_the_booleans_of_other_packages_are_read_as_these_do(
    answers: dict[str, Any], kind: str, name: str
) -> None:
    fact = facts.variables()["rows"][name]
    assert fact["type"] == kind

    for (asked_kind, value), answer in answers["dialects"]:
        if asked_kind == kind:
            assert values.is_left_on(value, fact, None) is answer["value"], value
            assert not (answer["value"] and values.problem(value, fact, None)), value


def test_torchs_debug_level_is_wrong_where_torch_stops(answers: dict[str, Any]) -> None:
    fact = facts.variables()["rows"]["TORCH_DISTRIBUTED_DEBUG"]
    seen = set()
    for (kind, value), answer in answers["dialects"]:
        if kind == "debug-level" and value:
            assert bool(values.problem(value, fact, None)) is ("error" in answer), value
            assert values.is_left_on(value, fact, None) is (answer.get("value") == "DETAIL"), value
            seen.add(answer.get("value"))

    assert {"OFF", "INFO", "DETAIL", None} <= seen


def test_the_command_compares_with_the_installed_vllm() -> None:
    env = vllm_env(VLLM_TRACE_FUNCTION="true", VLLM_USE_V1="1", VLLM_TRACE_FUNCTIONS="1")

    ran = guard("env", "audit", "--json", env=env)

    document = json.loads(ran.stdout)
    found = {(f["id"], f["status"], f["subject"]) for f in document["findings"]}
    assert ran.returncode == 1
    assert document["vllm"].startswith("0.")
    assert {
        ("variable-value", "fail", "VLLM_TRACE_FUNCTION=true"),
        ("variable-removed", "warn", "VLLM_USE_V1=1"),
        ("variable-unknown", "warn", "VLLM_TRACE_FUNCTIONS=1"),
    } <= found


READ = re.compile(
    r"(?:environ(?:\.get|\.setdefault)?|getenv|env_(?:bool|int|str|opt_str|opt_bool)|env_name\w*\s*=)"
    r"\W{1,4}([A-Z][A-Z0-9_]{4,})"
)


def test_no_name_that_the_installed_stack_reads_is_called_a_misspelling(
    packages: Path, table: dict[str, Any]
) -> None:
    names = {
        name
        for package in ("torch", "triton", "huggingface_hub", "transformers", "vllm")
        for path in (packages / package).rglob("*.py")
        for name in READ.findall(path.read_text(errors="replace"))
    }
    known = facts.variables()
    others = {name: "1" for name in names if not name.startswith("VLLM_")}

    found = [
        f.subject
        for f in audit.check_environment(others, known, table)
        if f.id == "variable-unknown"
    ]

    assert len(others) > 400
    assert found == []
