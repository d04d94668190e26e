"""Has this vLLM the flags that the command gives?"""

from __future__ import annotations

from vllm_guard import config_file
from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models
from vllm_guard.target.flags import flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.target.install import VllmInstall

TITLE = "the command's flags"

_LIKE = 0.85  #: how like a known name a misspelt one is


def check(context: Context) -> Iterator[Finding]:
    install, given = _place.install(context), _given(context.server_words)
    if install is None or not given:
        return
    known = flags(install)
    if not known:
        return
    of_file = set(given) - set(_given(context.given_words))
    unknown = [
        name
        for name in given
        if not is_flag(name, known) and not (name in of_file and name.startswith("--no-"))
    ]  # `x: false` in a file is passed over
    path = config_file.named(context.given_words)
    for name in unknown:
        where = f", which {path} names" if name in of_file else ""
        yield _unknown(name, known, install, where)
    if not unknown:
        what = f"all {len(given)} of them" if len(given) > 1 else given[0]
        yield Finding("flags", "ok", "flags", f"vLLM {install.version} has {what}")


def is_flag(name: str, known: Collection[str]) -> bool:
    """Will argparse take this name (`--max_model_len`) for one of `known`?

    It takes beginnings; vLLM's parser takes underscores for dashes, and `--name.key` for a part of JSON.
    """
    plain = name.partition(".")[0].replace("_", "-")
    positive = "--" + plain.removeprefix("--no-") if plain.startswith("--no-") else plain
    return any(flag.startswith((plain, positive)) for flag in known)


def _given(words: Sequence[str]) -> list[str]:
    """The names of long flags, in order; what follows `--` is none."""
    until = words.index("--") if "--" in words else len(words)
    names = (word.partition("=")[0] for word in words[:until] if word.startswith("--"))
    return list(dict.fromkeys(names))


def _unknown(name: str, known: Sequence[str], install: VllmInstall, where: str) -> Finding:
    """A name that is nearly a known one is misspelt; another may be of a plug-in."""
    from difflib import get_close_matches

    fact = f"vLLM {install.version} has no such flag{where}"
    near = get_close_matches(name.replace("_", "-"), known, 1, _LIKE)
    if not near:
        fix = "vllm serve --help=all lists them"
        return Finding("flag-unknown", "warn", name, fact, fix=fix)
    status: Status = "warn" if models.has_plugins(install) else "fail"
    return Finding("flag-unknown", status, name, fact, fix=f"did you mean {near[0]}?")
