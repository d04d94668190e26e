"""Does the installed vLLM know what the profiles set?"""

from __future__ import annotations

from vllm_guard import audit, facts, profiles
from vllm_guard.model import Finding
from vllm_guard.target import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the profiles' keys"


def check(context: Context) -> Iterator[Finding]:
    assert context.target is not None
    vllm = context.target.vllm
    assert vllm is not None
    if not context.parts:
        return
    for profile in context.profiles:
        if not profiles.meant_for(profile, vllm.version):
            yield Finding(
                "profile-version",
                "warn",
                f"profile {profile.name}",
                f"is meant for vLLM {profile.vllm}; this is {vllm.version}",
            )
    yield from audit.check_parts(
        context.parts, install.env_table(vllm), install.engine_args(vllm), facts.variables()
    )
