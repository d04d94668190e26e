"""Is the model there: a folder with a config.json, or a name in the Hugging Face cache?"""

from __future__ import annotations

import os

from vllm_guard import hub
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "the model"

_SHORT = 12  #: characters that tell a commit
_FORMATS = ("config.json", "params.json")  #: Hugging Face's and Mistral's


def check(context: Context) -> Iterator[Finding]:
    name = _place.word(context)
    if not name:
        return
    if os.path.isdir(name):
        yield from _folder(name, _place.certain(context))
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
    cache, repository = hub.cache_dir(context.env), hub.repository(name)
    revision = _place.revision(context)
    snapshot = hub.snapshot(context.host, cache, name, revision)
    others = len(hub.snapshots(context.host, cache, name))
    what = f"revision {revision}, only {others} other(s)" if others else "it"
    offline = hub.offline(context.env)
    if snapshot:
        fact = f"revision {revision} in {cache}, commit {os.path.basename(snapshot)[:_SHORT]}"
        yield Finding("model-cached", "ok", name, fact)
    elif offline:
        yield Finding(
            "model-not-cached",
            _place.certain(context),
            name,
            f"{offline} is set and {cache} does not hold {what}",
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
            f"{cache} does not hold {what}: vLLM will download it first",
            fix=f"hf download {repository}   (shows progress)",
        )
