"""`vllm-guard check`: files, folders, notebooks and stdin; its formats and its exit status."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit import GUARD, ROOT, guard, guard_env, schema
from tests.test_terminal import screen
from vllm_guard import notebooks

GUARDED = 'from vllm import LLM\nif __name__ == "__main__":\n    LLM("m")\n'
BARE = 'from vllm import LLM\nllm = LLM("m")\n'
FORKING = "import multiprocessing\nmultiprocessing.Pool(2)\n"
FIX = (
    '  fix: put line {line} under `if __name__ == "__main__":`: `vllm-guard fix {name}`; or run it as it is:'
    " `vllm-guard -- python {name}`\n"
)
BY_FUNCTION = (
    'in a function of that module, and call it under `if __name__ == "__main__":`; or put '
)
NONE = "1 script checked: 0 need a main guard\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, clean_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own."""
    inner = tmp_path / "scripts"
    inner.mkdir()
    monkeypatch.chdir(inner)
    return inner


def check(*words: str, **options: Any) -> tuple[int, str]:
    """Exit status and stdout; stderr must be empty."""
    done = guard("check", *words, **options)
    assert done.stderr == b"", done.stderr
    return done.returncode, done.stdout.decode()


def rows(*words: str) -> list[tuple[Any, ...]]:
    """(id, status, file, line, column) of each finding."""
    found = json.loads(check("--format", "json", *words)[1])["findings"]
    return [tuple(f[key] for key in ("id", "status", "file", "line", "column")) for f in found]


def notebook(*cells: str | tuple[str, str]) -> str:
    """A notebook with these cells: code, or (another type, text)."""
    typed = [("code", cell) if isinstance(cell, str) else cell for cell in cells]
    return json.dumps(
        {"cells": [{"cell_type": t, "source": s.splitlines(True)} for t, s in typed], "nbformat": 4}
    )


# ---- text and exit status


def test_a_start_is_shown_with_its_line_and_the_fix(folder) -> None:
    (folder / "s.py").write_text(BARE)

    status, text = check("s.py")

    assert status == 1
    assert text == (
        "s.py:2: fail: vllm.LLM is constructed at top level\n"
        + FIX.format(line=2, name="s.py")
        + "1 script checked: 1 needs a main guard\n"
    )


def test_calls_that_lead_to_a_start_are_shown_outermost_first(folder) -> None:
    lines = ["from vllm import LLM", "def load():", "    return LLM('m')"]
    (folder / "a b.py").write_text("\n".join([*lines, "def run():", "    load()", "run()"]))

    status, text = check("a b.py")

    assert status == 1
    assert text.startswith(
        "a b.py:3: fail: vllm.LLM is constructed at top level (via run, line 6; load, line 5)\n"
        + FIX.format(line=6, name="'a b.py'")
    )


def test_a_guarded_script_and_one_that_starts_nothing_are_fine(folder) -> None:
    (folder / "guarded.py").write_text(GUARDED)
    (folder / "idle.py").write_text("import vllm\n")

    assert check("guarded.py") == (0, NONE)
    assert check("idle.py", "guarded.py")[0] == 0


@pytest.mark.parametrize(
    ("source", "line", "status"),
    [
        (f"if __name__ != '__main__':\n    print()\n    exit()\n{BARE}", 3, "fail"),
        (f"{GUARDED}exit()\n", 4, "fail"),
        (f"if __name__ != '__main__':\n    raise SystemExit\n{FORKING}", 2, "warn"),
    ],
)
def test_a_guard_that_ends_the_children_is_none(source, line, status, folder) -> None:
    (folder / "s.py").write_text(source)

    assert [row[:4] for row in rows("s.py")] == [("main-guard-missing", status, "s.py", line)]
    assert (
        f"s.py:{line}: {status}: a child that imports the script ends here, before its work\n"
        '  fix: put what only the main process does under `if __name__ == "__main__":`, this line too;'
        " or run it as it is: `vllm-guard -- python s.py`\n"
    ) in check("s.py")[1]


@pytest.mark.parametrize(
    "source",
    [
        "if __name__ != '__main__':\n    raise SystemExit\nprint()\n",
        f"{BARE}exit()\n",
        f"def f():\n    if __name__ != '__main__':\n        return\n{BARE}",
        f"{GUARDED}    exit()\n",
    ],
)
def test_an_end_without_guarded_starts_is_none(source, folder) -> None:
    (folder / "s.py").write_text(source)

    assert "ends here" not in check("s.py")[1]


def test_what_breaks_only_without_fork_is_a_warning(folder) -> None:
    (folder / "s.py").write_text(FORKING)

    status, text = check("s.py")

    assert status == 0
    assert text.startswith(
        "s.py:2: warn: multiprocessing.Pool is started with the default start method at top level\n"
    )
    assert text.endswith("1 script checked: 0 need a main guard, 1 may need one\n")
    assert check("--strict", "s.py")[0] == 1


def test_warnings_that_count_are_counted(folder) -> None:
    pool = "from multiprocessing import get_context\nget_context('spawn').Pool(1)"
    (folder / "n.ipynb").write_text(notebook(pool))
    (folder / "s.py").write_text(f"import torch\ntorch.cuda.init()\n{BARE}")

    assert check("--strict", "n.ipynb")[1].endswith(
        "1 script checked: 0 need a main guard, 1 other warning\n"
    )
    assert check("n.ipynb", "s.py")[1].endswith("1 needs a main guard, 2 other warnings\n")


@pytest.mark.parametrize(
    "comment",
    ["# vllm-guard: mian", "# vllm_guard: main", "#vllm-guard children", "# VLLM-GUARD: Main"],
)
def test_a_misspelt_marker_is_a_note(comment, folder) -> None:
    (folder / "s.py").write_text(f"x = 1  {comment}\n")

    assert rows("s.py") == [("main-guard-marker", "note", "s.py", 1, 0)]
    assert check("--strict", "s.py") == (
        0,
        f"s.py:1: note: `{comment}` is no marker, and does nothing\n"
        "  fix: write `# vllm-guard: child`, `main` or `ignore`\n" + NONE,
    )


@pytest.mark.parametrize(
    "code",
    [
        'LLM("m")  # vllm-guard: ignore',
        '# vllm-guard: ignore, it is never spawned\nLLM("m")',
        'LLM(  # vllm-guard: ignore\n    "m"\n)',
        'def f():\n    LLM("m")  # vllm-guard: ignore\nf()',
        'def f():\n    LLM("m")\nf()  # vllm-guard: ignore',
        "import torch\ntorch.cuda.init()  # vllm-guard: ignore\nLLM('m')  # vllm-guard: ignore",
        "exit()  # vllm-guard: ignore\n",
    ],
)
def test_a_finding_can_be_accepted(code, folder) -> None:
    begin = GUARDED if code.startswith("exit") else "from vllm import LLM\n"
    (folder / "s.py").write_text(f"{begin}{code}\n")
    (folder / "n.ipynb").write_text(notebook(f"from vllm import LLM\n{code}\n"))

    assert check("--strict", "s.py") == (0, NONE)
    assert check("n.ipynb") == (0, NONE)
    assert guard("fix", "--check", "s.py").returncode == 0


def test_only_the_line_that_is_marked_is_accepted(folder) -> None:
    (folder / "s.py").write_text(f"{BARE}\nLLM('m')  # vllm-guard: ignore\nLLM('m')\n")

    assert [row[3] for row in rows("s.py")] == [2, 5]


@pytest.mark.parametrize(
    "code",
    [
        "x = 1  # vllm-guard: main\n",
        "# vllm-guard: child, for its workers\nx = 1\n",
        "# vllm-guard runs this, see vllm-guard check\n",
        "# the guard: main\nx = '# vllm-guard: mian'\n",
    ],
)
def test_markers_and_other_comments_are_fine(code, folder) -> None:
    (folder / "s.py").write_text(code)

    assert check("s.py") == (0, NONE)


def test_what_starts_no_process_is_a_note(folder) -> None:
    (folder / "s.py").write_text(
        "import vllm\nvllm.LLM('m', distributed_executor_backend='external_launcher')\n"
    )

    status, text = check("--strict", "s.py")

    assert status == 0
    assert text == (
        "s.py:2: note: vllm.LLM is constructed for an external launcher: it starts no process:"
        " no guard is needed\n" + NONE
    )


def test_cuda_before_the_engine_is_a_finding_of_its_own(folder) -> None:
    (folder / "s.py").write_text(f"import torch\ntorch.zeros(1).cuda()\n{BARE}")

    assert rows("s.py") == [
        ("cuda-before-fork", "warn", "s.py", 2, 1),
        ("main-guard-missing", "fail", "s.py", 4, 7),
    ]


def test_a_file_that_cannot_be_parsed_does_not_stop_the_others(folder) -> None:
    (folder / "bad.py").write_text("x = 1\n!pip install vllm\n")
    (folder / "good.py").write_text(BARE)

    status, text = check("bad.py", "good.py", "missing.py")

    version = "{}.{}".format(*sys.version_info)
    assert status == 2, "which wins over the 1 of good.py"
    assert text.startswith(
        f"bad.py:2: syntax error: invalid syntax (Python {version})\ngood.py:2: fail: "
    )
    assert "missing.py: no such file\n" in text
    assert text.endswith("3 scripts checked: 1 needs a main guard, 2 could not be read\n")


@pytest.mark.parametrize(
    "words",
    [[], ["--format", "xml", "s.py"], ["--explain", "--format", "sarif", "s.py"], ["--no-such"]],
)
def test_wrong_usage_is_status_2(words) -> None:
    done = guard("check", *words)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"vllm-guard: error: ")


# ---- files and folders


def test_a_folder_is_searched_but_not_what_others_put_there(folder) -> None:
    places = ["a.py", "sub/b.py", "sub/deep/c.py"]
    others = [".git/x.py", "sub/node_modules/x.py", "__pycache__/x.py", ".venv/lib/x.py", "a.txt"]
    for place in (*places, *others):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BARE)
    (folder / ".venv/pyvenv.cfg").touch()

    assert [row[2] for row in rows(".")] == places
    assert [row[2] for row in rows("sub", "a.py")] == [*places[1:], places[0]]


def test_a_virtual_environment_that_is_named_is_searched(folder) -> None:
    (folder / "venv").mkdir()
    (folder / "venv/pyvenv.cfg").touch()
    (folder / "venv/s.py").write_text(BARE)

    assert [row[2] for row in rows("venv")] == ["venv/s.py"]


def test_links_are_not_followed_in_circles(folder) -> None:
    (folder / "s.py").write_text(BARE)
    (folder / "loop").symlink_to(".")
    (folder / "self.py").symlink_to("self.py")
    (folder / "gone.py").symlink_to("nowhere")
    (folder / "link.py").symlink_to("s.py")

    assert [row[2] for row in rows(".")] == ["link.py", "s.py"]
    assert check("self.py")[0] == 2


def test_what_is_no_file_is_never_waited_for(folder) -> None:
    os.mkfifo(folder / "pipe.py")

    status, text = check("pipe.py")

    assert status == 2
    assert text.startswith("pipe.py: cannot be read: not a regular file\n")
    assert guard("check", ".").returncode == 2


def test_a_folder_without_scripts_is_wrong_usage(folder) -> None:
    (folder / "sub").mkdir()
    (folder / "n.ipynb").write_text(notebook(BARE))

    done = guard("check", "--format", "json", "sub", ".")

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"vllm-guard: error: no script to look at: no *.py below sub, .\n"
        b"vllm-guard: hint: name files; a notebook must be named\n"
    )


def test_stdin_is_a_script() -> None:
    done = subprocess.run(
        [*GUARD, "check", "-"],
        input=BARE,
        env=guard_env(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("-:2: fail: vllm.LLM is constructed at top level\n")
    assert "vllm-guard fix" not in done.stdout


def test_a_script_needs_no_extension(folder) -> None:
    (folder / "tool").write_text(f"#!/usr/bin/env python3\n{BARE}")

    assert rows("tool") == [("main-guard-missing", "fail", "tool", 3, 7)]


def test_a_name_that_is_no_text_cannot_drive_the_terminal(folder) -> None:
    name = os.fsdecode(b"\x1b[31m\xff.py")
    (folder / name).write_text(BARE)

    status, text = check(".")

    assert status == 1
    assert text.startswith("\\x1b[31m\\udcff.py:2: fail: vllm.LLM")
    for form in ("json", "github", "sarif"):
        assert check("--format", form, ".")[0] == 1


# ---- modules beside a script


HELPER = "import vllm\n\ndef load(name):\n    return vllm.LLM(name)\n"


@pytest.mark.parametrize(
    ("script", "place", "via"),
    [
        ("import helper\nhelper.load('m')\n", (2, 1), " (via load, line 2)"),
        ("import helper as h\nx = h.load('m')\n", (2, 5), " (via load, line 2)"),
        ("from helper import load as make\nmake('m')\n", (2, 1), " (via load, line 2)"),
        ("from helper import *\nload('m')\n", (2, 1), " (via load, line 2)"),
        (
            "from helper import load\ndef run(f):\n    f('m')\nrun(load)\n",
            (3, 5),
            " (via run, line 4; load, line 3)",
        ),
    ],
)
def test_functions_of_a_module_beside_the_script_are_followed(script, place, via, folder) -> None:
    (folder / "helper.py").write_text(HELPER)
    (folder / "s.py").write_text(script)

    assert rows("s.py") == [("main-guard-missing", "fail", "s.py", *place)]
    assert f"vllm.LLM is constructed in helper.py, line 4, at top level{via}\n" in check("s.py")[1]


def test_a_folder_called_vllm_is_not_taken_for_a_helper(folder) -> None:
    (folder / "vllm").mkdir()
    (folder / "vllm/__init__.py").write_text("def __getattr__(name): ...\n# vllm\n")
    (folder / "s.py").write_text("import vllm\nvllm.LLM('m')\n")

    assert rows("s.py") == [("main-guard-missing", "fail", "s.py", 2, 1)]


def test_a_module_that_starts_something_when_imported_is_a_start(folder) -> None:
    (folder / "helper.py").write_text(BARE)
    (folder / "s.py").write_text("import os\nfrom helper import llm\n")

    fix = FIX.format(line=2, name="s.py").partition("; or run it")[0].partition("put ")[2]
    assert check("s.py")[1].startswith(
        "s.py:2: fail: vllm.LLM is constructed in helper.py, line 2, which is imported at top level\n"
        f"  fix: build the engine {BY_FUNCTION}{fix}\n"
    )


def test_processes_that_a_module_starts_when_imported_may_need_it(folder) -> None:
    (folder / "helper.py").write_text(FORKING)
    (folder / "s.py").write_text("import os\nimport helper\n")

    assert f"  fix: start them {BY_FUNCTION}line 2 under " in check("s.py")[1]


def test_a_part_of_a_package_is_run_as_a_module(folder, monkeypatch) -> None:
    inner = folder / "top/pkg/sub"
    inner.mkdir(parents=True)
    for package in (inner, inner.parent):
        (package / "__init__.py").touch()
    (inner / "run.py").write_text(f"from ..c import M\n{BARE}")

    assert "`cd top && vllm-guard -- python -m pkg.sub.run`" in check(".")[1]
    monkeypatch.chdir(folder / "top")
    assert "`vllm-guard -- python -m pkg.sub.run`" in check("pkg")[1]
    monkeypatch.chdir(inner)
    assert "`cd ../.. && vllm-guard -- python -m pkg.sub.run`" in check("run.py")[1]
    (inner / "__init__.py").unlink()
    assert "`cd ../.. && vllm-guard -- python -m pkg.sub.run`" in check("run.py")[1]


def test_the_main_module_of_a_package_needs_no_guard(folder) -> None:
    """multiprocessing.spawn, _fixup_main_from_name: it is not imported."""
    (folder / "pkg").mkdir()
    (folder / "pkg/run.py").write_text(BARE)
    (folder / "pkg/__main__.py").write_text(f"{GUARDED}from . import run\nexit()\n")

    assert check("pkg/__main__.py") == (
        0,
        "pkg/__main__.py:4: note: vllm.LLM is constructed in run.py, line 2: no guard is needed, as"
        " children do not import __main__.py\n" + NONE,
    )


# ---- what `fix` would not do is not proposed


def test_a_module_that_is_there_to_be_imported_is_told_to_build_its_engine_later(folder) -> None:
    (folder / "helper.py").write_text(f"{BARE}def ask(q):\n    return llm.generate(q)\n")

    _, text = check("helper.py")

    assert "  fix: build the engine in a function that is called when it is needed; " in text
    assert "python helper.py" not in text
    assert "`vllm-guard fix helper.py`" not in text


def test_a_script_that_another_imports_is_told_who_does(folder) -> None:
    (folder / "s.py").write_text(f"{BARE}print(llm)\n")
    (folder / "use.py").write_text("from s import llm\n")

    text = check("s.py")[1]

    assert (
        "`vllm-guard fix` refuses it (use.py:1 imports 'llm' from it, and would not find it" in text
    )


def test_a_refusal_of_fix_is_told_with_the_way_out(folder) -> None:
    worker = "def work():\n    X\n\nget_context('spawn').Process(target=work).start()\n"
    start = "from time import time\nfrom multiprocessing import get_context\nX = time()\n"
    (folder / "s.py").write_text(f"{start}{worker}")

    fix = check("s.py")[1].splitlines()[1]

    put = 'put line 7 under `if __name__ == "__main__":` by hand, as `vllm-guard fix` refuses it'
    assert fix.startswith(f"  fix: {put} (line 3: work (given to ")
    assert fix.endswith(
        "each process): pass it as an argument; or leave the script as it is: `vllm-guard -- python s.py`"
        " sends children such a value if it is plain data"
    )


def test_a_package_is_found_from_within_and_from_beside(folder) -> None:
    inner = folder / "pkg"
    inner.mkdir()
    (inner / "__init__.py").touch()
    (inner / "helper.py").write_text(HELPER)
    (inner / "absolute.py").write_text("from pkg.helper import load\nload('m')\n")
    (inner / "relative.py").write_text("from . import helper\nhelper.load('m')\n")
    (inner / "dotted.py").write_text("from .helper import load\nload('m')\n")
    (folder / "outside.py").write_text("from pkg import helper\nhelper.load('m')\n")

    found = rows(".")

    assert [(row[2], row[3]) for row in found] == [
        ("outside.py", 2),
        ("pkg/absolute.py", 2),
        ("pkg/dotted.py", 2),
        ("pkg/relative.py", 2),
    ]


def test_what_a_module_does_as_a_script_does_not_count_when_it_is_imported(folder) -> None:
    (folder / "helper.py").write_text(GUARDED)
    (folder / "circle.py").write_text("import vllm\nimport s\ndef f():\n    s.g()\n")
    (folder / "broken.py").write_text("import vllm\nx =")
    (folder / "s.py").write_text(
        "import helper, circle, broken\ndef g():\n    circle.f()\ncircle.f()\n"
    )

    assert check("s.py") == (0, NONE)


# ---- source


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("# -*- coding: latin-1 -*-\nfrom vllm import LLM\né = LLM('é')\n".encode("latin-1"), 3, 5),
        (b"\xef\xbb\xbffrom vllm import LLM; LLM('m')\n", 1, 23),
        (b"from vllm import LLM\r\n\r\nLLM('m')\r\n", 3, 1),
        (b"from vllm import LLM\rLLM('m')\r", 2, 1),
        ("from vllm import LLM\né𐐀 = [LLM('m')]".encode(), 2, 7),
        (b"from vllm import LLM\n\x0cLLM('m')\n", 2, 2),
    ],
    ids=["latin-1", "bom", "crlf", "cr", "columns", "form-feed"],
)
def test_the_source_is_read_as_python_reads_it(source, line, column, folder) -> None:
    (folder / "s.py").write_bytes(source)

    assert rows("s.py") == [("main-guard-missing", "fail", "s.py", line, column)]


@pytest.mark.parametrize(
    "source",
    [
        BARE.encode("utf-16"),
        b"x = 1\0\n",
        b"# -*- coding: no-such -*-\n",
        b"s = '\xff'\n",
        b"(" * 10_000,
        b"x" + b"[0" * 250,
    ],
    ids=["utf-16", "null", "cookie", "bytes", "nesting", "brackets"],
)
def test_what_is_not_python_is_said(source, folder) -> None:
    (folder / "s.py").write_bytes(source)

    status, text = check("s.py")

    assert status == 2
    assert re.match(
        r"s\.py(:\d+)?: (cannot be decoded: .+|(syntax error|cannot be parsed).+Python 3\.\d+.*)\n",
        text,
    )


@pytest.mark.parametrize("source", [b"s = '\xff'\n", b"# -*- coding: no-such -*-\n"])
def test_another_encoding_is_no_error_of_syntax(source, folder) -> None:
    (folder / "s.py").write_bytes(source)

    lines = check("s.py")[1].splitlines()

    assert "cannot be decoded: " in lines[0]
    assert lines[1].startswith("  fix: save it as UTF-8, or name its encoding on the first line: ")


@pytest.mark.parametrize("source", [b"", b"\n", b"\xef\xbb\xbf", b"# only a comment"])
def test_an_empty_file_is_fine(source, folder) -> None:
    (folder / "s.py").write_bytes(source)

    assert check("s.py") == (0, NONE)


def test_the_warnings_of_a_script_are_its_own(folder) -> None:
    (folder / "s.py").write_text('x = "\\d"\nassert (x, "y")\nx is 1\n')

    assert check("s.py") == (0, NONE)  # which asserts that stderr is empty


# ---- notebooks


def test_a_notebook_needs_nothing_for_vllm(folder) -> None:
    cells = ("!pip install vllm", ("markdown", "# Text"), BARE)
    (folder / "n.ipynb").write_text(notebook(*cells))

    status, text = check("--strict", "n.ipynb")

    assert status == 0
    assert text == (
        "n.ipynb: cell 3 line 2: note: vllm.LLM is constructed; a notebook needs no guard: the children of"
        " its kernel do not import it\n" + NONE
    )
    (found,) = json.loads(check("--format", "json", "n.ipynb")[1])["findings"]
    assert [found[key] for key in ("id", "file", "cell", "line", "column")] == [
        *("notebook", "n.ipynb"),
        *(3, 2, 7),
    ]
    assert schema.problems("check", json.loads(check("--format", "json", "n.ipynb")[1])) == []


@pytest.mark.parametrize(
    ("code", "status", "when"),
    [
        ("get_context('spawn').Process(target=f).start()", "warn", ""),
        ("get_context('forkserver').Pool(1)", "warn", ""),
        ("if __name__ == '__main__':\n    get_context().Pool(1)", "note", " from Python 3.14 on"),
    ],
)
def test_children_of_a_notebook_do_not_find_its_functions(code, status, when, folder) -> None:
    source = f"from multiprocessing import get_context\ndef f(): pass\n{code}"
    (folder / "n.ipynb").write_text(notebook("x = 1", source))

    came, text = check("--strict", "n.ipynb")
    (found,) = rows("n.ipynb")

    assert came == (status == "warn")
    assert found[:3] == ("notebook-functions", status, "n.ipynb")
    assert f"; its children cannot find what the notebook defines{when}\n" in text
    assert "  fix: put what they run into a module and import it\n" in text


def test_a_notebook_that_forks_is_fine(folder) -> None:
    (folder / "n.ipynb").write_text(
        notebook("import multiprocessing as m\nm.get_context('fork').Pool(1)")
    )

    assert check("--strict", "n.ipynb") == (0, NONE)


def test_cells_are_named_where_a_format_has_only_lines(folder) -> None:
    (folder / "n.ipynb").write_text(notebook("x = 1", BARE))

    (result,) = json.loads(check("--format", "sarif", "n.ipynb")[1])["runs"][0]["results"]
    (location,) = result["locations"]
    line = check("--format", "github", "n.ipynb")[1]

    assert location["physicalLocation"] == {"artifactLocation": {"uri": "n.ipynb"}}
    assert location["logicalLocations"] == [{"name": "cell 2 line 2"}]
    assert result["message"]["text"].startswith("cell 2 line 2: vllm.LLM is constructed")
    assert line.startswith(
        "::notice file=n.ipynb,title=vllm-guard notebook::cell 2 line 2: vllm.LLM"
    )


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%pip install x\nx = 1", "pass\nx = 1"),
        ("if x:\n    !ls\n    %cd ..", "if x:\n    pass\n    pass"),
        ("!pip install \\\n  vllm \\\n  torch\nx", "pass\n\n\nx"),
        ("%%time\nx = 1", "pass\nx = 1"),
        ("%%bash\nls -l\nif", "\n\n"),
        ("files = !ls\na, b = %time f()", "pass\npass"),
        ("LLM?\nx.y??\n?x", "pass\npass\npass"),
        (
            "x = y % z\nx != y\nx = [\n  a\n  % b\n  != c]",
            "x = y % z\nx != y\nx = [\n  a\n  % b\n  != c]",
        ),
    ],
)
def test_lines_that_only_ipython_knows_are_left_out(cell, python) -> None:
    assert notebooks.read(notebook(cell).encode()).source == python


def test_lines_of_cells_are_known() -> None:
    read = notebooks.read(notebook("a\nb", ("raw", "x"), "", "c").encode())

    assert read.source == "a\nb\n\nc"
    assert read.places == ((1, 1), (1, 2), (3, 1), (4, 1))


def test_an_old_notebook_is_read(folder) -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": BARE}]}], "nbformat": 3}
    (folder / "n.ipynb").write_text(json.dumps(old))

    assert rows("n.ipynb") == [("notebook", "note", "n.ipynb", 2, 7)]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"cells": 3}',
        '{"cells": [3]}',
        '{"cells": [{"cell_type": "code", "source": 3}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_notebook_is_said(content, folder) -> None:
    (folder / "n.ipynb").write_text(content)

    assert check("n.ipynb")[0] == 2
    assert check("n.ipynb")[1].startswith("n.ipynb: is not a notebook\n")


def test_a_cell_that_is_not_python_is_named(folder) -> None:
    (folder / "n.ipynb").write_text(notebook("x = 1", "y = 2\nz ="))

    status, text = check("n.ipynb")

    assert status == 2
    assert text.startswith("n.ipynb: cell 2 line 2: syntax error: invalid syntax (Python 3")


# ---- formats


def test_the_json_answer_is_as_the_schema_says(folder) -> None:
    (folder / "s.py").write_text(f"import torch\ntorch.cuda.init()\n{BARE}")
    (folder / "bad.py").write_text("x =")

    done = json.loads(check("--format", "json", "--explain", "s.py", "bad.py")[1])

    assert schema.problems("check", done) == []
    assert done["looked_at"] == ["s.py", "bad.py"]
    assert len(done["findings"]) == 3
    assert [row["verdict"] for row in done["statements"]] == ["child", "main", "child", "main"]


def test_github_shows_it_beside_the_line(folder) -> None:
    (folder / "a,b.py").write_text(BARE)
    (folder / "bad.py").write_text("x =")

    lines = check("--format", "github", ".")[1].splitlines()

    assert lines[0].startswith(
        "::error file=a%2Cb.py,line=2,col=7,title=vllm-guard main-guard-missing::vllm.LLM is constructed"
    )
    assert lines[1].startswith(
        "::error file=bad.py,line=1,col=4,title=vllm-guard script-unreadable::syntax error: invalid"
    )
    assert len(lines) == 2


def test_github_gets_files_as_it_knows_them(folder) -> None:
    (folder / "s.py").write_text(BARE)

    with (folder / "s.py").open() as script:
        piped = check("--format", "github", "-", stdin=script)[1]

    assert check("--format", "github", str(folder / "s.py"))[1].startswith(
        "::error file=s.py,line=2"
    )
    assert piped.startswith("::error line=2,col=7,title=")


def test_sarif_has_what_its_specification_requires(folder) -> None:
    (folder / "a b.py").write_text(f"import torch\ntorch.cuda.init()\n{BARE}")
    (folder / "n.ipynb").write_text(notebook(BARE))

    status, text = check("--format", "sarif", "a b.py", "n.ipynb", str(folder.parent / "gone.py"))

    log = json.loads(text)
    assert status == 2
    assert (log["version"], set(log)) == ("2.1.0", {"$schema", "version", "runs"})
    (run,) = log["runs"]  # section 3.14: `tool` is required; `results` for a run that was made
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "vllm-guard"  # 3.19.8
    assert len({rule["id"] for rule in rules}) == len(rules) == 4  # 3.49.3: unique
    assert all(rule["help"]["text"] for rule in rules if rule["id"] == "main-guard-missing")
    assert {rule.get("helpUri", "https:")[:6] for rule in rules} == {"https:"}  # 3.49.12: absolute
    for result in run["results"]:
        assert result["message"]["text"]  # 3.27.11
        assert result["level"] in {"error", "warning", "note"}  # 3.27.10
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]  # 3.27.5, 3.27.6
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert re.fullmatch(
            r"[\w%./:-]+", place["artifactLocation"]["uri"]
        )  # 3.4.3: a URI reference
        assert all(number >= 1 for number in place.get("region", {}).values())  # 3.30.5, 3.30.6
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    uris = [place["artifactLocation"]["uri"] for place in places]
    assert uris == ["a%20b.py", "a%20b.py", "n.ipynb", f"file://{folder.parent}/gone.py"]
    assert places[1]["region"] == {"startLine": 4, "startColumn": 7}
    assert run["columnKind"] == "unicodeCodePoints"  # 3.14.27


def test_nothing_found_is_a_valid_answer_in_every_format(folder) -> None:
    (folder / "s.py").write_text(GUARDED)

    assert check("--format", "github", "s.py") == (0, "")
    assert json.loads(check("--format", "sarif", "s.py")[1])["runs"][0]["results"] == []
    assert json.loads(check("--format", "json", "s.py")[1])["findings"] == []


# ---- explain


def test_explain_says_of_each_line_whether_children_run_it(folder) -> None:
    (folder / "s.py").write_text(f"import os\nos.environ['A'] = '1'\n{BARE}def f():\n    pass\n")

    status, text = check("--explain", "s.py")

    table = [re.split(r"  +", line, maxsplit=3) for line in text.splitlines()[1:7]]
    assert status == 1
    assert text.startswith("s.py: what its child processes do with each line\n")
    assert table[0] == ["LINES", "CODE", "CHILDREN", "WHY"]
    assert [row[:3] for row in table[1:]] == [
        ["1", "import os", "run it"],
        ["2", "os.environ['A'] = '1'", "have its effect"],
        ["3", "from vllm import LLM", "run it"],
        ["4", 'llm = LLM("m")', "leave it out"],
        ["5-6", "def f():", "run it"],
    ]
    assert table[4][3] == "calls LLM()"


def test_explain_tells_statements_of_one_line_apart_and_what_is_sent(folder) -> None:
    (folder / "s.py").write_text("a = 1; b = open('f')\nc = 2  # why\ndef f():\n    return b\n")

    text = check("--explain", "s.py")[1]

    rows = [re.split(r"  +", line) for line in text.splitlines()]
    assert [row[1] for row in rows[2:6]] == ["a = 1", "b = open('f')", "c = 2", "def f():"]
    assert rows[6] == ["The values that they are sent, where these are plain data:"]
    assert rows[8] == ["b", "functions read it; line 1 sets or changes it in the main process only"]


def test_the_example_of_the_docs_is_what_is_printed(folder) -> None:
    page = (ROOT / "docs/mainguard.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    (folder / "square.py").write_text(script)
    words = ["--", sys.executable, "square.py", "0.5"]

    runs = page.split("$ vllm-guard -- python square.py 0.5\n")[1].split("```")[0]
    explained = page.split("$ vllm-guard check --explain square.py\n")[1].split("```")[0]

    # Not in the mode `cutoff`: a child that is ended while it makes the locks of its pool leaves one behind.
    assert guard(*words).stdout.decode() == runs
    assert check("--explain", "square.py") == (1, explained)


def test_explain_names_no_values_that_every_module_has(folder) -> None:
    (folder / "s.py").write_text(
        "n: int = 1\nx = open(__file__)\ndef f():\n    return __file__, x\n"
    )

    text = check("--explain", "s.py")[1]

    assert re.findall(r"^(\w+) +functions read it", text, re.MULTILINE) == ["x"]


def test_explain_uses_the_width_of_the_terminal(folder) -> None:
    code = f"value = {'+'.join(['a_long_name'] * 4)}"
    (folder / "s.py").write_text(
        f"a_long_name = open('f')\n{code}\ndef f():\n    return value, a_long_name\n"
    )

    with screen(*GUARD, "check", "--explain", "s.py", COLUMNS="200") as wide:
        assert code in wide.until("script checked")
    with screen(*GUARD, "check", "--explain", "s.py", COLUMNS="40") as narrow:
        assert "a_long_name" in narrow.until("script checked").partition("VALUE")[2]


def test_a_terminal_gets_colours(folder) -> None:
    (folder / "s.py").write_text(BARE)

    with screen(*GUARD, "check", "s.py") as terminal:
        assert "s.py:2: \x1b[31mfail\x1b[0m: vllm.LLM" in terminal.until("script checked")


def test_explain_leaves_out_what_has_no_children(folder) -> None:
    (folder / "n.ipynb").write_text(notebook(BARE))
    (folder / "bad.py").write_text("x =")

    assert "LINES" not in check("--explain", "n.ipynb", "bad.py")[1]


# ---- as others use it


def test_the_pre_commit_hook_takes_files(folder) -> None:
    hook, *_ = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (folder / "s.py").write_text(BARE)
    (folder / "good.py").write_text(GUARDED)
    program, *words = shlex.split(hook["entry"])

    failing = guard(*words, *hook.get("args", ()), "s.py", "good.py")
    passing = guard(*words, *hook.get("args", ()), "good.py")

    assert program == "vllm-guard"
    assert (failing.returncode, passing.returncode) == (1, 0)
    assert {"id", "name", "entry", "language"} <= set(hook)  # https://pre-commit.com/#new-hooks


@pytest.mark.parametrize(
    ("page", "id_"), [("check.md", "vllm-guard-check"), ("fix.md", "vllm-guard-fix")]
)
def test_the_hooks_in_the_docs_are_those_that_are_shipped(page, id_) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    shipped = {hook["id"]: hook for hook in hooks}
    text = (ROOT / "docs" / page).read_text()
    local, *others = (yaml.safe_load(t.split("```")[0])["repos"] for t in text.split("```yaml")[1:])
    ((written,),) = (repo["hooks"] for repo in local)

    assert {key: shipped[id_][key] for key in written} == {**written, "language": "python"}
    assert all(hook["id"] in shipped for (repo,) in others for hook in repo["hooks"])
    assert shipped[id_]["require_serial"], "several runs at once: several counts"


@pytest.mark.soak
def test_a_thousand_files_take_less_than_15_seconds(folder) -> None:
    package = Path(yaml.__file__).parent.parent
    files = sorted(map(str, package.rglob("*.py")))[:1000]

    begun = time.monotonic()
    done = guard("check", *files, timeout=60)

    assert len(files) > 900
    assert done.returncode in {0, 1, 2}
    assert time.monotonic() - begun < 15
