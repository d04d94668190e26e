"""Where huggingface_hub keeps what it has downloaded, whether it may download, from where and as whom.

By its `constants.py` and, for the token, its `utils/_auth.py` and `utils/_headers.py` (version 2.4).
"""

from __future__ import annotations

import os

from vllm_guard import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.host import Host

ENDPOINT = "https://huggingface.co"
_TRUE = ("1", "ON", "YES", "TRUE")  #: huggingface_hub's own list


def repository(name: str) -> str:
    """The repository of `OWNER/MODEL:QUANTISATION` or `OWNER/MODEL/FILE.gguf`, which is how GGUF is named."""
    name = name.partition(":")[0]
    return "/".join(name.split("/")[:2]) if name.endswith(".gguf") else name


def folder(cache: str, name: str) -> str:
    """The folder of a repository in the cache, whether it is there or not."""
    return os.path.join(cache, "models--" + repository(name).replace("/", "--"))


def snapshots(host: Host, cache: str, name: str) -> list[str]:
    """The commits of a repository in the cache."""
    return host.names(os.path.join(folder(cache, name), "snapshots"))


def snapshot(host: Host, cache: str, name: str, revision: str) -> str:
    """The folder of a branch, tag or commit; empty where the cache does not have it."""
    place = folder(cache, name)
    commit = host.word(os.path.join(place, "refs", revision)) or revision
    found = os.path.join(place, "snapshots", commit)
    return found if host.names(found) else ""


def offline(env: Mapping[str, str]) -> str:
    """The variable that keeps huggingface_hub offline; it looks at the second only without the first."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if env.get(variable):
            return variable if env[variable].upper() in _TRUE else ""
    return ""


def endpoint(env: Mapping[str, str]) -> str:
    """The address of the hub, or of a mirror."""
    return env.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


def token(host: Host, env: Mapping[str, str]) -> tuple[str, str]:
    """The token that it sends, and the variable or file that has it; both empty where it sends none."""
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return "", ""
    variables = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    path = _expanded(env.get("HF_TOKEN_PATH") or os.path.join(home(env), "token"), env)
    places = [(env[name], name) for name in variables if env.get(name)][:1]
    for text, place in (*places, (host.word(path), path)):
        cleaned = text.replace("\r", "").replace("\n", "").strip()
        if cleaned:
            return cleaned, place
    return "", ""


def cache_dir(env: Mapping[str, str]) -> str:
    """The folder of its cache, for this environment."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(variable):
            return _expanded(env[variable], env)
    return os.path.join(home(env), "hub")


def home(env: Mapping[str, str]) -> str:
    """HF_HOME: the folder of its cache and its token."""
    given = env.get("HF_HOME") or os.path.join(paths.cache_home(env), "huggingface")
    return _expanded(given, env)


def _expanded(path: str, env: Mapping[str, str]) -> str:
    """The path with `~` and `$NAME` replaced by what the command's environment holds."""
    if path == "~" or path.startswith("~/"):
        path = paths.home(env) + path[1:]
    if "$" in path:
        import string

        path = string.Template(path).safe_substitute(env)
    return path
