"""Where a variable came from, by real shells, real files and real processes: the right file and line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, guard_env
from vllm_guard.provenance import Origins

NAME = "NCCL_P2P_DISABLE"
AUDIT = [*GUARD, "env", "audit", "--json"]
EXPORT = f"# one\n\nexport {NAME}=1\n"


def evidence(words: Sequence[str], cwd: Path | None = None, **env: str) -> list[str]:
    """What the audit at the end of `words` says of the variable; `words` is what sets it."""
    given = guard_env(TERM="dumb", **env)
    ran = subprocess.run(
        words,
        env=given,
        cwd=cwd,
        capture_output=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert ran.stdout, ran.stderr
    found = json.loads(ran.stdout[ran.stdout.index(b"{") :])["findings"]
    (finding,) = [f for f in found if f["subject"].startswith(NAME)]
    return list(finding["evidence"])


def shell(name: str, *flags: str) -> list[str]:
    """The words that run the audit in a shell."""
    if not (program := shutil.which(name)):
        pytest.skip(f"there is no {name} here")
    return [program, *flags, "-c", shlex.join(AUDIT)]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("words", "file", "text", "line"),
    [
        (("bash", "-l"), ".bash_profile", EXPORT, 3),
        (("bash", "-l"), ".bash_login", EXPORT, 3),
        (("bash", "-l"), ".profile", EXPORT, 3),
        (("bash", "-i"), ".bashrc", EXPORT, 3),
        (("bash", "-l"), ".profile", f"if true; then\n  {NAME}=1\nfi\nexport {NAME}\n", 2),
        (("bash", "-l"), ".profile", f"export A=1 \\\n  {NAME}=1\n", 1),
        (("bash", "-l"), ".profile", f"declare -x {NAME}='1' # why\n", 1),
        (("dash", "-l"), ".profile", EXPORT, 3),
        (("zsh",), ".zshenv", EXPORT, 3),
        (("zsh", "-l"), ".zprofile", EXPORT, 3),
        (("zsh", "-i"), ".zshrc", EXPORT, 3),
        (("zsh", "-l"), ".zlogin", f"typeset -gx {NAME}=1\n", 1),
        (("fish",), ".config/fish/config.fish", f"\nset -gx {NAME} 1\n", 2),
        (("fish",), ".config/fish/conf.d/a.fish", f"if true; set -x {NAME} 1; end\n", 1),
        (("fish",), ".config/fish/config.fish", f"export {NAME}=1\n", 1),
    ],
)
def test_a_shells_start_up_file(words: tuple[str, ...], file: str, text: str, line: int) -> None:
    path = write(Path.home() / file, text)

    assert evidence(shell(*words))[0] == f"from {path}:{line}"


def test_a_universal_variable_of_fish(clean_world: Path) -> None:
    words = shell("fish")
    home = clean_world / "home"
    subprocess.run([words[0], "-c", f"set -Ux {NAME} 1"], env={"HOME": str(home)}, check=True)
    path = home / ".config/fish/fish_variables"
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if NAME in text)

    assert evidence(words)[0] == f"from {path}:{line}"


def test_files_that_a_start_up_file_sources() -> None:
    home = Path.home()
    write(home / ".bash_profile", "# . ~/never\n[ -f ~/.bashrc ] && . ~/.bashrc\n")
    write(home / ".bashrc", 'source "$HOME/.config/more.sh"\n')
    write(home / ".config/more.sh", ". ${HOME}/most;\n")
    path = write(home / "most", EXPORT)
    write(home / "never", EXPORT)

    assert [e for e in evidence(shell("bash", "-l")) if e.startswith("from ")] == [f"from {path}:3"]


def test_the_files_that_variables_name(tmp_path: Path) -> None:
    path = write(tmp_path / "functions", EXPORT)

    assert evidence(shell("bash"), BASH_ENV=str(path))[0] == f"from {path}:3"


def test_zshs_own_folder(tmp_path: Path) -> None:
    path = write(tmp_path / ".zshenv", EXPORT)

    assert evidence(shell("zsh"), ZDOTDIR=str(tmp_path))[0] == f"from {path}:3"


def test_a_value_that_only_running_tells_is_named_as_a_possible_place() -> None:
    path = write(Path.home() / ".profile", f"export {NAME}=$(echo 1)\n")

    assert evidence(shell("bash", "-l"))[0] == f"from {path}:1"


def test_a_line_that_sets_another_value_is_not_blamed() -> None:
    write(Path.home() / ".profile", f"export {NAME}=0\n")

    found = evidence(AUDIT, **{NAME: "1"})

    assert not any(line.startswith("from ") for line in found)


@pytest.mark.parametrize("file", [".env", ".envrc"])
def test_a_file_of_a_folder_above(tmp_path: Path, file: str) -> None:
    path = write(tmp_path / "a" / file, f"\n{NAME}=1\n")
    (tmp_path / "a/b/c").mkdir(parents=True)
    write(tmp_path / "a/b/.env", f"{NAME}=0\n")

    assert evidence(AUDIT, cwd=tmp_path / "a/b/c", **{NAME: "1"})[0] == f"from {path}:2"


@pytest.mark.parametrize("folder", ["etc/conda/activate.d/nccl.sh", "bin/activate"])
def test_an_activated_environment(tmp_path: Path, folder: str) -> None:
    path = write(tmp_path / folder, EXPORT)

    assert evidence(AUDIT, CONDA_PREFIX=str(tmp_path), **{NAME: "1"})[0] == f"from {path}:3"


def in_namespace(*commands: str) -> list[str]:
    """The words that run commands, then the audit, with mounts of their own."""
    probe = ["unshare", "-m", "true"]
    if (
        not shutil.which("unshare")
        or subprocess.run(probe, capture_output=True, check=False).returncode
    ):
        pytest.skip("no mount namespace can be made here")
    return ["unshare", "-m", "sh", "-e", "-c", "; ".join([*commands, shlex.join(AUDIT), "exit 0"])]


def test_the_machines_environment_file(tmp_path: Path) -> None:
    source = write(tmp_path / "environment", f'PATH="/bin"\n{NAME}="1"\n')

    found = evidence(in_namespace(f"mount --bind {source} /etc/environment"), **{NAME: "1"})

    assert found[0] == "from /etc/environment:2"


def test_a_file_of_profile_d(tmp_path: Path) -> None:
    source = write(tmp_path / "nccl.sh", EXPORT).parent

    found = evidence(in_namespace(f"mount --bind {source} /etc/profile.d", ". /etc/profile"))

    assert found[0] == "from /etc/profile.d/nccl.sh:3"


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("vllm@.service", f"[Service]\nEnvironment=A=1 {NAME}=1\n", 2),
        ("vllm@8000.service.d/10.conf", f'[Service]\n\nEnvironment="{NAME}=1"\n', 3),
        ("vllm@.service.d/10.conf", f"[Service]\nEnvironment=A=1 \\\n  {NAME}=1\n", 2),
    ],
)
def test_a_unit_and_its_drop_ins(tmp_path: Path, file: str, text: str, line: int) -> None:
    cgroup = write(tmp_path / "cgroup", "0::/system.slice/system-vllm.slice/vllm@8000.service\n")
    path = write(Path.home() / ".config/systemd/user" / file, text)

    found = evidence(in_namespace(f"mount --bind {cgroup} /proc/$$/cgroup"), **{NAME: "1"})

    assert found[0] == f"from {path}:{line}"


def test_the_environment_file_of_a_unit(tmp_path: Path) -> None:
    cgroup = write(tmp_path / "cgroup", "0::/user.slice/app.slice/vllm.service\n")
    path = write(tmp_path / "default", f"A=1\n{NAME}=1\n")
    write(
        Path.home() / ".config/systemd/user/vllm.service", f"[Service]\nEnvironmentFile=-{path}\n"
    )

    found = evidence(in_namespace(f"mount --bind {cgroup} /proc/$$/cgroup"), **{NAME: "1"})

    assert found[0] == f"from {path}:2"


SET_AND_RUN = (
    "import os, subprocess, sys; os.environ[sys.argv[1]] = '1'; subprocess.run(sys.argv[2:])"
)


def test_a_process_that_sets_it_for_what_it_starts() -> None:
    words = [sys.executable, "-S", "-c", SET_AND_RUN, NAME]

    (last,) = evidence([*words, *AUDIT])
    (between,) = evidence([*words, "sh", "-c", f"{shlex.join(AUDIT)}; exit 0"])

    assert last.startswith("set below process ")
    assert last.endswith("), which was started without it")
    assert between.endswith("(sh) was started with it")


def test_a_process_whose_parents_all_have_it() -> None:
    """The oldest that has it is named; this one's parents do not."""
    words = ["sh", "-c", f"sh -c {shlex.quote(f'{shlex.join(AUDIT)}; exit 0')}; exit 0"]
    ran = subprocess.Popen(
        words, env=guard_env(**{NAME: "1"}), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    out, _ = ran.communicate(timeout=PATIENCE)
    (finding,) = [f for f in json.loads(out)["findings"] if f["subject"].startswith(NAME)]

    assert finding["evidence"] == [f"process {ran.pid} (sh) was started with it"]


def test_files_that_include_each_other_a_fifo_and_a_folder_end_at_once() -> None:
    home = Path.home()
    write(home / ".bashrc", ". ~/.profile\n" * 300 + EXPORT)
    write(home / ".profile", ". ~/.bashrc\n" * 300)
    os.mkfifo(home / ".zshenv")
    (home / ".zshrc").mkdir()
    os.symlink(home / ".zlogin", home / ".zlogin")
    (write(home / ".config/environment.d/a.conf", "")).write_bytes(b"\xff=\xfe\nA=\xff\n")

    origins = Origins({"HOME": str(home)}, "/", os.getpid())

    assert next(origins.of(NAME, "1")) == f"from {home}/.bashrc:303"


def test_nothing_is_said_of_what_nothing_sets() -> None:
    origins = Origins({"HOME": "/nonexistent"}, "/", 2**22 + 1)

    assert list(origins.of("VGUARD_NOBODY", "1")) == []
