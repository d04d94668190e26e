"""What `env` and the like say before `vllm serve` counts for the probes: variables and the folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kit import guard, guard_env
from tests.kit.models import write_model, write_registry
from vllm_guard.target import find_target


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """A folder with a `vllm` that serves nothing, whose package lies beside it."""
    packages = tmp_path / "packages"
    (packages / "vllm").mkdir(parents=True)
    (packages / "vllm/__init__.py").touch()
    (packages / "vllm/envs.py").write_text("environment_variables = {}\n")
    write_registry(packages / "vllm", {"LlamaForCausalLM": "llama"})
    program = tmp_path / "bin/vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nprint('served')\n")
    program.chmod(0o755)
    return program.parent


@pytest.mark.parametrize(
    ("prefix", "cwd", "changes"),
    [
        ("", "", {}),
        ("nice -n 1", "", {}),
        ("env A=1 B=", "", {"A": "1", "B": ""}),
        ("env -u HOME -C /usr A=1", "/usr", {"HOME": None, "A": "1"}),
        ("env -C /usr nice env -C lib A=1 env A=2", "/usr/lib", {"A": "2"}),
    ],
)
def test_the_target_knows_the_folder_and_the_variables(bin_, prefix, cwd, changes) -> None:
    before = {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": "/h"}
    found = find_target([*prefix.split(), "vllm", "serve", "m"], before)

    assert found is not None
    assert (found.cwd, dict(found.changes)) == (cwd or os.getcwd(), changes)
    after = {**before, **changes}
    assert found.env(before) == {name: value for name, value in after.items() if value is not None}


def test_with_an_emptied_environment_nothing_but_what_is_given_is_there(bin_) -> None:
    before = {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": "/h"}
    found = find_target(["env", "-i", "A=1", str(bin_ / "vllm"), "serve", "m"], before)

    assert found is not None
    assert found.env(before) == {"A": "1"}


def test_files_are_looked_for_where_the_command_runs(bin_, tmp_path: Path) -> None:
    write_model(tmp_path / "there/model")
    (tmp_path / "there/c.yaml").write_text("port: 0\nchat-template: t.jinja\n")
    (tmp_path / "there/t.jinja").touch()
    words = ("vllm", "serve", "./model", "--config", "c.yaml")
    extra = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    extra["PYTHONPATH"] = f"{guard_env()['PYTHONPATH']}:{tmp_path}/packages"

    there, here = (
        guard("-v", "--", "env", "-C", str(folder), *words, env=guard_env(**extra))
        for folder in (tmp_path / "there", tmp_path)
    )

    assert (there.returncode, there.stdout) == (0, b"served\n"), there.stderr
    assert b"flag-file" in there.stderr
    assert here.returncode == 78
    assert b"config-file" in here.stderr
    assert b"model-path" in here.stderr


def test_a_variable_that_the_command_sets_counts(bin_, tmp_path: Path) -> None:
    words = ("vllm", "serve", "org/no-such", "--port", "0")
    extra = {"PATH": f"{bin_}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    extra["PYTHONPATH"] = f"{guard_env()['PYTHONPATH']}:{tmp_path}/packages"

    online, offline = (
        guard("-v", "--", "env", *more, *words, env=guard_env(**extra))
        for more in (["HF_HUB_OFFLINE=0"], [])
    )

    assert (online.returncode, offline.returncode) == (0, 78)
    assert b"fail model-not-cached" in offline.stderr
