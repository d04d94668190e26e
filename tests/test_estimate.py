"""Weights and KV cache by formula: numbers worked out by hand, and laws that hold for all of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.estimate import (
    Shape,
    Split,
    budget,
    kv_bytes,
    kv_bytes_per_token,
    longest,
    sequences,
    shape,
    weights_per_gpu,
)
from vllm_guard.frozen import replace

GIB = 1 << 30


def config(layers: int, heads: int, kv: int | None, hidden: int, **more: object) -> dict:
    rows = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "hidden_size": hidden,
    }
    return {**rows, **more}


LLAMA_8B = config(32, 32, 8, 4096, model_type="llama")
LLAMA_70B = config(80, 64, 8, 8192, model_type="llama")
LLAMA2_7B = config(32, 32, 32, 4096, model_type="llama")
QWEN25_7B = config(
    28, 28, 4, 3584, model_type="qwen2", sliding_window=131072, use_sliding_window=False
)
MISTRAL_7B = config(32, 32, 8, 4096, model_type="mistral", sliding_window=4096)
MIXTRAL = config(32, 32, 8, 4096, model_type="mixtral", sliding_window=None, num_local_experts=8)
DEEPSEEK_V3 = config(
    61, 128, 128, 7168, model_type="deepseek_v3", kv_lora_rank=512, qk_rope_head_dim=64
)
GEMMA_7B = config(28, 16, 16, 3072, model_type="gemma", head_dim=256)
GEMMA2_9B = config(42, 16, 8, 3584, model_type="gemma2", head_dim=256, sliding_window=4096)
GEMMA3_12B = config(48, 16, 8, 3840, model_type="gemma3_text", head_dim=256, sliding_window=1024)
FALCON_7B = {
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "hidden_size": 4544,
    "multi_query": True,
}
GPT2 = {"n_layer": 12, "n_head": 12, "n_embd": 768}
GPT_OSS = config(
    36,
    64,
    8,
    2880,
    head_dim=64,
    sliding_window=128,
    layer_types=["sliding_attention", "full_attention"] * 18,
)


@pytest.mark.parametrize(
    ("model", "split", "expected"),
    [
        (LLAMA_8B, Split(), 131072),  # 32 layers x 8 heads x 2 x 128 x 2 bytes
        (LLAMA_8B, Split(value=1.0), 65536),
        (LLAMA_8B, Split(pipeline=2), 65536),
        (LLAMA_8B, Split(pipeline=3), 45056),  # one GPU has 11 layers
        (LLAMA_70B, Split(), 327680),
        (LLAMA_70B, Split(4), 81920),  # 80 x 2 heads
        (LLAMA_70B, Split(8), 40960),
        (LLAMA_70B, Split(16), 40960),  # 8 KV heads on 16 GPUs: each is there twice
        (LLAMA_70B, Split(4, 2), 40960),
        (LLAMA2_7B, Split(), 524288),  # MHA: all 32 heads
        (LLAMA2_7B, Split(4), 131072),
        (QWEN25_7B, Split(), 57344),  # 28 x 4 x 2 x 128 x 2
        (QWEN25_7B, Split(4), 14336),
        (MISTRAL_7B, Split(), 131072),
        (MIXTRAL, Split(), 131072),  # experts have no KV cache
        (MIXTRAL, Split(2), 65536),
        (DEEPSEEK_V3, Split(), 70272),  # 61 x (512 + 64) x 2
        (DEEPSEEK_V3, Split(8), 70272),  # the latent vector is on every GPU
        (DEEPSEEK_V3, Split(8, value=1.0), 35136),
        (DEEPSEEK_V3, Split(8, 2), 35712),  # 31 layers
        (GEMMA_7B, Split(), 458752),  # 28 x 16 x 2 x 256 x 2: head_dim is not 3072 / 16
        (GEMMA2_9B, Split(), 344064),
        (FALCON_7B, Split(), 8192),  # MQA: 32 x 1 x 2 x 64 x 2
        (GPT2, Split(), 36864),  # 12 x 12 x 2 x 64 x 2
        (GPT2, Split(value=4.0), 73728),
    ],
)  # fmt: skip
def test_the_kv_cache_of_one_token(model: dict, split: Split, expected: int) -> None:
    form = shape(model)

    assert form is not None
    assert kv_bytes_per_token(form, split) == expected


@pytest.mark.parametrize(
    ("model", "length", "expected"),
    [
        (LLAMA_8B, 8192, 1 * GIB),
        (LLAMA_8B, 131072, 16 * GIB),
        (LLAMA_8B, 1, 16 * 131072),  # one block
        (LLAMA_8B, 17, 32 * 131072),
        (MIXTRAL, 32768, 4 * GIB),
        (MISTRAL_7B, 4096, GIB // 2 + 16 * 131072),  # the window may begin within a block
        (MISTRAL_7B, 32768, 8208 * 131072),  # 4096 - 1 + 4096 in flight, in whole blocks, and one
        (GEMMA2_9B, 32768, (21 * 32768 + 21 * 8208) * 8192),
        (GEMMA3_12B, 131072, (8 * 131072 + 40 * 5136) * 8192),  # 1024 - 1 + 4096
        (GPT_OSS, 131072, (18 * 131072 + 18 * 4240) * 2048),
        (DEEPSEEK_V3, 163840, 163840 * 70272),
    ],
)
def test_the_kv_cache_of_one_sequence(model: dict, length: int, expected: int) -> None:
    form = shape(model)

    assert form is not None
    assert kv_bytes(form, length, Split()) == expected


def test_what_fits_beside_the_weights_of_llama_3_8b() -> None:
    form = shape(LLAMA_8B)
    assert form is not None
    left = budget(80 * GIB, 79 * GIB, 0.9) - weights_per_gpu(16 * GIB, Split())

    assert left == 56 * GIB
    assert sequences(form, 8192, Split(), left) == 56.0
    assert longest(form, Split(), left) == 56 * 8192
    assert longest(form, Split(), left, limit=8192) == 8192
    assert longest(form, Split(), 0) == 0


def test_weights_are_shared_and_rounded_up() -> None:
    assert weights_per_gpu(141_107_412_992, Split(8)) == 17_638_426_624
    assert weights_per_gpu(10, Split(2, 2)) == 3
    assert budget(80 * GIB, 10 * GIB, 0.9) == 10 * GIB


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"num_hidden_layers": 2},
        config(2, 2, 2, 0),
        config(2, 2, 2, 64, num_hidden_layers="2"),
        config(2, 2, 2, 64, layer_types=["linear_attention", "full_attention"]),
        config(2, 2, 2, 64, mamba_d_state=16),
    ],
)
def test_what_the_configuration_does_not_tell_is_not_guessed(broken: dict) -> None:
    assert shape(broken) is None


SHAPES = st.builds(
    Shape,
    layers=st.integers(1, 100),
    heads=st.just(64),
    kv_heads=st.sampled_from([1, 2, 4, 8, 64]),
    head_dim=st.sampled_from([64, 128, 256]),
    latent=st.sampled_from([0, 0, 576]),
    window=st.sampled_from([128, 1024, 4096]),
    windowed=st.integers(0, 50),
)
SPLITS = st.builds(
    Split,
    tensor=st.sampled_from([1, 2, 4, 8, 16]),
    pipeline=st.integers(1, 8),
    value=st.sampled_from([1.0, 2.0, 4.0]),
)
LENGTHS = st.integers(1, 1 << 20)


@given(SHAPES, SPLITS, LENGTHS, st.integers(0, 1 << 20))
def test_a_longer_sequence_never_needs_less(form, split, length, more) -> None:
    assert kv_bytes(form, length, split) <= kv_bytes(form, length + more, split)


@given(SHAPES, SPLITS, LENGTHS)
def test_more_gpus_or_narrower_values_never_need_more_on_each(form, split, length) -> None:
    needed = kv_bytes(form, length, split)

    assert kv_bytes(form, length, Split(split.tensor * 2, split.pipeline, split.value)) <= needed
    assert kv_bytes(form, length, Split(split.tensor, split.pipeline, split.value / 2)) <= needed


@given(SHAPES, SPLITS, LENGTHS)
def test_more_stages_never_need_more_where_all_layers_are_alike(form, split, length) -> None:
    alike = replace(form, windowed=0)
    more = replace(split, pipeline=split.pipeline + 1)

    assert kv_bytes(alike, length, more) <= kv_bytes(alike, length, split)


@given(SHAPES, SPLITS, st.integers(0, 200 * GIB))
def test_the_longest_sequence_fits_and_one_token_more_does_not(form, split, available) -> None:
    length = longest(form, split, available)

    assert length == 0 or kv_bytes(form, length, split) <= available
    assert length == 1 << 30 or kv_bytes(form, length + 1, split) > available


@given(SHAPES, SPLITS, LENGTHS, st.integers(0, 200 * GIB), st.integers(0, GIB))
def test_more_memory_never_holds_less(form, split, length, available, more) -> None:
    assert longest(form, split, available) <= longest(form, split, available + more)
    held = sequences(form, length, split, available)
    assert held <= sequences(form, length, split, available + more)
    assert (held >= 1) == (kv_bytes(form, length, split) <= available)


#: vLLM's own answer for rows of layers that see all, those with a window, window, values, length, in flight:
#: bytes of one sequence, by its own groups. A window of 0 is MLA.
GROUPS = """
import json, sys, torch
from types import SimpleNamespace as Some
from vllm.config import CacheConfig
from vllm.v1.core import kv_cache_utils as cache
from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec
resolved = CacheConfig(block_size=16)
resolved.kv_cache_layout = "NHD"
said = []
for full, windowed, window, width, length, flying in json.loads(sys.argv[1]):
    config = Some(
        model_config=Some(max_model_len=length), max_in_flight_tokens=flying, cache_config=resolved,
        parallel_config=Some(decode_context_parallel_size=1), speculative_config=None,
        scheduler_config=Some(disable_hybrid_kv_cache_manager=False), kv_transfer_config=None,
    )
    row = dict(block_size=16, dtype=torch.bfloat16)
    if window:
        row.update(num_kv_heads=8, head_size=width // 16)
        plain, narrow = FullAttentionSpec(**row), lambda: SlidingWindowSpec(**row, sliding_window=window)
    else:
        plain = MLAAttentionSpec(**row, num_kv_heads=1, head_size=width)
    specs = {f"f{n}": plain for n in range(full)} | {f"w{n}": narrow() for n in range(windowed)}
    groups = cache.get_kv_cache_groups(config, specs)
    said.append(cache._max_memory_usage_bytes_from_groups(config, groups))
print(json.dumps(said))
"""
LAYERS = [(32, 0), (0, 32), (18, 18), (8, 40), (10, 52), (9, 8), (8, 9), (7, 15), (3, 10), (12, 18)]


@pytest.mark.vllm
def test_vllms_own_groups_need_the_same() -> None:
    rows = [
        *(
            (f, w, 1024, 2048, n, k)
            for f, w in LAYERS
            for n in (17, 8192, 100_000)
            for k in (4096, 16384)
        ),
        *((61, 0, 0, 576, length, 4096) for length in (1, 163_840)),
    ]
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    done = subprocess.run([python, "-c", GROUPS, json.dumps(rows)], capture_output=True, check=True)

    ours = [
        kv_bytes(
            Shape(full + windowed, 8, 8, width // 16, 0 if window else width, window, windowed),
            length,
            Split(in_flight=flying),
        )
        for full, windowed, window, width, length, flying in rows
    ]
    assert ours == json.loads(done.stdout.splitlines()[-1])
