"""What the probes of the model estimate, real `vllm serve` says too; what they call complete, it loads."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.models import safetensors
from tests.kit.serving import Serving
from vllm_guard import estimate, model_files

pytestmark = pytest.mark.vllm

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(clean_world: Path) -> Path:
    """A copy of the tiny Llama, to be changed."""
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
