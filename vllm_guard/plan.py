"""(environment, profiles, requests) -> EnvPlan, and what was overridden on the way. Pure.

Precedence, weakest first: inherited, earlier profile, later profile, `-e` and `--unset`.
"""

from __future__ import annotations

from vllm_guard.model import Change, EnvPlan, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_guard.model import Part, Setting

ON_THE_COMMAND_LINE = "the command line"


def make_plan(
    env: Mapping[str, str],
    parts: Sequence[tuple[str, Part]],
    options: Iterable[tuple[str, str | None]] = (),
    keep: Iterable[str] = (),
) -> tuple[EnvPlan, list[Finding]]:
    """The changes that make `env` hold what was asked, and the findings: overridden, kept, missing.

    `parts` are (origin, part) with the strongest last; `options` are (name, value), None for unset.
    """
    kept = frozenset(keep)
    wanted: dict[str, Change] = {}
    findings: list[Finding] = []
    required: list[tuple[str, Setting]] = []
    for origin, part in parts:
        for setting in part.settings:
            if setting.name in kept:
                findings.append(_left_alone(setting, origin))
            elif setting.kind == "required":
                required.append((origin, setting))
            else:
                _want(wanted, findings, _change(env, wanted, setting, origin))
    for name, value in options:
        change = Change(name, env.get(name), value, "asked for", ON_THE_COMMAND_LINE)
        _want(wanted, findings, change)
    # What was so before is no change, but what was asked for stays spoken for.
    plan = EnvPlan(
        tuple(c for c in wanted.values() if c.before != c.after or c.origin == ON_THE_COMMAND_LINE)
    )
    held = plan.apply(env)
    findings += [_missing(s, origin) for origin, s in required if not held.get(s.name)]
    return plan, findings


def extend(plan: EnvPlan, changes: Iterable[Change], keep: Iterable[str]) -> EnvPlan:
    """The plan with the guard's own changes added, for names that nobody has spoken about."""
    taken = {change.name for change in plan.changes} | set(keep)
    return EnvPlan((*plan.changes, *(c for c in changes if c.name not in taken)))


def _change(
    env: Mapping[str, str], wanted: Mapping[str, Change], setting: Setting, origin: str
) -> Change | None:
    before = env.get(setting.name)
    if setting.kind == "default":
        known = wanted[setting.name].after if setting.name in wanted else before
        if known is not None:
            return None
    after = None if setting.kind == "unset" else setting.value
    return Change(setting.name, before, after, setting.why, origin)


def _want(wanted: dict[str, Change], findings: list[Finding], change: Change | None) -> None:
    if change is None:
        return
    earlier = wanted.pop(
        change.name, None
    )  # popped, so that the order is the order of the last word
    if earlier is not None and earlier.after != change.after and not _is_its_own(earlier, change):
        findings.append(
            Finding(
                "variable-overridden",
                "note",
                change.name,
                f"{_from(change)} overrides {_from(earlier)}",
            )
        )
    wanted[change.name] = change


def _is_its_own(earlier: Change, change: Change) -> bool:
    """Is it what a profile makes of what it extends, or says for some versions?"""
    return earlier.origin == change.origin != ON_THE_COMMAND_LINE


def _from(change: Change) -> str:
    return f"{change.origin} ({'unset' if change.after is None else 'set'})"


def _left_alone(setting: Setting, origin: str) -> Finding:
    return Finding("variable-kept", "note", setting.name, f"--keep: {origin} does not touch it")


def _missing(setting: Setting, origin: str) -> Finding:
    return Finding(
        "variable-required",
        "fail",
        setting.name,
        f"{origin} requires it, and it is not set",
        fix=setting.value,
    )
