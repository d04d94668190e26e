"""The file of `vllm serve --config`: what it stands for, and that every probe knows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import config_file, probes, record
from vllm_guard.model import Finding
from vllm_guard.probes import parallel
from vllm_guard.probes.server import _place
from vllm_guard.target import Target

CLI = Target("/bin/python", "vllm-cli", "serve", 2)
MODULE = Target("/bin/python", "vllm-server", "", 3)


def context(*words: str, target: Target = CLI) -> probes.Context:
    argv = ("vllm", "serve", *words) if target is CLI else ("python", "-m", "api_server", *words)
    return probes.Context(argv, {}, {}, target, (), (), record.Shelf({}))


def found(*words: str, target: Target = CLI) -> dict[str, Finding]:
    looked = probes.run_one("server", "config_file", context(*words, target=target))
    return {finding.status: finding for finding in looked}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text("model: org/x\nport: 1234\ntensor_parallel_size: 2\nmax-model-len: 8k\n")
    return path


TEXTS: list[tuple[str, list[str]]] = [
    ("port: 12323\n", ["--port", "12323"]),
    ("a: 1\nb-c: x y\n", ["--a", "1", "--b-c", "x y"]),
    ("enforce-eager: true\n", ["--enforce-eager"]),
    ("enforce_eager: false\n", ["--no-enforce_eager"]),
    ("a: [x, 1]\n", ["--a", "x", "1"]),
    ("a: []\n", []),
    ("a: {b: {c: true}}\n", ["--a", '{"b": {"c": true}}']),
    ("a:\n", ["--a", "None"]),
    ("# a: 1\n---\nb: '2' # two\r\n", ["--b", "2"]),
    ("a: 1\na: 2\n", ["--a", "2"]),
    ("gpu-memory-utilization: 0.5\n", ["--gpu-memory-utilization", "0.5"]),
    ("a: &a [x]\nb: *a\n", ["--a", "x", "--b", "x"]),
]


@pytest.mark.parametrize(("text", "words"), TEXTS)
def test_a_file_stands_for_these_words(text: str, words: list[str]) -> None:
    assert list(config_file.options("c.yml", text)) == words


REFUSED: list[tuple[str, str | None, str]] = [
    ("c.json", "a: 1", "is not called .yaml or .yml"),
    ("c", "a: 1", "is not called .yaml or .yml"),
    ("c.yaml", None, "cannot be read"),
    ("c.yaml", "", "holds no `option: value`"),
    ("c.yaml", "just words", "holds no `option: value`"),
    ("c.yaml", "- a\n", "holds no `option: value`"),
    ("c.yaml", "a: 1\nb: [\n", "is no YAML, line 3"),
    ("c.yaml", "a: !!python/object:os.system x\n", "is no YAML, line 1"),
    ("c.yaml", "1: 2\n", "1: is no name of an option"),
    ("c.yaml", "a: {b: 2026-01-01}\n", "a: cannot be written as JSON"),
    ("c.yaml", "a: &a {b: *a}\n", "a: cannot be written as JSON"),
    ("c.yaml", "[" * 10_000, "is no YAML"),
]


@pytest.mark.parametrize(("path", "text", "reason"), REFUSED)
def test_what_vllm_refuses_is_refused_with_the_reason(path: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="^" + reason.replace("[", r"\[")) as error:
        config_file.options(path, text)

    assert "\n" not in str(error.value)


@given(st.text(), st.sampled_from(["c.yaml", "c.yml"]))
def test_any_text_is_words_or_one_line(text: str, path: str) -> None:
    assert all(isinstance(word, str) for word in words_or_reason(path, text))


def words_or_reason(path: str, text: str) -> Sequence[str]:
    try:
        return config_file.options(path, text)
    except ValueError as error:
        (reason,) = str(error).splitlines()
        return [reason]


@pytest.mark.parametrize(
    ("words", "merged"),
    [
        (["M", "--config", "f", "-tp", "2"], ["M", "--a", "1", "-tp", "2"]),
        (["M", "-tp", "2", "--config", "f"], ["M", "--a", "1", "-tp", "2"]),
        (["--config", "f"], ["--a", "1"]),
        (["-tp", "2", "--config", "f", "--x"], ["--a", "1", "-tp", "2", "--x"]),
    ],
)
def test_the_words_of_the_file_stand_behind_the_model(words, merged) -> None:
    assert list(config_file.merged(words, ["--a", "1"])) == merged


def test_every_probe_knows_what_the_file_says(file) -> None:
    one = context("--config", str(file))

    assert (one.port, _place.word(one), one.flag("--max-model-len")) == (1234, "org/x", "8k")
    assert not one.has("--config")
    sizes = parallel.sizes(one)
    assert sizes is not None
    assert sizes.world == 2


def test_the_command_line_wins(file) -> None:
    one = context("org/y", "--config", str(file), "--port", "99", "-tp", "4")

    assert (one.port, _place.word(one)) == (99, "org/y")
    assert _place.word(context("--model", "org/z", "--config", str(file))) == "org/z"


def test_a_server_started_as_a_module_reads_it_too(file) -> None:
    one = context("--config", str(file), target=MODULE)

    assert (one.port, _place.word(one)) == (1234, "org/x")
    assert found("--config", str(file), target=MODULE)["ok"].subject == str(file)


def test_the_finding_names_the_options_and_none_of_their_values(file) -> None:
    file.write_text("model: x\na: 1\napi-key: hunter2\nb: 1\nc: 1\nd: 1\ne: true\n")
    one = found("--config", str(file))["ok"]

    assert one.fact == "--model, --a, --api-key, --b, --c and 2 more"


@pytest.mark.parametrize(
    ("words", "status", "fact"),
    [
        (["m", "--config", "/no/such.yaml"], "fail", "no such file"),
        (["m", "--config", "/no/such.json"], "fail", "is not called"),
        (["m", "--config"], "fail", "names no file"),
        (["m", "--config", "a.yaml", "--config", "b.yaml"], "fail", "is given twice"),
        (["m", "--config=a.yaml"], "warn", "passed over"),
    ],
)
def test_a_file_that_vllm_cannot_read(words, status: str, fact: str) -> None:
    assert fact in found(*words)[status].fact


def test_without_a_model_on_the_line_or_in_the_file_it_fails(file) -> None:
    file.write_text("port: 1\n")

    for words in (["--config", str(file)], ["--config", str(file), "org/x"]):
        assert "names no model" in found(*words)["fail"].fact
    for words in (["org/x"], ["--model", "org/x"], ["--model=org/x"]):
        assert "ok" in found(*words, "--config", str(file))
    assert "ok" in found("--config", str(file), target=MODULE)


def test_without_yaml_it_is_said_and_nothing_is_certain(file, monkeypatch) -> None:
    monkeypatch.setattr(config_file, "_known", {})
    monkeypatch.setitem(sys.modules, "yaml", None)
    one = context("m", "--config", str(file))

    assert "no PyYAML" in found("m", "--config", str(file))["skip"].fact
    assert (one.port, one.has("--config"), _place.certain(one)) == (None, True, "warn")


#: vLLM's own reader: rows of (words, words of the file) for each file, null where it raises.
READ = """
import argparse, json, sys
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
parser.add_argument("--enforce_eager", action=argparse.BooleanOptionalAction)
for path in sys.argv[1:]:
    try:
        print(json.dumps([parser.load_config_file(path),
                          parser._pull_args_from_config(["serve", "M", "-x", "--config", path, "-y"])]))
    except BaseException:
        print("null")
"""


@pytest.mark.vllm
def test_vllm_reads_the_same_and_refuses_the_same(tmp_path) -> None:
    rows = [(f"ok{n}.yaml", text) for n, (text, _) in enumerate(TEXTS)]
    rows += [(f"bad{n}-{path}", text) for n, (path, text, _) in enumerate(REFUSED)]
    for name, text in rows:
        if text is not None:
            (tmp_path / name).write_text(text)
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    command = [python, "-c", READ, *(name for name, _ in rows)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line[:1] in "[n"]

    expected = [
        [words, list(config_file.merged(["M", "-x", "--config", "f", "-y"], words))]
        for _, words in TEXTS
    ]
    told = [answer and [answer[0], answer[1][1:]] for answer in answers]
    assert told == [*expected, *(None for _ in REFUSED)]


BOMB = "a: &a0 [x, x]\n" + "".join(
    f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(12)
)


@pytest.mark.parametrize("text", [BOMB, BOMB + "l: &l [*l]\n"])
def test_a_file_whose_aliases_stand_for_too_much_is_not_read_once_or_twice(text: str) -> None:
    said = []
    for _ in range(2):
        with pytest.raises(config_file.Unread) as error:
            config_file.options("c.yaml", text)
        said.append(error.value)

    assert said[0] is said[1]  # the answer is remembered
    assert str(said[0]).startswith("stands for more than 4194304 characters")


def test_vllm_goes_by_what_is_behind_the_last_dot(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("yaml", "yml", "c.yaml"):
        Path(name).write_text("port: 7\n")
        assert context("m", "--config", name).port == 7


def test_what_vllm_may_read_and_the_guard_does_not_is_no_failure(tmp_path) -> None:
    large, fifo = tmp_path / "large.yaml", tmp_path / "fifo.yaml"
    large.write_text("#" * (4 << 20) + "\nport: 1\n")
    os.mkfifo(fifo)

    for path, fact in ((large, "has 4194313 bytes"), (fifo, "is no regular file")):
        one = context("m", "--config", str(path))
        assert fact in found("m", "--config", str(path))["skip"].fact
        assert (one.port, _place.certain(one)) == (None, "warn")


def test_a_file_in_another_encoding_is_a_warning(tmp_path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("served-model-name: süß\n".encode("latin-1"))

    assert found("m", "--config", str(path))["warn"].fact.startswith("is not UTF-8")
