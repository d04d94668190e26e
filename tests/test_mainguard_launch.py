"""`vllm-guard -- python script.py`: where the harness goes in a command, and that it works there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kit import guard
from tests.kit.scripts import HARNESS
from vllm_guard.target import find_target

PYTHON = sys.executable
UNGUARDED = """
from multiprocessing import get_context
import sys
print("top", sys.argv, flush=True)
def f(x):
    return x + 1
with get_context("spawn").Pool(1) as pool:
    print(pool.apply(f, (1,)))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scripts of every kind, which is the current one."""
    monkeypatch.chdir(tmp_path)
    files = {
        "s.py": UNGUARDED,
        "shebang": f"#!{PYTHON} -u\n{UNGUARDED}",
        "-m": UNGUARDED,
        "--main-guard": UNGUARDED,
        "plain": f"#!{PYTHON}\n{UNGUARDED}",
        "pkg/__init__.py": "",
        "pkg/__main__.py": "",
        "pkg/mod.py": UNGUARDED,
        "folder/__main__.py": "",
        "bin/tool": f"#!{PYTHON}\n{UNGUARDED}",
        "bin/torchrun": f"#!{PYTHON}\n",
        "bin/python": f'#!/bin/sh\nexec {PYTHON} "$@"\n',
        "bin/python3.7": "#!/bin/sh\necho \"('/x', '3.7.17', ('/y',), '/z')\"\n",
        ".venv/pyvenv.cfg": f"home = {os.path.dirname(PYTHON)}\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / ".venv/bin").mkdir()
    (tmp_path / ".venv/bin/python").symlink_to(PYTHON)
    (tmp_path / "bin/uv").write_bytes(b"\x7fELF")
    (tmp_path / "bin/uv").chmod(0o755)
    (tmp_path / "archive.pyz").write_bytes(b"PK\x03\x04\0\0")
    return tmp_path


#: The command; its words with `H` for the harness. "" before it: nothing is put there.
COMMANDS = [
    (f"{PYTHON} s.py a --b", f"{PYTHON} H s.py a --b"),
    (f"{PYTHON} -u -X dev -W error s.py", f"{PYTHON} -u -X dev -W error H s.py"),
    (f"nice -n 3 {PYTHON} s.py", f"nice -n 3 {PYTHON} H s.py"),
    (f"env A=1 {PYTHON} ./s.py", f"env A=1 {PYTHON} H ./s.py"),
    (f"{PYTHON} -m pkg.mod a", f"{PYTHON} H -m pkg.mod a"),
    (f"{PYTHON} -u -m pkg.mod", f"{PYTHON} -u H -m pkg.mod"),
    (f"{PYTHON} - a", f"{PYTHON} H - a"),
    ("./shebang a", f"{PYTHON} -u H ./shebang a"),
    ("nice ./shebang", f"nice {PYTHON} -u H ./shebang"),
    ("./.venv/bin/python s.py", "./.venv/bin/python H s.py"),
    ("bin/python s.py", "bin/python H s.py"),
    ("bin/torchrun --nproc_per_node 2 s.py -m", "bin/torchrun --nproc_per_node 2 H s.py -m"),
    ("bin/torchrun --standalone --tee=3 s.py", "bin/torchrun --standalone --tee=3 H s.py"),
    ("bin/torchrun --standalone -m pkg.mod a", "bin/torchrun --standalone H -m pkg.mod a"),
    (
        f"{PYTHON} -m torch.distributed.run --nnodes 1 s.py",
        f"{PYTHON} -m torch.distributed.run --nnodes 1 H s.py",
    ),
    ("bin/uv run s.py a", "bin/uv run {venv}/python H s.py a"),
    ("bin/uv run --no-sync -m pkg.mod a", "bin/uv run --no-sync {venv}/python H -m pkg.mod a"),
    ("bin/uv run python s.py", "bin/uv run python H s.py"),
    (f"{PYTHON} s.py torch.distributed.run", f"{PYTHON} H s.py torch.distributed.run"),
    (f"{PYTHON} -- s.py", f"{PYTHON} -- H s.py"),
    (f"{PYTHON} -u -- -m a", f"{PYTHON} -u -- H -- -m a"),
    (f"{PYTHON} -- --main-guard off", f"{PYTHON} -- H -- --main-guard off"),
    (f"{PYTHON} s.py --main-guard off", f"{PYTHON} H s.py --main-guard off"),
    (f"env -S {PYTHON} s.py", f"env -S {PYTHON} H s.py"),
    (f"env -u {PYTHON} ./plain", f"env -u {PYTHON} {PYTHON} H ./plain"),
    # children do not import these, or nobody can tell what they run
    (f"{PYTHON} -c pass", ""),
    (f"{PYTHON}", ""),
    (f"{PYTHON} -V", ""),
    (f"{PYTHON} -m pkg", ""),
    (f"{PYTHON} -m pip list", ""),
    (f"{PYTHON} folder", ""),
    (f"{PYTHON} archive.pyz", ""),
    (f"{PYTHON} nowhere.py", ""),
    (f"{PYTHON} -x s.py", ""),
    ("bin/tool", ""),
    ("bin/torchrun --no-python ./shebang", ""),
    ("bin/torchrun --run-path s.py", ""),
    ("bin/torchrun", ""),
    ("bin/torchrun -- --main-guard off", ""),
    ("bin/python3.7 s.py", ""),
    ("bin/torchrun nowhere.py", ""),
    ("bin/uv run --with torch s.py", ""),
    (f"{PYTHON} -m vllm.entrypoints.openai.api_server", ""),
]


@pytest.mark.parametrize(("command", "wanted"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_the_harness_goes_before_the_script(command: str, wanted: str, place: Path) -> None:
    found = find_target(command.split(), dict(os.environ))

    script = found.script if found else None
    words = " ".join(script.run_by(["H"])) if script else ""
    assert words == wanted.format(venv=place / ".venv/bin")


def test_a_command_within_a_word_is_left_alone(place: Path) -> None:
    for words in (["env", "-S", f"{PYTHON} -u", "s.py"], ["env", "-S", "bin/uv run", "s.py"]):
        found = find_target(words, dict(os.environ))

        assert found
        assert found.script is None


@pytest.mark.parametrize("word", ["-m", "--main-guard"])
def test_a_script_may_be_named_like_an_option(word: str, place: Path) -> None:
    done = guard("-q", "--preflight", "off", "--", PYTHON, "--", word, "off")

    assert done.stdout.decode() == f"top {[word, 'off']}\n2\n"


@pytest.mark.parametrize("words", [["s.py"], ["-m", "pkg.mod"]], ids=" ".join)
def test_an_unguarded_script_runs(words: list[str], place: Path) -> None:
    done = guard("-q", "--preflight", "off", "--", PYTHON, *words, "a")

    name = "s.py" if words[0] == "s.py" else str(place / "pkg/mod.py")
    assert done.stdout.decode() == f"top {[name, 'a']}\n2\n"
    assert done.returncode == 0


def test_a_script_with_a_first_line_runs_as_if_the_kernel_had_started_it(place: Path) -> None:
    done = guard("-q", "--preflight", "off", "--", "./shebang", "a")

    assert done.stdout.decode() == "top ['./shebang', 'a']\n2\n"


def test_off_is_plain_python(place: Path) -> None:
    process = "get_context('spawn').Process(target=print)"
    (place / "s.py").write_text(f"from multiprocessing import get_context\n{process}.start()\n")

    done = guard("-q", "--preflight", "off", "--main-guard", "off", "--", PYTHON, "s.py")

    assert b"An attempt has been made to start a new process" in done.stderr


@pytest.mark.parametrize("mode", ["auto", "definitions", "cutoff", "off"])
def test_the_dry_run_shows_the_command(mode: str) -> None:
    done = guard("-n", "--preflight", "off", "--main-guard", mode, "--", PYTHON, "s.py", "a")

    shown = {"auto": f"{HARNESS} ", "off": ""}.get(mode, f"{HARNESS} --main-guard {mode} ")
    assert f"  {PYTHON} {shown}s.py a\n" in done.stderr.decode() + done.stdout.decode()


def test_a_mode_for_what_is_no_script_is_told() -> None:
    done = guard("-n", "--main-guard", "cutoff", "--", PYTHON, "-c", "pass")

    told = "main-guard-not-applied: --main-guard cutoff: the command runs no script"
    assert told in done.stdout.decode() + done.stderr.decode()
