"""Text that is safe to show, and when there is colour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import screen

ANYTHING = st.text(st.characters())  # surrogates included: they stand for bytes that are no UTF-8


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain words", "plain words"),
        ("naïve ☃ 漢字", "naïve ☃ 漢字"),
        ("two\nlines", "two\\nlines"),
        ("tab\tand\rreturn", "tab\\tand\\rreturn"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]52;c;Y29weQ==\x1b\\", "\\x1b]52;c;Y29weQ==\\x1b\\"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f\b", "\\x7f\\x08"),
        ("\u202eevil", "\\u202eevil"),
        ("a\u200bb\u2028c", "a\\u200bb\\u2028c"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_could_drive_the_terminal_is_escaped_and_the_rest_is_left(
    text: str, shown: str
) -> None:
    assert screen.printable(text) == shown


@given(ANYTHING)
def test_no_text_at_all_is_printed_with_a_character_that_is_not_printable(text: str) -> None:
    assert screen.printable(text).isprintable()
    assert screen.printable(screen.printable(text)) == screen.printable(text)


@given(st.text().filter(str.isprintable))
def test_printable_text_is_printed_as_it_is(text: str) -> None:
    assert screen.printable(text) == text


@given(ANYTHING, st.integers(24, 200))
def test_shortened_text_is_printable_and_keeps_its_limit_and_its_ends(
    text: str, limit: int
) -> None:
    shown = screen.shortened(text, limit)
    whole = screen.printable(text)

    assert shown.isprintable()
    assert len(shown) <= limit
    assert shown == whole or (whole[:2], whole[-2:]) == (shown[:2], shown[-2:])


def test_shortened_text_says_how_much_is_missing() -> None:
    shown = screen.shortened("a" * 500 + "b" * 500, 100)

    assert shown == "a" * 40 + " ..920 more.. " + "b" * 40


def test_not_even_a_tiny_limit_shows_the_whole_text() -> None:
    shown = {limit: len(screen.shortened("x" * 1000, limit)) for limit in range(24)}

    assert {limit: length for limit, length in shown.items() if length > 40} == {}


@pytest.mark.parametrize(
    ("env", "on_a_terminal", "elsewhere"),
    [
        ({}, False, False),
        ({"TERM": "xterm"}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False, False),  # no-color.org: whatever its value
        ({"TERM": "xterm", "NO_COLOR": ""}, True, False),  # no-color.org: when not empty
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0", "TERM": "xterm"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0", "TERM": "xterm"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "", "TERM": "xterm"}, True, False),  # force-color.org: when not empty
        ({"CLICOLOR_FORCE": "", "TERM": "xterm"}, True, False),
    ],
    ids=str,
)
def test_colour_is_decided_by_the_variables_first_and_the_terminal_then(
    env: dict[str, str], on_a_terminal: bool, elsewhere: bool
) -> None:
    assert screen.wants_colour(env, True) is on_a_terminal
    assert screen.wants_colour(env, False) is elsewhere
