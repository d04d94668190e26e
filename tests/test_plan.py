"""Who wins for a variable, what is said about it, and that every plan can be undone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.model import Change, EnvPlan, Finding, Part, Setting
from vllm_guard.plan import extend, make_plan

NAMES = ("A", "B", "C", "D", "E")
VALUES = st.sampled_from(["", "0", "1", "x"])


def part(*settings: Setting) -> Part:
    return Part("", settings, (), ())


def sets(name: str, value: str) -> Setting:
    return Setting(name, "set", value)


def ids(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.id, finding.status, finding.subject) for finding in findings]


OVERRIDDEN = ("variable-overridden", "note", "A")


@pytest.mark.parametrize(
    ("env", "parts", "asked", "held", "said"),
    [
        ({"A": "0"}, [], [], {"A": "0"}, []),
        ({"A": "0"}, [[sets("A", "1")]], [], {"A": "1"}, []),
        ({}, [[sets("A", "1")]], [], {"A": "1"}, []),
        ({}, [[sets("A", "1")], [sets("A", "2")]], [], {"A": "2"}, [OVERRIDDEN]),
        ({}, [[sets("A", "1")], [sets("A", "1")]], [], {"A": "1"}, []),
        ({}, [[sets("A", "1")]], [("A", "2")], {"A": "2"}, [OVERRIDDEN]),
        ({}, [[sets("A", "1")]], [("A", "")], {"A": ""}, [OVERRIDDEN]),
        ({}, [[sets("A", "1")]], [("A", None)], {}, [OVERRIDDEN]),
        ({"A": "0"}, [[sets("A", "1")]], [("A", "0")], {"A": "0"}, [OVERRIDDEN]),
        ({"A": "0"}, [], [("A", None)], {}, []),
        ({"A": "0"}, [], [("A", "1"), ("A", "2")], {"A": "2"}, [OVERRIDDEN]),
        ({"A": "0"}, [[Setting("A", "unset")]], [], {}, []),
        ({}, [[sets("A", "1")], [Setting("A", "unset")]], [], {}, [OVERRIDDEN]),
        ({}, [[Setting("A", "unset")], [sets("A", "1")]], [], {"A": "1"}, [OVERRIDDEN]),
        ({}, [[Setting("A", "default", "1")]], [], {"A": "1"}, []),
        ({"A": "0"}, [[Setting("A", "default", "1")]], [], {"A": "0"}, []),
        ({"A": ""}, [[Setting("A", "default", "1")]], [], {"A": ""}, []),
        ({}, [[sets("A", "1")], [Setting("A", "default", "2")]], [], {"A": "1"}, []),
        ({}, [[Setting("A", "default", "1")], [sets("A", "2")]], [], {"A": "2"}, [OVERRIDDEN]),
        (
            {},
            [[Setting("A", "unset")], [Setting("A", "default", "1")]],
            [],
            {"A": "1"},
            [OVERRIDDEN],
        ),
    ],
)
def test_inherited_yields_to_profiles_earlier_to_later_and_all_to_the_command_line(
    env, parts, asked, held, said
) -> None:
    numbered = [(f"profile {index}", part(*settings)) for index, settings in enumerate(parts)]

    plan, findings = make_plan(env, numbered, asked)

    assert plan.apply(env) == held
    assert ids(findings) == said


def test_an_override_names_both_sides_and_never_the_values() -> None:
    parts = [("profile one", part(sets("HF_TOKEN", "secret-1")))]

    _, (finding,) = make_plan({}, parts, [("HF_TOKEN", None)])

    assert finding.fact == "the command line (unset) overrides profile one (set)"
    assert "secret" not in repr(finding)


@pytest.mark.parametrize(
    ("env", "earlier", "asked", "missing"),
    [
        ({}, [], [], True),
        ({"A": ""}, [], [], True),
        ({"A": "1"}, [], [], False),
        ({}, [sets("A", "1")], [], False),
        ({}, [], [("A", "1")], False),
        ({}, [Setting("A", "default", "1")], [], False),
        ({"A": "1"}, [Setting("A", "unset")], [], True),
        ({"A": "1"}, [], [("A", None)], True),
        ({"A": "1"}, [], [("A", "")], True),
    ],
)
def test_required_fails_with_its_text_as_the_fix_unless_something_sets_it(
    env, earlier, asked, missing: bool
) -> None:
    required = Setting("A", "required", "create one at https://example.org")

    _, findings = make_plan(env, [("profile p", part(required, *earlier))], asked)

    failed = [finding for finding in findings if finding.status == "fail"]
    assert [f.id for f in failed] == ["variable-required"] * missing
    assert [f.fix for f in failed] == ["create one at https://example.org"] * missing


@pytest.mark.parametrize("kind", ["set", "default", "required", "unset"])
def test_keep_holds_off_every_profile_and_says_so(kind) -> None:
    env = {"A": "0"} if kind == "unset" else {}
    parts = [("profile p", part(Setting("A", kind, "1")))]

    plan, findings = make_plan(env, parts, keep=["A"])

    assert plan == EnvPlan()
    assert ids(findings) == [("variable-kept", "note", "A")]
    assert "profile p" in findings[0].fact


def test_keep_does_not_hold_off_the_command_line() -> None:
    plan, _ = make_plan({"A": "0"}, [("p", part(sets("A", "1")))], [("A", "2")], ["A"])

    assert plan.apply({"A": "0"}) == {"A": "2"}


def test_each_change_tells_what_was_there_why_and_from_where() -> None:
    setting = Setting("A", "set", "1", why="to see more")

    plan, _ = make_plan({"A": "0"}, [("profile p", part(setting))], [("B", "2")])

    assert plan.changes == (
        Change("A", "0", "1", "to see more", "profile p"),
        Change("B", None, "2", "asked for", "the command line"),
    )


SETTINGS = st.builds(
    Setting,
    st.sampled_from(NAMES),
    st.sampled_from(["set", "default", "required", "unset"]),
    VALUES,
)
PARTS = st.lists(st.lists(SETTINGS, max_size=5), max_size=4).map(
    lambda lists: [(f"profile {index}", part(*settings)) for index, settings in enumerate(lists)]
)
ASKED = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | VALUES), max_size=4)
ENVS = st.dictionaries(st.sampled_from(NAMES), VALUES)
KEPT = st.sets(st.sampled_from(NAMES), max_size=2)


def by_the_rules(env, parts, asked, keep) -> tuple[dict[str, str], list[str]]:
    """The design's precedence, word by word: what the environment holds, and names overridden."""
    held = dict(env)
    spoken: dict[str, tuple[str, str | None]] = {}
    overridden = []

    def speak(origin: str, name: str, value: str | None) -> None:
        by, earlier = spoken.get(name, (origin, value))
        if earlier != value and (by != origin or origin == "-e"):
            overridden.append(name)
        spoken[name] = origin, value
        held.pop(name, None)
        if value is not None:
            held[name] = value

    for origin, one in parts:
        for setting in one.settings:
            if setting.name in keep or setting.kind == "required":
                continue
            if setting.kind == "default" and setting.name in held:
                continue
            speak(origin, setting.name, None if setting.kind == "unset" else setting.value)
    for name, value in asked:
        speak("-e", name, value)
    return held, overridden


@given(ENVS, PARTS, ASKED, KEPT)
def test_every_plan_follows_the_rules_and_overrides_nothing_silently(
    env, parts, asked, keep
) -> None:
    plan, findings = make_plan(env, parts, asked, keep)

    held, overridden = by_the_rules(env, parts, asked, keep)
    assert plan.apply(env) == held
    assert [f.subject for f in findings if f.id == "variable-overridden"] == overridden
    required = [
        s.name
        for _, one in parts
        for s in one.settings
        if s.kind == "required" and s.name not in keep and not held.get(s.name)
    ]
    assert [f.subject for f in findings if f.id == "variable-required"] == required
    kept = [s.name for _, one in parts for s in one.settings if s.name in keep]
    assert [f.subject for f in findings if f.id == "variable-kept"] == kept


@given(ENVS, PARTS, ASKED, KEPT)
def test_every_plan_can_be_undone_and_changes_nothing_but_its_result(
    env, parts, asked, keep
) -> None:
    before = dict(env)
    plan, _ = make_plan(env, parts, asked, keep)

    after = plan.apply(env)
    undone = plan.reverse().apply(after)

    assert env == before
    assert undone == env  # unset is not empty
    assert undone is not after
    assert plan.reverse().reverse().apply(env) == after
    names = [change.name for change in plan.changes]
    assert len(set(names)) == len(names)
    assert all(change.before == env.get(change.name) for change in plan.changes)
    assert all(c.before != c.after or c.name in dict(asked) for c in plan.changes)


@given(ENVS)
def test_what_a_profile_wants_and_already_is_so_is_no_change(env) -> None:
    wanted = part(*(sets(name, value) for name, value in env.items()))

    plan, findings = make_plan(env, [("profile p", wanted)])

    assert plan == EnvPlan()
    assert findings == []


@given(ENVS, PARTS, ASKED, KEPT, st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5))
def test_the_guards_own_changes_never_touch_a_name_that_is_spoken_for(
    env, parts, asked, keep, own
) -> None:
    plan, _ = make_plan(env, parts, asked, keep)
    changes = [
        Change(name, env.get(name), value, "", "vllm-guard") for name, value in dict(own).items()
    ]

    extended = extend(plan, changes, keep)

    taken = {change.name for change in plan.changes} | keep
    held, after = plan.apply(env), extended.apply(env)
    assert extended.changes[: len(plan.changes)] == plan.changes
    assert {name: after.get(name) for name in taken} == {name: held.get(name) for name in taken}
    assert all(after[name] == value for name, value in dict(own).items() if name not in taken)
    assert extended.reverse().apply(after) == env


@given(ENVS, st.sampled_from(NAMES), VALUES)
def test_what_the_command_line_asks_for_holds_even_where_it_was_so_before(env, name, value) -> None:
    plan, _ = make_plan({**env, name: value}, [], [(name, value)])

    extended = extend(plan, [Change(name, value, "the guard's", "", "vllm-guard")], ())

    assert extended.apply({**env, name: value})[name] == value
