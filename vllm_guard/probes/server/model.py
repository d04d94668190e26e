"""Is the model there: a folder with a config.json, or a name in the Hugging Face cache?"""

from __future__ import annotations

import os

from vllm_guard import hub, model_files
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "the model"

_SHORT = 12  #: characters that tell a commit
_LIKE = 0.8  #: how like a folder's name a misspelt one is
_MOVES = b'removeprefix("--model=")'  #: in the source of a parser that does it with either form
_PARSERS = ("utils/argparse_utils.py", "utils/__init__.py")  #: where that is, or was
_FORMATS = ("config.json", "params.json")  #: Hugging Face's and Mistral's


def check(context: Context) -> Iterator[Finding]:
    twice = _twice(context)
    name = _place.word(context)
    if twice:
        yield twice
    if twice or not name:
        return
    path = context.absolute(name)
    if os.path.isdir(path):
        yield from _folder(name, path, _place.certain(context))
    elif os.path.isfile(path):
        yield _file(name, path, context)
    elif name.startswith("~"):
        full = os.path.expanduser(name)
        yield Finding("model-path", "fail", name, "vLLM does not expand ~", fix=f"write {full}")
    elif name.startswith(("/", "./", "../")):
        fix = _did_you_mean(name, context) or "check the path, or mount the volume"
        yield Finding("model-path", "fail", name, "no such folder", fix=fix)
    else:
        yield from _hub(name, context)


def _twice(context: Context) -> Finding | None:
    """Where it puts what `--model` names first, `vllm serve` knows no use for the word that was."""
    words = context.given_words
    other = next((word for word in words if word.partition("=")[0] == "--model"), "")
    of_cli = context.target is not None and context.target.kind == "vllm-cli"
    if not of_cli or not other or words[0].startswith("-"):
        return None
    install = _place.install(context)
    moves = install is not None and models.says(install, _MOVES, *_PARSERS)
    fact = "is one model, and --model names another"
    status: Status = "fail" if moves else "warn"
    return Finding("model-path", status, words[0], fact, fix="leave out --model")


def _broken_config(name: str, folder: str, status: Status) -> Iterator[Finding]:
    wrong = model_files.json_problem(os.path.join(folder, "config.json"))
    if wrong:
        fix = "mend it, or download it again"
        yield Finding("model-config", status, name, f"config.json {wrong}", fix=fix)


def _file(name: str, path: str, context: Context) -> Finding:
    """A file is a model only for a vLLM that reads GGUF by itself, or by a plug-in."""
    install = _place.install(context)
    if path.endswith(".gguf") and (install is None or models.takes_gguf(install)):
        return Finding("model-path", "ok", name, _place.gib(os.path.getsize(path)))
    # Transformers takes a file that is JSON for the configuration itself.
    status = "warn" if path.endswith(".json") else _place.certain(context)
    folder = os.path.dirname(name) or "."
    if not path.endswith(".gguf"):
        return Finding("model-path", status, name, "is a file", fix=f"name its folder: {folder}")
    fact = f"vLLM {install.version} reads no GGUF" if install else ""
    fix = "a folder with config.json and *.safetensors"
    return Finding("model-path", status, name, fact, fix=fix)


def _did_you_mean(path: str, context: Context) -> str:
    """The model's folder beside it whose name is nearly the given one; empty for none."""
    from difflib import get_close_matches

    above, name = os.path.split(path.rstrip("/"))
    try:
        beside = [entry.name for entry in os.scandir(context.absolute(above)) if entry.is_dir()]
    except OSError:
        return ""
    files = {one: context.absolute(os.path.join(above, one, "config.json")) for one in beside}
    folders = [one for one in beside if os.path.isfile(files[one])]
    near = get_close_matches(name, folders, 1, _LIKE)
    return f"did you mean {os.path.join(above or '.', near[0])}?" if near else ""


def _folder(name: str, path: str, status: Status) -> Iterator[Finding]:
    if not any(os.path.isfile(os.path.join(path, file)) for file in _FORMATS):
        yield Finding(
            "model-config",
            status,
            name,
            "the folder has no config.json",
            fix="name the folder that holds config.json and the weights",
        )
        return
    sizes = list(filter(None, map(_size, os.scandir(path))))
    yield from _broken_config(name, path, status)
    yield Finding("model-path", "ok", name, f"{len(sizes)} files, {_place.gib(sum(sizes))}")


def _size(entry: os.DirEntry[str]) -> int | None:
    """The bytes of a file; None for what is none, such as a link that leads nowhere or to itself."""
    try:
        return entry.stat().st_size if entry.is_file() else None
    except OSError:
        return None


def _hub(name: str, context: Context) -> Iterator[Finding]:
    cache, repository = hub.cache_dir(context.env), hub.repository(name)
    revision = _place.revision(context)
    snapshot = hub.snapshot(context.host, cache, name, revision)
    others = len(hub.snapshots(context.host, cache, name))
    what = f"revision {revision}, only {others} other(s)" if others else "it"
    offline, near = hub.offline(context.env), "" if snapshot else _did_you_mean(name, context)
    if snapshot:
        fact = f"revision {revision} in {cache}, commit {os.path.basename(snapshot)[:_SHORT]}"
        yield Finding("model-cached", "ok", name, fact)
        sure = _place.certain(context) if offline else "warn"  # it may be downloaded again
        yield from _broken_config(name, context.host.root + snapshot, sure)
    elif offline:
        yield Finding(
            "model-not-cached",
            _place.certain(context),
            name,
            f"{offline} is set and {cache} does not hold {what}",
            fix=near or f"hf download {repository}   (with {offline} unset)",
        )
    elif repository.count("/") > 1:
        fact = "no such folder; a name at Hugging Face is OWNER/MODEL"
        yield Finding("model-path", "warn", name, fact, fix=near or "check the path")
    else:
        yield Finding(
            "model-not-cached",
            "note",
            name,
            f"{cache} does not hold {what}: vLLM will download it first",
            fix=near or f"hf download {repository}   (shows progress)",
        )
