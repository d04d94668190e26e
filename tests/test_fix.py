"""`fix`: what becomes of scripts, to the byte; nothing is run here."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path

import pytest
import tomli

from tests.kit import ROOT
from tests.test_public_scripts import CORPUS, SCRIPTS
from vllm_guard import scripts
from vllm_guard.guarding import mend
from vllm_guard.guarding.outcomes import RefusedError, UnwritableError
from vllm_guard.inside.mainguard import starts

CASES = tomli.loads((ROOT / "tests/data/fix.toml").read_text())
REFUSED = [name for name, case in CASES.items() if "refused" in case]
PUBLIC = [key for key, row in SCRIPTS.items() if CORPUS and row["verdict"] == "yes"]
FIXED = {name: case for name, case in CASES.items() if "after" in case}

ENGINE = 'from vllm import LLM\nllm = LLM("m")\nprint("é")\n'
GUARDED = 'from vllm import LLM\n\nif __name__ == "__main__":\n    llm = LLM("m")\n    print("é")\n'


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_a_script_becomes(name) -> None:
    case = CASES[name]
    mended = mend(case["before"].encode(), "s.py")
    notes = [f"{note.line}: {note.text}" for note in mended.notes]

    assert mended.source.decode() == case.get("after", case["before"])
    assert notes == case.get("notes", [])


@pytest.mark.parametrize("name", REFUSED)
def test_a_script_is_refused(name) -> None:
    with pytest.raises(RefusedError) as refused:
        mend(CASES[name]["before"].encode(), "s.py")

    assert f"{refused.value.line}: {refused.value.reason}" == CASES[name]["refused"]
    assert refused.value.hint


@pytest.mark.parametrize("name", FIXED)
def test_a_fixed_script_is_left_as_it_is(name) -> None:
    source = FIXED[name]["after"].encode()

    assert mend(source, "s.py").source == source


@pytest.mark.parametrize("name", FIXED)
def test_the_number_of_guards_is_told(name) -> None:
    mended = mend(FIXED[name]["before"].encode(), "s.py")
    lines = [FIXED[name][key].count('if __name__ == "__main__"') for key in ("before", "after")]

    assert mended.guards == lines[1] - lines[0] > 0


def test_the_document_shows_what_is_printed() -> None:
    case = CASES["the script of docs"]
    before, after = (case[key].splitlines() for key in ("before", "after"))
    diff = "\n".join(difflib.unified_diff(before, after, "offline.py", "offline.py", lineterm=""))
    text = (ROOT / "docs/fix.md").read_text()

    said = "".join(f"vllm-guard: note: offline.py:{note}\n" for note in case["notes"])
    assert f"$ vllm-guard fix offline.py\n{said}{diff}\nvllm-guard: 1 script: 1 to" in text


def test_no_line_gets_trailing_blanks() -> None:
    for case in FIXED.values():
        assert [line for line in case["after"].splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(lambda text: text.encode(), id="utf-8"),
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="crlf"),
        pytest.param(lambda text: text.replace("\n", "\r").encode(), id="cr"),
        pytest.param(
            lambda text: b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1"), id="latin-1"
        ),
        pytest.param(
            lambda text: (
                b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n" + text.encode("cp1252")
            ),
            id="cp1252",
        ),
        pytest.param(
            lambda text: b"\xef\xbb\xbf# coding: utf-8\r\n" + text.replace("\n", "\r\n").encode(),
            id="all at once",
        ),
    ],
)
def test_encoding_and_line_ends_are_kept(encoded) -> None:
    assert mend(encoded(ENGINE), "s.py").source == encoded(GUARDED)


def test_what_cannot_be_given_back_as_it_is_is_not_written() -> None:
    with pytest.raises(UnwritableError, match="line 3 begins with a form feed"):
        mend(b"x = 1\n\x0c\n\x0c" + ENGINE.encode(), "s.py")


def test_a_form_feed_on_a_line_of_its_own_is_kept() -> None:
    feed = b"\x0c\n# one\n\x0c# two\n"

    assert mend(feed + ENGINE.encode(), "s.py").source == feed + GUARDED.encode()


def test_what_python_cannot_compile_is_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        mend(f"{ENGINE}await llm\n".encode(), "s.py")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("time()", "sends children such a value if it is plain data"),
        ('open("log", "w")', "open it in the function that uses it"),
        ('sqlite3.connect("db")', "open it in the function that uses it"),
        ("1\n\ndef X(at=time()):\n    pass", "make it in the function that uses it"),
    ],
)
def test_a_hint_promises_no_more_than_is_done(value, hint) -> None:
    worker = "def work():\n    X\n\nget_context('spawn').Process(target=work).start()\n"
    script = f"from multiprocessing import get_context\nX = {value}\n{worker}"

    with pytest.raises(RefusedError) as refused:
        mend(script.encode(), "s.py")

    assert hint in refused.value.hint


def test_a_script_that_python_understands_and_starts_nothing_is_not_looked_at() -> None:
    source = b"\x0cprint(1)\n"  # LibCST would not give it back

    assert mend(source, "s.py").source == source


@pytest.mark.parametrize("name", FIXED)
def test_the_detector_finds_nothing_in_a_fixed_script(name) -> None:
    found = starts.find(ast.parse(FIXED[name]["after"]))

    assert found
    assert [start for start in found if not start.guarded and start.confidence != "info"] == []


@pytest.mark.parametrize("key", PUBLIC)
def test_a_public_script_that_needs_a_guard_gets_one(key) -> None:
    path = Path(CORPUS, key, Path(SCRIPTS[key]["path"]).name)
    load = scripts.neighbours(str(path))
    source = path.read_bytes()
    if SCRIPTS[key].get("fix") == "refused":
        with pytest.raises(RefusedError) as refused:
            mend(source, str(path), load)
        assert refused.value.is_library
        return

    mended = mend(source, str(path), load)

    assert mended.guards > 0
    assert mend(mended.source, str(path), load).source == mended.source
    found = starts.read(ast.parse(mended.source), load).starts
    assert [start for start in found if not start.guarded and start.confidence != "info"] == []
