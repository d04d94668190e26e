"""A profile's [engine] table as flags of `vllm serve`: what the user wrote always wins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.engine import add_flags, flag_words, not_applied, wanted_options
from vllm_guard.model import Finding, Part

KNOWN: dict[str, dict[str, Any]] = {
    "enforce_eager": {"annotation": "bool", "options": ["--enforce-eager"]},
    "tensor_parallel_size": {"annotation": "int", "options": ["--tensor-parallel-size", "-tp"]},
    "gpu_memory_utilization": {
        "annotation": "float",
        "options": ["--gpu-memory-utilization", "--device-memory-utilization"],
    },
    "load_format": {"annotation": "str", "options": ["--load-format"]},
    "compilation_config": {
        "annotation": "CompilationConfig",
        "options": ["--compilation-config", "-cc"],
    },
    "optimization_level": {"annotation": "OptimizationLevel", "options": ["--optimization-level"]},
    "trust_remote_code": {"annotation": "bool", "options": ["--trust-remote-code"]},
}
SERVE = ("vllm", "serve", "MODEL")


def add(
    words: tuple[str, ...], wanted: dict[str, Any], config: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[Finding]]:
    """The words after `vllm serve MODEL`, and the findings."""
    asked = {name: (value, "profile p") for name, value in wanted.items()}
    argv, findings = add_flags((*SERVE, *words), 2, asked, KNOWN, config)
    assert argv[:3] == SERVE
    return argv[3:], findings


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["--some-option"]),
        (False, ["--no-some-option"]),
        (4, ["--some-option", "4"]),
        (0, ["--some-option", "0"]),
        (0.9, ["--some-option", "0.9"]),
        ("dummy", ["--some-option", "dummy"]),
        ("", ["--some-option", ""]),
        (["a", "b c"], ["--some-option", "a", "b c"]),
        ([1, 2, 4], ["--some-option", "1", "2", "4"]),
        (
            {"mode": 0, "a": {"b": [True, None]}},
            ["--some-option", '{"mode":0,"a":{"b":[true,null]}}'],
        ),
    ],
    ids=str,
)
def test_a_value_becomes_the_words_that_vllm_reads_it_from(value: Any, words: list[str]) -> None:
    assert flag_words("--some-option", value) == words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_any_table_is_one_word_of_json(table: dict[str, Any]) -> None:
    option, word = flag_words("--some-option", table)

    assert option == "--some-option"
    assert json.loads(word) == table


def test_what_nobody_gave_is_added_at_the_end_and_said() -> None:
    words, findings = add(("--port", "1"), {"enforce_eager": True, "tensor_parallel_size": 2})

    assert words == ("--port", "1", "--enforce-eager", "--tensor-parallel-size", "2")
    assert [(f.id, f.status, f.subject, f.fact) for f in findings] == [
        ("engine-option-added", "note", "profile p", "--enforce-eager"),
        ("engine-option-added", "note", "profile p", "--tensor-parallel-size 2"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "own"),
    [
        ("enforce_eager", True, ("--enforce-eager",)),
        ("enforce_eager", True, ("--no-enforce-eager",)),
        ("enforce_eager", False, ("--enforce-eager",)),
        ("enforce_eager", True, ("--enforce_eager",)),
        ("enforce_eager", True, ("--no_enforce_eager",)),
        ("enforce_eager", True, ("--enforce-eager=true",)),
        ("tensor_parallel_size", 2, ("--tensor-parallel-size", "4")),
        ("tensor_parallel_size", 2, ("--tensor-parallel-size=4",)),
        ("tensor_parallel_size", 2, ("--tensor_parallel_size", "4")),
        ("tensor_parallel_size", 2, ("--tensor_parallel_size=4",)),
        ("tensor_parallel_size", 2, ("--tensor_parallel-size", "4")),
        ("tensor_parallel_size", 2, ("-tp", "4")),
        ("tensor_parallel_size", 2, ("-tp=4",)),
        ("gpu_memory_utilization", 0.5, ("--device-memory-utilization", "0.8")),
        ("gpu_memory_utilization", 0.5, ("--device_memory_utilization=0.8",)),
        ("compilation_config", {"mode": 0}, ("--compilation-config", '{"mode":3}')),
        ("compilation_config", {"mode": 0}, ("-cc", '{"mode":3}')),
        # argparse takes an unambiguous start of an option
        ("tensor_parallel_size", 2, ("--tensor-parallel", "4")),
        ("tensor_parallel_size", 2, ("--tensor_parallel=4",)),
        # vLLM's FlexibleArgumentParser: one key of a table, and -O for --optimization-level
        ("compilation_config", {"mode": 0}, ("--compilation-config.mode", "3")),
        ("compilation_config", {"mode": 0}, ("--compilation_config.mode=3",)),
        ("compilation_config", {"mode": 0}, ("-cc.mode=3",)),
        ("optimization_level", 0, ("-O3",)),
        ("optimization_level", 0, ("-O", "3")),
        ("optimization_level", 0, ("-O=3",)),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "around", [((), ()), (("--port", "1"), ("--", "x"))], ids=["alone", "among others"]
)
def test_what_the_user_wrote_wins_in_every_spelling(name, value, own, around) -> None:
    given_words = (*around[0], *own, *around[1])

    words, findings = add(given_words, {name: value})

    assert words == given_words
    (finding,) = findings
    assert (finding.id, finding.status) == ("engine-option-kept", "note")
    assert finding.subject
    assert own[0].startswith(finding.subject)
    assert "yours wins over profile p" in finding.fact


def test_the_value_that_wins_is_not_shown_for_it_may_be_a_secret() -> None:
    words, findings = add(("--hf-token=s3cr3t",), {"hf_token": True})

    assert words == ("--hf-token=s3cr3t",)
    assert "s3cr3t" not in repr(findings)


def test_the_short_option_of_older_vllms_counts_with_its_value_attached() -> None:
    known = {"compilation_config": {"annotation": "", "options": ["--compilation-config", "-O"]}}
    argv = (*SERVE, "-O3")

    words, _ = add_flags(argv, 2, {"compilation_config": ({"level": 0}, "profile p")}, known)

    assert words == argv


@pytest.mark.parametrize(
    "own",
    [
        ("--enforce-eager-not",),
        ("--load-format", "enforce-eager"),
        ("enforce-eager",),
        ("-enforce-eager",),
        ("--port", "1"),
    ],
    ids=str,
)
def test_other_words_do_not_count_as_the_option(own: tuple[str, ...]) -> None:
    words, _ = add(own, {"enforce_eager": True})

    assert words == (*own, "--enforce-eager")


def test_words_before_the_arguments_of_vllm_are_not_its_options() -> None:
    argv = ("env", "--enforce-eager", "vllm", "serve", "MODEL")

    words, _ = add_flags(argv, 4, {"enforce_eager": (True, "profile p")}, KNOWN)

    assert words == (*argv, "--enforce-eager")


def test_flags_go_before_the_word_that_ends_the_options() -> None:
    words, _ = add(("--port", "1", "--", "x"), {"enforce_eager": True})

    assert words == ("--port", "1", "--enforce-eager", "--", "x")


def test_words_after_the_end_of_the_options_are_no_options() -> None:
    words, _ = add(("--", "--enforce-eager"), {"enforce_eager": True})

    assert words == ("--enforce-eager", "--", "--enforce-eager")


def test_a_terminator_before_vllms_arguments_is_somebody_elses() -> None:
    argv = ("uv", "run", "--", "vllm", "serve", "MODEL")

    words, _ = add_flags(argv, 5, {"enforce_eager": (True, "profile p")}, KNOWN)

    assert words == (*argv, "--enforce-eager")


@pytest.mark.parametrize("word", ["--enforce-eager", "--enforce_eager", "--no-enforce-eager"])
def test_an_option_in_the_config_file_is_what_the_user_wrote(word: str) -> None:
    words, findings = add(("--config", "c.yaml"), {"enforce_eager": True}, ["--port", "1", word])

    assert words == ("--config", "c.yaml")
    assert [finding.id for finding in findings] == ["engine-option-kept"]


@pytest.mark.parametrize("words", [(), ("--port", "1"), ("--load-format", "enforce-eager")])
def test_other_options_of_the_config_file_are_none_of_it(words: tuple[str, ...]) -> None:
    assert add((), {"enforce_eager": True}, words)[0] == ("--enforce-eager",)


def test_an_option_that_the_source_does_not_tell_is_spelled_by_its_name() -> None:
    words, _ = add((), {"new_option": 1})
    kept, _ = add(("--new_option", "2"), {"new_option": 1})

    assert words == ("--new-option", "1")
    assert kept == ("--new_option", "2")


def test_a_field_without_any_option_is_spelled_by_its_name() -> None:
    argv, _ = add_flags(SERVE, 2, {"a_b": (1, "p")}, {"a_b": {"annotation": "int", "options": []}})

    assert argv == (*SERVE, "--a-b", "1")


def test_of_two_profiles_the_later_decides_an_option() -> None:
    parts = [
        ("profile a", Part("", (), (("enforce_eager", True), ("load_format", "auto")), ())),
        ("profile b", Part("", (), (("load_format", "dummy"),), ())),
    ]

    assert wanted_options(parts) == {
        "enforce_eager": (True, "profile a"),
        "load_format": ("dummy", "profile b"),
    }


def test_nothing_wanted_leaves_the_command_line_alone() -> None:
    assert add_flags(SERVE, 2, {}, KNOWN) == (SERVE, [])


def test_another_command_than_vllm_serve_is_told_what_to_do() -> None:
    finding = not_applied(
        {"enforce_eager": (True, "profile p"), "load_format": ("dummy", "profile q")}
    )

    assert (finding.id, finding.status, finding.subject) == (
        "engine-options-not-applied",
        "warn",
        "profile p",
    )
    assert "enforce_eager, load_format" in finding.fact
    assert finding.fix


@given(
    st.lists(
        st.sampled_from(["--port", "1", "--enforce-eager", "-tp=2", "--", "x", "--load_format=a"]),
        max_size=6,
    ),
    st.dictionaries(
        st.sampled_from(sorted(KNOWN)), st.sampled_from([True, False, 1, "a"]), max_size=4
    ),
)
def test_no_word_of_the_user_is_ever_lost_or_moved(own: list[str], wanted: dict[str, Any]) -> None:
    words, findings = add(tuple(own), wanted)

    at = own.index("--") if "--" in own else len(own)
    tail = len(own) - at
    assert list(words[:at]) == own[:at]
    assert list(words[len(words) - tail :]) == own[at:]
    assert len(findings) == len(wanted)
