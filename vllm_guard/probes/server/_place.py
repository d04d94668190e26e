"""Which model a server is to load, where it lies, and what the command says about it."""

from __future__ import annotations

import os

from vllm_guard import hub
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from dataclasses import dataclass
    from typing import Any

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.target.install import VllmInstall
else:
    from vllm_guard.frozen import dataclass

#: With one of these, the configuration may come from somewhere else than the model.
_ELSEWHERE = ("--config", "--hf-config-path", "--config-format", "--download-dir")
_CHANGES = ("--hf-overrides", "--rope-scaling", "--rope-theta")  #: the latter two of older versions
_MODELSCOPE = ("1", "true")


@dataclass(frozen=True)
class Place:
    """A model whose files are on this machine, in Hugging Face's format."""

    name: str  #: as given
    folder: str  #: where this process finds it, a described machine's root included
    repository: str  #: at Hugging Face; empty for a folder of the user's
    config: Mapping[str, Any]  #: its config.json
    text: Mapping[str, Any]  #: the part about its language model
    certain: Status  #: "fail", unless vLLM may read something else than these files and words


def word(context: Context) -> str:
    """The model as given: the first word of `vllm serve`, or `--model`; empty where only vLLM could tell."""
    words = context.server_words
    assert context.target is not None
    if context.target.kind == "vllm-cli" and words and not words[0].startswith("-"):
        name: str | None = words[0]
    else:
        name = context.flag("--model", "--model-tag")
    return "" if not name or "://" in name or _renamed(context.env) else name


def certain(context: Context) -> Status:
    """How sure is what follows from the model's folder: with `--config` and the like, not quite."""
    return "warn" if context.has(*_ELSEWHERE) else "fail"


def find(context: Context) -> Place | None:
    """The model's files; None where they are not here, or are not Hugging Face's."""
    from vllm_guard import model_files

    name = word(context)
    if not name or context.has("--download-dir", "--hf-config-path", "--config-format"):
        return None
    folder, repository = _folder(name, context)
    folder = context.host.root + folder if folder else ""
    config = model_files.read_json(os.path.join(folder, "config.json")) if folder else None
    if config is None:
        return None
    sure = certain(context)
    if repository and not hub.offline(context.env):
        sure = "warn"  # a newer revision may be downloaded first
    return Place(name, folder, repository, config, model_files.text_config(config), sure)


def unread(context: Context, id_: str) -> Iterator[Finding]:
    """A finding that says what is not looked at, where the model's config.json is there and no JSON."""
    from vllm_guard import model_files

    name = word(context)
    folder = context.host.root + _folder(name, context)[0] if name else ""
    wrong = model_files.json_problem(os.path.join(folder, "config.json")) if folder else ""
    if wrong:
        yield Finding(id_, "skip", name, f"config.json {wrong}")


def revision(context: Context) -> str:
    """The branch, tag or commit that is asked for."""
    return context.flag("--revision") or "main"


def install(context: Context) -> VllmInstall | None:
    """The vLLM that will serve; None where there is none, which another probe says."""
    return context.target.vllm if context.target else None


def quantization(place: Place) -> Mapping[str, Any]:
    """How the model is quantised, by its configuration; empty where it is not."""
    found = (
        config.get(name)
        for config in (place.config, place.text)
        for name in ("quantization_config", "compression_config")
    )
    return next((one for one in found if isinstance(one, dict)), {})


def number(context: Context, default: int, *names: str) -> int | None:
    """The number given to an option; None where it is none."""
    given = context.flag(*names)
    try:
        return default if given is None else int(given)
    except ValueError:
        return None


def tokens(word: str) -> int | None:
    """The tokens of `--max-model-len`: 8k is 8000, 8K is 8192, as in vLLM; None for auto and the like."""
    text = word.strip()
    unit = text[-1:] if text[-1:] in tuple("kKmMgGtT") else ""
    whole, dot, part = text.removesuffix(unit).partition(".")
    if (unit and not whole.isdecimal()) or (dot and not (unit.islower() and part.isdecimal())):
        return None  # vLLM takes decimals with powers of 1000 only
    base = 1000 if unit.islower() else 1024
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    try:
        count = int(float(f"{whole}.{part}") * base**power) if dot else int(whole) * base**power
    except ValueError:
        return None
    return count if count > 0 else None


def overrides(context: Context) -> bool:
    """Is the model's configuration changed by the words, or may it be by a `--config` that was not read?"""
    given = (given.replace("_", "-") for given in context.server_words)
    return any(name.startswith((*_CHANGES, "--config=")) or name == "--config" for name in given)


def gib(size: float) -> str:
    """Bytes in words."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 29 else f"{size / (1 << 20):.1f} MiB"


def _folder(name: str, context: Context) -> tuple[str, str]:
    if os.path.isdir(context.host.root + context.absolute(name)):
        return context.absolute(name), ""
    if ":" in name or name.endswith(".gguf") or name.startswith(("/", ".", "~")):
        return "", ""
    found = hub.snapshot(context.host, hub.cache_dir(context.env), name, revision(context))
    return found, hub.repository(name)


def _renamed(env: Mapping[str, str]) -> bool:
    """Does vLLM take the model from ModelScope, or a name for another one?"""
    modelscope = env.get("VLLM_USE_MODELSCOPE", "").strip().lower() in _MODELSCOPE
    return modelscope or bool(env.get("VLLM_MODEL_REDIRECT_PATH"))
