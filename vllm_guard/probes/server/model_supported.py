"""Does this vLLM have the model's architecture, by its own registry?"""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place
    from vllm_guard.target.install import VllmInstall
    from vllm_guard.vllm_models import Architectures

TITLE = "the model's architecture"

_ID = "model-supported"
_BY_HAND = """--hf-overrides '{"architectures": ["..."]}'"""


def check(context: Context) -> Iterator[Finding]:
    place, install = _place.find(context), _place.install(context)
    if place is None or install is None:
        yield from _place.unread(context, _ID)
        return
    if _place.overrides(context):
        fact = "not told: --hf-overrides or --config may change the architecture"
        yield Finding(_ID, "unknown", place.name, fact)
        return
    if context.flag("--model-impl") not in (None, "auto", "vllm"):
        yield Finding(_ID, "skip", place.name, "--model-impl takes another implementation")
        return
    registry = models.architectures(install)
    if registry is None:
        yield Finding(_ID, "unknown", place.name, f"cannot read the registry of {install.package}")
        return
    names = place.config.get("architectures")
    if not names or not isinstance(names, list):
        yield _none(place, install)
    else:
        yield _judged(place, [str(name) for name in names], registry, install)


def _none(place: Place, install: VllmInstall) -> Finding:
    """VLLM asks Transformers for the bare model of the type, which answers no prompts, or stops."""
    kind = place.config.get("model_type")
    listed = models.transformers_classes(install)
    if listed is None or (kind and f'("{kind}", '.encode() in listed):
        fact = f"config.json names no architecture: what vLLM makes of model_type {kind} is no chat model"
        return Finding(_ID, "warn", place.name, fact, fix=_BY_HAND)
    fact = "config.json names no architecture, and its model_type none that Transformers know"
    return Finding(_ID, _sure(place, install), place.name, fact, fix=_BY_HAND)


def _judged(
    place: Place, names: Sequence[str], registry: Architectures, install: VllmInstall
) -> Finding:
    known = [name for name in names if name in registry["supported"]]
    if known:
        return Finding(_ID, "ok", place.name, f"{known[0]}: vLLM {install.version} has it")
    falls_back = bool(place.config.get("auto_map")) or _in_transformers(names, install)
    for name in names:
        gone = registry["dropped"].get(name)
        place_of_plugin = registry["plugins"].get(name)
        if gone:
            fact = f"{name} was supported in vLLM until {gone}, this is {install.version}"
            fix = f'pip install "vllm=={gone}"'
        elif place_of_plugin:
            fact = f"{name} is not in vLLM {install.version} any more, but in a plug-in"
            fix = f"install the plug-in from {place_of_plugin}"
        else:
            continue
        status: Status = "warn" if falls_back else _sure(place, install)
        return Finding(_ID, status, place.name, fact, fix=fix)
    return _unlisted(place, names, falls_back, install)


def _unlisted(
    place: Place, names: Sequence[str], falls_back: bool, install: VllmInstall
) -> Finding:
    fact = f"{', '.join(names)}: not in the registry of vLLM {install.version}"
    if falls_back:
        fact += "; its Transformers back end may take it, slower"
        return Finding(_ID, "note", place.name, fact, fix="--model-impl transformers")
    if models.has_plugins(install):
        fact += "; a plug-in that is installed may have it"
        return Finding(_ID, "note", place.name, fact)
    fact += ", nor among the models of the Transformers beside it"
    fix = "a newer vLLM, or another form of the model"
    return Finding(_ID, "warn", place.name, fact, fix=fix)


def _in_transformers(names: Sequence[str], install: VllmInstall) -> bool:
    """Have the Transformers a class of that name? Where they are not found, they may."""
    listed = models.transformers_classes(install)
    return listed is None or any(f'"{name}"'.encode() in listed for name in names)


def _sure(place: Place, install: VllmInstall) -> Status:
    return "warn" if models.has_plugins(install) else place.certain
