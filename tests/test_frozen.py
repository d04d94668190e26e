"""The stand-in for `dataclasses`: the same class bodies under both, and they must not be told apart."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import frozen, model

BODIES = """
@dataclass(frozen=True)
class Plain:
    a: int
    b: str

@dataclass(frozen=True)
class Defaulted:
    a: int
    b: str = "two"
    c: tuple = (1, 2)
    d: object = None

@dataclass(frozen=True)
class AllDefaulted:
    a: int = 0
    b: str = ""

@dataclass(frozen=True)
class Empty:
    pass

@dataclass(frozen=True)
class Behaving:
    '''Fields, a property, a method and a constant without annotation.'''
    self_: int
    args: str = ""
    LIMIT = 5

    @property
    def doubled(self):
        return self.self_ * 2

    def plus(self, other):
        return self.self_ + other
"""


class Family:
    """The classes of BODIES as one decorator makes them."""

    def __init__(self, module: Any) -> None:
        space: dict[str, Any] = {"__name__": __name__, "dataclass": module.dataclass}
        exec("from __future__ import annotations\n" + BODIES, space)
        self.classes = space
        self.replace = module.replace

    def __getitem__(self, name: str) -> Any:
        return self.classes[name]


REAL, STAND_IN = Family(dataclasses), Family(frozen)
NAMES = ["Plain", "Defaulted", "AllDefaulted", "Empty", "Behaving"]


def result(action: Any) -> Any:
    """What an action gives, or the kind of its error."""
    try:
        return action()
    except Exception as error:
        return next(
            kind for kind in (TypeError, AttributeError, Exception) if isinstance(error, kind)
        )


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((1, "x"), {}),
    ((1, "x", (3,), 4), {}),
    ((1, "x", (3,), 4, 5), {}),
    ((), {"a": 1}),
    ((), {"b": "x", "a": 1}),
    ((1,), {"b": "x"}),
    ((1,), {"a": 1}),
    ((1, "x"), {"b": "y"}),
    ((1,), {"z": 1}),
    ((), {"a": 1, "d": [1]}),
    ((), {"self_": 1, "args": "x"}),
    ((1, "x"), {"LIMIT": 6}),
    ((None, None), {}),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_call_gives_the_same_fields_and_words_or_the_same_error(name: str, call: Any) -> None:
    args, kwargs = call

    theirs = result(lambda: REAL[name](*args, **kwargs))
    ours = result(lambda: STAND_IN[name](*args, **kwargs))

    if isinstance(theirs, type):
        assert ours is theirs
    else:
        assert ours.__dict__ == theirs.__dict__
        assert list(ours.__dict__) == list(theirs.__dict__)
        assert repr(ours) == repr(theirs)


FIELD = st.one_of(st.none(), st.integers(-1, 2), st.text(max_size=1), st.tuples(st.integers(0, 1)))


@given(st.lists(FIELD, min_size=4, max_size=4), st.lists(FIELD, min_size=4, max_size=4))
def test_equality_hash_and_words_are_the_same_for_any_two(one: list[Any], two: list[Any]) -> None:
    answers = []
    for family in (REAL, STAND_IN):
        first, second = family["Defaulted"](*one), family["Defaulted"](*two)
        if first == second:
            assert hash(first) == hash(second)
        assert hash(first) == hash(family["Defaulted"](*one))
        answers.append((first == second, first != second, repr(first), {first, second} == {first}))

    assert answers[0] == answers[1]


class Anything:
    """Equal to all there is, as `unittest.mock.ANY`."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_instances_of_other_classes_are_not_equal_and_may_have_their_say(family: Family) -> None:
    plain = family["Plain"](1, "x")

    assert plain != family["AllDefaulted"](1, "x")
    assert plain != (1, "x")
    assert plain != None  # noqa: E711
    assert plain == Anything()
    assert plain.__eq__((1, "x")) is NotImplemented


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_a_field_that_cannot_be_hashed_makes_an_instance_that_cannot(family: Family) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(family["Plain"]([], "x"))


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_nothing_can_be_assigned_or_deleted(family: Family) -> None:
    plain = family["Plain"](1, "x")

    for name in ("a", "b", "new", "__class__"):
        with pytest.raises(AttributeError, match=name):
            setattr(plain, name, 2)
        with pytest.raises(AttributeError, match=name):
            delattr(plain, name)
    assert (plain.a, plain.b) == (1, "x")


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_instances_match_by_position_and_by_name(family: Family) -> None:
    defaulted = family["Defaulted"]
    match defaulted(1, d="end"):
        case defaulted(a, b, c, d="end"):
            assert (a, b, c) == (1, "two", (1, 2))
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_properties_methods_and_constants_stay(family: Family) -> None:
    behaving = family["Behaving"](4)

    assert (behaving.doubled, behaving.plus(1), behaving.LIMIT) == (8, 5, 5)
    assert family["Behaving"].__match_args__ == ("self_", "args")
    assert family["Behaving"].__doc__.startswith("Fields, a property")


@pytest.mark.parametrize("family", [REAL, STAND_IN], ids=["real", "stand-in"])
def test_replace_gives_a_changed_copy_and_refuses_unknown_names(family: Family) -> None:
    old = family["Defaulted"](1)

    new = family.replace(old, b="changed")

    assert (new.a, new.b, old.b) == (1, "changed", "two")
    assert type(new) is type(old)
    assert family.replace(old) == old
    with pytest.raises(TypeError):
        family.replace(old, unknown=1)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_the_nouns_can_be_copied_and_pickled(duplicate: Any) -> None:
    plan = model.EnvPlan((model.Change("A", None, "1", "why", "profile p"),))

    assert duplicate(plan) == plan
    assert hash(duplicate(plan)) == hash(plan)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(lambda a, b: ("instance", a, b), inner, inner)
    ),
    max_leaves=8,
)


def build(value: Any, family: Family) -> Any:
    """The value with each ("instance", a, b) made an instance of a family's class."""
    match value:
        case ("instance", a, b):
            return family["Plain"](build(a, family), build(b, family))
        case tuple() | list():
            return type(value)(build(item, family) for item in value)
        case dict():
            return {key: build(item, family) for key, item in value.items()}
    return value


@given(VALUES)
def test_plain_gives_the_same_json_as_asdict(value: Any) -> None:
    theirs = dataclasses.asdict(REAL["Plain"](build(value, REAL), 0))

    ours = frozen.plain(STAND_IN["Plain"](build(value, STAND_IN), 0))

    assert json.dumps(ours) == json.dumps(theirs)
    assert list(ours) == list(theirs)


@pytest.mark.parametrize(
    "noun",
    [
        cls
        for cls in vars(model).values()
        if isinstance(cls, type) and cls.__module__ == model.__name__
    ],
    ids=lambda cls: cls.__name__,
)
def test_every_noun_has_fields_that_both_decorators_would_see(noun: type) -> None:
    assert noun.__match_args__ == tuple(noun.__annotations__)  # type: ignore[attr-defined]
    mutable = [
        n for n in noun.__annotations__ if isinstance(getattr(noun, n, None), list | dict | set)
    ]
    assert mutable == []
    defaulted = [hasattr(noun, name) for name in noun.__annotations__]
    assert defaulted == sorted(defaulted), "a field without default after one with"
