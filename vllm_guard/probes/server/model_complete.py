"""Are the model's files all there and whole: weights, tokenizer, chat template?"""

from __future__ import annotations

import os

from vllm_guard import hub, model_files
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.model_files import Weights
    from vllm_guard.probes import Context
    from vllm_guard.probes.server._place import Place

TITLE = "the model's files"

#: What reads the files that `model_files.weights` looks at.
_LOADERS = ("auto", "hf", "safetensors")
_NAMED = 3  #: files named in one line


def check(context: Context) -> Iterator[Finding]:
    place = _place.find(context)
    if place is None:
        yield from _place.unread(context, "model-complete")
        return
    loader = context.flag("--load-format") or "auto"
    if loader in _LOADERS:
        yield _weights(place, model_files.weights(place.folder), context)
    else:
        fact = f"not looked at: --load-format {loader} reads them in its own way, or not at all"
        yield Finding("model-complete", "skip", place.name, fact)
    yield from _unfinished(place, context)
    yield from _tokenizer(place, context)


def _weights(place: Place, weights: Weights, context: Context) -> Finding:
    if weights.damaged:
        return _damaged(place, weights)
    if weights.missing:
        return _missing(place, weights, context)
    if not weights.files:
        fact = "neither *.safetensors nor *.bin nor *.pt: there are no weights"
        if _downloads(place, context):
            fix = f"hf download {place.repository}   (shows progress)"
            return Finding("model-complete", "note", place.name, f"{fact} yet", fix=fix)
        return Finding("model-complete", _sure(place), place.name, fact, fix=_again(place))
    kinds = ", ".join(sorted(weights.stored, key=lambda kind: -weights.stored[kind]))
    fact = f"{len(weights.files)} file(s) of weights, {_place.gib(weights.size)}, {kinds}"
    return Finding("model-complete", "ok", place.name, fact)


def _damaged(place: Place, weights: Weights) -> Finding:
    facts = [f"{name} {reason}" for name, reason in weights.damaged]
    pulled = all("Git LFS" in reason for _, reason in weights.damaged) and not place.repository
    fix = f"git -C {place.folder} lfs pull" if pulled else _again(place)
    return Finding("model-complete", _sure(place), place.name, _some(facts), fix=fix)


def _missing(place: Place, weights: Weights, context: Context) -> Finding:
    count = len(weights.files) + len(weights.missing)
    fact = f"{len(weights.missing)} of the {count} files in {model_files.INDEX} are not there: "
    fact += _some(weights.missing)
    if _downloads(place, context):
        fix = f"hf download {place.repository}   (shows progress)"
        return Finding(
            "model-complete", "note", place.name, f"{fact}; vLLM downloads them", fix=fix
        )
    return Finding("model-complete", _sure(place), place.name, fact, fix=_again(place))


def _unfinished(place: Place, context: Context) -> Iterator[Finding]:
    """Downloads that were cut short: huggingface_hub keeps them under this name."""
    if not place.repository:
        return
    blobs = os.path.join(hub.folder(hub.cache_dir(context.env), place.repository), "blobs")
    entries = os.scandir(blobs) if os.path.isdir(blobs) else ()
    sizes = [entry.stat().st_size for entry in entries if entry.name.endswith(".incomplete")]
    if sizes:
        fact = f"{len(sizes)} unfinished download(s) in {blobs}, {_place.gib(sum(sizes))}"
        fix = f"hf download {place.repository}   (goes on with them, if no other download runs)"
        yield Finding("model-unfinished", "note", place.name, fact, fix=fix)


def _tokenizer(place: Place, context: Context) -> Iterator[Finding]:
    if context.has("--tokenizer", "--skip-tokenizer-init", "--tokenizer-mode"):
        return
    vocabularies = model_files.tokenizer_files(place.folder)
    if not vocabularies and not _downloads(place, context):
        fact = "no file of a tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)"
        fix = "copy the tokenizer's files there, or name them with --tokenizer"
        yield Finding("model-tokenizer", "warn", place.name, fact, fix=fix)
        return
    for name in vocabularies:
        path = os.path.join(place.folder, name)
        if not os.path.isfile(path):
            continue
        empty = not os.path.getsize(path)
        if empty or model_files.lfs_pointer(path):
            fact = f"{name} is {'empty' if empty else 'a Git LFS pointer, not the tokenizer'}"
            yield Finding("model-tokenizer", "warn", place.name, fact, fix=_again(place))
    told = context.has("--chat-template") or model_files.has_chat_template(place.folder)
    if not told and not _downloads(place, context):
        fact = "it has no chat template: /v1/chat/completions will answer 400"
        yield Finding("model-chat-template", "note", place.name, fact, fix="--chat-template FILE")


def _sure(place: Place) -> Status:
    """Mistral's own files may lie beside, and newer versions of vLLM take those first."""
    mistral = any(name.startswith("consolidated") for name in os.listdir(place.folder))
    return "warn" if mistral else place.certain


def _downloads(place: Place, context: Context) -> bool:
    """Does vLLM fetch what is missing?"""
    return bool(place.repository) and not hub.offline(context.env)


def _again(place: Place) -> str:
    if place.repository:
        return f"hf download {place.repository} --force-download"
    return f"copy or download it anew: hf download OWNER/MODEL --local-dir {place.folder}"


def _some(names: tuple[str, ...] | list[str]) -> str:
    rest = len(names) - _NAMED
    return "; ".join(names[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
