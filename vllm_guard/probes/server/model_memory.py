"""Will the weights and one full sequence fit in the memory that is free? An estimate, never a refusal."""

from __future__ import annotations

from vllm_guard import estimate, model_files, nvml
from vllm_guard.frozen import replace
from vllm_guard.model import Finding
from vllm_guard.probes.server import _cpu_memory, _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from dataclasses import dataclass

    from vllm_guard.estimate import Shape, Split
    from vllm_guard.nvml import Device
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._cpu_memory import Share
    from vllm_guard.probes.server._place import Place
    from vllm_guard.target.install import VllmInstall
else:
    from vllm_guard.frozen import dataclass

TITLE = "the memory that the model needs"

_ID = "model-memory"
_GIB = 1 << 30
_UTILIZATION = 0.9  #: of vLLM, where its source does not tell
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  #: types that --dtype converts, and their bytes
_VALUES = {"float16": 2.0, "bfloat16": 2.0, "half": 2.0, "float": 4.0, "float32": 4.0}
#: What makes the sums below wrong.
_OTHERWISE = (
    *("--cpu-offload-gb", "--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--quantization"),
    *("-q", "--speculative-config", "--enable-lora", "--data-parallel-size-local", "--nnodes"),
)
#: Bytes of a GPU from which on a step has so many tokens.
_STEPS = ((160 * _GIB, 16384), (70 * _GIB, 8192), (0, 2048))
#: Their KV cache is of another type by default.
_OWN_CACHE = ("deepseek_v32", "deepseek_v4", "glm_moe_dsa")


@dataclass(frozen=True)
class Need:
    """What the model needs, and how it is spread."""

    weights: int  #: bytes as loaded, on all GPUs together
    shape: Shape
    split: Split
    length: int  #: tokens of a full sequence


def check(context: Context) -> Iterator[Finding]:
    place, install = _place.find(context), _place.install(context)
    on_cpu = install is not None and install.is_for_cpu
    share = _cpu_memory.taken(context, install) if install and on_cpu else None
    if share and share.is_too_much:
        weights = model_files.weights(place.folder).size if place else 0
        yield _cpu_memory.too_much(share, weights)
        return
    if place is None or install is None:
        yield from _place.unread(context, _ID)
        return
    need = _need(context, place)
    if isinstance(need, str):
        yield Finding(_ID, "skip", place.name, f"no estimate: {need}")
    elif on_cpu:
        yield _on_host(need, place, context, share)
    else:
        yield _on_gpus(need, place, context, install)


def _need(context: Context, place: Place) -> Need | str:
    """The need, or why it is not known."""
    given = next((name for name in _OTHERWISE if context.has(name)), "")
    if given or _place.overrides(context):
        return f"{given or '--hf-overrides or --config'} changes it"
    weights = model_files.weights(place.folder)
    shape = estimate.shape(place.text)
    tensor = _place.number(context, 1, "--tensor-parallel-size", "-tp")
    pipeline = _place.number(context, 1, "--pipeline-parallel-size", "-pp")
    loaded = _loaded(context)
    value = _value(context, place, loaded)
    if not weights.size:
        return "the weights are not here"
    if shape is None:
        return "config.json does not tell the sizes of a plain KV cache"
    if not tensor or not pipeline or min(tensor, pipeline) < 1 or not value:
        return "the number of GPUs, or the type of the KV cache, is not told"
    length = _length(context, place)
    if not length:
        return "config.json does not tell the greatest length"
    total = sum(_as_loaded(weights.stored, loaded, place).values())
    return Need(int(total), shape, estimate.Split(tensor, pipeline, value), length)


def _on_gpus(need: Need, place: Place, context: Context, install: VllmInstall) -> Finding:
    memory = [
        (d.total, d.free, d.index) for d in _visible(context) if d.total and d.free is not None
    ]
    if not memory:
        return Finding(_ID, "skip", place.name, "no estimate: no GPU of NVIDIA's answers here")
    word = context.flag("--gpu-memory-utilization")
    default = models.utilization(install) or _UTILIZATION
    try:
        share = default if word is None else float(word)
    except ValueError:
        return Finding(_ID, "skip", place.name, f"no estimate: {word} is no share of the memory")
    total, free, index = min(memory, key=lambda one: estimate.budget(one[0], one[1], share))
    available = estimate.budget(total, free, share)
    flying = _in_flight(context, total, need.split.pipeline)
    need = replace(need, split=replace(need.split, in_flight=flying))
    sizes = f"{_place.gib(free)} free of {_place.gib(total)}"
    room = f"GPU {index} has {sizes}, vLLM takes {share:g} of it"
    return _compared(need, available, room, place)


def _compared(need: Need, available: int, room: str, place: Place) -> Finding:
    weights = estimate.weights_per_gpu(need.weights, need.split)
    left = available - weights
    said = f"estimate: weights {_place.gib(weights)} on each GPU; {room}"
    if left <= 0:
        return Finding(_ID, "warn", place.name, said, fix=_more_gpus(need, available))
    token = estimate.kv_bytes_per_token(need.shape, need.split)
    said += f"; KV cache {token / 1024:.0f} KiB a token, {_place.gib(left)} left for it"
    return _cached(need, left, said, place)


def _cached(need: Need, left: int, said: str, place: Place) -> Finding:
    """Does one sequence of the full length fit in what is left?"""
    held = estimate.sequences(need.shape, need.length, need.split, left)
    if held >= 1:
        fact = f"{said}: {_rounded(held)} sequences of {need.length} tokens"
        return Finding(_ID, "ok", place.name, fact)
    most = estimate.longest(need.shape, need.split, left, need.length)
    fact = f"{said}: at most {most} of {need.length} tokens of a sequence"
    fix = f"--max-model-len {most}" if most else _more_gpus(need, left)
    if need.split.value > 1:
        fix += ", or --kv-cache-dtype fp8"
    return Finding(_ID, "warn", place.name, fact, fix=fix)


def _rounded(count: float) -> str:
    return f"{count:.0f}" if count >= 10 else f"{count:.1f}"


def _on_host(need: Need, place: Place, context: Context, share: Share | None) -> Finding:
    """A vLLM for the CPU: all ranks share the host's memory, and the KV cache has a size of its own."""
    memory = context.host.memory()
    free = memory.available if memory else 0
    if not free:
        return Finding(_ID, "unknown", place.name, "/proc/meminfo does not tell what is free")
    weights = _place.gib(need.weights)
    said = f"estimate: weights {weights}; the host has {_place.gib(free)} of memory available"
    if need.weights > free:
        return Finding(_ID, "warn", place.name, said, fix="a smaller or quantised model")
    if share:
        left = share.wanted - estimate.weights_per_gpu(need.weights, need.split)
        said += f"; each rank takes {share.share:g} of {_place.gib(share.node.total)}"
        return _cached(need, max(left, 0), said, place)
    word = context.env.get(_cpu_memory.SPACE, "")
    if not word.isdigit() or not int(word):
        return Finding(_ID, "ok", place.name, said)
    space = int(word) * _GIB
    finding = _cached(
        need, space, f"{said}; VLLM_CPU_KVCACHE_SPACE={word} GiB for each rank", place
    )
    ranks = need.split.tensor * need.split.pipeline
    if need.weights + space * ranks > free:
        fix = "a smaller VLLM_CPU_KVCACHE_SPACE"
        return Finding(_ID, "warn", place.name, f"{finding.fact}: more than there is", fix=fix)
    return finding


def _in_flight(context: Context, memory: int, pipeline: int) -> int:
    """Tokens of the steps under way: `max_in_flight_tokens` of vLLM's `config/vllm.py`, whose default for a
    step goes by the memory of the GPU (`get_batch_defaults`, where the A100 has a default of its own).
    """
    default = next(tokens for least, tokens in _STEPS if memory >= least)
    step = _place.number(context, default, "--max-num-batched-tokens") or default
    return step * (pipeline if context.has("--no-async-scheduling") else pipeline + 1)


def _visible(context: Context) -> tuple[Device, ...]:
    """Those that CUDA shows; all of them where that is not known."""
    survey = nvml.survey(context.host)
    devices = survey.devices if survey else ()
    return nvml.visible(devices, context.env.get("CUDA_VISIBLE_DEVICES")) or devices


def _loaded(context: Context) -> float:
    """Bytes of a number as vLLM loads it: float32 becomes bfloat16 or float16, unless one asks for it."""
    return _VALUES.get((context.flag("--dtype") or "auto").lower(), 2.0)


def _as_loaded(stored: Mapping[str, int], loaded: float, place: Place) -> dict[str, float]:
    """Bytes by type, as they will be; a quantised model keeps what it has."""
    if place.config.get("quantization_config") or place.config.get("compression_config"):
        return dict(stored)
    return {k: n / _FLOATS[k] * loaded if k in _FLOATS else n for k, n in stored.items()}


def _value(context: Context, place: Place, loaded: float) -> float | None:
    """Bytes of a number in the KV cache; None where it is not a plain one."""
    kind = context.flag("--kv-cache-dtype") or "auto"
    if kind == "auto":
        return None if place.text.get("model_type") in _OWN_CACHE else loaded
    if kind in ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"):
        return 1.0
    return _VALUES.get(kind)


def _length(context: Context, place: Place) -> int:
    word = context.flag("--max-model-len")
    given = _place.tokens(word) if word else None
    return given or estimate.count(place.text, ("max_position_embeddings",)) or 0


def _more_gpus(need: Need, available: int) -> str:
    """The smallest number of GPUs of this size that holds the weights, or a smaller model."""
    heads = need.shape.heads
    for count in (n for n in (2, 4, 8, 16) if n > need.split.tensor and heads % n == 0):
        split = replace(need.split, tensor=count, pipeline=1)
        if estimate.weights_per_gpu(need.weights, split) < available:
            return f"--tensor-parallel-size {count}, or a smaller or quantised model"
    return "a smaller or quantised model, or --cpu-offload-gb"
