"""The run options: the small launch parser by itself, and against click."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vllm_guard import options
from vllm_guard.commands import group
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.options import OPTIONS, RunOptions, parse_launch

AGREED_ERROR = "a usage error"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--", "true"], {}),
        (["-p", "debug", "--", "true"], {"profiles": ("debug",)}),
        (["-pdebug", "--", "true"], {"profiles": ("debug",)}),
        (["--profile", "debug", "--", "true"], {"profiles": ("debug",)}),
        (["--profile=debug", "--", "true"], {"profiles": ("debug",)}),
        (["-p", "a", "--profile=b", "-pc", "--", "true"], {"profiles": ("a", "b", "c")}),
        (["-p", "-n", "--", "true"], {"profiles": ("-n",)}),
        (["-p=debug", "--", "true"], {"profiles": ("=debug",)}),
        (["--profile=--", "--", "true"], {"profiles": ("--",)}),
        (["-p--", "--", "true"], {"profiles": ("--",)}),
        (["--profile=", "--", "true"], {"profiles": ("",)}),
        (["-n", "-v", "--", "true"], {"dry_run": True, "verbose": True}),
        (["-nv", "--", "true"], {"dry_run": True, "verbose": True}),
        (["-nvpdebug", "--", "true"], {"dry_run": True, "verbose": True, "profiles": ("debug",)}),
        (["-np", "debug", "--", "true"], {"dry_run": True, "profiles": ("debug",)}),
        (["-qq", "--", "true"], {"quiet": True}),
        (["-e", "A=b=c", "--", "true"], {"env": ("A=b=c",)}),
        (["-eA=b=c", "--", "true"], {"env": ("A=b=c",)}),
        (["--env=A=b", "-e", "A=c", "--", "true"], {"env": ("A=b", "A=c")}),
        (["-e", "A=", "--", "true"], {"env": ("A=",)}),
        (["-e", "A= b\n", "--", "true"], {"env": ("A= b\n",)}),
        (["-e", "\udcff=\udc80", "--", "true"], {"env": ("\udcff=\udc80",)}),
        (["--unset", "A", "--keep", "B", "--", "true"], {"unset": ("A",), "keep": ("B",)}),
        (["--preflight", "off", "--", "true"], {"preflight": "off"}),
        (["--preflight=off", "--preflight", "quick", "--", "true"], {"preflight": "quick"}),
        (["--ignore", "port-taken", "--", "true"], {"ignore": ("port-taken",)}),
        (["--exec", "--no-watch", "--", "true"], {"exec": True, "no_watch": True}),
        (["--deadline", "600", "--", "true"], {"deadline": 600.0}),
        (["--deadline=0.5", "--", "true"], {"deadline": 0.5}),
        (["--deadline", "1e3", "--", "true"], {"deadline": 1000.0}),
        (
            ["--stall", "kill", "--stall-after=9", "--", "true"],
            {"stall": "kill", "stall_after": 9.0},
        ),
        (["--python", "/usr/bin/python3", "--", "true"], {"python": "/usr/bin/python3"}),
        (["--json", "-", "--", "true"], {"json": "-"}),
        (["run", "-n", "--", "true"], {"dry_run": True}),
        (["run", "-n", "true"], {"dry_run": True}),
        (["run", "true"], {}),
        (["run", "--", "true"], {}),
    ],
    ids=str,
)
def test_good_words_become_options(words: list[str], expected: dict[str, Any]) -> None:
    assert parse_launch(words) == RunOptions(command=("true",), **expected)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["--", "vllm", "serve", "-p", "x"], ("vllm", "serve", "-p", "x")),
        (["--", "a", "--", "b"], ("a", "--", "b")),
        (["--", "--", "a"], ("--", "a")),
        (["--", "-n"], ("-n",)),
        (["--", "run"], ("run",)),
        (["--", "a", "--help"], ("a", "--help")),
        (["--", "a", "", " ", "\n", "\udcff"], ("a", "", " ", "\n", "\udcff")),
        (["run", "a", "--", "b"], ("a", "--", "b")),
        (["run", "a", "-n", "--profile=x"], ("a", "-n", "--profile=x")),
        (["run", "-"], ("-",)),
        (["run", "run", "x"], ("run", "x")),
        (["run", "--", "--profile", "x"], ("--profile", "x")),
    ],
    ids=str,
)
def test_words_after_the_command_are_untouched(words: list[str], command: tuple[str, ...]) -> None:
    assert parse_launch(words) == RunOptions(command=command)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--"], "no command given", "--"),
        (["run"], "no command given", "--"),
        (["run", "--"], "no command given", "--"),
        (["-n"], "no command given", "--"),
        (["-p", "debug"], "no command given", "--"),
        (["--", ""], "the command is an empty word", "unset"),
        (["run", "", "x"], "the command is an empty word", "unset"),
        (["-p"], "-p needs a value", ""),
        (["-p", "--", "true"], "-p needs a value", ""),
        (["--profile", "--", "true"], "--profile needs a value", ""),
        (["-np"], "-p needs a value", ""),
        (["-e", "A", "--", "true"], "--env 'A' has no value", "A=VALUE"),
        (["-e", "=b", "--", "true"], "--env: '' is not a variable name", ""),
        (["-e", "", "--", "true"], "--env '' has no value", ""),
        (["--unset", "A=b", "--", "true"], "--unset: 'A=b' is not a variable name", ""),
        (["--unset", "", "--", "true"], "--unset: '' is not a variable name", ""),
        (["--keep", "A=b", "--", "true"], "--keep: 'A=b' is not a variable name", ""),
        (["-e", "VGUARD_RUN_ID=x", "--", "true"], "--env: VGUARD_* are vllm-guard's own", "run"),
        (["--unset", "VGUARD_LEVEL", "--", "true"], "--unset: VGUARD_*", ""),
        (["--keep", "VGUARD_RUN_ID", "--", "true"], "--keep: VGUARD_*", ""),
        (["--deadline", "soon", "--", "true"], "--deadline 'soon'", "600"),
        (["--deadline", "10s", "--", "true"], "--deadline '10s'", "600"),
        (["--stall-after", "1m", "--", "true"], "--stall-after '1m'", "--stall-after 600"),
        (["--deadline=", "--", "true"], "--deadline ''", "600"),
        (["--deadline", "0", "--", "true"], "--deadline '0'", "600"),
        (["--deadline", "-1", "--", "true"], "--deadline '-1'", "600"),
        (["--deadline", "nan", "--", "true"], "--deadline 'nan'", "600"),
        (["--deadline", "inf", "--", "true"], "--deadline 'inf'", "600"),
        (["--deadline", "1e9", "--", "true"], "--deadline '1e9'", "600"),
        (["--preflight", "maybe", "--", "true"], "choose from off, quick", ""),
        (["--preflight", "OFF", "--", "true"], "choose from off, quick", ""),
        (["--exec=1", "--", "true"], "--exec takes no value", ""),
        (["--exec=", "--", "true"], "--exec takes no value", ""),
        (["--profil", "x", "--", "true"], "no such option: --profil", "did you mean --profile?"),
        (["--no_watch", "--", "true"], "no such option: --no_watch", "did you mean --no-watch?"),
        (["--dead-line=5", "--", "true"], "no such option: --dead-line", "--deadline?"),
        (["-x", "--", "true"], "no such option: -x", "--help"),
        (["-nx", "--", "true"], "no such option: -x", "--help"),
        (["-n=1", "--", "true"], "no such option", ""),
        (["-n-", "true"], "no such option", ""),
        (["-n-profile", "debug", "--", "true"], "no such option", ""),
        (["---", "--", "true"], "no such option: ---", ""),
        (["-q", "true"], "unexpected 'true' before `--`", "put `--` before the command"),
        (["-p", "debug", "vllm", "serve"], "unexpected 'vllm' before `--`", "put `--`"),
        (["-n", "-", "--", "true"], "unexpected '-' before `--`", "put `--`"),
        (["-n", "run", "--", "true"], "unexpected 'run' before `--`", "put `--`"),
    ],
    ids=str,
)
def test_mistaken_words_are_usage_errors_that_say_what_to_write(
    words: list[str], message: str, hint: str
) -> None:
    with pytest.raises(GuardError) as caught:
        parse_launch(words)

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == USAGE


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["-h"],
        ["--version"],
        ["run", "--help"],
        ["run", "-p", "debug", "--help", "--", "true"],
        ["-p", "debug", "--help"],
        ["env", "show"],
        ["profile", "list", "--json"],
        ["nonsense"],
        [""],
        ["-"],
    ],
    ids=str,
)
def test_words_that_are_no_launch_are_left_to_click(words: list[str]) -> None:
    assert parse_launch(words) is None


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        ["-p", "debug", "--help"],
        ["run", "--help"],
        ["run", "-h"],
        ["run", "-p", "debug", "--help"],
    ],
    ids=str,
)
def test_who_asks_for_help_gets_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_launch(words) is None
    assert group.main(words) == 0
    assert "Usage: vllm-guard" in capsys.readouterr().out


def test_the_words_given_are_not_changed() -> None:
    words = ["run", "-nvp", "debug", "-eA=b", "--", "true"]
    given_words = list(words)

    parse_launch(words)

    assert words == given_words


def test_every_option_is_spelled_once_and_has_a_field_of_its_own() -> None:
    spellings = [word for option in OPTIONS for word in (option.long, option.short) if word]

    assert len(set(spellings)) == len(spellings)
    assert {option.field for option in OPTIONS} == set(RunOptions(("true",)).__dict__) - {"command"}
    assert all(option.help.endswith(".") for option in OPTIONS)


def test_clicks_help_names_every_option_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    group.main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.split())

    for option in OPTIONS:
        assert option.long in shown
        assert option.help in shown


WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=6),
    st.sampled_from(["", "-", "-n", "--exec", "=", "A=b", "A=", "run", "--help", "-h"]),
)
SECONDS = st.one_of(
    st.sampled_from(["1", "0.5", "1e3", "-1", "0", "nan", "inf", "10s", ""]),
    st.floats().map(str),
)
VALUES = {
    "env": st.one_of(st.builds("{}={}".format, WORDS, WORDS), WORDS),
    "preflight": st.sampled_from(["off", "quick"]),  # of several, click judges the last only
    "stall": st.sampled_from(["report", "kill", "off"]),
    "deadline": SECONDS,
    "stall_after": SECONDS,
}


@st.composite
def spelled_options(draw: st.DrawFn) -> list[str]:
    """One option of the table, in one of its spellings, with a value where it takes one."""
    option = draw(st.sampled_from(OPTIONS))
    spelling = draw(st.sampled_from([word for word in (option.long, option.short) if word]))
    if not option.metavar:
        flags = st.text("nqv", max_size=3) if len(spelling) == 2 else st.just("")
        return [spelling + draw(flags)]
    value = draw(VALUES.get(option.field, WORDS))
    if draw(st.booleans()) and value != "--":  # alone it ends the options: see the table above
        return [spelling, value]
    if len(spelling) > 2:
        return [f"{spelling}={value}"]
    return [spelling + value] if value else [spelling, value]


def through_click(words: list[str]) -> RunOptions | str | None:
    try:
        run = group.root.commands["run"]
        values = run.make_context("run", list(words)).params
        # as `group._run` does: what was not given is left to the defaults of RunOptions
        given = {name: value for name, value in values.items() if value not in (None, (), False)}
        return options.finish_values(given)
    except (click.UsageError, GuardError):
        return AGREED_ERROR
    except click.exceptions.Exit:
        return None  # help was asked for


def through_us(words: list[str]) -> RunOptions | str | None:
    try:
        return parse_launch(words)
    except GuardError:
        return AGREED_ERROR


@given(st.lists(spelled_options(), max_size=5), st.lists(WORDS | st.just("--"), max_size=4))
@example([["-p", "-n"]], ["true"])
@example([["--preflight=maybe"]], ["true"])
@example([["--profile=--help"]], ["true"])
def test_click_and_the_small_parser_read_the_same_from_every_option(
    parts: list[list[str]], command: list[str]
) -> None:
    words = [*(word for part in parts for word in part), "--", *command]
    expected = through_click(words)

    assert through_us(words) == expected
    assert through_us(["run", *words]) == expected


@given(st.lists(st.text("npqve-=x", max_size=4).filter(lambda word: word != "--"), max_size=4))
@example(["-n-"])
@example(["-n-json=f"])
@example(["-qp", "-"])
def test_click_and_the_small_parser_stumble_over_the_same_words(words: list[str]) -> None:
    words = [*words, "-q", "--", "true"]  # a lone `--` is never the value of an option of ours

    assert through_us(["run", *words]) == through_click(words)


@pytest.mark.parametrize("words", [["--deadline", "5"], ["--allow-daemon"], ["--json", "f"]])
def test_what_somebody_would_have_to_see_to_does_not_go_with_exec(words: list[str]) -> None:
    with pytest.raises(GuardError, match="no effect with --exec") as caught:
        parse_launch(["--exec", *words, "--", "true"])
    assert caught.value.exit_code == 2
