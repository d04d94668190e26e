"""Installed as users install it: wheel, sdist, editable; guard and vLLM in different environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit import ROOT, guard_env, schema
from tests.test_profiles import BUILT_IN
from vllm_guard import __version__
from vllm_guard.commands.completion import FILES

GUARDS = "VGUARD_TEST_GUARDS"  #: what `dev/environments.py guards` printed: VERSION=FOLDER ...
NEEDS = dict(pair.split("=", 1) for pair in os.environ.get(GUARDS, "").split())
KINDS = ("wheel", "sdist", "editable")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")

pytestmark = pytest.mark.skipif(not NEEDS, reason=f"{GUARDS} is not set: run `make test`")


@pytest.fixture(autouse=True)
def elsewhere(clean_world, monkeypatch) -> None:
    """Not in the tree: `python -m` would find the package there, installed or not."""
    monkeypatch.chdir(clean_world)


def run(*words: str | Path, **options) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> dict[str, Path]:
    """A wheel and an sdist of the tree, built without any network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


Install = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def install(built, tmp_path_factory) -> Install:
    """Install (Python version, kind) into a virtual environment of its own; returns its bin folder."""
    known: dict[tuple[str, str], Path] = {}

    def make(version: str, kind: str) -> Path:
        if (version, kind) not in known:
            known[version, kind] = fresh(version, kind)
        return known[version, kind]

    def fresh(version: str, kind: str) -> Path:
        if version not in NEEDS:
            pytest.skip(f"there is no Python {version} on this machine")
        needs = Path(NEEDS[version])
        venv = tmp_path_factory.mktemp(f"{kind}-{version}") / "venv"
        run(needs / "bin/python", "-I", "-m", "venv", "--without-pip", venv)
        (packages,) = venv.glob("lib/python3*/site-packages")
        (needed,) = needs.glob("lib/python3*/site-packages")
        (packages / "needs.pth").write_text(f"{needed}\n")
        what = ["-e", ROOT] if kind == "editable" else [built[kind]]
        pip = (needs / "bin/python", "-I", "-m", "pip", "--python", venv / "bin/python", "install")
        offline = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "-q")
        run(*pip, *offline, *what, env=without_ours())
        return venv / "bin"

    return make


def without_ours(**extra: str) -> dict[str, str]:
    """No PYTHONPATH to this checkout: what is installed must be enough."""
    return guard_env(PYTHONPATH=None, **extra)


def package(programs: Path) -> Path:
    """Where the package was installed; not there in an editable install."""
    (packages,) = programs.parent.glob("lib/python3*/site-packages")
    return packages / "vllm_guard"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_launch_works_on_each_python_from_each_kind_of_install(version, kind, install) -> None:
    programs = install(version, kind)
    env = without_ours(PATH=f"{programs}:{os.environ['PATH']}")
    code = "import os, sys; print(os.environ['NCCL_DEBUG'], sys.version_info[:2], sys.argv[1:])"

    version_said = run("vllm-guard", "--version", env=env)
    listed = json.loads(run("vllm-guard", "profile", "list", "--json", env=env))
    said = run("vllm-guard", "-p", "debug", "--", sys.executable, "-c", code, "a b", env=env)
    completing = run("vllm-guard", "completion", "fish", env=env)
    module = run(programs / "python", "-m", "vllm_guard", "--version", env=env)

    assert {row["name"] for row in listed["profiles"]} == BUILT_IN
    home = ROOT / "profiles" if kind == "editable" else package(programs) / "_profiles"
    assert {Path(row["path"]).parent for row in listed["profiles"]} == {home}
    assert completing == (ROOT / "completions/vllm-guard.fish").read_text()
    assert said == f"TRACE {sys.version_info[:2]} ['a b']\n"
    assert module == version_said == f"vllm-guard, version {__version__}\n"


def beside_vllm(programs: Path) -> dict[str, str]:
    """An environment with the programs of vLLM's virtual environment first, then the guard's."""
    return without_ours(
        PATH=f"{os.environ['VGUARD_TEST_VLLM']}/bin:{programs}:{os.environ['PATH']}"
    )


def version_of_vllm() -> str:
    tell = "import importlib.metadata as m; print(m.version('vllm'))"
    return run(f"{os.environ['VGUARD_TEST_VLLM']}/bin/python", "-I", "-c", tell).strip()


@pytest.mark.vllm
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_vllm_of_another_environment_is_found_and_read(version, kind, install) -> None:
    programs, vllm = install(version, kind), os.environ["VGUARD_TEST_VLLM"]
    model = os.environ["VGUARD_TEST_MODEL"]
    serve = ("vllm", "serve", model, "--port=0")

    done = subprocess.run(
        ["vllm-guard", "-nv", "-p", "debug", "-p", "eager", "--", *serve],
        env=beside_vllm(programs),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"ok vllm-found: {vllm}/bin/python" in done.stderr
    assert f"vLLM {version_of_vllm()} in" in done.stderr
    assert f"{' '.join(serve)} --enforce-eager" in done.stderr


@pytest.mark.vllm
@pytest.mark.parametrize(("version", "kind"), [*zip(VERSIONS, (*KINDS, "wheel"), strict=True)])
def test_the_vllm_of_another_environment_is_launched(version, kind, install) -> None:
    env = beside_vllm(install(version, kind))

    said = run("vllm-guard", "-p", "debug", "--", "vllm", "--version", env=env)

    assert said.splitlines()[-1] == version_of_vllm()


def test_the_wheel_holds_profiles_data_completions_and_types(built) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())

    profiles = {f"vllm_guard/_profiles/{name}.toml" for name in BUILT_IN}
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert profiles <= names
    assert {f"vllm_guard/data/{n}.toml" for n in ("redact", "vars/nccl", "vars/vllm")} <= names
    assert {"vllm_guard/py.typed", "vllm_guard/_docs/checks.md"} <= names
    assert "vllm_guard/data/signatures/envelopes.toml" in names
    assert {f"vllm_guard/_completions/{name}" for name in FILES.values()} <= names
    assert {f"vllm_guard/data/schema/{path.name}" for path in schema.FILES.values()} <= names
    assert shared == {
        "share/bash-completion/completions/vllm-guard",
        "share/zsh/site-functions/_vllm-guard",
        "share/fish/vendor_completions.d/vllm-guard.fish",
        "share/man/man1/vllm-guard.1",
    }
    assert not [n for n in names if n.startswith(("tests/", "dev/")) or n.endswith(".pyc")]


def test_a_wheel_made_from_the_sdist_is_the_same(built, tmp_path) -> None:
    with tarfile.open(built["sdist"]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, source)
    (again,) = tmp_path.glob("*.whl")

    assert contents(again) == contents(built["wheel"])


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist()}


def test_a_package_without_its_profiles_takes_no_stranger_for_them(install, tmp_path) -> None:
    copy = shutil.copytree(package(install("3.11", "wheel")), tmp_path / "vllm_guard")
    shutil.rmtree(copy / "_profiles")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/debug.toml").write_text('schema = 1\nsummary = "a stranger"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')

    done = subprocess.run(
        [Path(NEEDS["3.11"], "bin/python"), "-m", "vllm_guard", "-p", "debug", "--", "true"],
        env=guard_env(PYTHONPATH=str(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 125
    assert "_profiles is missing" in done.stderr
