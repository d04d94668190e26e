"""What profiles ask for against tables of the installed vLLM: every finding is a certainty."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import values
from vllm_guard.audit import check_parts
from vllm_guard.model import Finding, Part, Setting

DATA = Path(__file__).parent / "data"
TABLES = sorted((DATA / "envs").glob("*.json"))


def row(style: str, **more: Any) -> dict[str, Any]:
    base = {"default": None, "computed": True, "choices": None, "ignore_case": False, "many": False}
    return {**base, "style": style, **more}


def part(*settings: Setting, **engine: Any) -> list[tuple[str, Part]]:
    return [("profile p", Part("", settings, tuple(engine.items()), ()))]


def audit(parts: list[tuple[str, Part]], **tables: Any) -> list[Finding]:
    variables, engine = tables.get("variables", {}), tables.get("engine", {})
    gone = {found["name"]: found for found in tables.get("removed", ())}
    known: Any = {"rows": {}, "families": [], "removed": gone}
    return list(check_parts(parts, variables, engine, known))


def value_problem(value: str, read: dict[str, Any]) -> str:
    found = values.problem(value, None, read)
    return found[1] if found else ""


# How vLLM's envs.py reads a value, in its own words, and which of its answers mean "no".
READERS: dict[str, Callable[[str], object]] = {
    "int-bool": lambda value: bool(int(value)),
    "tristate": lambda value: bool(int(value)),
    "int": int,
    "float": float,
    "one-true": lambda value: value.lower() in ("true", "1"),
    "one": lambda value: value == "1",
    "true": lambda value: value.lower() == "true",
    "str": str,
}
UNDERSTOOD = {  # empty is how envs.py itself spells "not set" for some of them
    "one-true": {"", "0", "1", "true", "false"},
    "one": {"", "0", "1"},
    "true": {"", "true", "false"},
}
WORDS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "-1",
        "",
        " 1 ",
        "true",
        "True",
        "FALSE",
        "yes",
        "on",
        "off",
        "1.5",
        "1e3",
        "nan",
        "x",
    ]
) | st.text(max_size=4)


@given(st.sampled_from(sorted(READERS)), WORDS)
def test_a_value_is_refused_where_vllm_crashes_on_it_or_reads_no_for_a_word_it_does_not_know(
    style: str, value: str
) -> None:
    try:
        READERS[style](value)
        wrong = style in UNDERSTOOD and value.lower() not in UNDERSTOOD[style]
    except ValueError:
        wrong = True

    assert bool(value_problem(value, row(style))) is wrong


@given(st.sampled_from(["choices", "other"]), WORDS)
def test_where_the_source_lists_no_choices_every_value_is_let_through(
    style: str, value: str
) -> None:
    assert value_problem(value, row(style)) == ""


CHOICES = ["Auto", "NHD", "int8"]


def with_choices(value: str, ignore_case: bool, many: bool) -> None:
    """`env_with_choices` and `env_list_with_choices` of vLLM's envs.py: ValueError or nothing."""
    values = [v.strip() for v in value.split(",") if v.strip()] if many else [value]
    allowed = [choice.lower() for choice in CHOICES] if ignore_case else CHOICES
    if not all((v.lower() if ignore_case else v) in allowed for v in values):
        raise ValueError(value)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("ignore_case", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        "Auto",
        "auto",
        "NHD",
        "INT8",
        "other",
        "",
        "Auto,NHD",
        " Auto , int8 ",
        "Auto,",
        ",",
        "Auto,,NHD",
    ],
)
def test_choices_are_judged_as_vllm_does(value: str, ignore_case: bool, many: bool) -> None:
    problem = value_problem(
        value, row("choices", choices=CHOICES, ignore_case=ignore_case, many=many)
    )
    try:
        with_choices(value, ignore_case, many)
    except ValueError:
        assert problem == f"{value!r} is none of Auto, NHD, int8"
    else:
        assert problem == ""


def test_no_default_of_a_released_vllm_is_called_a_problem() -> None:
    problems = {}
    for table in TABLES:
        for name, found in json.loads(table.read_text()).items():
            if isinstance(found["default"], str) and not found["computed"]:
                problems[table.stem, name] = value_problem(found["default"], found)

    assert len(problems) > 500
    assert {name: problem for (_, name), problem in problems.items() if problem} == {}


VARIABLES = {
    "VLLM_SKIP": row("one"),
    "VLLM_LOGGING_LEVEL": row("str"),
    "VLLM_PORT": row("int"),
    "CUDA_HOME": row("str"),
}
REMOVED = [
    {"name": "VLLM_OLD", "last": "0.9.2", "absent": "0.10.2", "instead": "VLLM_NEW"},
    {"name": "VLLM_GONE", "last": "0.9.2", "absent": "0.10.2"},
    {"name": "VLLM_PORT", "last": "0.1", "absent": "0.2"},
]


@pytest.mark.parametrize("kind", ["set", "default"])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("VLLM_LOGGING_LEVEL", "DEBUG", None),
        ("VLLM_PORT", "8000", None),
        ("VLLM_PORT", "eight", ("variable-value", "fail", "not an integer", "unset VLLM_PORT")),
        (
            "VLLM_SKIP",
            "yes",
            ("variable-value", "warn", "would be read as false", "did you mean 1?"),
        ),
        (
            "VLLM_LOGING_LEVEL",
            "DEBUG",
            ("variable-unknown", "warn", "does not read it", "VLLM_LOGGING_LEVEL?"),
        ),
        ("VLLM_QQQQ", "1", ("variable-unknown", "warn", "does not read it", "leave it out")),
        ("VLLM_OLD", "1", ("variable-removed", "warn", "0.9.2", "use VLLM_NEW")),
        ("VLLM_GONE", "1", ("variable-removed", "warn", "gone in 0.10.2", "leave it out")),
        ("NCCL_DEBUG", "TRACE", None),
        ("MY_OWN", "x", None),
        ("vllm_port", "x", None),
    ],
)
def test_each_variable_is_known_removed_unknown_or_none_of_vllms(
    kind, name, value, expected
) -> None:
    found = audit(part(Setting(name, kind, value)), variables=VARIABLES, removed=REMOVED)

    if expected is None:
        assert found == []
    else:
        (finding,) = found
        identity, status, fact, fix = expected
        assert (finding.id, finding.status, finding.subject) == (
            identity,
            status,
            f"profile p: {name}",
        )
        assert fact in finding.fact
        assert fix in finding.fix


@pytest.mark.parametrize("kind", ["unset", "required"])
@pytest.mark.parametrize("name", ["VLLM_UNKNOWN", "VLLM_OLD", "VLLM_PORT"])
def test_what_a_profile_only_removes_or_asks_for_is_not_judged(kind, name) -> None:
    setting = Setting(name, kind, "where to get one")

    assert audit(part(setting), variables=VARIABLES, removed=REMOVED) == []


ENGINE = {
    "enforce_eager": "bool",
    "max_model_len": "Optional[int]",
    "tensor_parallel_size": "int",
    "gpu_memory_utilization": "float",
    "swap_space": "float | None",
    "load_format": "str",
    "hf_token": "Optional[Union[bool, str]]",
    "compilation_config": "CompilationConfig",
    "allowed_media_domains": "list[str] | None",
    "lora_dtype": "Optional[Union[str, torch.dtype]]",
}
FIELDS = {name: {"annotation": a, "options": []} for name, a in ENGINE.items()}


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("enforce_eager", True, ""),
        ("enforce_eager", False, ""),
        ("enforce_eager", "true", "'true' is not of type bool"),
        ("enforce_eager", 1, "1 is not of type bool"),
        ("max_model_len", 4096, ""),
        ("max_model_len", True, "True is not of type int"),
        ("max_model_len", 1.5, "1.5 is not of type int"),
        ("tensor_parallel_size", 2, ""),
        ("tensor_parallel_size", [2], "[2] is not of type int"),
        ("gpu_memory_utilization", 0.9, ""),
        ("gpu_memory_utilization", 1, ""),
        ("gpu_memory_utilization", True, "True is not of type float"),
        ("gpu_memory_utilization", "0.9", "'0.9' is not of type float"),
        ("swap_space", 4, ""),
        ("swap_space", "4", "'4' is not of type float"),
        ("load_format", "dummy", ""),
        ("load_format", 1, "1 is not of type str"),
        ("hf_token", True, ""),
        ("hf_token", "x", ""),
        ("compilation_config", {"mode": 0}, ""),
        ("compilation_config", 3, ""),
        ("allowed_media_domains", ["a"], ""),
        ("lora_dtype", "auto", ""),
    ],
)
def test_only_a_type_that_is_certainly_wrong_is_refused(name: str, value: Any, wrong: str) -> None:
    found = audit(part(**{name: value}), engine=FIELDS)

    assert [(f.id, f.status, f.subject, f.fact) for f in found] == [
        ("engine-option-type", "fail", f"profile p: [engine] {name}", wrong)
    ] * bool(wrong)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("enforce_eeger", "did you mean enforce_eager?"),
        ("enforce-eager", "enforce_eager?"),
        ("zzz", "leave it out"),
    ],
)
def test_an_engine_option_that_vllm_has_not_fails_with_the_nearest_name(
    name: str, fix: str
) -> None:
    (finding,) = audit(part(**{name: True}), engine=FIELDS)

    assert (finding.id, finding.status) == ("engine-option-unknown", "fail")
    assert fix in finding.fix


def test_tables_that_could_not_be_read_judge_nothing() -> None:
    parts = part(Setting("VLLM_UNKNOWN", "set", "x"), no_such_option=1)

    assert audit(parts, variables=None, engine=None) == []
    assert [f.id for f in audit(parts, variables=None)] == ["engine-option-unknown"]
    assert [f.id for f in audit(parts, engine=None)] == ["variable-unknown"]


def test_every_part_is_judged_and_named_by_its_own_profile() -> None:
    second = Part(">=1", (Setting("VLLM_B", "set", "1"),), (("x", 1),), ())
    parts = [*part(Setting("VLLM_A", "set", "1")), ("profile q", second)]

    assert [f.subject for f in audit(parts)] == [
        "profile p: VLLM_A",
        "profile q: VLLM_B",
        "profile q: [engine] x",
    ]
