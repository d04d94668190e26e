"""Is the model there: a folder with a config.json, or a name in the Hugging Face cache?"""

from __future__ import annotations

import os

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.probes import Context

TITLE = "the model"

_TRUE = ("1", "ON", "YES", "TRUE")  #: huggingface_hub's own list
_FORMATS = ("config.json", "params.json")  #: Hugging Face's and Mistral's


def check(context: Context) -> Iterator[Finding]:
    name = _model_word(context)
    if (
        name is None
        or "://" in name
        or context.env.get("VLLM_USE_MODELSCOPE", "").lower() == "true"
    ):
        return
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        yield from _folder(name, path)
    elif os.path.isfile(path):
        yield Finding("model-path", "ok", name, f"{os.path.getsize(path) >> 20} MiB")
    elif name.startswith(("/", "./", "../", "~")):
        yield Finding(
            "model-path", "fail", name, "no such folder", fix="check the path, or mount the volume"
        )
    else:
        yield from _hub(name, context)


def _model_word(context: Context) -> str | None:
    """The model as given: `--model`, or the first word; None where only vLLM could tell."""
    given = context.flag("--model", "--model-tag")
    if given is not None:
        return given
    words = context.server_words
    positional = bool(words) and not words[0].startswith("-") and context.target is not None
    return words[0] if positional else None


def _folder(name: str, path: str) -> Iterator[Finding]:
    if not any(os.path.isfile(os.path.join(path, file)) for file in _FORMATS):
        yield Finding(
            "model-config",
            "fail",
            name,
            "the folder has no config.json",
            fix="name the folder that holds config.json and the weights",
        )
        return
    sizes = [entry.stat().st_size for entry in os.scandir(path) if entry.is_file()]
    yield Finding("model-path", "ok", name, f"{len(sizes)} files, {sum(sizes) >> 20} MiB")


def _hub(name: str, context: Context) -> Iterator[Finding]:
    cache = hub_cache(context.env)
    folder = os.path.join(cache, "models--" + name.replace("/", "--"), "snapshots")
    try:
        snapshots = os.listdir(folder)
    except OSError:
        snapshots = []
    offline = any(
        context.env.get(variable, "").upper() in _TRUE
        for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
    if snapshots:
        yield Finding("model-cached", "ok", name, f"{len(snapshots)} snapshot(s) in {cache}")
    elif offline:
        yield Finding(
            "model-not-cached",
            "fail",
            name,
            f"HF_HUB_OFFLINE is set and {cache} does not hold it",
            fix=f"hf download {name}   (with HF_HUB_OFFLINE unset)",
        )
    else:
        yield Finding(
            "model-not-cached",
            "note",
            name,
            f"not in {cache}: vLLM will download it first",
            fix=f"hf download {name}   (shows progress)",
        )


def hub_cache(env: Mapping[str, str]) -> str:
    """Where huggingface_hub keeps models (its `constants.py`)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(variable):
            return os.path.expanduser(env[variable])
    root = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", "~"), ".cache")
    home = env.get("HF_HOME") or os.path.join(root, "huggingface")
    return os.path.join(os.path.expanduser(home), "hub")
