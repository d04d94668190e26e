"""Where huggingface_hub keeps what it has downloaded, and whether it may download (its `constants.py`)."""

from __future__ import annotations

import os

from vllm_guard import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = ("1", "ON", "YES", "TRUE")  #: huggingface_hub's own list


def repository(name: str) -> str:
    """The repository of `OWNER/MODEL:QUANTISATION` or `OWNER/MODEL/FILE.gguf`, which is how GGUF is named."""
    name = name.partition(":")[0]
    return "/".join(name.split("/")[:2]) if name.endswith(".gguf") else name


def folder(cache: str, name: str) -> str:
    """The folder of a repository in the cache, whether it is there or not."""
    return os.path.join(cache, "models--" + repository(name).replace("/", "--"))


def snapshots(cache: str, name: str) -> list[str]:
    """The revisions of a repository in the cache."""
    try:
        return os.listdir(os.path.join(folder(cache, name), "snapshots"))
    except OSError:
        return []


def snapshot(cache: str, name: str, revision: str) -> str:
    """The folder of a branch, tag or commit; empty where the cache does not have it."""
    home = folder(cache, name)
    try:
        with open(os.path.join(home, "refs", revision), encoding="ascii") as ref:
            commit = ref.read().strip()
    except (OSError, ValueError):
        commit = revision
    found = os.path.join(home, "snapshots", commit)
    return found if commit and os.path.isdir(found) else ""


def offline(env: Mapping[str, str]) -> str:
    """The variable that keeps huggingface_hub offline; it looks at the second only without the first."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if env.get(variable):
            return variable if env[variable].upper() in _TRUE else ""
    return ""


def cache_dir(env: Mapping[str, str]) -> str:
    """The folder of its cache, for this environment."""
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
