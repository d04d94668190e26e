"""Can the GPUs share the matrices of the model: whole columns, whole groups of quantised numbers?"""

from __future__ import annotations

from vllm_guard import estimate
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place

TITLE = "how the GPUs share the model"

_TENSOR = ("--tensor-parallel-size", "-tp")
_EXPERT_PARALLEL = ("--enable-expert-parallel", "-ep")
_LARGEST = 1024  #: GPUs that are tried for a fix
#: Names of the number of experts, in vLLM's order (`get_num_experts`); block_configs may have it as well.
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_NO_EXPERTS = b"when expert parallelism is enabled"
_BLOCKS = b"is not divisible by weight quantization block_k"


def check(context: Context) -> Iterator[Finding]:
    place = _place.find(context)
    gpus = _place.number(context, 1, *_TENSOR)
    if place is None:
        yield from _place.unread(context, "model-intermediate")
    if place is None or not gpus or gpus < 1 or _place.overrides(context):
        return
    heads = estimate.size(place.text, "num_attention_heads")
    if heads and heads % gpus:
        return  # model-heads says it
    size, mixed = estimate.count(place.text, ("intermediate_size",)), _is_mixed(place)
    if not mixed and context.has(*_EXPERT_PARALLEL):
        yield _no_experts(context, place)
    if not size:
        return
    if not mixed and size % gpus:
        fact = f"intermediate_size {size} cannot be shared by {gpus} GPUs"
        status = place.certain if _is_shared_evenly(context, place) else "warn"
        fix = _possible(place, gpus, lambda n: size % n == 0)
        yield Finding("model-intermediate", status, place.name, fact, fix=fix)
    elif not mixed:
        yield from _in_blocks(context, place, size, gpus)


def _is_mixed(place: Place) -> bool:
    """Has it experts, whose sizes go by other names and rules?"""
    return any(place.text.get(name) for name in _EXPERTS) or "block_configs" in place.text


def _no_experts(context: Context, place: Place) -> Finding:
    install = _place.install(context)
    refused = install is not None and models.says(
        install, _NO_EXPERTS, "config/model.py", "config.py"
    )
    fact = "expert parallelism is asked for, and config.json names no experts"
    status = place.certain if refused else "warn"
    return Finding(
        "model-experts", status, place.name, fact, fix="leave out --enable-expert-parallel"
    )


def _is_shared_evenly(context: Context, place: Place) -> bool:
    """Is its architecture's MLP made of vLLM's MergedColumnParallelLinear, which insists on it?"""
    install = _place.install(context)
    registry = models.architectures(install) if install else None
    if install is None or registry is None:
        return False
    name = str((place.config.get("architectures") or ["?"])[0])
    source = models.mlp_source(install, registry["supported"].get(name, ""))
    return b"MergedColumnParallelLinear(" in source and b"intermediate_size" in source


def _in_blocks(context: Context, place: Place, size: int, gpus: int) -> Iterator[Finding]:
    """A share must be a whole number of the blocks, or of the groups, that have a scale in common."""
    config = _place.quantization(place)
    blocks, group = config.get("weight_block_size"), _group_size(place)
    install = _place.install(context)
    if isinstance(blocks, list) and all(isinstance(side, int) and side > 0 for side in blocks):
        file = "model_executor/layers/quantization/utils/fp8_utils.py"
        named = any(config.get(name) for name in ("ignored_layers", "modules_to_not_convert"))
        sure = install is not None and models.says(install, _BLOCKS, file) and not named
        fact = f"blocks of {' x '.join(map(str, blocks))} numbers"
        status = place.certain if sure and _is_shared_evenly(context, place) else "warn"
        units = tuple(blocks) if gpus > 1 else tuple(blocks[:1])  # rows are whole on one GPU
        yield from _shared(place, (size, gpus), units, (status, fact))
    elif group and gpus > 1:
        yield from _shared(place, (size, gpus), (group,), ("warn", f"groups of {group} numbers"))


def _shared(
    place: Place, shared: tuple[int, int], units: tuple[int, ...], found: tuple[Status, str]
) -> Iterator[Finding]:
    size, gpus = shared
    status, what = found
    share = size // gpus
    if any(share % unit for unit in units):
        fact = f"{size} / {gpus} = {share} of intermediate_size is no whole number of {what}"
        fix = _possible(
            place, gpus, lambda n: size % n == 0 and not any(size // n % unit for unit in units)
        )
        yield Finding("model-blocks", status, place.name, fact, fix=fix)


def _group_size(place: Place) -> int:
    """The numbers with a common scale, of GPTQ, AWQ and compressed-tensors; 0 for none."""
    config = _place.quantization(place)
    groups = config.get("config_groups")
    rows = [group.get("weights") for group in groups.values()] if isinstance(groups, dict) else []
    given = [row.get("group_size") for row in (config, *rows) if isinstance(row, dict)]
    return max((size for size in given if isinstance(size, int)), default=0)


def _possible(place: Place, gpus: int, suits: Callable[[int], bool]) -> str:
    """The numbers of GPUs that the sizes and the attention heads allow."""
    heads = estimate.size(place.text, "num_attention_heads") or 1
    good = [n for n in range(1, _LARGEST) if heads % n == 0 and suits(n)]
    if not good:
        return "another form of the model"
    near = min(good, key=lambda n: (abs(n - gpus), n))
    return f"--tensor-parallel-size {near}   (possible: {', '.join(map(str, good))})"
