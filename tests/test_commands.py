"""The verbs besides `run`, as real processes: text for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import GUARD, ROOT, guard, guard_env
from tests.test_probes import fake_vllm  # noqa: F401  (a fixture)

SECRET = "s3cr3t-of-mine"


def answer(*words: str, **options) -> tuple[int, dict]:
    """Exit status and the JSON document, which is all of stdout."""
    result = guard(*words, **options)
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert type(document["schema_version"]) is int
    return result.returncode, document


# ---- env


def test_env_show_lists_the_stacks_variables_with_secrets_masked() -> None:
    env = guard_env(NCCL_DEBUG="INFO", HF_TOKEN=SECRET, VLLM_X="\x1b[2J", MINE="no")
    text = guard("env", "show", env=env)
    status, document = answer("env", "show", "--json", env=env)
    values = {row["name"]: (row["value"], row["family"]) for row in document["variables"]}

    assert (text.returncode, status) == (0, 0)
    assert values["NCCL_DEBUG"] == ("INFO", "nccl")
    assert values["HF_TOKEN"] == (f"[masked] ({len(SECRET)} characters)", "huggingface")
    assert "MINE" not in values
    assert SECRET.encode() not in text.stdout
    assert b"\x1b" not in text.stdout
    assert b"NCCL_DEBUG" in text.stdout


def test_env_show_of_names_shows_these_and_all_shows_every_one() -> None:
    env = guard_env(MINE="x")

    assert answer("env", "show", "--json", "MINE", env=env)[1]["variables"] == [
        {"name": "MINE", "value": "x", "family": ""}
    ]
    assert len(answer("env", "show", "--json", "--all", env=env)[1]["variables"]) >= len(env)
    assert guard("env", "show", "NOT_SET").stdout == b"none of them is set\n"


def test_env_diff_says_what_a_profile_would_change_and_starts_nothing(tmp_path) -> None:
    words = ("env", "diff", "-p", "debug", "-e", f"HF_TOKEN={SECRET}", "--unset", "GONE")
    command = ("--", "touch", str(tmp_path / "witness"))
    env = guard_env(NCCL_DEBUG="WARN", GONE="1")

    text = guard(*words, *command, env=env)
    status, document = answer(*words, "--json", *command, env=env)

    lines = text.stdout.decode().splitlines()
    assert text.returncode == status == 0
    assert "~ NCCL_DEBUG=TRACE   (was WARN; profile debug)" in lines
    assert "+ VLLM_LOGGING_LEVEL=DEBUG   (was unset; profile debug)" in lines
    assert "- GONE   (was 1; the command line)" in lines
    assert SECRET not in text.stdout.decode() + json.dumps(document)
    changes = {change["name"]: change for change in document["changes"]}
    assert changes["NCCL_DEBUG"]["before"] == "WARN"
    assert changes["GONE"]["after"] is None
    assert not (tmp_path / "witness").exists()


# ---- profile


def test_profile_show_says_each_change_and_its_reason() -> None:
    text = guard("profile", "show", "p2p-off").stdout.decode()
    _, document = answer("profile", "show", "p2p-off", "--json")

    assert "  NCCL_P2P_DISABLE=1   # NCCL copies through host memory" in text
    assert "  [engine] disable_custom_all_reduce = True" in text
    assert "when vLLM >=0.10.2:" in text
    assert document["profile"]["name"] == "p2p-off"
    assert len(document["profile"]["digest"]) == 64


def test_profile_check_fails_on_a_bad_file_and_says_so_in_both_forms(tmp_path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("schema = 1\n")
    good = tmp_path / "good.toml"
    good.write_text('schema = 1\nsummary = "s"\n[env]\nA = "1"\n')

    text = guard("profile", "check", str(bad), str(good))
    status, document = answer("profile", "check", "--json", str(bad), str(good))

    assert text.returncode == status == 1
    assert b"fail profile-invalid: " in text.stdout
    assert b"ok profile-valid: good: 1 settings" in text.stdout
    by_id = {finding["id"]: finding["status"] for finding in document["findings"]}
    assert by_id["profile-invalid"] == "fail"
    assert by_id["profile-valid"] == "ok"


def test_profile_check_of_an_unknown_name_is_a_usage_error() -> None:
    result = guard("profile", "check", "debgu")

    assert result.returncode == 2
    assert b"did you mean debug?" in result.stderr


def test_strict_makes_warnings_count(fake_vllm, tmp_path) -> None:  # noqa: F811
    profile = tmp_path / "new.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[env]\nVLLM_NO_SUCH = "1"\n')
    env = guard_env(
        PATH=f"{fake_vllm}/bin:{os.environ['PATH']}",
        PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages",
    )

    lax = guard("profile", "check", str(profile), env=env)
    strict = guard("profile", "check", "--strict", str(profile), env=env)

    assert (lax.returncode, strict.returncode) == (0, 1)
    assert b"warn variable-unknown" in lax.stdout
    assert b"against vLLM 0.20.0" in lax.stdout


def test_an_interpreter_named_with_python_is_used(fake_vllm) -> None:  # noqa: F811
    env = guard_env(PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages", PATH="/usr/bin:/bin")

    status, document = answer(
        "profile", "check", "nccl", "--json", "--python", sys.executable, env=env
    )

    assert (status, document["vllm"]) == (0, "0.20.0")


# ---- the group


def test_help_and_version_are_on_stdout() -> None:
    shown = guard("--help")

    assert shown.returncode == 0
    assert b"Usage: vllm-guard" in shown.stdout
    assert shown.stderr == b""
    assert guard("-h").stdout == shown.stdout
    for verb in ("run", "env", "profile", "completion"):
        assert verb.encode() in shown.stdout
        assert guard(verb, "--help").returncode == 0


def test_an_unknown_verb_is_a_usage_error_with_the_nearest_one() -> None:
    result = guard("profil", "list")

    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        b"vllm-guard: error: no such command: profil",
        b"vllm-guard: hint: did you mean profile?",
    ]
    assert b"put `--` before it" in guard("true").stderr


def test_a_reader_that_leaves_is_no_failure() -> None:
    result = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "bash", *GUARD, "profile", "list"],
        env=guard_env(),
        capture_output=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_follow_the_conventions(env: dict[str, str], coloured: bool) -> None:
    result = guard("profile", "check", env=guard_env(**env))

    assert (b"\x1b[" in result.stdout) is coloured


def test_a_terminal_that_is_not_utf8_gets_escapes_and_no_crash(tmp_path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('schema = 1\nsummary = "né ☃"\n')

    result = guard("profile", "show", str(profile), env=guard_env(PYTHONIOENCODING="ascii"))

    assert result.returncode in (0, 125)
    assert b"Traceback" not in result.stderr


def test_nothing_is_left_in_the_working_folder(tmp_path: Path) -> None:
    for words in (["profile", "list"], ["env", "show"], ["env", "diff", "-p", "debug"]):
        guard(*words, cwd=tmp_path)

    assert list(tmp_path.iterdir()) == []
