"""Is the model there: a folder with a config.json, or a name in the Hugging Face cache?"""

from __future__ import annotations

import os

from vllm_guard import paths
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "the model"

_TRUE = ("1", "ON", "YES", "TRUE")  #: huggingface_hub's own list
_FORMATS = ("config.json", "params.json")  #: Hugging Face's and Mistral's
#: With one of these, the configuration may come from somewhere else than the model.
_ELSEWHERE = ("--config", "--hf-config-path", "--config-format", "--download-dir")
_MODELSCOPE = ("1", "true")


def check(context: Context) -> Iterator[Finding]:
    name = _model_word(context)
    if not name or "://" in name or _renamed(context.env):
        return
    if os.path.isdir(name):
        yield from _folder(name, _certain(context))
    elif os.path.isfile(name):
        yield Finding("model-path", "ok", name, f"{os.path.getsize(name) >> 20} MiB")
    elif name.startswith("~"):
        full = os.path.expanduser(name)
        yield Finding("model-path", "fail", name, "vLLM does not expand ~", fix=f"write {full}")
    elif name.startswith(("/", "./", "../")):
        yield Finding(
            "model-path", "fail", name, "no such folder", fix="check the path, or mount the volume"
        )
    else:
        yield from _hub(name, context)


def _model_word(context: Context) -> str | None:
    """The model as given: the first word of `vllm serve`, or `--model`; None where only vLLM could tell."""
    words = context.server_words
    assert context.target is not None
    if context.target.kind == "vllm-cli" and words and not words[0].startswith("-"):
        return words[0]
    return context.flag("--model", "--model-tag")


def _renamed(env: Mapping[str, str]) -> bool:
    """Does vLLM take the model from ModelScope, or a name for another one?"""
    modelscope = env.get("VLLM_USE_MODELSCOPE", "").strip().lower() in _MODELSCOPE
    return modelscope or bool(env.get("VLLM_MODEL_REDIRECT_PATH"))


def _certain(context: Context) -> Status:
    return "warn" if context.has(*_ELSEWHERE) else "fail"


def _folder(path: str, status: Status) -> Iterator[Finding]:
    if not any(os.path.isfile(os.path.join(path, file)) for file in _FORMATS):
        yield Finding(
            "model-config",
            status,
            path,
            "the folder has no config.json",
            fix="name the folder that holds config.json and the weights",
        )
        return
    sizes = [entry.stat().st_size for entry in os.scandir(path) if entry.is_file()]
    yield Finding("model-path", "ok", path, f"{len(sizes)} files, {sum(sizes) >> 20} MiB")


def _hub(name: str, context: Context) -> Iterator[Finding]:
    cache, repository = hub_cache(context.env), _repository(name)
    folder = os.path.join(cache, "models--" + repository.replace("/", "--"), "snapshots")
    try:
        snapshots = os.listdir(folder)
    except OSError:
        snapshots = []
    offline = _offline(context.env)
    if snapshots:
        yield Finding("model-cached", "ok", name, f"{len(snapshots)} snapshot(s) in {cache}")
    elif offline:
        yield Finding(
            "model-not-cached",
            _certain(context),
            name,
            f"{offline} is set and {cache} does not hold it",
            fix=f"hf download {repository}   (with {offline} unset)",
        )
    elif repository.count("/") > 1:
        fact = "no such folder; a name at Hugging Face is OWNER/MODEL"
        yield Finding("model-path", "warn", name, fact, fix="check the path")
    else:
        yield Finding(
            "model-not-cached",
            "note",
            name,
            f"not in {cache}: vLLM will download it first",
            fix=f"hf download {repository}   (shows progress)",
        )


def _repository(name: str) -> str:
    """The repository of `OWNER/MODEL:QUANTISATION` or `OWNER/MODEL/FILE.gguf`, which is how GGUF is named."""
    name = name.partition(":")[0]
    return "/".join(name.split("/")[:2]) if name.endswith(".gguf") else name


def _offline(env: Mapping[str, str]) -> str:
    """The variable that keeps huggingface_hub offline; it looks at the second only without the first."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if env.get(variable):
            return variable if env[variable].upper() in _TRUE else ""
    return ""


def hub_cache(env: Mapping[str, str]) -> str:
    """Where huggingface_hub keeps models (its `constants.py`)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(variable):
            return _expanded(env[variable], env)
    root = env.get("XDG_CACHE_HOME") or os.path.join(paths.home(env), ".cache")
    home = env.get("HF_HOME") or os.path.join(root, "huggingface")
    return os.path.join(_expanded(home, env), "hub")


def _expanded(path: str, env: Mapping[str, str]) -> str:
    """The path with `~` and `$NAME` replaced by what the command's environment holds."""
    if path == "~" or path.startswith("~/"):
        path = paths.home(env) + path[1:]
    if "$" in path:
        import string

        path = string.Template(path).safe_substitute(env)
    return path
