"""The flags of `vllm serve`, read from its source: one that it does not have is named before the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vllm_guard import probes, record
from vllm_guard.model import Finding
from vllm_guard.probes.server.flags import is_flag
from vllm_guard.target import Target
from vllm_guard.target.flags import flags
from vllm_guard.target.install import VllmInstall
from vllm_guard.vllm_flags import read_flags

ENGINE = """
class EngineArgs:
    max_model_len: int | None = None
    def add_cli_args(parser):
        group.add_argument("--max-model-len", **kwargs)
        group.add_argument("--tensor-parallel-size", "-tp", **kwargs)
        group.add_argument("--compilation-config", "-cc", help="--not a flag")
"""
SERVER = "class FrontendArgs:\n    api_key: list[str] | None = None\n    enable_offline_docs: bool = False\n"
CONFIG = {
    "cache": "class C:\n    gpu_memory_utilization: float = Field(default=0.92, gt=0, le=1)\n",
    "parallel": "class P:\n    tensor_parallel_size: int = Field(default=1, ge=1)\n",
    "model": "class M:\n    max_model_len: int = Field(default=None, ge=-1)\n",
    "scheduler": "class S:\n    max_num_batched_tokens: int = Field(default=N, ge=1)\n"
    "    max_num_seqs: int = 128\n",
}
KNOWN = ["--api-key", "--compilation-config", "--enable-offline-docs", "--max-model-len"]
PARSER = """
import json
from vllm.entrypoints.cli.serve import FlexibleArgumentParser, make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser())
print(json.dumps([name for action in parser._actions for name in action.option_strings]))
"""
Look = Callable[..., list[Finding]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A vLLM with as much of its command line as is read."""
    vllm = tmp_path / "site-packages/vllm"
    for name, text in (("engine/arg_utils.py", ENGINE), ("entrypoints/openai/cli_args.py", SERVER)):
        (vllm / name).parent.mkdir(parents=True)
        (vllm / name).write_text(text)
    return vllm


@pytest.fixture
def look(package: Path) -> Look:
    """The findings for `vllm serve WORDS`."""

    def look(*words: str, probe: str = "flags") -> list[Finding]:
        install = VllmInstall("0.32.0", str(package))
        target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=install)
        argv, shelf = ("vllm", "serve", *words), record.Shelf(os.environ)
        context = probes.Context(argv, {}, {}, target, (), (), shelf)
        return list(probes.run_one("server", probe, context))

    return look


def test_literals_and_fields_are_read() -> None:
    assert read_flags(ENGINE.encode()) == [
        *("--compilation-config", "--max-model-len", "--tensor-parallel-size"),
    ]
    assert read_flags(SERVER.encode()) == ["--api-key", "--enable-offline-docs"]
    with pytest.raises(ValueError, match=r"^cannot read the text with the flags: .+"):
        read_flags(b"def (")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("--max-model-len", True),
        ("--max_model_len", True),
        ("--max-model", True),  # argparse takes a beginning
        ("--max-model-length", False),
        ("--compilation-config.pass_config.x", True),
        ("--compilaton-config.mode", False),
        ("--no-enable-offline-docs", True),
        ("--no-such", False),
    ],
)
def test_a_name_is_taken_as_argparse_takes_it(name: str, known: bool) -> None:
    assert is_flag(name, KNOWN) == known


def test_a_misspelt_flag_refuses_and_another_unknown_one_warns(look) -> None:
    (near,) = look("m", "--max-model-length", "8")
    (far,) = look("m", "--swap-space=4")

    assert (near.id, near.status, near.subject) == ("flag-unknown", "fail", "--max-model-length")
    assert near.fix == "did you mean --max-model-len?"
    assert (far.id, far.status, far.subject) == ("flag-unknown", "warn", "--swap-space")


def test_beside_a_plug_in_it_is_a_warning(look, package: Path) -> None:
    points = package.parent / "other-1.dist-info/entry_points.txt"
    points.parent.mkdir()
    points.write_text("[vllm.general_plugins]\nx = x:y\n")

    assert [found.status for found in look("m", "--max-model-length=8")] == ["warn"]


def test_what_is_known_is_ok_and_words_that_are_no_flags_are_not_looked_at(look) -> None:
    (found,) = look("m", "-tp", "2", "--api-key", "-x", "--", "--no-flag")

    assert (found.id, found.status, found.fact) == ("flags", "ok", "vLLM 0.32.0 has --api-key")
    assert look("m", "-tp", "2") == []
    (both,) = look("m", "--api-key", "x", "--max-model-len", "8")
    assert both.fact == "vLLM 0.32.0 has all 2 of them"


def test_of_a_file_of_options_a_false_one_that_vllm_has_not_is_passed_over(look, tmp_path) -> None:
    file = tmp_path / "c.yaml"
    for text, ids in (("max-model-length: 8", ["flag-unknown"]), ("max-model-length: false", [])):
        file.write_text(f"{text}\nenable-offline-docs: false\n")
        found = look("m", "--config", str(file))
        assert [one.id for one in found if one.status != "ok"] == ids


def test_a_misspelt_option_of_a_file_is_told_with_the_file(look, tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("max-model-length: 8\n")
    of_file, own = look("m", "--config", str(file), "--api-kez", "x")

    assert of_file.fact == f"vLLM 0.32.0 has no such flag, which {file} names"
    assert own.fact == "vLLM 0.32.0 has no such flag"


def test_where_a_part_of_them_is_not_found_nothing_is_said(look, package: Path) -> None:
    (package / "entrypoints/openai/cli_args.py").unlink()

    assert look("m", "--max-model-length", "8") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--chat-template", "{template}"], {"ok"}),
        (["--chat-template", "/no/such.jinja"], {"fail"}),
        (["--chat-template", "{{{{ messages }}}}"], set()),
        (["--chat-template", "own.jinja"], set()),
        (["--ssl-keyfile", "{template}", "--ssl-certfile={template}.pem"], {"ok", "fail"}),
        (["--api-key", "/no/such"], set()),
        (["--tokenizer", "/no/such"], {"fail"}),
        (["--tokenizer", "./no/such"], {"fail"}),
        (["--tokenizer", "./no/such", "--skip-tokenizer-init"], set()),
        (["--tokenizer", "org/tokenizer"], set()),
        (["--tokenizer", "{template}"], {"ok"}),
    ],
)
def test_a_file_that_a_flag_names_and_that_is_not_there_refuses(
    look, package: Path, tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    own = package / "transformers_utils/chat_templates/own.jinja"
    own.parent.mkdir(parents=True)
    own.touch()
    template = tmp_path / "given.jinja"
    template.touch()

    found = look("m", *(word.format(template=template) for word in words), probe="flag_files")

    assert {finding.status for finding in found} == expected
    assert {finding.id for finding in found} <= {"flag-file"}


@pytest.mark.parametrize(
    ("words", "status", "fact"),
    [
        (["--gpu-memory-utilization", "0.9"], "ok", "more than 0 and at most 1"),
        (["--gpu-memory-utilization=1"], "ok", "more than 0"),
        (["--gpu-memory-utilization", "0"], "fail", "must be more than 0 and at most 1"),
        (["--gpu-memory-utilization", "90"], "fail", "must be more than 0 and at most 1"),
        (["--gpu_memory_utilization", "nan"], "fail", "must be"),
        (["--gpu-memory-utilization", "90%"], "fail", "is not a number"),
        (["-tp", "2"], "ok", "at least 1"),
        (["-tp", "0"], "fail", "must be at least 1"),
        (["--tensor-parallel-size", "2.0"], "fail", "is not a whole number"),
        (["--max-model-len", "8k"], "ok", "at least -1"),
        (["--max-model-len", "25.6k"], "ok", "at least -1"),
        (["--max-model-len", "AUTO"], "ok", "at least -1"),
        (["--max-model-len", "-1"], "ok", "at least -1"),
        (["--max-model-len", "-2"], "fail", "must be at least -1"),
        (["--max-model-len", "1.5K"], "fail", "is not a whole number, 8k, 8K or auto"),
        (["--max-model-len", "4q"], "fail", "is not a whole number, 8k, 8K or auto"),
        (["--max-num-batched-tokens", "8K"], "ok", "at least 1"),
        (["--max-num-batched-tokens", "auto"], "fail", "is not a whole number, 8k or 8K"),
    ],
)
def test_a_number_is_held_against_the_bounds_in_the_source(
    look, package: Path, words: list[str], status: str, fact: str
) -> None:
    (package / "config").mkdir()
    for name, text in CONFIG.items():
        (package / f"config/{name}.py").write_text(text)
    (found,) = look("m", *words, probe="flag_value")

    assert (found.id, found.status) == ("flag-value", status)
    assert fact in found.fact


@pytest.mark.parametrize(
    "words", [["-tp", "0"], ["--max-num-seqs", "0"], ["--api-key", "x"], ["-tp", "None"]]
)
def test_without_bounds_in_the_source_nothing_is_said_of_a_number(
    look, package: Path, words: list[str]
) -> None:
    (package / "config").mkdir()
    (package / "config/scheduler.py").write_text(CONFIG["scheduler"])

    assert look("m", *words, probe="flag_value") == []


CLI = {
    "serve.py": 'class S(CLISubcommand):\n    name = "serve"\n',
    "chat.py": 'class C:\n    def __init__(self):\n        self.name = "chat"\n',
    "benchmark/main.py": 'class B:\n    name = "bench"\n',
    "benchmark/latency.py": 'class L:\n    name = "latency"\n',
    "types.py": "class T:\n    name: str\n",
}


@pytest.mark.parametrize(
    ("words", "files", "fix"),
    [
        ("vllm server m", CLI, "did you mean serve?"),
        ("vllm zzz m", CLI, "one of bench, chat, serve"),
        ("vllm serve m", CLI, ""),
        ("vllm bench serve", CLI, ""),
        ("vllm --version", CLI, ""),
        ("vllm server m --omni", CLI, ""),
        ("vllm server m", {"chat.py": CLI["chat.py"]}, ""),
        ("vllm server m", {"serve.py": "def ("}, ""),
        ("vllm server m", {}, ""),
    ],
)
def test_a_subcommand_that_is_not_there_is_refused(
    package: Path, words: str, files: dict[str, str], fix: str
) -> None:
    for name, text in files.items():
        file = package / "entrypoints/cli" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    argv = tuple(words.split())
    subcommand = "" if argv[1].startswith("-") else argv[1]
    target = Target(
        sys.executable, "vllm-cli", subcommand, 2, vllm=VllmInstall("0.32.0", str(package))
    )
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))
    found = list(probes.run_one("vllm", "subcommand", context))

    told = [("subcommand-unknown", "fail", fix)] if fix else []
    assert [(one.id, one.status, one.fix) for one in found] == told


@pytest.mark.vllm
def test_every_flag_of_the_installed_parser_is_known() -> None:
    environment = Path(os.environ["VGUARD_TEST_VLLM"])
    (package,) = environment.glob("lib/python*/site-packages/vllm")
    words = [environment / "bin/python", "-c", PARSER]
    told = subprocess.run(words, capture_output=True, check=True, text=True).stdout
    names = [name for name in json.loads(told.splitlines()[-1]) if name.startswith("--")]
    known = flags(VllmInstall("0.32.0+cpu", str(package)))

    assert len(names) > 400
    assert [name for name in names if not is_flag(name, known)] == []
    assert not is_flag("--max-model-length", known)
