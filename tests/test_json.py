"""One contract: what `--json` prints is as a schema in the wheel says, for every command that has it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from dev import cli_docs
from tests.kit import ROOT, guard, guard_env, pages, plant_marker, schema

PAGE = ROOT / "docs/json.md"
SCRIPT = "from vllm import LLM\n\nllm = LLM('m')\n"
LOG = "ValueError: No available memory for the cache blocks\n"

#: Schema, which is the command's name -> words that print such a document.
ASKED: dict[str, list[str]] = {
    "check": ["check --format json s.py", "check --format json --explain s.py"],
    "doctor": ["doctor --json -- no-such", "doctor --json", "doctor --json --list"],
    "env-audit": ["env audit --json", "env audit --json --file .env"],
    "env-diff": ["env diff --json -p debug -p eager -e TOKEN=x --unset NCCL_DEBUG"],
    "env-show": ["env show --json", "env show --json --all"],
    "explain": [
        "explain --json log.txt",
        "explain --json",
        "explain --json kv-cache-too-small",
        "explain --json model-path",
    ],
    "profile-check": ["profile check --json", f"profile check --json --python {sys.executable}"],
    "profile-list": ["profile list --json"],
    "profile-show": [
        *(
            f"profile show --json {path.stem}"
            for path in sorted((ROOT / "profiles").glob("*.toml"))
        ),
        "profile show --json theirs",
    ],
    "profile-verify": ["profile verify --json", "profile verify --json --outdated"],
    "report": ["report --json"],
    "run": [
        "run --json /dev/stdout -- true",
        "--json /dev/stdout -p debug -e HF_TOKEN=secret -- no-such",
        "-q --json /dev/stdout -- sh -c 'kill -9 $$'",
    ],
    "runs-clean": ["runs clean --json", "runs clean --json --records"],
    "runs-list": ["runs list --json"],
    "runs-show": ["runs show --json"],
}
COMMON = "findings"  #: what the others have in common


@pytest.fixture
def world(clean_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a script, a log and a `.env`; a run that failed, and one whose guard is dead."""
    monkeypatch.chdir(clean_world)
    monkeypatch.setenv("VLLM_NOPE", "1")
    monkeypatch.setenv("NCCL_DEBUG", "TRACE")
    (clean_world / "s.py").write_text(SCRIPT)
    (clean_world / "log.txt").write_text(LOG)
    (clean_world / ".env").write_text("NCCL_DEBUG=TRACE\n")
    profile = clean_world / "home/.config/vllm-guard/profiles/own.toml"
    profile.parent.mkdir(parents=True)
    profile.write_text('schema = 1\nsummary = "s"\nenv.HF_TOKEN = { required = "get one" }\n')
    repository = clean_world / ".vllm-guard"
    repository.mkdir()
    (clean_world / ".git").mkdir()
    (repository / "theirs.toml").write_text('schema = 1\nsummary = "s"\nenv.PYTHONPATH = "x"\n')
    guard("profile", "pin", "stats")
    plant_marker("20261128-000000-dead0001")
    guard("--", sys.executable, "-c", f"import sys; sys.exit({LOG!r})")
    return clean_world


def commands_with_json() -> Iterator[str]:
    """The schema of each command that can print JSON."""
    for context in cli_docs.contexts():
        options = (p for p in context.command.params if isinstance(p, click.Option))
        if any("--json" in p.opts or _is_json_format(p) for p in options):
            yield "-".join(context.command_path.split()[1:])


def _is_json_format(option: click.Option) -> bool:
    choices = getattr(option.type, "choices", ())
    return "--format" in option.opts and "json" in choices


def asked(words: str) -> Any:
    import shlex

    ran = guard(*shlex.split(words))
    assert ran.stdout, ran.stderr
    return json.loads(ran.stdout)


def test_every_command_that_prints_json_has_a_schema_and_is_tried() -> None:
    names = sorted(commands_with_json())

    assert names == sorted(ASKED), "add words to ASKED"
    assert sorted({*names, COMMON}) == sorted(schema.FILES), (
        "write vllm_guard/data/schema/NAME.json"
    )


@pytest.mark.parametrize(
    ("name", "words"), [(name, words) for name, asked in ASKED.items() for words in asked]
)
def test_what_is_printed_is_as_the_schema_says(name, words, world) -> None:
    document = asked(words)

    assert schema.problems(name, document) == [], f"change vllm_guard/data/schema/{name}.json"
    assert schema.problems(COMMON, document) == []


@pytest.mark.parametrize("name", sorted(schema.FILES))
def test_each_schema_is_one(name) -> None:
    Draft202012Validator.check_schema(schema.schemas()[name])


@pytest.mark.parametrize("name", sorted(ASKED))
def test_each_schema_is_closed(name, world) -> None:
    good = asked(ASKED[name][0])

    assert schema.problems(name, {**good, "more": 1})
    for key in good:
        less = {k: value for k, value in good.items() if k != key}
        assert schema.problems(name, less), key
    assert schema.problems(name, {**good, "schema_version": 2})


@pytest.mark.parametrize(
    "change", [{"status": "bad"}, {"id": "With Space"}, {"more": 1}, {"fact": 3}]
)
def test_a_finding_that_is_none_is_seen(change) -> None:
    good = asked("doctor --json --only command -- no-such")
    bad = {**good, "findings": [{**good["findings"][0], **change}]}

    assert schema.problems("doctor", good) == []
    assert schema.problems("doctor", bad)


def test_the_example_of_the_page_validates(world) -> None:
    (example,) = pages.fenced(PAGE.read_text(), "python")

    def tried(document: Any) -> subprocess.CompletedProcess[str]:
        (world / "shown.json").write_text(json.dumps(document))
        return subprocess.run(
            [sys.executable, "-c", example],
            env=guard_env(PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
        )

    good = asked("env show --json")
    assert (tried(good).returncode, tried(good).stderr) == (0, "")
    assert "Unevaluated properties are not allowed ('more'" in tried({**good, "more": 1}).stderr


def test_the_page_names_each_schema() -> None:
    page = PAGE.read_text()

    missing = [name for name in schema.FILES if f"schema/{name}.json)" not in page]
    assert missing == [], "add a row to docs/json.md"
