"""The probes of the model, each situation for itself: what is said, and how sure it is."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.models import cached_model, safetensors, write_model, write_registry
from vllm_guard import nvml, probes, record
from vllm_guard.host import Host
from vllm_guard.model import Finding
from vllm_guard.probes.server import _cpu_memory, _place
from vllm_guard.target import Target
from vllm_guard.target.install import VllmInstall

GIB = 1 << 30
HERE = Host()
PROBES = (
    *("model_complete", "model_supported", "model_shape", "model_memory", "generation_config"),
    *("model_dtype", "model_quantization", "model_split"),
)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16060617592\n"
Look = Callable[..., dict[str, Finding]]


@pytest.fixture
def package(tmp_path) -> Path:
    """A vLLM and Transformers as far as these probes read them."""
    vllm = tmp_path / "site-packages/vllm"
    write_registry(
        vllm,
        {"LlamaForCausalLM": "llama", "LlamaModel": "llama"},
        {"GritLM": "0.28.0", "MllamaForConditionalGeneration": "0.10.2"},
        {"BartModel": "https://github.com/vllm-project/bart-plugin"},
    )
    quantization = vllm / "model_executor/layers/quantization"
    quantization.mkdir(parents=True)
    text = 'QuantizationMethods = Literal["awq", "fp8", "gptq"]\n'
    (quantization / "__init__.py").write_text(text)
    (vllm / "config").mkdir()
    text = "class CacheConfig:\n    gpu_memory_utilization: float = Field(default=0.5)\n"
    (vllm / "config/cache.py").write_text(text)
    auto = vllm.parent / "transformers/models/auto"
    auto.mkdir(parents=True)
    (auto / "modeling_auto.py").write_text(
        'M = [("llama", "LlamaModel"), ("mllama", "MllamaForConditionalGeneration"),\n'
        ' ("new", "NewForCausalLM")]\n'
    )
    return vllm


@pytest.fixture
def look(package, monkeypatch) -> Look:
    """The findings of these probes for `vllm serve WORDS`, by id."""

    def look(
        *words: object, version: str = "0.32.0", gpus: Any = (), host: Host = HERE, **env: str
    ):
        monkeypatch.setattr(nvml, "survey", lambda _: nvml.Survey(devices=tuple(gpus)))
        argv = ("vllm", "serve", *map(str, words))
        install = VllmInstall(version, str(package))
        target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=install)
        shelf = record.Shelf(os.environ)
        context = probes.Context(argv, env, env, target, (), (), shelf, host=host)
        found = [f for name in PROBES for f in probes.run_one("server", name, context)]
        assert [f for f in found if f.id.startswith("probe-")] == []
        return {finding.id: finding for finding in found}

    return look


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "model")


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {id_: finding.status for id_, finding in found.items()}


def bad(found: dict[str, Finding]) -> dict[str, str]:
    return {id_: s for id_, s in statuses(found).items() if s not in ("ok", "skip")}


# ---- files


def test_a_healthy_model_has_nothing_but_ok(look, model) -> None:
    assert statuses(look(model)) == {
        "model-complete": "ok",
        "model-supported": "ok",
        "model-heads": "ok",
        "model-memory": "skip",  # no GPU
    }


def test_all_of_it_takes_less_than_fifty_milliseconds(look, tmp_path) -> None:
    write_model(tmp_path / "large", shards=100)

    def seconds() -> float:
        start = time.monotonic()
        assert len(look(tmp_path / "large")) == 4
        return time.monotonic() - start

    seconds()
    assert min(seconds() for _ in range(5)) < 0.05


def lfs(model: Path) -> None:
    (model / "model.safetensors").write_text(POINTER)


def empty(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")


def cut(model: Path) -> None:
    os.truncate(model / "model.safetensors", 500)


def none(model: Path) -> None:
    (model / "model.safetensors").unlink()


def shard_gone(model: Path) -> None:
    none(model)
    write_model(model, shards=3)
    (model / "model-00002-of-00003.safetensors").unlink()


BROKEN = [
    (lfs, "is a Git LFS pointer", "lfs pull"),
    (empty, "is empty (0 bytes)", "--local-dir"),
    (cut, "is cut off: it has 500 of", "--local-dir"),
    (none, "there are no weights", "--local-dir"),
    (shard_gone, "1 of the 3 files in model.safetensors.index.json are not there", "--local-dir"),
]


@pytest.mark.parametrize(("damage", "fact", "fix"), BROKEN)
def test_files_that_cannot_be_loaded_refuse(look, model, damage, fact: str, fix: str) -> None:
    damage(model)
    found = look(model)

    assert bad(found) == {"model-complete": "fail"}
    assert fact in found["model-complete"].fact
    assert fix in found["model-complete"].fix


@pytest.mark.parametrize("words", [["--config", "x.yaml"], ["--config=x.yaml"]])
def test_with_a_file_of_settings_it_is_a_warning(look, model, words) -> None:
    cut(model)

    assert look(model, *words)["model-complete"].status == "warn"


def test_mistrals_own_files_beside_are_not_counted_twice_and_may_be_taken_first(
    look, model
) -> None:
    safetensors(model / "consolidated.safetensors", {"w": ("BF16", 1000)})
    assert "1 file(s) of weights" in look(model)["model-complete"].fact

    cut(model)

    assert look(model)["model-complete"].status == "warn"


def test_where_there_is_no_vllm_only_the_files_are_judged(model) -> None:
    argv = ("vllm", "serve", str(model), "-tp", "3", "-q", "x")
    target = Target(sys.executable, "vllm-cli", "serve", 2)
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))
    found = [f for name in PROBES for f in probes.run_one("server", name, context)]

    assert {f.id: f.status for f in found} == {"model-complete": "ok", "model-heads": "fail"}


@pytest.mark.parametrize("loader", ["dummy", "gguf", "tensorizer", "runai_streamer"])
def test_other_loaders_are_not_looked_at(look, model, loader: str) -> None:
    none(model)

    assert look(model, "--load-format", loader)["model-complete"].status == "skip"


@pytest.mark.parametrize(
    ("offline", "damaged", "missing"), [("1", "fail", "fail"), ("0", "warn", "note")]
)
def test_a_model_in_the_cache_may_still_be_downloaded(look, tmp_path, offline, damaged, missing):
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": offline}
    whole = cached_model(tmp_path / "hub", "org/model", shards=3)
    assert bad(look("org/model", **env)) == {}
    shard = whole / "model-00001-of-00003.safetensors"

    os.truncate(shard, 300)
    found = look("org/model", **env)
    assert bad(found) == {"model-complete": damaged}
    assert found["model-complete"].fix == "hf download org/model --force-download"

    shard.unlink()
    assert bad(look("org/model", **env)) == {"model-complete": missing}


def test_unfinished_downloads_are_told_with_their_size(look, tmp_path) -> None:
    cached_model(tmp_path / "hub", "org/model")
    blob = tmp_path / "hub/models--org--model/blobs/0123.incomplete"
    with blob.open("wb") as file:
        file.truncate(3 * GIB)
    found = look("org/model", HF_HUB_CACHE=str(tmp_path / "hub"))

    assert bad(found) == {"model-unfinished": "note"}
    assert "1 unfinished download(s)" in found["model-unfinished"].fact
    assert "3.0 GiB" in found["model-unfinished"].fact


@pytest.mark.parametrize(
    ("words", "known"),
    [(["--revision", "abc"], True), ([], True), (["--revision", "other"], False)],
)
def test_the_revision_is_the_one_that_is_asked_for(look, tmp_path, words, known) -> None:
    cached_model(tmp_path / "hub", "org/model")
    found = look("org/model", *words, HF_HUB_CACHE=str(tmp_path / "hub"))

    assert bool(found) == known


@pytest.mark.parametrize("name", ["org/none", "s3://bucket/x", "/no/such", "org/x:Q4_K_M", ""])
def test_without_files_there_is_nothing_to_say(look, name: str) -> None:
    assert look(name) == {}


def test_a_model_without_a_tokenizer_is_a_warning(look, model) -> None:
    (model / "tokenizer.json").unlink()
    found = look(model)

    assert bad(found) == {"model-tokenizer": "warn"}
    for words in (["--tokenizer", "x"], ["--skip-tokenizer-init"]):
        assert bad(look(model, *words)) == {}


@pytest.mark.parametrize(("text", "said"), [(POINTER, "Git LFS"), ("", "is empty")])
def test_a_tokenizer_that_is_none_is_a_warning(look, model, text: str, said: str) -> None:
    (model / "tokenizer.json").write_text(text)
    found = look(model)

    assert bad(found) == {"model-tokenizer": "warn"}
    assert said in found["model-tokenizer"].fact


def test_a_missing_chat_template_is_a_note(look, model) -> None:
    (model / "tokenizer_config.json").write_text("{}")

    assert bad(look(model)) == {"model-chat-template": "note"}
    assert bad(look(model, "--chat-template", "x.jinja")) == {}


# ---- architecture


@pytest.mark.parametrize(
    ("config", "status", "fact", "fix"),
    [
        ({}, "ok", "LlamaForCausalLM: vLLM 0.32.0 has it", ""),
        ({"architectures": ["Other", "LlamaForCausalLM"]}, "ok", "LlamaForCausalLM", ""),
        ({"architectures": ["GritLM"]}, "fail", "until 0.28.0, this is 0.32.0", "vllm==0.28.0"),
        ({"architectures": ["MllamaForConditionalGeneration"]}, "warn", "until 0.10.2", "0.10.2"),
        ({"architectures": ["BartModel"]}, "fail", "in a plug-in", "/bart-plugin"),
        ({"architectures": ["NewForCausalLM"]}, "note", "Transformers back end", "--model-impl"),
        ({"architectures": ["Odd"], "auto_map": {"AutoModel": "x.Y"}}, "note", "back end", "--mod"),
        ({"architectures": ["Odd"]}, "warn", "nor among the models of", "a newer vLLM"),
        ({"architectures": None}, "warn", "names no architecture", "--hf-overrides"),
        ({"architectures": []}, "warn", "names no architecture", "--hf-overrides"),
        ({"architectures": None, "model_type": "odd"}, "fail", "none that Transf", "--hf-overrides"),
        ({"architectures": ..., "model_type": ...}, "fail", "none that", "--hf-overrides"),
    ],
)  # fmt: skip
def test_the_architecture_against_the_registry(look, tmp_path, config, status, fact, fix) -> None:
    found = look(write_model(tmp_path / "m", **config))["model-supported"]

    assert found.status == status
    assert fact in found.fact
    assert fix in found.fix


def test_a_plug_in_that_is_installed_may_have_any_architecture(look, package, tmp_path) -> None:
    own = package.parent / "vllm-0.32.0.dist-info"
    foreign = package.parent / "my_models-1.0.dist-info"
    for info in (own, foreign):
        info.mkdir()
    (own / "entry_points.txt").write_text("[vllm.general_plugins]\nlora = x:y\n")
    model = write_model(tmp_path / "m", architectures=["GritLM"])
    assert look(model)["model-supported"].status == "fail"

    (foreign / "entry_points.txt").write_text("[vllm.general_plugins]\nmine = x:y\n")

    assert look(model)["model-supported"].status == "warn"
    write_model(tmp_path / "m", architectures=["Odd"])
    assert look(model)["model-supported"].status == "note"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--hf-overrides", '{"architectures": ["LlamaForCausalLM"]}'], "unknown"),
        (["--hf-overrides.architectures+", "LlamaForCausalLM"], "unknown"),
        (["--hf_overrides={}"], "unknown"),
        (["--config", "x.yaml"], "unknown"),
        (["--model-impl", "transformers"], "skip"),
    ],
)
def test_what_may_change_the_architecture_is_not_judged(look, tmp_path, words, status) -> None:
    model = write_model(tmp_path / "m", architectures=["GritLM"])

    assert look(model, *words)["model-supported"].status == status


def test_a_registry_that_cannot_be_read_is_unknown(look, package, model) -> None:
    (package / "model_executor/models/registry.py").write_text("nothing")

    assert look(model)["model-supported"].status == "unknown"


# ---- sizes


@pytest.mark.parametrize(
    ("config", "gpus", "status", "fix"),
    [
        ({}, 1, "ok", ""),
        ({}, 4, "ok", ""),
        ({}, 8, "ok", ""),  # 4 KV heads, each on two
        ({}, 3, "fail", "--tensor-parallel-size 2   (possible: 1, 2, 4, 8)"),
        ({}, 16, "fail", "--tensor-parallel-size 8   (possible: 1, 2, 4, 8)"),
        ({"num_attention_heads": 24, "num_key_value_heads": 8}, 12, "fail", "--tensor-parallel-size 8 "),
        ({"num_attention_heads": 24, "num_key_value_heads": 8}, 24, "ok", ""),
        ({"num_attention_heads": 24, "num_key_value_heads": 1, "kv_lora_rank": 512}, 12, "ok", ""),
        ({"architectures": ["GritLM"], "num_attention_heads": 24, "num_key_value_heads": 8}, 12,
         "warn", "--tensor-parallel-size 8 "),  # the code that would insist is not there
        ({"num_attention_heads": 71, "num_key_value_heads": ..., "multi_query": True}, 2, "fail",
         "--tensor-parallel-size 1   (possible: 1, 71)"),
    ],
)  # fmt: skip
def test_heads_against_gpus(look, tmp_path, config, gpus: int, status: str, fix: str) -> None:
    model = write_model(tmp_path / "m", **config)
    for words in (
        ["--tensor-parallel-size", gpus],
        [f"-tp={gpus}"],
        ["--tensor_parallel_size", gpus],
    ):
        found = look(model, *words)["model-heads"]
        assert found.status == status
        assert found.fix.startswith(fix)


def test_a_nested_configuration_is_used(look, tmp_path) -> None:
    text = {"num_attention_heads": 6, "num_key_value_heads": 6}
    model = write_model(tmp_path / "m", text_config=text)

    assert look(model, "-tp", "4")["model-heads"].status == "fail"
    assert look(model, "-tp", "6")["model-heads"].status == "ok"


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}


@pytest.mark.parametrize(
    ("config", "word", "most"),
    [
        ({}, "256", 0),
        ({}, "257", 256),
        ({}, "1k", 256),
        ({"max_position_embeddings": 1000}, "1k", 0),
        ({"max_position_embeddings": 1000}, "1K", 1000),
        ({"max_position_embeddings": 131072}, "128K", 0),
        ({"max_position_embeddings": 131072}, "0.2M", 0),  # no number: vLLM says so
        ({}, "auto", 0),
        ({}, "-1", 0),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "512", 0),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "513", 512),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "257", 256),
        ({"rope_parameters": {"full": {"rope_type": "dynamic", "factor": 3}}}, "768", 0),
        ({"rope_scaling": YARN}, "400", 0),  # older versions multiply, newer do not
        ({"rope_scaling": YARN}, "401", 400),
        ({"model_type": "gemma3_text", "rope_scaling": {"type": "linear", "factor": 8}}, "257", 256),
        ({"max_position_embeddings": ...}, "999999", 0),
        ({"max_position_embeddings": ..., "n_positions": 128}, "129", 128),
        ({"model_max_length": 1024}, "1024", 0),
    ],
)  # fmt: skip
def test_the_length_against_what_the_model_allows(look, tmp_path, config, word, most) -> None:
    model = write_model(tmp_path / "m", **config)
    found = look(model, f"--max-model-len={word}").get("model-length")

    if most:
        assert found is not None
        assert (found.status, found.fix) == ("fail", f"--max-model-len {most}")
        allowed = look(model, "--max-model-len", word, VLLM_ALLOW_LONG_MAX_MODEL_LEN="1")
        assert "model-length" not in allowed
    else:
        assert found is None or found.status == "ok"


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("8k", 8000), ("8K", 8192), ("1m", 10**6), ("1M", 1 << 20), ("25.6k", 25600), (" 16 ", 16),
        ("0", None), ("", None), ("k", None), ("1e5", None), ("-5", None), ("1.5K", None), ("inf", None),
        ("2g", 2 * 10**9), ("1_000", 1000), ("1_0k", None), ("0.2M", None), ("0.2m", 200_000), ("1.k", None),
        ("\u00b2k", None),
    ],
)  # fmt: skip
def test_lengths_are_read_as_vllm_does(word: str, tokens: int | None) -> None:
    assert _place.tokens(word) == tokens


def test_an_embedding_model_with_a_length_of_its_own_is_not_judged(look, model) -> None:
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 512}')

    assert "model-length" not in look(model, "--max-model-len", "512")


@pytest.mark.parametrize(
    ("words", "id_", "fix"),
    [
        (["--dtype", "fp16"], "model-dtype", "one of auto, half, float16"),
        (["--dtype", "Half"], "model-dtype", "one of auto, half, float16"),
        (["--quantization", "fpp8"], "model-quantization", "did you mean fp8?"),
        (["-q", "zzz"], "model-quantization", "one of awq, fp8, gptq"),
    ],
)
def test_names_that_vllm_does_not_know(look, model, words, id_: str, fix: str) -> None:
    found = look(model, *words)[id_]

    assert found.status == "fail"
    assert found.fix.startswith(fix)


AWQ = """
class AutoAWQConfig(QuantizationConfig):
    @staticmethod
    def get_config_filenames() -> list[str]:
        return ["quantize_config.json", "quant_config.json"]
"""
METHODS = """
def get_quantization_config(quantization):
    from .auto_awq import AutoAWQConfig
    table = {"awq": AutoAWQConfig, "gptq": Unknown}
"""


@pytest.mark.parametrize(
    ("method", "config", "file", "refusal", "expected"),
    [
        ("awq", {}, "", True, {"model-quantization": "fail"}),
        ("awq", {}, "", False, {"model-quantization": "warn"}),
        ("awq", {}, "quant_config.json", True, {}),
        ("awq", {}, "my_quantize_config.json", True, {}),
        ("awq", {"quantization_config": {"quant_method": "awq"}}, "", True, {}),
        ("gptq", {}, "", True, {}),  # whose class cannot be read here
        ("fp8", {}, "", True, {}),
    ],
)
def test_awq_of_a_model_without_its_settings(
    look, package, tmp_path, method: str, config, file: str, refusal: bool, expected
) -> None:
    folder = package / "model_executor/layers/quantization"
    (folder / "auto_awq.py").write_text(AWQ)
    with (folder / "__init__.py").open("a") as source:
        source.write(METHODS)
    loader = package / "model_executor/model_loader/weight_utils.py"
    loader.parent.mkdir(parents=True)
    loader.write_text('raise ValueError(f"Cannot find the config file for {x}")' * refusal)
    model = write_model(tmp_path / "awq", **config)
    if file:
        (model / file).write_text("{}")

    assert bad(look(model, "-q", method)) == expected


@pytest.mark.parametrize("words", [["--dtype", "bfloat16"], ["-q", "fp8"], ["-q", "None"]])
def test_names_that_vllm_knows(look, model, words) -> None:
    assert {"model-dtype", "model-quantization"} & set(look(model, *words)) == set()


def test_sizes_are_not_judged_where_something_may_change_them(look, model) -> None:
    for words in (["--hf-overrides", "{}"], ["--config", "x.yaml"]):
        found = look(model, *words, "-tp", "3", "--max-model-len", "9999")
        assert found["model-heads"].status == "unknown"
        assert "model-length" not in found


# ---- memory


LARGE = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 8192,
}  #: Llama 3 8B: 16 GB of weights, 1 GiB of KV cache for one sequence


@pytest.fixture
def large(tmp_path) -> Path:
    return write_model(tmp_path / "large", count=8 * GIB, **LARGE)


def cards(total: int, used: int = 0, count: int = 1) -> tuple[nvml.Device, ...]:
    free = (total - used) * GIB
    return tuple(nvml.Device(index, total=total * GIB, free=free) for index in range(count))


@pytest.mark.parametrize(
    ("words", "gpus", "status", "said"),
    [
        ([], cards(80), "ok", "weights 16.0 GiB on each GPU; GPU 0 has 80.0 GiB free of 80.0 GiB, vLLM"),
        ([], cards(80), "ok", "takes 0.5 of it; KV cache 128 KiB a token, 24.0 GiB left for it: 24 seq"),
        (["--gpu-memory-utilization", "0.25"], cards(80), "ok", "4.0 sequences"),
        (["--gpu-memory-utilization", "0.2"], cards(80), "warn", "weights 16.0 GiB"),
        (["--gpu-memory-utilization", "0.9"], cards(80, 64), "warn", "has 16.0 GiB free of 80.0"),
        ([], cards(24), "warn", "weights 16.0 GiB"),
        (["-tp", "2"], cards(24, count=2), "ok", "weights 8.0 GiB on each GPU"),
        (["-pp", "2"], cards(24, count=2), "ok", "KV cache 64 KiB a token, 4.0 GiB left"),
        ([], cards(33), "warn", "at most 4096 of 8192 tokens"),
        (["--kv-cache-dtype", "fp8"], cards(33), "ok", "1.0 sequences of 8192"),
        (["--max-model-len", "4k"], cards(33), "ok", "1.0 sequences of 4000"),
        (["--dtype", "float32"], cards(70), "ok", "weights 32.0 GiB"),
    ],
)  # fmt: skip
def test_weights_and_cache_against_the_gpu(look, large, words, gpus, status, said) -> None:
    found = look(large, *words, gpus=gpus)["model-memory"]

    assert "estimate: " in found.fact
    assert said in found.fact
    assert found.status == status
    assert bool(found.fix) == (status == "warn")


@pytest.mark.parametrize(
    ("words", "gpus", "fix"),
    [
        ([], cards(24), "--tensor-parallel-size 2, or a smaller"),
        ([], cards(9), "--tensor-parallel-size 4, or a smaller"),
        ([], cards(1), "a smaller or quantised model"),
        ([], cards(33), "--max-model-len 4096, or --kv-cache-dtype fp8"),
    ],
)
def test_the_fix_is_a_flag_that_helps(look, large, words, gpus, fix: str) -> None:
    assert look(large, *words, gpus=gpus)["model-memory"].fix.startswith(fix)


def test_float32_weights_are_loaded_as_half_of_it(look, large) -> None:
    safetensors(large / "model.safetensors", {"w": ("F32", 8 * GIB)})

    assert "weights 16.0 GiB" in look(large, gpus=cards(80))["model-memory"].fact


def test_quantised_weights_stay_as_they_are(look, tmp_path) -> None:
    config = {**LARGE, "quantization_config": {"quant_method": "gptq"}}
    model = write_model(tmp_path / "m", **config)
    safetensors(model / "model.safetensors", {"w": ("I32", GIB), "s": ("F32", GIB)})

    assert "weights 8.0 GiB" in look(model, gpus=cards(80))["model-memory"].fact


def test_the_gpu_is_the_one_that_is_visible_and_has_least(look, large) -> None:
    frees = enumerate((40, 80, 10))
    gpus = [nvml.Device(index, total=80 * GIB, free=free * GIB) for index, free in frees]

    assert "GPU 2 has" in look(large, gpus=gpus)["model-memory"].fact
    assert "GPU 1 has" in look(large, gpus=gpus, CUDA_VISIBLE_DEVICES="1")["model-memory"].fact


@pytest.mark.parametrize(
    ("words", "config", "reason"),
    [
        (["--cpu-offload-gb", "4"], {}, "--cpu-offload-gb changes it"),
        (["-q", "fp8"], {}, "-q changes it"),
        (["--hf-overrides", "{}"], {}, "--hf-overrides or --config changes it"),
        ([], {"mamba_d_state": 16}, "plain KV cache"),
        (["-tp", "x"], {}, "the number of GPUs"),
        (["--kv-cache-dtype", "nvfp4"], {}, "type of the KV cache"),
        ([], {"max_position_embeddings": ...}, "the greatest length"),
        (["--gpu-memory-utilization", "x"], {}, "x is no share"),
    ],
)
def test_what_is_not_known_is_skipped_with_the_reason(look, tmp_path, words, config, reason):
    model = write_model(tmp_path / "m", **{**LARGE, **config})
    found = look(model, *words, gpus=cards(80))["model-memory"]

    assert found.status == "skip"
    assert reason in found.fact


def test_without_weights_there_is_no_estimate(look, model) -> None:
    none(model)

    assert look(model, gpus=cards(80))["model-memory"].status == "skip"


def test_a_vllm_for_the_cpu_needs_memory_of_the_host(look, large, tmp_path) -> None:
    version = "0.32.0+cpu"
    huge = write_model(tmp_path / "huge", count=4 << 40, **LARGE)
    small = write_model(tmp_path / "small", **LARGE)

    assert look(small, version=version)["model-memory"].status == "ok"
    assert look(huge, version=version)["model-memory"].status == "warn"
    held = look(small, version=version, VLLM_CPU_KVCACHE_SPACE="1")["model-memory"]
    assert "1.0 sequences of 8192 tokens" in held.fact
    tight = look(small, "--max-model-len", "9k", version=version, VLLM_CPU_KVCACHE_SPACE="1")
    assert tight["model-memory"].status == "warn"
    assert tight["model-memory"].fix.startswith("--max-model-len 8192")
    much = look(small, version=version, VLLM_CPU_KVCACHE_SPACE="999999")["model-memory"]
    assert (much.status, "more than there is" in much.fact) == ("warn", True)


CPU_WORKER = b"is less than desired CPU memory utilization"


@pytest.mark.parametrize(
    ("free", "cgroup", "words", "env", "status", "fact"),
    [
        (64, None, [], {}, "warn", "vLLM takes 50.0 GiB, 0.5 of 100.0 GiB"),  # 64 + 1 - 16
        (84, None, [], {}, "ok", "each rank takes 0.5 of 100.0 GiB"),
        (64, None, ["--gpu-memory-utilization", "0.3"], {}, "ok", "takes 0.3 of 100.0 GiB"),
        (64, None, ["--device-memory-utilization", "0.8"], {}, "warn", "takes 80.0 GiB"),
        (64, None, ["--gpu-memory-utilization", "2"], {}, "ok", "GiB of memory available"),
        (64, None, [], {"VLLM_CPU_KVCACHE_SPACE": "1"}, "ok", "VLLM_CPU_KVCACHE_SPACE=1 GiB"),
        (64, None, [], {"VLLM_CPU_KVCACHE_SPACE": ""}, "warn", "takes 50.0 GiB"),
        (64, None, ["--kv-cache-memory-bytes", "1g"], {}, "skip", "--kv-cache-memory-bytes"),
        (84, (10, 2), [], {}, "ok", "each rank takes 0.5 of 10.0 GiB"),
        (84, (10, 7), [], {}, "warn", "takes 5.0 GiB, 0.5 of 10.0 GiB"),
        (84, (900, 899), [], {}, "ok", "each rank takes 0.5 of 100.0 GiB"),
    ],
)
def test_a_vllm_for_the_cpu_takes_a_share_of_the_memory_node(
    look, package, tmp_path, free: int, cgroup: Any, words, env, status: str, fact: str
) -> None:
    worker = package / "v1/worker/cpu_worker.py"
    worker.parent.mkdir(parents=True)
    worker.write_bytes(CPU_WORKER)
    kib = 1 << 20  # of one GiB
    rows = {
        "MemTotal": 100,
        "MemFree": free - 32,
        "Active(file)": 8,
        "Inactive(file)": 4,
        "SReclaimable": 4,
    }
    files = {
        "proc/meminfo": f"MemTotal: {200 * kib} kB\nMemAvailable: {150 * kib} kB\nSwapFree: 0 kB\n",
        "proc/self/status": "Name:\tx\nMems_allowed_list:\t1-2\n",
        "sys/devices/system/node/node1/meminfo": "".join(
            f"Node 1 {name}:  {size * kib} kB\n" for name, size in rows.items()
        ),
    }
    if cgroup:
        limit, used = (size << 30 for size in cgroup)
        files["sys/fs/cgroup/memory.max"] = f"{limit}\n"
        files["sys/fs/cgroup/memory.current"] = f"{used}\n"
    root = tmp_path / "machine"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    model = write_model(root / "small", **LARGE)
    found = look("/small", *words, version="0.32.0+cpu", host=Host(str(root)), **env)[
        "model-memory"
    ]

    assert model.exists()
    assert (found.status, fact in found.fact) == (status, True), found
    if status == "warn":
        assert found.subject == "memory node 1"
        assert "VLLM_CPU_KVCACHE_SPACE=" in found.fix


def test_a_share_that_would_fit_is_named() -> None:
    node = _cpu_memory.Node("0", 100 * GIB, 61 * GIB)
    found = _cpu_memory.too_much(_cpu_memory.Share(node, 0.92), 20 * GIB)

    assert found.fix == "VLLM_CPU_KVCACHE_SPACE=20, or --gpu-memory-utilization 0.54"


def test_a_vllm_for_the_cpu_is_not_told_of_gpus(look, tmp_path) -> None:
    small = write_model(tmp_path / "small", **LARGE)

    assert "GPU" not in look(small, version="0.32.0+cpu")["model-memory"].fact
    cpu = VllmInstall("0.32.0", "/x", distribution="vllm-cpu")
    assert (cpu.is_for_cpu, VllmInstall("0.32.0", "/x").is_for_cpu) == (True, False)


# ---- generation_config.json


def test_changed_defaults_are_a_note_and_vllms_own_are_not(look, model) -> None:
    path = model / "generation_config.json"
    path.write_text(json.dumps({"temperature": 0.6, "top_p": 0.9, "max_new_tokens": 100}))
    found = look(model)["generation-config"]

    assert found.status == "note"
    assert found.fact.endswith("temperature 0.6, top_p 0.9, max_new_tokens 100")
    assert "generation-config" not in look(model, "--generation-config", "vllm")
    path.write_text(json.dumps({"temperature": 1.0, "eos_token_id": 3}))
    assert "generation-config" not in look(model)


def test_another_folder_may_hold_the_defaults(look, model, tmp_path) -> None:
    (tmp_path / "generation_config.json").write_text('{"top_k": 5}')

    assert "top_k 5" in look(model, "--generation-config", tmp_path)["generation-config"].fact


# ---- a damaged configuration

NUMBERS = (
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "head_dim"),
    *("max_position_embeddings", "model_max_length", "sliding_window", "intermediate_size"),
    *("kv_lora_rank", "num_experts", "layer_types", "rope_scaling", "quantization_config"),
    *("architectures", "dtype", "model_type", "vocab_size"),
)
STRANGE = [float("inf"), float("nan"), 10**400, -(10**400), 1e308, 0, "x", {}, [{}], [[]], True]


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: str(value)[:8])
def test_a_strange_value_breaks_no_probe_and_fills_no_line(look, tmp_path, value: object) -> None:
    for name in NUMBERS:
        model = write_model(tmp_path / name, **{"num_key_value_heads": ..., name: value})
        for words in ([], ["--max-model-len", "8", "-tp", "2", "-ep"]):
            found = look(model, *words, gpus=cards(80))
            assert max(len(one.fact) + len(one.fix) for one in found.values()) < 400, name


def test_a_scaling_of_the_length_that_is_none_breaks_nothing(look, tmp_path) -> None:
    for factor in (float("inf"), 10**400):
        model = write_model(tmp_path / str(factor)[:3], rope_scaling={"factor": factor})
        assert "model-length" not in bad(look(model, "--max-model-len", "9999"))


@pytest.mark.parametrize(
    "words", [["--rope-scaling", '{"factor": 4}'], ["--rope_theta", "1"], ["--hf-overrides", "{}"]]
)
def test_what_changes_the_configuration_leaves_the_length_open(look, model, words) -> None:
    assert "model-length" in bad(look(model, "--max-model-len", "9999"))
    assert "model-length" not in look(model, "--max-model-len", "9999", *words)
