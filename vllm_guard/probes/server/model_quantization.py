"""Do the quantisation of the model and of the KV cache suit this vLLM and these GPUs? By its own source."""

from __future__ import annotations

import os

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place, model_dtype
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place
    from vllm_guard.target.install import VllmInstall

TITLE = "the model's quantisation"

_ID = "model-quantization"
NO_CAPABILITY = b"is not supported for the current GPU"
NO_DTYPE = b"is not supported for quantization"
NO_CONFIG = b"Cannot find the config file for"
LOOKED_FOR_IN = "model_executor/model_loader/weight_utils.py"
_ALLOW = "--allow-deprecated-quantization"
CHECKED_IN = ("config/vllm.py", "config/__init__.py", "config.py")
#: The least compute capability that computes in it; below, vLLM unpacks the weights to 16 bits (Marlin).
_COMPUTES = {"fp8": 89, "nvfp4": 100, "mxfp4": 100}
#: Below which compute capability vLLM's Triton attention refuses a KV cache of this type.
_CACHES = {"fp8": 89, "bfloat16": 80}


def check(context: Context) -> Iterator[Finding]:
    place, install = _place.find(context), _place.install(context)
    if place is None or install is None:
        yield from _place.unread(context, _ID)
        return
    known = models.quantizations(install)
    word = context.flag("--quantization", "-q")
    if word is not None and known and word not in known and word.lower() != "none":
        yield _no_such_word(word, known, install)
    elif known and not _place.overrides(context):
        yield from _judged(context, place, install)
    yield from _cache(context)


def _no_such_word(word: str, known: list[str], install: VllmInstall) -> Finding:
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    status: Status = "warn" if models.has_plugins(install) else "fail"
    fact = f"vLLM {install.version} has no such method of quantisation"
    fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
    return Finding(_ID, status, f"--quantization {word}", fact, fix=fix)


def _judged(context: Context, place: Place, install: VllmInstall) -> Iterator[Finding]:
    method = _method(place) or context.flag("--quantization", "-q") or "none"
    if method.lower() == "none":
        return
    if method not in models.quantizations(install):
        if not models.mentions_quantization(install, method):
            status: Status = "warn" if models.has_plugins(install) else place.certain
            fact = f"quantised by {method}, which vLLM {install.version} does not have"
            yield Finding(_ID, status, place.name, fact, fix="another form of the model")
    elif method in models.deprecated_quantizations(install) and not context.has(_ALLOW):
        fact = f"{method} is deprecated: vLLM {install.version} takes it only where it is allowed"
        yield Finding(_ID, place.certain, place.name, fact, fix=_ALLOW)
    elif _lacks_config(place, install, method):
        fact = (
            f"{method} is asked for, and neither config.json nor a file of its own has its settings"
        )
        sure = place.certain if models.says(install, NO_CONFIG, LOOKED_FOR_IN) else "warn"
        fix = "leave out --quantization, or a form of the model that is quantised so"
        yield Finding(_ID, sure, place.name, fact, fix=fix)
    else:
        yield from _required(context, place, install, method)


def _lacks_config(place: Place, install: VllmInstall, method: str) -> bool:
    """Has an unquantised model nothing that `get_quant_config` would read for AWQ or GPTQ?"""
    if _place.quantization(place) or not any(family in method for family in ("awq", "gptq")):
        return False
    ends = tuple(end for need in models.requirements(install, method) for end in need["files"])
    return bool(ends) and not any(name.endswith(ends) for name in os.listdir(place.folder))


def _required(
    context: Context, place: Place, install: VllmInstall, method: str
) -> Iterator[Finding]:
    """By `_get_quantization_config` of vLLM's `config/vllm.py`; of the classes it may take, the mildest."""
    needs = models.requirements(install, "modelopt" if method.startswith("modelopt") else method)
    least, dtype = model_dtype.capability(context), model_dtype.chosen(context, place)
    lowest = min((need["capability"] or 0 for need in needs), default=0)
    told = all(need["dtypes"] for need in needs)
    dtypes = sorted({name for need in needs for name in need["dtypes"] if told})
    if least and least < lowest:
        fact = f"{method} needs compute capability {model_dtype.dotted(lowest)}"
        fact += f", and there is {model_dtype.dotted(least)}"
        status = place.certain if models.says(install, NO_CAPABILITY, *CHECKED_IN) else "warn"
        yield Finding(_ID, status, place.name, fact, fix="another form of the model, or other GPUs")
    elif dtype and dtypes and dtype not in dtypes:
        fact = f"{method} is computed in {' or '.join(dtypes)}, not in {dtype}"
        status = place.certain if models.says(install, NO_DTYPE, *CHECKED_IN) else "warn"
        yield Finding(_ID, status, place.name, fact, fix=_other_dtype(dtypes, least))
    elif least:
        yield _on_these_gpus(place, method, least)


def _other_dtype(dtypes: list[str], least: int | None) -> str:
    able = [
        name for name in dtypes if name != "bfloat16" or not least or least >= model_dtype.BFLOAT16
    ]
    return f"--dtype {able[0]}" if able else "another form of the model, or other GPUs"


def _on_these_gpus(place: Place, method: str, least: int) -> Finding:
    numbers = next(filter(None, map(_COMPUTES.get, _numbers(place, method))), 0)
    fact = f"{method} on compute capability {model_dtype.dotted(least)}"
    if least >= numbers:
        return Finding(_ID, "ok", place.name, fact)
    fact += (
        f": the weights stay small, it is computed in 16 bits (below {model_dtype.dotted(numbers)})"
    )
    return Finding(_ID, "note", place.name, fact)


def _numbers(place: Place, method: str) -> Iterator[str]:
    """What the values are, where that is no matter of whole numbers."""
    yield method
    config = _place.quantization(place)
    algorithm = str(config.get("quant_algo") or "").lower()
    yield "nvfp4" if "fp4" in algorithm else "fp8" if "fp8" in algorithm else ""
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and weights.get("type") == "float":
            yield {"8": "fp8", "4": "nvfp4"}.get(str(weights.get("num_bits")), "")


def _cache(context: Context) -> Iterator[Finding]:
    """Which attention there will be is vLLM's choice, so that nothing is certain."""
    word = context.flag("--kv-cache-dtype") or "auto"
    least = model_dtype.capability(context)
    lowest = next((n for start, n in _CACHES.items() if word.startswith(start)), 0)
    if least and least < lowest:
        fact = f"vLLM's Triton attention refuses it below compute capability {model_dtype.dotted(lowest)}"
        fact += f", and there is {model_dtype.dotted(least)}; another backend may take it"
        fix = "--kv-cache-dtype auto"
        yield Finding("kv-cache-dtype", "warn", f"--kv-cache-dtype {word}", fact, fix=fix)


def _method(place: Place) -> str:
    """The method in the model's configuration, as vLLM writes it; empty where it has none."""
    method = str(_place.quantization(place).get("quant_method") or "").lower()
    return method.replace("compressed_tensors", "compressed-tensors")
