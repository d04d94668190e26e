"""`profile show`: what a file says is shown, but drives no terminal and tells no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.kit import guard
from vllm_guard import profiles
from vllm_guard.commands import against, group

PROFILE = """
schema = 1
summary = "x"

[env]
CONTROLS = "a\\u001b[2Jb\\u009bc\\u202ed\\ne"
MY_TOKEN = "s3cr3t-no-shape"
HF_TOKEN = { required = "create one at https://huggingface.co" }
OTHER = "bearer abcdefgh12345678"

[engine]
hf_token = "s3cr3t-no-shape"
api_key = ["s3cr3t-no-shape", 424242]
hf_overrides = { token = "s3cr3t-no-shape", more = [{ password = "s3cr3t-no-shape" }] }
load_format = "dummy"
enforce_eager = true

[[when]]
vllm = ">=0.1"
env.LATER_API_KEY = { default = "s3cr3t-no-shape" }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "b\x1b]0;title\x07.toml"
    path.write_text(PROFILE)
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert group.main(["profile", "show", *words]) == 0
    return capsys.readouterr().out


def test_the_text_is_printable_and_has_one_line_for_each_setting(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(capsys, file).splitlines()

    assert all(line.isprintable() for line in lines)
    assert r"  CONTROLS=a\x1b[2Jb\x9bc\u202ed\ne" in lines
    assert "  HF_TOKEN must be set: create one at https://huggingface.co" in lines
    assert "  [engine] load_format = 'dummy'" in lines
    assert "  [engine] enforce_eager = True" in lines


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_no_secret_is_shown(
    file: str, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    text = shown(capsys, file, *more)

    assert "s3cr3t" not in text
    assert "abcdefgh12345678" not in text
    assert "424242" not in text
    assert text.count("[masked]") == 8


def test_what_a_repository_would_execute_is_shown_though_it_looks_like_a_token(tmp_path) -> None:
    (tmp_path / ".git").mkdir()
    name = "hf_abcdefghijklmnopqrstuvwxyz"
    text = f'schema = 1\nsummary = "s"\n[env]\nLD_PRELOAD = "{name}"\nHF_TOKEN = "{name}"\n'
    (tmp_path / "p.toml").write_text(text)

    result = guard("profile", "show", "./p.toml", cwd=tmp_path)

    assert f"  LD_PRELOAD={name}\n".encode() in result.stdout
    assert b"  HF_TOKEN=[masked]" in result.stdout


def test_json_holds_the_profile(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(shown(capsys, file, "--json"))

    first = document["profile"]["parts"][0]
    assert ["enforce_eager", True] in first["engine"]
    assert first["settings"][0]["value"] == "a\x1b[2Jb\x9bc\u202ed\ne"


def test_check_of_an_interpreter_that_is_none_is_a_usage_error(tmp_path) -> None:
    none = str(tmp_path / "none")

    result = guard("profile", "check", "--strict", "--python", none, "debug")

    assert result.returncode == 2
    assert f"error: --python: {none}: not found".encode() in result.stderr


def test_check_finds_misspelt_names_where_there_is_no_vllm(
    tmp_path: Path,
) -> None:
    """By the names of the sampled releases, and by what else is known of the stack."""
    text = 'schema = 1\nsummary = "s"\n[env]\nVLLM_LOGING_LEVEL = "INFO"\nNCCL_DEBUGG = "INFO"\n'
    (tmp_path / "p.toml").write_text(text + "[engine]\nenforce_eagr = true\nswap_space = 1\n")
    item = profiles.load_profile(str(tmp_path / "p.toml"), os.environ)

    found = [(f.status, f.subject, f.fix) for f in against.findings(item, None)]

    assert sorted(found) == [
        ("warn", "profile p: NCCL_DEBUGG", "did you mean NCCL_DEBUG?"),
        ("warn", "profile p: VLLM_LOGING_LEVEL", "did you mean VLLM_LOGGING_LEVEL?"),
        ("warn", "profile p: [engine] enforce_eagr", "did you mean enforce_eager?"),
    ]


def test_a_file_that_is_only_a_suffix_has_a_name(tmp_path) -> None:
    (tmp_path / ".toml").write_text('schema = 1\nsummary = "s"\n')

    result = guard("profile", "show", "./.toml", cwd=tmp_path)

    assert result.stdout.startswith(b"profile   .toml (path: ./.toml)\n")


def test_check_names_a_probe_that_there_is_not(tmp_path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[preflight]\nprobes = ["prot"]\n')

    result = guard("profile", "check", "--strict", str(profile))

    assert result.returncode == 1
    assert b"warn probe-unknown: profile p: " in result.stdout
    assert b"did you mean port?" in result.stdout
