"""What the variables that a launch changes will do beyond their purpose. Pure.

A cold compile, prompts in the log, and that Ray's workers on other hosts do not get them.
"""

from __future__ import annotations

from vllm_guard import values
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from vllm_guard.facts import Variables

_EAGER = ("--enforce-eager",)
_RAY_URI = "https://docs.vllm.ai/en/latest/serving/distributed_troubleshooting/"
_CACHE_URI = "https://docs.vllm.ai/en/latest/design/torch_compile/"
#: Never copied to a worker on another host: each has its own (vllm/v1/executor/ray_executor.py).
_OF_EACH_HOST = (
    *("VLLM_HOST_IP", "VLLM_HOST_PORT", "LOCAL_RANK", "VLLM_NIXL_SIDE_CHANNEL_HOST"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)


def find(
    changed: Mapping[str, str],
    words: Sequence[str],
    known: Variables,
    compile_key: Collection[str],
    copied: Collection[str] | None,
) -> Iterator[Finding]:
    """Findings about `changed` (name -> value) for the command `words`.

    `compile_key`: the variables in the key of torch.compile's cache. `copied`: the names and prefixes that
    vLLM copies to Ray's workers; None for all of the environment.
    """
    keys = [name for name in changed if name in compile_key or _in_key(name, known)]
    if keys and not any(word in _EAGER for word in words):
        text = "part of the key of torch.compile's cache: the first start with it compiles anew"
        yield Finding("cold-compile", "note", ", ".join(keys), text, uri=_CACHE_URI)
    told = [name for name, value in changed.items() if _tells(name, value, known)]
    if told:
        text = "what users send, or get, is written to the log"
        yield Finding("prompts-in-log", "note", ", ".join(told), text)
    if _uses_ray(words):
        yield from _about_ray(changed, copied)


def _in_key(name: str, known: Variables) -> bool:
    return bool(known["rows"].get(name, {}).get("compile_key", False))


def _tells(name: str, value: str, known: Variables) -> bool:
    fact = known["rows"].get(name, {})
    return fact.get("risk") == "privacy" and values.is_left_on(value, fact, None)


def _uses_ray(words: Sequence[str]) -> bool:
    joined = " ".join(words).replace("_", "-").replace("=", " ")
    return any(
        f"{option}-backend ray" in joined
        for option in ("--distributed-executor", "--data-parallel")
    )


def _about_ray(changed: Mapping[str, str], copied: Collection[str] | None) -> Iterator[Finding]:
    own = [name for name in changed if name in _OF_EACH_HOST]
    rest = [name for name in changed if name not in own and copied is not None]
    lost = [name for name in rest if not name.startswith(tuple(copied or ()))]
    if own:
        text = "each host has its own: vLLM does not copy it to Ray's workers"
        yield Finding("ray-own", "note", ", ".join(own), text, uri=_RAY_URI)
    if lost:
        yield Finding(
            "ray-not-copied",
            "warn",
            ", ".join(lost),
            "this vLLM does not copy it to Ray's workers on other hosts",
            fix="set it before `ray start` on each of them",
            uri=_RAY_URI,
        )
