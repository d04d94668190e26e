"""How much memory a model needs: its weights and its KV cache, for each GPU. Pure.

The formulas are those of vLLM's `v1/kv_cache_interface.py`; sizes are bytes, lengths are tokens. What vLLM
needs besides (activations, CUDA graphs, NCCL's buffers) is not in them: these are estimates.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

IN_FLIGHT = 4096  #: tokens of the steps under way, which a sliding window has to hold besides
_BLOCK = 16  #: tokens of one block of the KV cache
_NEARLY = 1.5
_ABSURD = 1 << 53  #: a size that no model has: the file is damaged
_LIMIT = 1 << 30  #: tokens: no model is that long

#: Other names for what Llama's configuration calls so.
_NAMES = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
}
#: In vLLM's order (`get_total_num_kv_heads`); without any, each attention head has its own.
_KV_HEADS = (
    *("n_head_kv", "num_kv_heads", "num_key_value_heads"),
    *("multi_query_group_num", "num_attention_groups"),
)
#: State space models and linear attention keep a state, whose size is not that of a KV cache.
_OTHER_STATE = (
    *(
        "ssm_cfg",
        "mamba_d_state",
        "mamba_d_conv",
        "ssm_state_size",
        "state_size",
        "linear_num_key_heads",
    ),
    *("linear_attn_config", "hybrid_override_pattern", "attn_layer_period", "block_configs"),
    "compress_ratios",
)
#: Models whose layers all have the window, where their configuration has one.
_ALL_WINDOWED = ("mistral", "mixtral", "phi3", "starcoder2")
#: Every how many layers one sees everything, where the configuration does not say it.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4}


@dataclass(frozen=True)
class Shape:
    """What the size of a KV cache follows from."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    latent: int = 0  #: MLA: values per token and layer, for all heads together
    window: int = 0  #: tokens that a windowed layer sees
    windowed: int = 0  #: layers with the window


@dataclass(frozen=True)
class Split:
    """Over how many GPUs a model is spread, how wide a value of its KV cache is, how much is under way."""

    tensor: int = 1
    pipeline: int = 1
    value: float = 2.0  #: bytes
    in_flight: int = IN_FLIGHT  #: tokens


def shape(config: Mapping[str, Any]) -> Shape | None:
    """The shape that the (text) configuration tells; None where it does not, or keeps another state."""
    if any(config.get(name) is not None for name in _OTHER_STATE):
        return None
    layers, heads = size(config, "num_hidden_layers"), size(config, "num_attention_heads")
    if not layers or not heads:
        return None
    dim = count(config, ("head_dim",)) or (size(config, "hidden_size") or 0) // heads
    rank = count(config, ("kv_lora_rank",))
    latent = rank + (count(config, ("qk_rope_head_dim",)) or 0) if rank else 0
    if not dim and not latent:
        return None
    windowed = _windowed(config, layers)
    if windowed is None:
        return None
    window = count(config, ("sliding_window",)) or 0
    return Shape(layers, heads, kv_heads(config) or heads, dim, latent, window, windowed)


def size(config: Mapping[str, Any], name: str) -> int | None:
    """A number of the configuration, under any of its names."""
    return count(config, _NAMES[name])


def count(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these that is a number a model can have."""
    found = (config.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and 0 < n < _ABSURD), None)


def kv_heads(config: Mapping[str, Any]) -> int | None:
    """The KV heads; as many as attention heads where the configuration has no number of its own."""
    if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:
        return 1
    return count(config, _KV_HEADS) or size(config, "num_attention_heads")


def weights_per_gpu(total: int, split: Split) -> int:
    """An even share of the weights: what is not sharded (norms, often the embeddings) makes it larger."""
    return -(-total // (split.tensor * split.pipeline))


def kv_bytes_per_token(form: Shape, split: Split) -> float:
    """What one token adds on each GPU while no window is full."""
    layers = -(-form.layers // split.pipeline)
    return layers * _values(form, split) * split.value


def kv_bytes(form: Shape, length: int, split: Split) -> float:
    """The KV cache of one sequence of this length on each GPU, in whole blocks.

    Where some layers see everything and others have a window, vLLM makes groups of as many layers as the
    smaller kind has, and fills the last one up (`_get_kv_cache_groups_uniform_page_size`).
    """
    everywhere = -(-max(0, form.layers - form.windowed) // split.pipeline)
    windowed = -(-form.layers // split.pipeline) - everywhere
    seen = min(length, form.window - 1 + split.in_flight)
    all_of_it, window = _blocks(length), _blocks(seen) + 1  # it may begin within a block
    group = _group(everywhere, windowed)
    blocks = group * (-(-everywhere // group) * all_of_it + -(-windowed // group) * window)
    return blocks * _BLOCK * _values(form, split) * split.value


def _group(one: int, other: int) -> int:
    """The layers of one group: of the smaller kind, unless the two are nearly as many."""
    smaller, larger = sorted((one, other))
    return larger if not smaller or larger < smaller * _NEARLY else smaller


def sequences(form: Shape, length: int, split: Split, available: float) -> float:
    """How many sequences of this length fit in the bytes left for the KV cache."""
    return max(0.0, available) / kv_bytes(form, length, split)


def longest(form: Shape, split: Split, available: float, limit: int = _LIMIT) -> int:
    """The longest single sequence that fits, `limit` at most; 0 if not even one block does."""
    if kv_bytes(form, limit, split) <= available:
        return limit
    low, high = 0, limit
    while high - low > 1:  # it fits at `low`, and not at `high`
        middle = (low + high) // 2
        fits = kv_bytes(form, middle, split) <= available
        low, high = (middle, high) if fits else (low, middle)
    return low


def budget(total: int, free: int, utilization: float) -> int:
    """What vLLM may use of a GPU, by its own rule, as far as it is free."""
    return min(int(total * utilization), free)


def _values(form: Shape, split: Split) -> int:
    """Values of one token and layer on each GPU. MLA's latent vector, and KV heads that are fewer than the
    GPUs, are on every one of them.
    """
    return form.latent or max(1, form.kv_heads // split.tensor) * 2 * form.head_dim


def _windowed(config: Mapping[str, Any], layers: int) -> int | None:
    """How many layers have a sliding window; None where some keep no KV cache at all."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
            return None
        return kinds.count("sliding_attention") if config.get("sliding_window") else 0
    if not config.get("sliding_window") or config.get("use_sliding_window") is False:
        return 0
    model = str(config.get("model_type"))
    if model in _ALL_WINDOWED:
        return layers
    every = count(config, ("sliding_window_pattern",)) or _PATTERNS.get(model)
    return layers - layers // every if every else 0


def _blocks(tokens: int) -> int:
    return -(-tokens // _BLOCK)
