"""The signatures: each is told by its own examples, not by what is close, and costs little."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import takewhile

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT
from tests.kit.logs import CLEAN, ROUTINE, corpus, known
from vllm_guard import checkup, prefixes, schema, servers, signatures
from vllm_guard.errors import GuardError
from vllm_guard.lines import LIMIT
from vllm_guard.prefixes import Line
from vllm_guard.signatures import Signature, fill

FILES = sorted((ROOT / "vllm_guard/data/signatures").glob("*.toml"))
KNOWN = known()
IDS = [signature.id for signature in KNOWN]
QUICK = 0.005  #: seconds for the longest line
FILLERS = ("a", "0", " ", ".", "(", "'", '"', "Error: ", "1.5 GiB ")
UNWANTED = "\0" * 512
ROW = {
    "kind": "cause",
    "needles": ["a needle"],
    "regex": r"(?P<size>\d+)",
    "cause": "{size} bytes",
    "fix": "less",
}

each = pytest.mark.parametrize("signature", KNOWN, ids=IDS)


def parsed(line: str) -> Line:
    return prefixes.Parser().parse(1, line.encode())


def said_in(signature: Signature) -> Callable[[str], bool]:
    """As if the process had said before what this signature needs, and nothing else."""
    return lambda text: text in signature.context


def winner(line: Line, signature: Signature) -> str:
    match = signatures.best(KNOWN, line, said_in(signature))
    return match.signature.id if match else ""


@cache
def healthy() -> list[Line]:
    """What servers say until they are asked to end: it is no news that an engine is gone, then."""
    logs = [map(parsed, log["text"].splitlines()) for log in corpus() if log["expect"] == CLEAN]
    return [
        line
        for lines in logs
        for line in takewhile(lambda line: not line.text.startswith(servers.ENDING), lines)
    ]


def holds(signature: Signature, line: str) -> bool:
    """Of the line alone, had its process said nothing before."""
    found = signatures.best([signature], parsed(line), lambda _: not signature.context)
    return found is not None


# ---- the data


def test_no_id_stands_twice_or_is_that_of_a_finding() -> None:
    ids = [id_ for path in FILES for id_ in tomli.loads(path.read_text())["signatures"]]
    findings = re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs/checks.md").read_text())

    assert [id_ for id_, count in Counter(ids).items() if count > 1] == []
    assert set(ids) & set(findings) == set()
    assert set(ids) == set(IDS)


@each
def test_a_signature_says_all_that_a_reader_needs(signature: Signature) -> None:
    assert all(
        (signature.title, signature.cause, signature.fix, signature.source, signature.family)
    )
    assert signature.confirm
    assert signature.refute
    assert signature.uri.startswith("https://")
    assert not signature.title.endswith(".")
    schema.check_specifier(signature.vllm, signature.id)
    assert signature.signal or (signature.examples and signature.near_misses)


@each
def test_a_signature_wins_on_each_of_its_examples(signature: Signature) -> None:
    assert {line: winner(parsed(line), signature) for line in signature.examples} == dict.fromkeys(
        signature.examples, signature.id
    )


@each
def test_a_signature_does_not_match_what_is_close(signature: Signature) -> None:
    assert [line for line in signature.near_misses if holds(signature, line)] == []


@each
def test_the_texts_of_a_signature_are_complete_for_each_example(signature: Signature) -> None:
    for line in signature.examples:
        match = signatures.best([signature], parsed(line), said_in(signature))
        assert match is not None
        texts = (
            signature.cause,
            signature.fix,
            *signature.confirm,
            *signature.refute,
            *signature.next,
        )
        filled = [fill(text, match.groups) for text in texts]
        assert [text for text in filled if "?" in text or "{}" in text] == []


@each
def test_the_next_steps_are_checks_and_profiles_that_there_are(signature: Signature) -> None:
    checks = {check.id for check in checkup.catalogue()}
    built_in = {path.stem for path in (ROOT / "profiles").glob("*.toml")}

    for step in signature.next:
        check = re.fullmatch(r"doctor --only ([a-z0-9-]+)", step)
        profile = re.fullmatch(r"-p ([a-z0-9-]+)", step)
        assert (check and check[1] in checks) or (profile and profile[1] in built_in), step


@each
def test_the_needles_of_a_signature_are_in_no_routine_line(signature: Signature) -> None:
    texts = "\n".join(parsed(line).text for line in ROUTINE)

    assert [needle for needle in signature.needles if needle in texts] == []


@each
def test_a_signature_claims_no_line_of_a_healthy_server(signature: Signature) -> None:
    if signature.kind in ("hint", "noise") or signature.last:  # those are for a log's end only
        return
    claimed = [
        line
        for line in healthy()
        if signatures.best([signature], line, lambda _: not signature.context)
    ]

    assert [line.text for line in claimed if winner(line, signature) == signature.id] == []


@each
def test_no_line_keeps_a_signature_busy(signature: Signature) -> None:
    slow = {
        line[:200]: t
        for line in _adversaries(signature)
        if (t := _seconds(signature, line)) > QUICK
    }

    assert slow == {}


def _adversaries(signature: Signature) -> Iterator[str]:
    """Lines of the greatest length that look right for as long as possible."""
    for start in (*signature.needles, *(parsed(line).text for line in signature.examples)):
        yield (start * LIMIT)[:LIMIT]
        for (
            filler
        ) in FILLERS:  # a run, and behind it more of what no expression wants than any skips
            run = (filler * LIMIT)[: LIMIT - len(start) - len(UNWANTED)]
            yield f"{start}{run}{UNWANTED}"
            yield f"{run}{start}{UNWANTED}"
        for part in (start, start[:-1], start[: len(start) // 2]):
            for filler in FILLERS:
                yield (signature.needles[:1] or ("",))[0] + (part + filler * LIMIT)[:LIMIT]


def _seconds(signature: Signature, line: str) -> float:
    """The least of three: the machine is not ours alone."""

    def once() -> float:
        begun = time.thread_time()
        signatures.best([signature], Line(1, "", "", line), lambda _: True)
        return time.thread_time() - begun

    first = once()
    return first if first < QUICK else min(once(), once())


# ---- the schema


def rows(**changes: object) -> dict[str, dict[str, object]]:
    row = {key: value for key, value in (ROW | changes).items() if value is not None}
    return {"an-id": row}


def test_a_row_of_the_schema_is_a_signature() -> None:
    (signature,) = signatures.parse(rows())

    assert (signature.id, signature.needles, signature.signal) == ("an-id", ("a needle",), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needle": ["x"]}, "unknown key 'signatures.an-id.needle'"),
        ({"kind": "reason"}, "kind is none of cause, envelope, request, hint, noise"),
        ({"level": "WARN"}, "level is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ({"needles": "a needle"}, "needles is text, not a list"),
        ({"needles": ["short"]}, "fewer than 6 characters"),
        ({"needles": ["0xfeed", "deadbeef"]}, "a needle is a hexadecimal number"),
        ({"needles": None}, "either needles or a signal"),
        ({"signal": 9}, "either needles or a signal"),
        ({"signal": "9", "needles": None}, "signal is text, not a number"),
        ({"last": 1}, "last is a number, not true or false"),
        ({"regex": "("}, "regex: "),
        ({"fix": "less than {length}"}, "fix names the group 'length'"),
        ({"confirm": ["{size/limit}"]}, "confirm names the group 'limit'"),
        ({"title": "two\nlines"}, "line break"),
    ],
)
def test_what_the_schema_does_not_have_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(GuardError, match=re.escape(message)):
        signatures.parse(rows(**changes))


def test_a_misspelt_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(GuardError) as caught:
        signatures.parse(rows(needle=["a needle"]))

    assert caught.value.hint == "did you mean needles?"


# ---- matching


def test_of_two_signatures_the_one_with_the_longer_needle_holds_then_that_with_an_expression() -> (
    None
):
    short, long, exact = signatures.parse(
        {
            "short": {**ROW, "needles": ["needle"]},
            "long": {**ROW, "needles": ["a needle"], "regex": "", "cause": ""},
            "exact": {**ROW, "needles": ["a needle"]},
        }
    )

    def chosen(*among: Signature) -> str:
        match = signatures.best(among, Line(1, "", "", "a needle of 7"), lambda _: False)
        return match.signature.id if match else ""

    assert chosen(short, long) == "long"
    assert chosen(long, exact) == "exact"
    assert chosen(exact, long) == "exact"


def test_absent_and_context_decide_over_a_line_with_the_needle() -> None:
    (signature,) = signatures.parse(rows(absent=["not this"], context=["the cause", "its place"]))

    def holds(line: str, said: str) -> bool:
        return (
            signatures.best([signature], Line(1, "", "", line), lambda text: text in said)
            is not None
        )

    assert holds("a needle of 7", "here was the cause")
    assert holds("a needle of 7 in its place", "")
    assert not holds("a needle of 7", "here was nothing")
    assert not holds("a needle of 7, not this", "here was the cause")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a} GiB", "3.5 GiB"),
        ("{none}", "?"),
        ("{none|less}", "less"),
        ("{a|less}", "3.5"),
        ("{a/b}", "0.43"),
        ("{a/zero}", "?"),
        ("{a/none}", "?"),
        ("--hf-overrides '{\"a\": 1}'", "--hf-overrides '{\"a\": 1}'"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert fill(template, {"a": "3.5", "b": "8", "zero": "0", "none": None}) == text


@given(st.text(alphabet="{}|/ab1 "), st.dictionaries(st.sampled_from("ab"), st.text()))
def test_no_template_and_nothing_caught_breaks_the_filling(
    template: str, groups: dict[str, str]
) -> None:
    assert isinstance(fill(template, groups), str)
