"""Abbreviated options and those that are taken back, read as argparse reads them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vllm_guard import flag_words, probes, record
from vllm_guard.model import Finding
from vllm_guard.probes import parallel
from vllm_guard.probes.server import _place
from vllm_guard.target import Target
from vllm_guard.target.flags import candidates
from vllm_guard.target.install import VllmInstall

from .kit.models import write_model

KNOWN = (
    *("--port", "--pooler-config", "--load-format", "--headless", "--hf-overrides", "--hf-token"),
    *("--tensor-parallel-size", "--enforce-eager", "--enable-lora", "--model", "--model-impl"),
)
Look = Callable[..., list[Finding]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A vLLM whose source has `KNOWN`."""
    vllm = tmp_path / "site-packages/vllm"
    for name in ("engine/arg_utils.py", "entrypoints/openai/cli_args.py"):
        (vllm / name).parent.mkdir(parents=True)
        (vllm / name).write_text(f"FLAGS = {list(KNOWN)}\n")
    return vllm


@pytest.fixture
def context(package: Path) -> Callable[..., probes.Context]:
    def context(*words: str) -> probes.Context:
        target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=VllmInstall("1", str(package)))
        argv = ("vllm", "serve", *words)
        return probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))

    return context


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("--port", ["--port"]),
        ("--por", ["--port"]),
        ("--po", ["--pooler-config", "--port"]),
        ("--load_f", ["--load-format"]),
        ("--model", ["--model"]),  # a whole name is no beginning of another
        ("--mode", ["--model", "--model-impl"]),
        ("--no-enforce", ["--no-enforce-eager"]),
        ("--no-enforce-eager", ["--no-enforce-eager"]),
        ("--ports", []),
    ],
)
def test_a_beginning_stands_for_what_argparse_takes_it_for(name: str, expected: list[str]) -> None:
    assert list(flag_words.candidates(name, KNOWN)) == expected


def test_names_are_written_in_full_and_values_and_what_follows_the_end_stay() -> None:
    words = ["--por=--po", "--hf-over.a.b=1.5", "-tp", "--hf=x", "--new", "--", "--por"]

    whole, unclear = flag_words.resolved(words, lambda name: flag_words.candidates(name, KNOWN))

    assert whole == ("--port=--po", "--hf-overrides.a.b=1.5", *words[2:])
    assert unclear == ("--hf",)


@pytest.mark.parametrize(
    ("words", "names", "expected"),
    [
        ("--x", ["--x"], True),
        ("--x --no-x", ["--x"], False),
        ("--no-x --x", ["--x"], True),
        ("-x --no_x", ["--x", "-x"], False),
        ("--y --no-x", ["--x", "--y"], True),
        ("--no-x --x", ["--no-x"], False),
    ],
)
def test_a_later_no_takes_an_option_back(words: str, names: list[str], expected: bool) -> None:
    assert flag_words.given(words.split(), names) == expected


def test_every_probe_knows_an_abbreviated_option(context, tmp_path: Path) -> None:
    one = context("m", "--por", "9000", "--load_f=dummy", "--tensor", "3", "--hf-over", "{}")

    sizes = parallel.sizes(one)
    assert (one.port, one.flag("--load-format"), _place.overrides(one)) == (9000, "dummy", True)
    assert sizes is not None
    assert sizes.world == 3
    assert not context("m", "--headl").has_port


def test_a_port_that_is_not_asked_for_may_be_in_use(context) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        words = ("m", "--host", "127.0.0.1", "--port", str(server.getsockname()[1]))
        found = [
            list(probes.run_one("server", "port", context(*words, *more)))
            for more in ((), ("--po", "1"))
        ]

    assert [[(one.id, one.status) for one in row] for row in found] == [
        [("port-busy", "fail")],
        [("port-busy", "warn")],  # `--po` is of two: nothing is certain
    ]


def test_expert_parallelism_that_is_taken_back_is_not_asked_for(context, tmp_path: Path) -> None:
    model = str(write_model(tmp_path / "model"))
    words = (model, "-ep", "--no-enable-expert-parallel")

    asked, back = (
        [f.id for f in probes.run_one("server", "model_split", context(*words[:n]))] for n in (2, 3)
    )

    assert (asked, back) == (["model-experts"], [])


#: The long options of vLLM's own parser, and what it makes of words that are abbreviated or taken back.
PARSER = """
import json, sys
from vllm.entrypoints.cli.serve import FlexibleArgumentParser, make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser())
print(json.dumps([name for name in parser._option_string_actions if name.startswith("--")]))
for words in json.loads(sys.argv[1]):
    args = parser.parse_args(words)
    print(json.dumps([args.port, args.load_format, args.tensor_parallel_size, args.headless, args.uds,
                      args.hf_overrides, args.enable_expert_parallel]))
"""
WORDS = [
    ["--load-f", "dummy", "--por", "9000", "--tensor-parallel", "3"],
    ["--ud", "/tmp/x", "--hf-over", '{"a": 1}', "--headl"],
    ["--hf_over.a", "1", "--enable-expert-p", "--no-enable-expert-p"],
    ["--no-enable-expert-parallel", "-ep"],
]


@pytest.mark.vllm
def test_vllms_own_parser_takes_them_for_the_same() -> None:
    environment = Path(os.environ["VGUARD_TEST_VLLM"])
    (package,) = environment.glob("lib/python*/site-packages/vllm")
    command = [environment / "bin/python", "-c", PARSER, json.dumps(WORDS)]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    options, *parsed = map(json.loads, told.splitlines()[-1 - len(WORDS) :])
    install = VllmInstall("0.32.0+cpu", str(package))

    wrong, doubted = [], 0
    for name in {option[:end] for option in options for end in range(3, len(option) + 1)}:
        real = [name] if name in options else [one for one in options if one.startswith(name)]
        found = candidates(install, name)
        if len(real) == 1 and found != tuple(real):
            doubted += len(found) > 1
            left = found == (name,) and name.startswith("--no-")  # the opposite of what has none
            wrong += [(name, real, found)] if len(found) == 1 and not left else []
    assert wrong == []
    assert doubted < 150  # of thousands

    for words, row in zip(WORDS, parsed, strict=True):
        target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=install)
        argv = ("vllm", "serve", "m", *words)
        one = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))
        sizes = parallel.sizes(one)
        assert sizes is not None
        assert not one.unclear
        assert [
            int(one.flag("--port") or 8000),
            one.flag("--load-format") or "auto",
            sizes.world,
            one.has("--headless"),
            one.flag("--uds"),
            {"a": 1} if _place.overrides(one) else {},
            one.has("--enable-expert-parallel", "-ep"),
        ] == row


#: Does vLLM's own command line take these words?
TAKEN = """
import json, sys
from vllm.entrypoints.cli.serve import FlexibleArgumentParser, make_arg_parser
parser = FlexibleArgumentParser()
make_arg_parser(parser.add_subparsers().add_parser("serve"))
for words in json.loads(sys.argv[1]):
    try:
        parser.parse_args(words)
        print(True)
    except (SystemExit, ValueError):
        print(False)
"""
REFUSED = [
    ["./a", "--dtype", "Half"],
    ["./a", "--model", "./b"],
    ["./a", "--model=./b"],
    ["./a", "--po", "1"],
]
ACCEPTED = [["./a", "--dtype", "half"], ["--model", "./b"], ["./a", "--por", "1"]]


@pytest.mark.parametrize("words", [["--model", "./b"], ["--port", "1", "--model=./b"]])
def test_a_model_that_is_named_twice(context, package: Path, words: list[str]) -> None:
    (older,) = probes.run_one("server", "model", context("./a", *words))
    (package / "utils").mkdir()
    (package / "utils/argparse_utils.py").write_text('tag = word.removeprefix("--model=")\n')
    (newer,) = probes.run_one("server", "model", context("./a", *words))

    assert "names another" in older.fact
    assert (older.status, newer.status) == ("warn", "fail")


@pytest.mark.vllm
def test_vllm_refuses_what_is_called_certain_to_fail() -> None:
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    asked = json.dumps([["serve", *words] for words in (*REFUSED, *ACCEPTED)])
    done = subprocess.run([python, "-c", TAKEN, asked], capture_output=True, check=True, text=True)

    told = done.stdout.split()[-len(REFUSED) - len(ACCEPTED) :]
    assert told == ["False"] * len(REFUSED) + ["True"] * len(ACCEPTED)
    (package,) = python.parent.parent.glob("lib/python*/site-packages/vllm")
    target = Target("/p", "vllm-cli", "serve", 2, vllm=VllmInstall("0.32.0+cpu", str(package)))
    for words in REFUSED[1:3]:
        argv = ("vllm", "serve", *words)
        one = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))
        assert [found.status for found in probes.run_one("server", "model", one)] == ["fail"]
