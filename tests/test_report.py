"""What the guard says about a run: exact, without secrets, and nothing that drives the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kit import guard
from vllm_guard import facts, frozen, report
from vllm_guard.model import Change, EnvPlan, Finding, Outcome, Profile, Run
from vllm_guard.redact import MASK, Redactor

NO_RULES = Redactor({"names": {"secret": [], "public": []}, "flags": {"secret": []}, "shape": []})
SECRET = "s3cr3t-no-shape"
HOSTILE = "\x1b[2J\x9b1m\u202e\r\n\udcff"


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(facts.load("redact")).knowing({"VLLM_API_KEY": SECRET})


def bash_reads(line: str) -> list[bytes]:
    """The words that bash makes of a line."""
    done = subprocess.run(
        ["bash", "-c", os.fsencode("printf '%s\\0' " + line)],
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("plain", "plain"),
        ("--flag=value", "--flag=value"),
        ("user@host:/a/b_c-d.e,f%g+h", "user@host:/a/b_c-d.e,f%g+h"),
        ("", "''"),
        ("two words", "'two words'"),
        ('$HOME `x` "y"', "'$HOME `x` \"y\"'"),
        ("it's", "'it'\"'\"'s'"),
        ("~", "'~'"),
        ("*?[a]{b,c}", "'*?[a]{b,c}'"),
        ("#no comment", "'#no comment'"),
        ("!history", "'!history'"),
        ("a\\b", "'a\\b'"),
        ("naïve ☃", "'naïve ☃'"),
        ("a\nb\tc", "$'a\\nb\\tc'"),
        ("it's\n\\n", "$'it\\'s\\n\\\\n'"),
        ("\x1b[31m", "$'\\x1b[31m'"),
        ("\x01f", "$'\\x01f'"),
    ],
)
def test_a_word_is_quoted_only_as_much_as_it_needs(word: str, quoted: str) -> None:
    assert report.command_line([word], NO_RULES) == quoted


@pytest.mark.parametrize(
    "word",
    [
        b"a b",
        b'it\'s "$(x)" `y` \\',
        b"new\nline",
        b"\x1b[31m",
        b"\x01f\x7f",
        "\u00a0no-break".encode(),
        "soft\u00adhyphen".encode(),
        "\u0085next".encode(),
        "\u200b\u202e\u2028".encode(),
        "\U000e0041".encode(),
        b"\xff",
        b"\xff\xfe01",
        b"caf\xe9",
        b"\xc3\x28",
        b"\xed\xb3\xbf",
    ],
)
def test_awkward_words_come_back_from_bash_as_they_were(word: bytes) -> None:
    line = report.command_line([os.fsdecode(word)], NO_RULES)

    assert line.isprintable()
    assert bash_reads(line) == [word]


BYTES = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=6).map(str.encode),
    st.text("'\"\\$`!*~#-= \n\t\x1b\x7fxu01", max_size=8).map(str.encode),
).map(lambda word: word.replace(b"\0", b""))


@settings(max_examples=60)
@given(st.lists(BYTES, min_size=1, max_size=20))
@example([b"\\", b"'", b"\\'\n", b"\n\\x41", b"\x01\\u0041"])
def test_any_command_line_is_read_back_by_bash_word_for_word(words: list[bytes]) -> None:
    line = report.command_line([os.fsdecode(word) for word in words], NO_RULES)

    assert line.isprintable()
    assert bash_reads(line) == words


@pytest.mark.parametrize(
    ("change", "words", "before"),
    [
        (Change("A", None, "1", "", ""), "A=1", "unset"),
        (Change("A", "", "1", "", ""), "A=1", "empty"),
        (Change("A", "0", "", "", ""), "A=", "0"),
        (Change("A", "0", None, "", ""), "unset A", "0"),
        (Change("A", "x\ny", "z\x1b", "", ""), "A=z\\x1b", "x\\ny"),
        (Change("A\x1b\n", "0", None, "", ""), "unset A\\x1b\\n", "0"),
        (
            Change("MY_TOKEN", "old-pw", "new", "", ""),
            f"MY_TOKEN={MASK} (3 characters)",
            f"{MASK} (6 characters)",
        ),
        (Change("A", f"<{SECRET}>", f"[{SECRET}]", "", ""), f"A=[{MASK}]", f"<{MASK}>"),
    ],
)
def test_a_change_is_said_as_it_would_be_written(
    change: Change, words: str, before: str, redactor: Redactor
) -> None:
    assert report.change_words(change, redactor) == words
    assert report.before_words(change, redactor) == before


def test_a_long_value_is_shortened_unless_it_is_to_be_pasted(redactor: Redactor) -> None:
    change = Change("A", "y" * 500, "x " * 300, "", "")

    assert len(report.change_words(change, redactor)) <= 82
    assert len(report.before_words(change, redactor)) <= 80
    assert bash_reads(report.change_words(change, redactor, quote=True)) == [b"A=" + b"x " * 300]


def test_what_is_stored_of_a_change_keeps_unset_and_empty_apart(redactor: Redactor) -> None:
    change = Change("MY_TOKEN", None, SECRET, "why", "profile p")

    stored = report.masked(change, redactor)

    assert stored == Change(
        "MY_TOKEN", None, f"{MASK} ({len(SECRET)} characters)", "why", "profile p"
    )
    assert report.masked(Change("A", "", None, "", ""), redactor) == Change("A", "", None, "", "")


PROFILE = Profile("debug", "builtin", "/p/debug.toml", "00", "More logging", "", "", "", ())
PLAN = EnvPlan(
    (
        Change("VLLM_LOGGING_LEVEL", None, "DEBUG", "where it is stuck", "profile debug"),
        Change("NCCL_DEBUG", "WARN", "TRACE", "", "profile debug"),
        Change("OTHER", "1", None, "", "profile other"),
        Change("VGUARD_LEVEL", None, "1", "", "vllm-guard"),
    )
)


def test_a_plan_is_said_line_by_line_with_before_origin_and_reason(redactor: Redactor) -> None:
    assert list(report.plan_lines(PLAN, redactor)) == [
        "VLLM_LOGGING_LEVEL=DEBUG   (was unset; profile debug; where it is stuck)",
        "NCCL_DEBUG=TRACE   (was WARN; profile debug)",
        "unset OTHER   (was 1; profile other)",
        "VGUARD_LEVEL=1   (was unset; vllm-guard)",
    ]


def test_a_launch_says_for_each_profile_what_it_changes_and_costs(redactor: Redactor) -> None:
    other = replace_noun(PROFILE, name="other", cost="Slow.")
    idle = replace_noun(PROFILE, name="idle")

    assert list(report.launch_lines(PLAN, [PROFILE, other, idle], redactor)) == [
        "profile debug, this run only: VLLM_LOGGING_LEVEL=DEBUG, NCCL_DEBUG=TRACE (was WARN)",
        "profile other, this run only: unset OTHER (was 1)",
        "  cost: Slow.",
        "profile idle, this run only: no variable changes",
    ]


def replace_noun(noun: Any, **changes: Any) -> Any:
    return frozen.replace(noun, **changes)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome("exited", 0, seconds=12.34), "exited 0 after 12.3 s"),
        (Outcome("exited", 3, ended_by="itself"), "exited 3 after 0.0 s"),
        (
            Outcome("exited", 0, ended_by="Ctrl-C", seconds=1),
            "exited 0 after 1.0 s, ended by Ctrl-C",
        ),
        (Outcome("signalled", 137, signal=9), "was killed by signal 9 after 0.0 s"),
        (
            Outcome("signalled", 134, signal=6, core=True, seconds=2),
            "was killed by signal 6 after 2.0 s, core dumped",
        ),
        (
            Outcome("deadline", 124, ended_by="deadline of 5 s", seconds=5),
            "was ended after 5.0 s, by deadline of 5 s",
        ),
        (Outcome("lost", 125), "was lost after 0.0 s"),
        (Outcome("not-started", 78), "was not started after 0.0 s"),
    ],
)
def test_an_outcome_is_said_with_status_time_and_who_ended_it(outcome: Outcome, words: str) -> None:
    assert report.outcome_words(outcome) == words


RUN = Run(
    id="20261124-143015-7f3a9c2e",
    command=("vllm", "serve"),
    cwd="/",
    profiles=("debug",),
    interpreter="",
    vllm="",
    started="2026-11-24T14:30:15Z",
    plan=EnvPlan(),
    findings=(),
    containment="keeper",
    outcome=Outcome("exited", 0, ended_by="itself", seconds=1.0),
    looked_at=("processes", "files"),
)


@pytest.mark.parametrize(
    ("changes", "lost", "lines"),
    [
        (
            {},
            0,
            ["vllm exited 0 after 1.0 s", "left behind: nothing; looked at: processes, files"],
        ),
        (
            {"outcome": Outcome("exited", 0, left_behind=3)},
            7,
            [
                "vllm exited 0 after 0.0 s",
                "3 processes outlived it: ended",
                "7 bytes of its output could not be written",
                "left behind: nothing; looked at: processes, files",
            ],
        ),
        (
            {"leftovers": (Finding("left-behind", "warn", "/tmp/x", "not removed"),)},
            0,
            ["vllm exited 0 after 1.0 s", "left behind: 1 thing, listed above"],
        ),
        (
            {"plan": PLAN, "log": "/state/runs/x/output.log"},
            0,
            [
                "vllm exited 0 after 1.0 s",
                "left behind: nothing; looked at: processes, files",
                "environment: 3 variables changed for this run only; yours is as it was",
            ],
        ),
        (
            {"plan": EnvPlan(PLAN.changes[3:])},
            0,
            ["vllm exited 0 after 1.0 s", "left behind: nothing; looked at: processes, files"],
        ),
    ],
)
def test_the_closing_report_says_what_is_and_what_is_not_left(changes, lost, lines) -> None:
    assert list(report.closing_lines(replace_noun(RUN, **changes), lost)) == lines


def everything_said(secret: str, hostile: str, redactor: Redactor) -> list[str]:
    """All lines that the module can make of one run."""
    changes = (
        Change(
            f"A{hostile}", secret, f"x{secret}{hostile}", f"why{hostile}", f"profile p{hostile}"
        ),
        Change("VLLM_API_KEY", secret, f"{secret}-new", hostile, f"profile p{hostile}"),
        Change("B", f"{hostile}{secret}", None, "", "vllm-guard"),
    )
    profile = replace_noun(PROFILE, name=f"p{hostile}", cost=f"slow{hostile}", path=hostile)
    argv = ["vllm", "serve", "--api-key", secret, f"--token={secret}", f"-x{secret}", hostile]
    run = replace_noun(
        RUN, command=redactor.argv([f"v{hostile}", secret]), log=f"/s{hostile}/x/output.log"
    )
    return [
        *report.plan_lines(EnvPlan(changes), redactor),
        *report.launch_lines(EnvPlan(changes), [profile], redactor),
        *report.closing_lines(run, 1),
        report.command_line(argv, redactor),
        *(report.change_words(change, redactor, quote=True) for change in changes),
    ]


def test_no_secret_is_shown_in_anything_that_is_said(redactor: Redactor) -> None:
    said = "\n".join(everything_said(SECRET, "", redactor))

    assert SECRET not in said
    assert said.count(MASK) > 8


def test_nothing_that_is_said_can_drive_the_terminal() -> None:
    said = everything_said("x", HOSTILE, NO_RULES)

    assert [line for line in said if not line.isprintable()] == []


def test_a_finding_tells_no_secret_that_it_quotes(redactor: Redactor) -> None:
    finding = Finding(
        "x", "warn", SECRET, f"--hf-token {SECRET}", SECRET, "why", "u", (SECRET, "e")
    )

    shown = report.masked_finding(finding, redactor)

    assert shown == Finding("x", "warn", MASK, f"--hf-token {MASK}", MASK, "why", "u", (MASK, "e"))


def test_a_token_that_a_profile_passes_on_is_said_nowhere_and_not_stored(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_text(f"#!{sys.executable}\n")
    (tmp_path / "vllm").chmod(0o755)
    profile = tmp_path / "mine.toml"
    profile.write_text(f'schema = 1\nsummary = "x"\n[engine]\nhf_token = "{SECRET}"\n')
    words = ("-v", "-p", str(profile), "--json", str(tmp_path / "run.json"))

    done = guard(*words, "--", str(tmp_path / "vllm"), "serve", "m")

    assert b"--hf-token" in done.stderr
    assert SECRET.encode() not in done.stderr
    assert "--hf-token" in (tmp_path / "run.json").read_text()
    assert SECRET not in (tmp_path / "run.json").read_text()
