"""`vllm-guard fix` as a program: what it prints and writes, and what is left when it is stopped."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomli
import yaml

from tests.kit import GUARD, PATIENCE, ROOT, guard, guard_env, wait_for
from tests.test_install import NEEDS
from tests.test_marker import mounted
from tests.test_terminal import screen

ENGINE = 'from vllm import LLM\nprint(LLM("m"))\n'
GUARDED = 'from vllm import LLM\n\nif __name__ == "__main__":\n    print(LLM("m"))\n'
SERVED = f"from fastapi import FastAPI\n{ENGINE}app = FastAPI()\n"

#: Replaces a file by one that takes a while to write.
SLOWLY = """
import sys
from vllm_guard.overwrite import overwrite
overwrite(sys.argv[1], b"old", bytes(1 << 29))
"""


@pytest.fixture
def script(clean_world: Path, monkeypatch) -> Path:
    """A script in the current folder that needs a guard."""
    monkeypatch.chdir(clean_world)
    path = clean_world / "s.py"
    path.write_text(ENGINE)
    return path


def fix(*words: str, **options) -> tuple[int, str, str]:
    done = guard("fix", *words, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_diff_by_default(script) -> None:
    diff = (
        "--- s.py\n+++ s.py\n@@ -1,2 +1,4 @@\n from vllm import LLM\n"
        '-print(LLM("m"))\n+\n+if __name__ == "__main__":\n+    print(LLM("m"))\n'
    )

    assert fix("s.py") == (0, diff, "vllm-guard: 1 script: 1 to change\n")
    assert script.read_text() == ENGINE


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(ENGINE.encode(), id="plain"),
        pytest.param(ENGINE.rstrip().encode(), id="no end of line"),
        pytest.param(ENGINE.replace("\n", "\r\n").encode(), id="crlf"),
        pytest.param(b"# coding: latin-1\n# \xe9\x0c\x1b\n" + ENGINE.encode(), id="latin-1"),
    ],
)
def test_the_diff_is_one_that_patch_takes(script, source) -> None:
    script.write_bytes(source)
    diff = guard("fix", "s.py").stdout

    assert guard("fix", "--write", "s.py").returncode == 0
    written = script.read_bytes()
    script.write_bytes(source)
    words = ["patch", "--binary", "-p0", "--posix"]
    subprocess.run(words, input=diff, check=True, capture_output=True, timeout=PATIENCE)

    assert written != source
    assert script.read_bytes() == written


@pytest.mark.parametrize("words", [["patch", "-p0"], ["git", "apply", "-p0"]])
def test_a_name_with_a_blank_ends_where_it_ends(script, words) -> None:
    spaced = script.rename(script.parent / "a b.py")
    diff = guard("fix", "a b.py").stdout

    subprocess.run(words, input=diff, check=True, capture_output=True, timeout=PATIENCE)

    assert diff.startswith(b"--- a b.py\t\n+++ a b.py\t\n")
    assert spaced.read_text() == GUARDED


def test_write(script) -> None:
    assert fix("--write", "s.py") == (
        0,
        "s.py: 1 main guard\n",
        "vllm-guard: 1 script: 1 changed\n",
    )
    assert script.read_text() == GUARDED
    assert fix("--write", "s.py") == (0, "", "vllm-guard: 1 script: nothing to do\n")
    assert list(script.parent.glob(".*")) == []


def test_check_changes_nothing_and_fails_where_something_would(script) -> None:
    (script.parent / "fine.py").write_text(GUARDED)

    status = fix("--check", "s.py", "fine.py")
    assert status == (1, "s.py: 1 main guard\n", "vllm-guard: 2 scripts: 1 to change\n")
    assert script.read_text() == ENGINE
    assert fix("--check", "fine.py") == (0, "", "vllm-guard: 1 script: nothing to do\n")


def test_a_refusal_names_line_reason_and_way_out(script) -> None:
    (script.parent / "served.py").write_text(SERVED)

    reason = "a server imports 'app' from this file: it must be outside a guard"

    status, said, errors = fix("--write", "served.py", "s.py")

    assert (status, said) == (1, "s.py: 1 main guard\n")
    assert errors.splitlines() == [
        f"vllm-guard: error: served.py:4: {reason}",
        "vllm-guard: hint: build the engine in a function that is called when it is needed",
        "vllm-guard: 2 scripts: 1 changed, 1 left as they are",
    ]
    assert (script.parent / "served.py").read_text() == SERVED


def test_notes_are_said(script) -> None:
    script.write_text(f"import vllm\nvllm.envs.A = ask()\n{ENGINE}")

    _, _, errors = fix("--check", "s.py")

    note = "note: s.py:2: changes vllm.envs.A in the main process only"
    assert errors.splitlines()[0] == f"vllm-guard: {note}"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.py", None, "gone.py: no such file"),
        ("broken.py", "print 'x'\n", "broken.py:1: syntax error: "),
        ("awaits.py", f"{ENGINE}await 1\n", "awaits.py:3: 'await' outside function"),
        ("n.ipynb", "{}", "n.ipynb: is not a notebook"),
        ("feed.py", f"\f{ENGINE}", "feed.py: line 1 begins with a form feed"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_its_own(script, name, content, said) -> None:
    if content is not None:
        (script.parent / name).write_text(content)

    status, output, errors = fix(name, "s.py")

    assert status == 2
    assert errors.startswith(f"vllm-guard: error: {said}")
    assert output.startswith("--- s.py\n"), "one that cannot be read does not stop the others"


def test_usage(script) -> None:
    assert fix()[0] == 2
    status, _, errors = fix("--write", "--check", "s.py")
    assert (status, errors) == (
        2,
        "vllm-guard: error: --write and --check cannot be used together\n",
    )


def test_a_notebook_needs_nothing(script) -> None:
    notebook = script.parent / "n.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": ENGINE}]}))

    status, said, errors = fix("--write", "n.ipynb")

    note, summary = errors.splitlines()
    assert (status, said) == (0, "")
    assert note.startswith("vllm-guard: note: n.ipynb: a notebook needs no guard")
    assert summary == "vllm-guard: 1 script: nothing to do"
    assert json.loads(notebook.read_text())["cells"][0]["source"] == ENGINE


def test_a_folder_is_searched(script) -> None:
    inner = script.parent / "a/b.py"
    inner.parent.mkdir()
    inner.write_text(ENGINE)

    status, said, _ = fix("--write", "a")

    assert (status, said, inner.read_text()) == (0, "a/b.py: 1 main guard\n", GUARDED)
    assert script.read_text() == ENGINE


@pytest.mark.parametrize(
    "taking",
    [
        "from s import engine",
        "from s import *",
        "from .s import other, engine as e",
        "import s\nprint(s.engine)",
        "import package.s as p\nprint(p.engine.x)",
        "from . import s\ns.engine()",
    ],
)
def test_what_a_file_beside_it_imports_is_not_hidden(script, taking) -> None:
    script.write_text(ENGINE.replace("print(", "engine = ("))
    (script.parent / "user.py").write_text(f"import os\n{taking}\n")

    status, _, errors = fix("--write", "s.py")

    assert (status, errors.count("error: s.py: user.py:")) == (1, 1), errors
    assert "__main__" not in script.read_text()


@pytest.mark.parametrize(
    "taking", ["from s import other", "import s\ns.other()", "from t import engine", "import s)"]
)
def test_what_a_file_beside_it_does_not_import_may_be_hidden(script, taking) -> None:
    script.write_text(ENGINE.replace("print(", "engine = ("))
    (script.parent / "user.py").write_text(f"{taking}\n")

    status, _, errors = fix("--write", "s.py")

    note = "s.py:2: nothing here uses engine: a file that imports it would not find it"
    assert (status, errors.splitlines()[0]) == (0, f"vllm-guard: note: {note}")


HELPER = (
    'from vllm import LLM\nENGINE = LLM("m")\n\n\ndef ask(q):\n    return ENGINE.generate([q])\n'
)
USES = [
    ("eng.py", "from eng import ask\nprint(ask('q'))\n"),
    ("eng.py", "import eng\neng.ask('q')\n"),
    (
        "eng.py",
        "from eng import ask\ndef main():\n    ask('q')\nif __name__ == '__main__':\n    main()\n",
    ),
    ("lib/eng.py", "from lib.eng import ask\nask('q')\n"),
    ("lib/eng.py", "from lib import (\n    eng,\n)\neng.ask('q')\n"),
    ("lib/__init__.py", "import lib\nlib.ask('q')\n"),
]


@pytest.mark.parametrize(("name", "using"), USES)
@pytest.mark.parametrize("runs", ["", 'print(ask("x"))\n'], ids=["imported only", "run, too"])
def test_a_module_whose_functions_need_what_would_be_hidden_is_refused(
    script, name, using, runs
) -> None:
    module, use = script.parent / name, script.parent / "use.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(HELPER + runs)
    use.write_text(using)

    status, said, errors = fix("--write", name)

    assert (status, said, module.read_text()) == (1, "", HELPER + runs), errors
    assert "hint: build" in errors
    if runs:
        line = next(n for n, text in enumerate(using.splitlines(), 1) if "ask" in text)
        reason = "imports 'ask' from it, which would not find 'ENGINE' under a guard"
        assert f"error: {name}: use.py:{line} {reason}\n" in errors


def test_a_module_is_refused_for_a_file_that_is_named_with_it(script) -> None:
    for name, text in (("lib/eng.py", HELPER + "ask(1)\n"), ("app/a/b.py", USES[3][1])):
        (script.parent / name).parent.mkdir(parents=True)
        (script.parent / name).write_text(text)

    assert fix("--check", "lib")[0] == 1
    assert "error" not in fix("--check", "lib")[2]
    assert "lib/eng.py: app/a/b.py:1 imports 'ask'" in fix("--check", "lib", "app")[2]


def test_a_file_of_that_name_in_another_package_is_no_reason(script) -> None:
    (script.parent / "lib").mkdir()
    (script.parent / "lib/s.py").write_text("")
    (script.parent / "user.py").write_text("from lib.other import engine\nfrom s2 import engine\n")
    script.write_text(ENGINE.replace("print(", "engine = (") + "engine.run()\n")

    assert fix("--write", "s.py")[0] == 0


def test_every_file_is_looked_at_before_one_is_changed(script) -> None:
    """A helper that is fixed first would hide what its user starts."""
    helper = 'from vllm import LLM\nN = 1\nENGINE = LLM("m")\nprint(ENGINE)\n'
    for name, text in (("a_eng.py", helper), ("use.py", "import a_eng\nprint(a_eng.N)\n")):
        (script.parent / name).write_text(text)
    shown = fix(".")

    assert shown[0] == 0
    assert all(f"+++ {name}\n" in shown[1] for name in ("a_eng.py", "s.py", "use.py"))
    assert (
        fix("--write", ".")[1]
        == "a_eng.py: 1 main guard\ns.py: 1 main guard\nuse.py: 1 main guard\n"
    )


def test_stdin(script) -> None:
    def piped(*words: str, text: str) -> tuple[int, str]:
        done = subprocess.run(
            [*GUARD, "fix", *words, "-"],
            input=text,
            env=guard_env(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout

    assert piped("--write", text=ENGINE) == (0, GUARDED)
    assert piped("--write", text=GUARDED) == (0, GUARDED)
    assert piped("--write", text=SERVED) == (1, "")
    assert piped(text=ENGINE)[1].startswith("--- -\n+++ -\n")
    assert piped("--check", text=ENGINE) == (1, "-: 1 main guard\n")


def test_a_terminal_gets_nothing_that_could_drive_it(script) -> None:
    script.write_text(f'{ENGINE}print("\x1b[31mred")\n')

    with screen(*GUARD, "fix", "s.py") as terminal:
        shown = terminal.until("1 to change")
        assert terminal.ended() == 0

    assert "\x1b[31m" not in shown
    assert r"\x1b[31mred" in shown


# ---- files


def test_mode_owner_and_attributes_are_kept(script) -> None:
    script.chmod(0o751)
    if os.geteuid() == 0:
        os.chown(script, 12345, 54321)
    os.setxattr(script, "user.kind", b"mine")
    before = script.stat()

    assert fix("--write", "s.py")[0] == 0

    after = script.stat()
    assert script.read_text() == GUARDED
    assert [after.st_mode, after.st_uid, after.st_gid] == [
        before.st_mode,
        before.st_uid,
        before.st_gid,
    ]
    assert os.getxattr(script, "user.kind") == b"mine"


def test_a_link_is_followed(script) -> None:
    link = script.parent / "links/to.py"
    link.parent.mkdir()
    link.symlink_to("../s.py")

    assert fix("--write", "links/to.py")[0] == 0

    assert link.is_symlink()
    assert script.read_text() == GUARDED
    assert list(link.parent.iterdir()) == [link]


def test_a_file_with_a_second_name_is_not_torn_from_it(script) -> None:
    other = script.parent / "other"
    other.hardlink_to(script)

    status, _, errors = fix("--write", "s.py")

    assert (status, script.read_text()) == (1, ENGINE)
    assert "cannot be written: it has 2 names (hard links)" in errors
    assert script.samefile(other)


def test_a_file_that_may_not_be_written_is_not_replaced(script) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write every file")
    script.chmod(0o444)

    assert fix("--write", "s.py")[0] == 1
    assert script.read_text() == ENGINE


def test_a_read_only_folder(script) -> None:
    with mounted(script.parent / "mounted", "size=1m") as folder:
        path = Path(folder, "s.py")
        path.write_text(ENGINE)
        remount = ["mount", "-o", "remount,ro", folder]
        subprocess.run(remount, check=True, timeout=PATIENCE)

        status, _, errors = fix("--write", "mounted/s.py")

        assert (status, path.read_text()) == (1, ENGINE)
        assert "error: mounted/s.py: cannot be written: it may not be written" in errors


def test_a_full_disk_leaves_the_old_file_and_nothing_else(script) -> None:
    source = ENGINE + "# filling\n" * 1000
    with mounted(script.parent / "mounted", "size=16k") as folder:
        path = Path(folder, "s.py")
        path.write_text(source)

        status, _, errors = fix("--write", "mounted/s.py")

        assert "error: mounted/s.py: cannot be written: No space left on device" in errors
        assert (status, path.read_text()) == (1, source)
        assert list(path.parent.iterdir()) == [path]


def test_a_kill_leaves_the_old_file_whole(script) -> None:
    script.write_text("old")
    writer = subprocess.Popen([sys.executable, "-c", SLOWLY, "s.py"], env=guard_env())
    beside = script.parent / f".s.py.{writer.pid}.new"

    wait_for(lambda: beside.exists() and beside.stat().st_size, "the new file")
    writer.kill()

    assert writer.wait(PATIENCE) == -9
    assert script.read_text() == "old"
    beside.unlink()


def test_a_file_that_was_changed_meanwhile_is_left_as_it_is(script) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLOWLY, "s.py"],
        env=guard_env(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert "it was changed meanwhile" in done.stderr
    assert script.read_text() == ENGINE


# ---- LibCST


@pytest.mark.skipif("3.11" not in NEEDS, reason="no environment without LibCST")
def test_without_libcst_one_line_says_how_to_get_it(script) -> None:
    python = Path(NEEDS["3.11"], "bin/python")
    words = [python, "-m", "vllm_guard", "fix", "s.py"]
    done = subprocess.run(
        words, env=guard_env(), capture_output=True, text=True, check=False, timeout=PATIENCE
    )

    said = (
        "vllm-guard: error: `vllm-guard fix` needs LibCST\n"
        "vllm-guard: hint: pip install 'vllm-guard[fix]', or, from a checkout: pip install '.[fix]'\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_libcst_is_loaded_for_what_is_written_only(script) -> None:
    (script.parent / "fine.py").write_text(GUARDED)
    tell = (
        "import sys; from vllm_guard import cli; from vllm_guard.commands import group;"
        "group.main(sys.argv[1:]); print('libcst' in sys.modules)"
    )

    def loads(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", tell, *words],
            env=guard_env(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.stdout.splitlines()[-1]

    assert loads("fix", "s.py") == "True"
    assert [loads("fix", "fine.py"), loads("check", "s.py"), loads("--help")] == ["False"] * 3


def test_the_pre_commit_hook_writes(script) -> None:
    hooks = {
        hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    }
    hook = hooks["vllm-guard-fix"]
    extra = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert guard(*shlex.split(hook["entry"])[1:], "s.py").returncode == 0
    assert script.read_text() == GUARDED
    assert hook["additional_dependencies"] == extra["fix"]
