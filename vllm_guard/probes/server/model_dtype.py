"""Does the type that the model is computed in suit the model and the GPUs?"""

from __future__ import annotations

from vllm_guard import nvml
from vllm_guard.model import Finding
from vllm_guard.probes import parallel
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place
    from vllm_guard.target.install import VllmInstall

TITLE = "the type that the model is computed in"

_ID = "model-dtype"
_WORDS = ("auto", "half", "float16", "bfloat16", "float", "float32")
_SAME = {"half": "float16", "float": "float32"}
BFLOAT16 = 80  #: the least compute capability, by vLLM's `platforms/cuda.py`
REFUSAL = b"Bfloat16 is only supported on GPUs"  #: and the words that it refuses with


def check(context: Context) -> Iterator[Finding]:
    place, install = _place.find(context), _place.install(context)
    if place is None:
        yield from _place.unread(context, _ID)
        return
    word = _word(context)
    if word not in _WORDS:
        fix = f"one of {', '.join(_WORDS)}"
        yield Finding(_ID, "fail", f"--dtype {word}", "vLLM has no such dtype", fix=fix)
    elif install is not None and not _place.overrides(context):
        yield from _judged(context, place, install)


def capability(context: Context) -> int | None:
    """The least compute capability of the GPUs that will be used, 75 for 7.5; None where it is not known."""
    install, survey, sizes = (
        _place.install(context),
        nvml.survey(context.host),
        parallel.sizes(context),
    )
    of_cpu = install is None or install.is_for_cpu
    if of_cpu or survey is None or sizes is None or context.has("--device-ids"):
        return None
    seen = nvml.visible(survey.devices, context.env.get("CUDA_VISIBLE_DEVICES")) or ()
    told = [device.capability for device in seen[: sizes.here] if device.capability]
    return min((major * 10 + minor for major, minor in told), default=None)


def chosen(context: Context, place: Place) -> str:
    """What vLLM will compute in, by `_get_and_verify_dtype` of its `config/model.py`; empty if not known.

    `auto` is the type in config.json where the GPU has it; float32 there is loaded as a shorter one.
    """
    word = _word(context)
    if word != "auto":
        return _SAME.get(word, word)
    stated, least = _stated(place), capability(context)
    if least is None:
        return stated if stated in ("float16", "bfloat16") else ""
    if least >= BFLOAT16:
        return "bfloat16" if stated == "float32" else stated
    return "float32" if _refuses_half(context, place) else "float16" if stated else ""


def dotted(least: int) -> str:
    """75 as 7.5, 100 as 10.0."""
    return f"{least // 10}.{least % 10}"


def _judged(context: Context, place: Place, install: VllmInstall) -> Iterator[Finding]:
    word, dtype, least = _word(context), chosen(context, place), capability(context)
    old = least is not None and least < BFLOAT16
    if dtype == "float16" and _refuses_half(context, place):
        fact = f"this vLLM refuses float16 for model_type {place.config.get('model_type')}"
        fix = "--dtype float32" if old else "--dtype bfloat16"
        yield Finding(_ID, place.certain, place.name, fact, fix=fix)
    elif least is None or not dtype:
        return
    elif word == "auto":
        yield _automatic(place, dtype, least)
    elif dtype == "bfloat16" and old:
        refused = models.says(install, REFUSAL, "platforms/cuda.py")
        status: Status = "fail" if refused else "warn"
        fact = f"needs compute capability 8.0, and there is {dotted(least)}"
        fix = "--dtype float32" if _refuses_half(context, place) else "--dtype half"
        yield Finding(_ID, status, f"--dtype {word}", fact, fix=fix)
    else:
        yield Finding(_ID, "ok", f"--dtype {word}", f"on compute capability {dotted(least)}")


def _automatic(place: Place, dtype: str, least: int) -> Finding:
    fact = f"{_stated(place)} in config.json, compute capability {dotted(least)}"
    if dtype == "float32":
        fact += ": vLLM takes float32, twice the memory, for it refuses this model float16"
        return Finding(
            _ID, "warn", place.name, fact, fix="GPUs with compute capability 8.0 or more"
        )
    if dtype != _stated(place):
        fact += f": vLLM takes {dtype}"
    lost = _stated(place) == "bfloat16" != dtype
    return Finding(_ID, "note" if lost else "ok", place.name, fact)


def _word(context: Context) -> str:
    return context.flag("--dtype") or "auto"


def _stated(place: Place) -> str:
    """The type in config.json, empty for none."""
    given = (
        config.get(name)
        for config in (place.config, place.text)
        for name in ("dtype", "torch_dtype")
    )
    return str(next(filter(None, given), "")).removeprefix("torch.")


def _refuses_half(context: Context, place: Place) -> bool:
    install = _place.install(context)
    return install is not None and place.config.get("model_type") in models.without_float16(install)
