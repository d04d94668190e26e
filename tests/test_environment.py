"""The environment byte for byte: what the kernel holds, what the plan makes of it, what arrives."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit import guard_env
from vllm_guard import environment
from vllm_guard.model import Change, EnvPlan
from vllm_guard.plan import make_plan

Entries = Sequence[tuple[bytes, bytes]]

STRING_MAX = 32 * 4096  #: execve(2): MAX_ARG_STRLEN, with the final NUL
REFUSED = 77

FEW = st.sampled_from([b"A", b"B", b"\xff", b"\xc3\xa9"])
NAMES = st.one_of(FEW, st.binary(min_size=1, max_size=5).filter(lambda b: not set(b) & {0, 61}))
VALUES = st.binary(max_size=8).filter(lambda b: 0 not in b)
ENTRIES = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@st.composite
def plans(draw: st.DrawFn) -> EnvPlan:
    wanted = draw(st.dictionaries(NAMES, st.none() | VALUES, max_size=5))
    return EnvPlan(
        tuple(
            Change(os.fsdecode(name), None, None if after is None else os.fsdecode(after), "", "")
            for name, after in wanted.items()
        )
    )


@given(ENTRIES)
def test_the_view_loses_no_byte_and_of_duplicates_the_first_counts(entries: Entries) -> None:
    first = dict(reversed(entries))

    found = environment.view(entries)

    assert {os.fsencode(name): os.fsencode(value) for name, value in found.items()} == first
    assert list(found) == list(dict.fromkeys(os.fsdecode(name) for name, _ in entries))


@given(ENTRIES)
def test_an_empty_plan_leaves_every_entry_where_it_was(entries: Entries) -> None:
    assert environment.planned(entries, EnvPlan()) == tuple(entries)


@given(ENTRIES, plans())
def test_a_plan_touches_the_names_it_holds_and_no_other_entry(
    entries: Entries, plan: EnvPlan
) -> None:
    wanted = {os.fsencode(change.name): change.after for change in plan.changes}

    result = environment.planned(entries, plan)

    untouched = [entry for entry in entries if entry[0] not in wanted]
    assert [entry for entry in result if entry[0] not in wanted] == untouched
    held = [entry for entry in result if entry[0] in wanted]
    assert dict(held) == {n: os.fsencode(after) for n, after in wanted.items() if after is not None}
    assert len(dict(held)) == len(held)
    assert environment.view(result) == plan.apply(environment.view(entries))


@given(ENTRIES, plans())
def test_a_changed_variable_keeps_its_place_and_a_new_one_comes_last(
    entries: Entries, plan: EnvPlan
) -> None:
    old = list(dict.fromkeys(name for name, _ in entries))
    new = list(dict.fromkeys(name for name, _ in environment.planned(entries, plan)))

    kept = [name for name in old if name in new]
    assert new[: len(kept)] == kept
    assert new[len(kept) :] == [
        name
        for name in (
            os.fsencode(change.name) for change in plan.changes if change.after is not None
        )
        if name not in old
    ]


def test_of_a_duplicate_that_the_plan_changes_one_entry_remains() -> None:
    entries = [(b"A", b"1"), (b"B", b"x"), (b"A", b"2")]

    assert environment.planned(entries, EnvPlan((Change("A", "1", "3", "", ""),))) == (
        (b"A", b"3"),
        (b"B", b"x"),
    )
    assert environment.planned(entries, EnvPlan((Change("A", "1", None, "", ""),))) == (
        (b"B", b"x"),
    )


def test_a_variable_that_was_asked_for_has_that_value_for_every_program() -> None:
    # Python and getenv see the first of two entries, bash the last: asked for, there may be one only.
    entries = [(b"A", b"1"), (b"A", b"2")]

    plan, _ = make_plan(environment.view(entries), [], [("A", "1")])

    assert environment.planned(entries, plan) == ((b"A", b"1"),)


@pytest.mark.parametrize(
    ("names", "twice"),
    [
        ([], ()),
        ([b"A", b"B"], ()),
        ([b"A", b"B", b"A"], ("A",)),
        ([b"A", b"A", b"A", b"B", b"B"], ("A", "B")),
        ([b"a", b"A"], ()),
        ([b"\xff", b"\xff"], ("\udcff",)),
    ],
)
def test_duplicates_are_named_once_in_their_order(
    names: list[bytes], twice: tuple[str, ...]
) -> None:
    assert environment.duplicates([(name, b"") for name in names]) == twice


def run(start: Callable[[], None]) -> tuple[int, bytes]:
    """What a forked child wrote on its stdout, and its exit status; REFUSED when `start` fails."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(write, 1)
            start()
        except OSError:
            os._exit(REFUSED)
        finally:
            os._exit(99)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        written = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written


def arrived(entries: Entries) -> list[bytes]:
    argv = ["cat", "/proc/self/environ"]
    status, written = run(lambda: os.execve("/bin/cat", argv, environment.block(entries)))
    assert status == 0
    return written.split(b"\0")[:-1]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [(b"A", b"")],
        [(b"A", b"1"), (b"A", b"2"), (b"A", b"1")],
        [(b"Z", b"1"), (b"A", b"2"), (b"M", b"3")],
        [(b"\xff\xfe", b"\x80\x81")],
        [(b"BASH_FUNC_x%%", b"() {  :\n}")],
        [(b"A", b"=b=c="), (b" ", b" \t\n")],
        [(b"LANG", b"C"), (b"LC_ALL", b"C")],
    ],
)
def test_a_block_reaches_the_command_byte_for_byte(entries: Entries) -> None:
    assert arrived(entries) == [name + b"=" + value for name, value in entries]


@settings(max_examples=25)
@given(ENTRIES)
def test_any_block_reaches_the_command_byte_for_byte(entries: Entries) -> None:
    assert arrived(entries) == [name + b"=" + value for name, value in entries]


@pytest.mark.parametrize("locale", [b"C", b"C.UTF-8", b""])
def test_what_was_inherited_is_read_as_the_kernel_holds_it(locale: bytes) -> None:
    code = "import os; from vllm_guard import environment as e; os.write(1, repr(e.inherited()).encode())"
    own = [f"{name}={value}".encode() for name, value in guard_env(LC_ALL=None).items()]
    odd = [b"NOEQUALS", b"=nameless", b"A=1", b"A=2", b"B\xff=\x80", b"LC_ALL=" + locale, b"C="]
    argv = [sys.executable.encode(), b"-c", code.encode()]

    status, written = run(lambda: raw_execve(argv, [*own, *odd]))

    assert status == 0
    readable = [word for word in [*own, *odd] if word.partition(b"=")[1] and word[:1] != b"="]
    assert written.decode() == repr(tuple(tuple(word.split(b"=", 1)) for word in readable))


def raw_execve(argv: list[bytes], env: list[bytes]) -> None:
    """The system call with any strings at all: Python's own wants a mapping."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    block = (ctypes.c_char_p * (len(env) + 1))(*env, None)
    libc.execve(argv[0], words, block)
    raise OSError(ctypes.get_errno(), "execve")


@pytest.mark.parametrize("extra", [0, 1])
def test_one_variable_may_be_as_long_as_the_kernel_takes_and_no_longer(extra: int) -> None:
    entries = [(b"NAME", b"x" * (STRING_MAX - len("NAME=") - 1 + extra))]

    said = environment.too_big([b"true"], entries)

    status, _ = run(lambda: os.execve("/bin/true", [b"true"], environment.block(entries)))
    assert status == (REFUSED if extra else 0)
    assert bool(said) is bool(extra)
    assert not extra or said == (
        f"variable NAME is {STRING_MAX - 5} bytes long; name and value together may be {STRING_MAX - 2}"
    )


@pytest.mark.parametrize("extra", [0, 1])
def test_one_argument_may_be_as_long_as_the_kernel_takes_and_no_longer(extra: int) -> None:
    argv = [b"true", b"x" * (STRING_MAX - 1 + extra)]

    said = environment.too_big(argv, [])

    status, _ = run(lambda: os.execve("/bin/true", argv, {}))
    assert status == (REFUSED if extra else 0)
    assert bool(said) is bool(extra)
    assert (
        not extra or said == f"argument 1 is {STRING_MAX} bytes long; one may be {STRING_MAX - 1}"
    )


def filled(total: int) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """A command line and an environment that need `total` bytes, each string with its pointer."""
    argv = [b"true"]
    left = total - (len(argv[0]) + 1 + 8)
    entries = []
    while left:
        overhead = len(b"V0000=") + 1 + 8
        size = min(left, 100_000 + overhead)
        size -= 1000 if 0 < left - size < overhead else 0
        entries.append((b"V%04d" % len(entries), b"x" * (size - overhead)))
        left -= size
    return argv, entries


def verdicts(stack: int, beyond: int) -> tuple[str, int]:
    """What `too_big` says and what the kernel does, `beyond` the limit that a stack limit gives."""
    limit = max(131_072, min(stack // 4, 6 << 20))
    argv, entries = filled(limit + beyond)

    def judge() -> None:
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
        os.write(1, environment.too_big(argv, entries).encode())
        os.execve("/bin/true", argv, environment.block(entries))

    status, said = run(judge)
    return said.decode(), status


@pytest.mark.parametrize("stack", [256 << 10, 1 << 20, 8 << 20, 64 << 20], ids="{}".format)
def test_the_sum_is_judged_as_the_kernel_does_at_every_stack_limit(stack: int) -> None:
    room = 5000  # the kernel counts the path of the program too

    assert verdicts(stack, -room) == ("", 0)
    said, status = verdicts(stack, 1)
    assert status == REFUSED
    assert said.startswith("arguments and environment are")
    assert "V0000 (" in said


@pytest.mark.parametrize("beyond", [-40, -11, -10, -9, -1, 0])
def test_what_is_not_called_too_big_is_taken_by_the_kernel(beyond: int) -> None:
    said, status = verdicts(8 << 20, beyond)

    assert said or status == 0


def test_the_largest_variables_are_named_and_no_value_is_shown() -> None:
    sizes = {b"V%d" % index: 120_000 - index for index in range(60)}

    said = environment.too_big([b"true"], [(name, b"s" * size) for name, size in sizes.items()])

    assert said.endswith("largest: V0 (120000), V1 (119999), V2 (119998), V3 (119997), V4 (119996)")
    assert "sss" not in said
