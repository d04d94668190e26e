"""The environment as the command will get it, against the facts and the installed vLLM."""

from __future__ import annotations

from vllm_guard import audit, contradictions, facts
from vllm_guard.target import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context

TITLE = "the environment's variables"

_OF_GPUS = ("cuda", "nccl", "rocm")


def check(context: Context) -> Iterator[Finding]:
    assert context.target is not None
    vllm = context.target.vllm
    assert vllm is not None
    known, table = facts.variables(), install.env_table(vllm)
    of_profiles = {setting.name for _, part in context.parts for setting in part.settings}
    changed = {n: v for n, v in context.env.items() if context.before.get(n) != v}
    on_purpose = _by_active_shell(context.env)
    names = [name for name in context.env if name not in context.own]
    for finding in audit.check_environment(context.env, known, table, names):
        name = finding.subject.partition("=")[0]
        asked = name in changed or name in on_purpose
        if vllm.is_for_cpu and facts.family_of(name, known["families"]) in _OF_GPUS:
            continue  # nothing there reads it
        if not (name in of_profiles or (asked and finding.id == "debug-left-on")):
            yield finding
    yield from contradictions.find(
        context.env, context.server_words or context.argv, _gpus(context)
    )
    theirs = {name: value for name, value in changed.items() if name not in context.own}
    if theirs:
        from vllm_guard import effects

        key, copied = install.compile_key(vllm) or (), install.copied_to_ray(vllm)
        yield from effects.find(theirs, context.argv, known, key, copied)


def _gpus(context: Context) -> int | None:
    if not any(name in context.env for name in contradictions.GPUS):
        return None
    from vllm_guard import nvml

    return nvml.count(context.host)


def _by_active_shell(env: Mapping[str, str]) -> Collection[str]:
    """What `env activate` has set in the shell that we were started from."""
    if "VGUARD_SHELL" not in env:
        return ()
    from vllm_guard import journal

    return journal.purposes(env)
