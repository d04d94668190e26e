"""Has this vLLM the subcommand that is asked for?"""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.target.flags import subcommands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the subcommand of vllm"

_OTHERS = "--omni"  #: with it the words go to vLLM-Omni
_LIKE = 0.5  #: how like a known name a misspelt one is: server, serving, start


def check(context: Context) -> Iterator[Finding]:
    target = context.target
    assert target is not None
    vllm, word = target.vllm, target.subcommand
    assert vllm is not None
    if target.kind != "vllm-cli" or not word or _OTHERS in context.argv:
        return
    known = subcommands(vllm)
    if known and word not in known:
        from difflib import get_close_matches

        near = get_close_matches(word, known, 1, _LIKE)
        fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
        fact = f"vLLM {vllm.version} has no such subcommand"
        yield Finding("subcommand-unknown", "fail", f"vllm {word}", fact, fix=fix)
