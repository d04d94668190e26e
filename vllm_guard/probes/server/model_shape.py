"""Do the sizes on the command line suit the model: GPUs and length?"""

from __future__ import annotations

import os

from vllm_guard import estimate
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place

TITLE = "the model's sizes"

_TENSOR = ("--tensor-parallel-size", "-tp")
#: What may be the greatest length, the smallest of them counts (vLLM's `derive_max_model_len_and_key`).
_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
#: Scalings of RoPE whose model already has the scaled length; YaRN's had not in older versions of vLLM.
_SCALED = ("su", "longrope", "llama3", "default")
_ABSURD = 1 << 53  #: tokens; a file with such a length is damaged
_LARGEST = 1024  #: GPUs that are tried for a fix


def check(context: Context) -> Iterator[Finding]:
    place = _place.find(context)
    if place is None:
        yield from _place.unread(context, "model-heads")
        return
    if _place.overrides(context):
        fact = "not compared: --hf-overrides or --config may change heads and length"
        yield Finding("model-heads", "unknown", place.name, fact)
        return
    yield from _heads(context, place)
    yield from _length(context, place)


def _heads(context: Context, place: Place) -> Iterator[Finding]:
    heads = estimate.size(place.text, "num_attention_heads")
    gpus = _place.number(context, 1, *_TENSOR)
    if not heads or not gpus or gpus < 1:
        return
    groups = estimate.kv_heads(place.text) or heads
    mla = place.text.get("kv_lora_rank")
    if heads % gpus:
        fact = f"{heads} attention heads cannot be shared by {gpus} GPUs"
        status = place.certain
    elif not mla and groups % gpus and gpus % groups:
        fact = f"{groups} KV heads can neither be shared by {gpus} GPUs nor repeated on them evenly"
        status = place.certain if _checks_kv_heads(context, place) else "warn"
    else:
        fact = f"{heads} attention heads, {groups} KV heads on {gpus} GPU(s)"
        yield Finding("model-heads", "ok", place.name, fact)
        return
    good = [
        n for n in range(1, _LARGEST) if heads % n == 0 and (groups % n == 0 or n % groups == 0)
    ]
    near = min(good, key=lambda n: (abs(n - gpus), n))
    fix = f"--tensor-parallel-size {near}   (possible: {', '.join(map(str, good))})"
    yield Finding("model-heads", status, place.name, fact, fix=fix)


def _checks_kv_heads(context: Context, place: Place) -> bool:
    """Does the code of its architecture share the KV heads by vLLM's QKVParallelLinear, which insists?"""
    install = _place.install(context)
    if install is None:
        return False
    registry = models.architectures(install)
    names = place.config.get("architectures") or ["?"]
    module = registry["supported"].get(str(names[0])) if registry else None
    return bool(module) and b"QKVParallelLinear(" in models.model_source(install, str(module))


def _length(context: Context, place: Place) -> Iterator[Finding]:
    word = context.flag("--max-model-len")
    asked = _place.tokens(word) if word else None
    most = _longest(place.text)
    if asked is None or not most or _is_set(context.env, "VLLM_ALLOW_LONG_MAX_MODEL_LEN"):
        return
    if any(name.startswith("sentence_") for name in os.listdir(place.folder)):
        return  # the length of an embedding model may be in there
    if asked <= most:
        fact = f"--max-model-len {asked} of at most {most}"
        yield Finding("model-length", "ok", place.name, fact)
        return
    fact = f"--max-model-len {asked} is more than the {most} that config.json allows"
    yield Finding(
        "model-length",
        place.certain,
        place.name,
        fact,
        fix=f"--max-model-len {most}",
        why="VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 starts it all the same; answers may then be NaN or garbage",
    )


def _longest(text: Mapping[str, Any]) -> int | None:
    """The most that some version of vLLM would let pass; None where the configuration does not tell."""
    given = {name: text[name] for name in _LENGTHS if isinstance(text.get(name), (int, float))}
    if not given:
        return None
    most = given.get("model_max_length") or min(given.values())
    if "gemma3" not in str(text.get("model_type")) and abs(most) < _ABSURD:
        most = max([most, *(_scaled(rope, most) for rope in _ropes(text))])
    return int(most) if 0 < most < _ABSURD else None  # not for NaN either


def _scaled(rope: Mapping[str, Any], most: float) -> float:
    factor = rope.get("factor")
    if rope.get("rope_type", rope.get("type")) in _SCALED or not isinstance(factor, (int, float)):
        return most
    if "yarn" in str(rope.get("rope_type", rope.get("type"))):
        original = rope.get("original_max_position_embeddings")
        return max(most, original * factor) if isinstance(original, int) else most * factor
    return most * factor


def _ropes(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parameters of RoPE: one set for the model, or one for each kind of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        rope = text.get(name)
        if isinstance(rope, dict):
            yield rope
            yield from (part for part in rope.values() if isinstance(part, dict))


def _is_set(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").strip().lower() in ("1", "true")
