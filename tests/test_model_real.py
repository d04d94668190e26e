"""What the probes of the model call certain to fail, real `vllm serve` fails on."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit import guard
from tests.kit.models import safetensors
from tests.kit.serving import Serving, vllm_env
from vllm_guard import estimate, model_files

pytestmark = pytest.mark.vllm

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16060617592\n"


@pytest.fixture
def model(clean_world: Path) -> Path:
    """A copy of the tiny Llama, to be damaged."""
    folder = clean_world / "model"
    shutil.copytree(os.environ["VGUARD_TEST_MODEL"], folder)
    return folder


@pytest.fixture
def serving(clean_world: Path) -> Iterator[list[Serving]]:
    """Servers that the test starts; whatever happens, they do not outlive it."""
    started: list[Serving] = []
    yield started
    for server in started:
        server.kill()


def change(model: Path, **rows: object) -> None:
    path = model / "config.json"
    config = {**json.loads(path.read_text()), **rows}
    path.write_text(json.dumps({name: value for name, value in config.items() if value != ...}))


def healthy(model: Path) -> None:
    pass


def pointer(model: Path) -> None:
    (model / WEIGHTS).write_text(POINTER)


def empty(model: Path) -> None:
    (model / WEIGHTS).write_bytes(b"")


def cut(model: Path) -> None:
    os.truncate(model / WEIGHTS, (model / WEIGHTS).stat().st_size // 2)


def no_weights(model: Path) -> None:
    (model / WEIGHTS).unlink()


def no_shard(model: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}}
    (model / model_files.INDEX).write_text(json.dumps(index))


def pickled(model: Path) -> None:
    """The same name, another format."""
    (model / WEIGHTS).write_bytes(b"\x80\x04" + bytes(1000))


def dropped(model: Path) -> None:
    change(model, architectures=["GritLM"])


def unknown_architecture(model: Path) -> None:
    change(model, architectures=["NoSuchForCausalLM"])


def no_architecture(model: Path) -> None:
    change(model, architectures=None, model_type="no_such_type")


def kv_heads(model: Path) -> None:
    change(model, hidden_size=96, num_attention_heads=6, num_key_value_heads=4)


def no_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()


def tokenizer_pointer(model: Path) -> None:
    (model / "tokenizer.json").write_text(POINTER)


class Case(NamedTuple):
    damage: Callable[[Path], None]
    id: str
    said: str  #: by vLLM
    flags: tuple[str, ...] = ()
    status: str = "fail"


CASES = (
    Case(healthy, "model-heads", "must be divisible by tensor parallel size", ("-tp", "3")),
    Case(pointer, "model-complete", "header too large"),
    Case(empty, "model-complete", "SafetensorError"),
    Case(cut, "model-complete", "SafetensorError"),
    Case(pickled, "model-complete", "SafetensorError"),
    Case(no_weights, "model-complete", "Cannot find any model weights"),
    Case(no_shard, "model-complete", "referenced in index but missing"),
    Case(dropped, "model-supported", "was supported in vLLM until v0.28.0"),
    Case(no_architecture, "model-supported", "no_such_type"),
    Case(kv_heads, "model-heads", "AssertionError", ("-tp", "3", "--load-format", "dummy")),
    Case(healthy, "model-length", "is greater than the derived", ("--max-model-len", "1k")),
    Case(healthy, "model-dtype", "fp16", ("--dtype", "fp16")),
    Case(healthy, "model-quantization", "fpp8", ("--quantization", "fpp8")),
    # Here vLLM fails too, but what another vLLM or Transformers would do cannot be told from the files.
    Case(unknown_architecture, "model-supported", "are not supported for now", status="warn"),
    Case(no_tokenizer, "model-tokenizer", "tokenizer", status="warn"),
    Case(tokenizer_pointer, "model-tokenizer", "okenizer", status="warn"),
)
ALWAYS = 2  #: cases that are no soak


def named(case: Case) -> str:
    return f"{case.damage.__name__}-{case.id}"


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=named(case)) for case in CASES[:ALWAYS]),
        *(pytest.param(case, id=named(case), marks=pytest.mark.soak) for case in CASES[ALWAYS:]),
    ],
)
def test_vllm_fails_on_what_was_named_before(clean_world, serving, model, case: Case) -> None:
    case.damage(model)
    server = Serving(clean_world, *case.flags, guard=("--preflight", "off"), model=str(model))
    serving.append(server)

    assert server.process.wait(300) not in (0, 78)
    assert case.said in server.said()


@pytest.mark.parametrize("case", [pytest.param(case, id=named(case)) for case in CASES])
def test_it_is_named_before_in_a_moment(clean_world, model, case: Case) -> None:
    case.damage(model)
    words = ("vllm", "serve", str(model), *case.flags, "--port", "0")
    result = guard("-n", "--", *words, env=vllm_env())
    lines = result.stderr.decode().replace("vllm-guard: ", "").splitlines()
    failed = [line.split()[1].rstrip(":") for line in lines if line.startswith("fail ")]

    assert failed == ([case.id] if case.status == "fail" else [])
    assert any(line.startswith(f"{case.status} {case.id}: ") for line in lines)
    if case.status == "fail":
        refused = guard("--", *words, env=vllm_env())
        assert refused.returncode == 78
        assert refused.stdout == b""


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_the_estimate_is_what_vllm_says_of_its_cache(clean_world, serving, model, ranks) -> None:
    """vLLM logs how many tokens the GiB of VLLM_CPU_KVCACHE_SPACE holds."""
    config = model_files.read_json(str(model / "config.json"))
    assert config is not None
    form = estimate.shape(config)
    assert form is not None
    server = Serving(clean_world, "-tp", str(ranks), model=str(model))
    serving.append(server)
    server.until_ready()
    found = re.search(r"KV cache size: ([\d,]+) tokens", server.said())
    server.process.terminate()
    assert server.ended() == 0

    assert found is not None, server.said()
    held = int(found[1].replace(",", ""))
    expected = (1 << 30) / estimate.kv_bytes_per_token(form, estimate.Split(ranks))
    assert held == pytest.approx(expected, rel=0.01)


@pytest.mark.soak
def test_a_shard_that_the_index_does_not_name_does_no_harm(clean_world, serving, model) -> None:
    """What is called complete, loads."""
    safetensors(model / "extra.safetensors", {"unused": ("F32", 10)})
    header = json.loads((model / WEIGHTS).read_bytes()[8:].split(b"}}")[0] + b"}}")
    names = {name: WEIGHTS for name in header if name != "__metadata__"}
    (model / model_files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    server = Serving(clean_world, model=str(model))
    serving.append(server)
    server.until_ready()
    text = server.complete("One, two,")
    server.process.terminate()

    assert server.ended() == 0
    assert text
    assert not model_files.weights(str(model)).damaged
