"""Pinned profiles: what is copied and locked, what `verify` finds, and a team of two users."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dev import vllm_names as generator
from tests.kit import GUARD, PATIENCE, ROOT, guard, guard_env
from tests.kit.repository import HEAD, as_nobody, clone, git, make, write
from vllm_guard import __version__, facts, pins, vllm_names
from vllm_guard.commands import group
from vllm_guard.errors import GuardError

TABLE = facts.load("vllm_names")
MIRROR = HEAD + '[env]\nHF_ENDPOINT = "https://mirror.example"\n'
ROW = """version = 1
[[profile]]
name = "x"
file = "profiles/x.toml"
sha256 = ""
from = "user"
vllm_guard = "1"
vllm = []
"""
MANY = "9" * 4000 + "\\\n" + "9" * 4000  #: more digits than Python reads, on two lines
VERSIONS = ("--vllm", "0.12.0", "--vllm", "0.33.0")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the root of a repository."""
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def profile(*words: str) -> int:
    """The status of `vllm-guard profile ...`."""
    try:
        return group.main(["profile", *words])
    except GuardError as error:
        return error.exit_code


def found(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The findings of `profile verify`."""
    capsys.readouterr()
    profile("verify", "--json", *words)
    findings = json.loads(capsys.readouterr().out)["findings"]
    return [f"{f['status']} {f['id']} {f['file']}" for f in findings]


def lock(repository: Path) -> dict[str, dict[str, Any]]:
    rows = tomli.loads((repository / pins.LOCK).read_text())["profile"]
    return {row["name"]: row for row in rows}


# ---- pin


def test_a_pin_is_a_copy_with_what_it_extends_and_a_row_for_each(repository: Path) -> None:
    assert profile("pin", "trace", *VERSIONS) == 0

    for name in ("trace", "debug"):
        copy = repository / f".vllm-guard/{name}.toml"
        assert copy.read_bytes() == (ROOT / f"profiles/{name}.toml").read_bytes()
        assert copy.stat().st_mode & 0o777 == 0o644
    assert sorted(lock(repository)) == ["debug", "trace"]
    row = lock(repository)["debug"]
    assert (row["from"], row["vllm_guard"]) == ("builtin", __version__)
    assert {"0.12.0", "0.33.0"} <= set(row["vllm"])
    assert profile("verify", "--outdated", "--strict") == 0


def test_a_pinned_built_in_profile_needs_no_allowing(repository: Path) -> None:
    profile("pin", "trace", *VERSIONS)

    done = guard("-p", "trace", "--preflight", "off", "--", "true")

    assert done.returncode == 0
    assert f"profile trace ({repository}/.vllm-guard/trace.toml)".encode() in done.stderr


def test_what_was_written_in_the_repository_is_locked_in_place(repository: Path) -> None:
    write(repository, {"profiles/team.toml": HEAD + 'extends = ["./base.toml"]\n'})
    write(repository, {"profiles/base.toml": HEAD})

    assert profile("pin", "team", *VERSIONS) == 0
    assert {row["file"] for row in lock(repository).values()} == {
        "profiles/team.toml",
        "profiles/base.toml",
    }
    assert not (repository / ".vllm-guard").exists()
    assert profile("verify") == 0


@pytest.mark.parametrize("extends", ["debug", "mirror", "./base.toml", "base.toml"])
def test_what_a_pinned_profile_extends_is_locked_beside_it(
    extends: str, repository: Path, capsys: Any
) -> None:
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles")
    write(own, {"mirror.toml": MIRROR})
    write(repository, {"profiles/base.toml": HEAD})
    write(repository, {"profiles/team.toml": HEAD + f'extends = ["{extends}"]\n'})
    assert profile("pin", "team", *VERSIONS) == 0
    assert found(capsys, "--strict") == (
        [] if "base" in extends else ["warn pin-unlocked profiles/base.toml"]
    )
    base = next(row["file"] for row in lock(repository).values() if row["name"] != "team")
    assert base.startswith("profiles/")

    write(own, {"debug.toml": HEAD, "mirror.toml": HEAD})
    assert "fail" not in str(found(capsys)), "it does not go by what the user has"
    write(repository, {base: HEAD + '[env]\nNEW = "1"\n'})
    assert f"fail pin-drift {base}" in found(capsys)


def test_a_base_that_is_not_in_the_lock_is_drift(repository: Path, capsys: Any) -> None:
    write(repository, {"profiles/team.toml": HEAD + 'extends = ["nccl"]\n'})
    profile("pin", "team", *VERSIONS)
    (repository / "profiles/nccl.toml").unlink()

    assert "fail pin-drift profiles/team.toml" in found(capsys)


@pytest.mark.parametrize("path", ["../base/b.toml", "../.vllm-guard/b.toml", "/x/b.toml"])
def test_a_path_that_leads_elsewhere_cannot_be_locked(path: str, repository: Path) -> None:
    write(repository, {"base/b.toml": HEAD, ".vllm-guard/b.toml": HEAD})
    path = path.replace("/x", str(repository / "base"))
    write(repository, {"profiles/team.toml": HEAD + f'extends = ["{path}"]\n'})

    assert profile("pin", "team", *VERSIONS) == 125
    assert not (repository / pins.LOCK).exists()


def test_a_copy_that_is_pinned_anew_in_its_place_is_still_a_copy(repository: Path) -> None:
    profile("pin", "nccl", *VERSIONS)

    assert profile("pin", ".vllm-guard/nccl.toml", *VERSIONS) == 0
    assert lock(repository)["nccl"]["from"] == "builtin"


def test_a_version_that_is_none_is_a_usage_error(repository: Path) -> None:
    assert profile("pin", "nccl", "--vllm", "banana") == 2
    assert not (repository / pins.LOCK).exists()


def test_a_second_pin_adds_to_the_lock_and_renews_what_it_names(repository: Path) -> None:
    profile("pin", "nccl", "--vllm", "0.12.0")
    profile("pin", "stats", "--in", "profiles", "--vllm", "0.33.0")
    profile("pin", "nccl", "--vllm", "0.33.0")

    assert lock(repository)["stats"]["file"] == "profiles/stats.toml"
    assert "0.12.0" not in lock(repository)["nccl"]["vllm"]
    assert sorted(lock(repository)) == ["nccl", "stats"]


@pytest.mark.parametrize(
    ("text", "vllm", "message"),
    [
        (HEAD + '[env]\nVLLM_NO_SUCH = "1"\n', "0.33.0", "does not know VLLM_NO_SUCH"),
        (HEAD + '[env]\nVLLM_USE_V1 = "1"\n', "0.33.0", "does not know VLLM_USE_V1"),
        (HEAD + "[engine]\nno_such_option = 1\n", "0.33.0", "does not know no_such_option"),
        (HEAD + 'extends = ["../x.toml"]\n', "0.33.0", "extends the path ../x.toml"),
        (HEAD + "oops = 1\n", "0.33.0", "unknown key"),
    ],
)
def test_what_cannot_be_pinned_leaves_nothing_behind(
    text: str, vllm: str, message: str, repository: Path, tmp_path: Path, capfd: Any
) -> None:
    write(tmp_path, {"sub/mine.toml": text, "x.toml": HEAD})

    done = guard("profile", "pin", "nccl", str(tmp_path / "sub/mine.toml"), "--vllm", vllm)

    assert done.returncode in (1, 125)
    assert message in (done.stdout + done.stderr).decode()
    assert sorted(path.name for path in repository.iterdir()) == [".git"]


def test_an_edited_copy_is_not_overwritten_unless_that_is_asked_for(repository: Path) -> None:
    profile("pin", "nccl", *VERSIONS)
    copy = repository / ".vllm-guard/nccl.toml"
    before = copy.read_bytes()
    copy.write_bytes(before + b"# ours\n")

    assert profile("pin", "nccl", *VERSIONS) == 125
    assert copy.read_bytes() == before + b"# ours\n"
    assert profile("verify") == 1

    assert profile("pin", ".vllm-guard/nccl.toml", *VERSIONS) == 0
    assert profile("verify") == 0
    assert lock(repository)["nccl"]["from"] == "repository"

    git_like = copy.read_bytes()
    assert profile("pin", str(ROOT / "profiles/nccl.toml"), "--force", *VERSIONS) == 0
    assert copy.read_bytes() == before != git_like


def test_a_write_that_fails_half_way_leaves_the_old_files_and_no_new_one(repository: Path) -> None:
    profile("pin", "nccl", *VERSIONS)
    (repository / "profiles").write_text("in the way")
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}

    with pytest.raises(GuardError, match="nothing is pinned"):
        pins.write(
            str(repository),
            {".vllm-guard/nccl.toml": b"new", "profiles/x.toml": b"x", pins.LOCK: b"new"},
        )

    assert before == {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def test_links_where_pins_go_are_not_followed(repository: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (repository / pins.LOCK).symlink_to(victim)
    assert profile("pin", "nccl", *VERSIONS) == 2

    (repository / pins.LOCK).unlink()
    (tmp_path / "elsewhere").mkdir()
    (repository / ".vllm-guard").symlink_to(tmp_path / "elsewhere")
    assert profile("pin", "nccl", *VERSIONS) == 125

    assert victim.read_text() == "untouched"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_outside_a_repository_nothing_is_pinned(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)

    assert [profile("pin", "nccl"), profile("verify"), profile("diff")] == [2, 2, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_users_secret_is_neither_copied_nor_printed(repository: Path, capsys: Any) -> None:
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles")
    write(own, {"mine.toml": MIRROR})
    assert profile("pin", "mine", *VERSIONS) == 0
    before = (repository / ".vllm-guard/mine.toml").read_bytes()
    write(own, {"mine.toml": MIRROR + 'HF_TOKEN = """\ns3\\u0063ret"""\n'})

    with pytest.raises(GuardError, match="holds secrets: HF_TOKEN"):
        group.main(["profile", "pin", "mine", *VERSIONS])
    assert (repository / ".vllm-guard/mine.toml").read_bytes() == before
    capsys.readouterr()
    assert profile("diff", "mine") == 0
    text = capsys.readouterr().out
    assert "+  HF_TOKEN=[masked] (6 characters)" in text.splitlines()
    assert "s3" not in text


# ---- verify and diff


def test_verify_names_each_file_that_is_not_as_locked(repository: Path, capsys: Any) -> None:
    profile("pin", "nccl", "stats", "network", *VERSIONS)
    folder = repository / ".vllm-guard"
    (folder / "nccl.toml").write_text((folder / "nccl.toml").read_text() + "# edited\n")
    (folder / "stats.toml").unlink()
    (folder / "network.toml").write_text("not TOML")
    write(repository, {".vllm-guard/new.toml": HEAD})

    assert found(capsys) == [
        "fail pin-drift .vllm-guard/nccl.toml",
        "fail pin-invalid .vllm-guard/network.toml",
        "fail pin-missing .vllm-guard/stats.toml",
        "warn pin-unlocked .vllm-guard/new.toml",
    ]
    assert profile("verify") == 1


def test_one_byte_is_drift_and_a_new_file_fails_only_under_strict(repository: Path) -> None:
    profile("pin", "nccl", *VERSIONS)
    assert profile("verify", "--strict") == 0

    write(repository, {".vllm-guard/new.toml": HEAD})
    assert [profile("verify"), profile("verify", "--strict")] == [0, 1]

    copy = repository / ".vllm-guard/nccl.toml"
    copy.write_bytes(copy.read_bytes().replace(b"INFO", b"WARN"))
    assert profile("verify") == 1


def test_a_version_that_comes_into_the_lock_is_checked(repository: Path, capsys: Any) -> None:
    text = HEAD + '[env]\nVLLM_USE_V1 = "1"\n[[when]]\nvllm = ">=0.30"\nenv.VLLM_NO_SUCH = "1"\n'
    write(repository, {"profiles/team.toml": text})
    assert profile("pin", "team", "--vllm", "0.8.5") == 0
    assert found(capsys) == []

    file = repository / pins.LOCK
    file.write_text(file.read_text().replace('vllm = ["0.8.5"', 'vllm = ["0.33.0", "0.8.5"'))
    assert found(capsys) == ["fail pin-unknown-key profiles/team.toml"] * 2

    file.write_text(file.read_text().replace("0.33.0", "99.0"))
    assert set(found(capsys)) == {"unknown pin-unknown-key profiles/team.toml"}


def test_outdated_is_a_built_in_profile_that_has_changed_since(
    repository: Path, capsys: Any
) -> None:
    profile("pin", "nccl", *VERSIONS)
    row = lock(repository)["nccl"]
    old = (ROOT / "profiles/nccl.toml").read_text() + "# as it was\n"
    write(repository, {".vllm-guard/nccl.toml": old})
    profile("pin", ".vllm-guard/nccl.toml", *VERSIONS)
    file = repository / pins.LOCK
    file.write_text(file.read_text().replace('from = "repository"', 'from = "builtin"'))

    assert lock(repository)["nccl"]["sha256"] != row["sha256"]
    assert found(capsys) == []
    assert found(capsys, "--outdated") == ["fail pin-outdated .vllm-guard/nccl.toml"]
    profile("diff")
    assert "-# as it was" in capsys.readouterr().out.splitlines()

    file.write_text(file.read_text().replace(f'"{__version__}"', '"99.0"'))
    assert found(capsys, "--outdated") == ["note pin-guard-older .vllm-guard/nccl.toml"]


def test_an_image_without_git_is_verified_in_the_folder_of_the_lock(
    repository: Path, capsys: Any
) -> None:
    profile("pin", "nccl", *VERSIONS)
    (repository / ".git").rmdir()

    assert (found(capsys), profile("verify", "--strict")) == ([], 0)


def test_a_version_that_python_cannot_read_is_one_that_the_samples_do_not_have(
    repository: Path, capsys: Any
) -> None:
    profile("pin", "nccl", *VERSIONS)
    text = HEAD + '[env]\nVLLM_USE_V1 = "1"\n[[when]]\nvllm = ">1"\nenv.VLLM_PORT = "1"\n'
    write(repository, {".vllm-guard/nccl.toml": text})
    file = repository / pins.LOCK
    file.write_text(file.read_text().replace('"0.12.0"', f'"""{MANY}"""'))

    assert "unknown pin-unknown-key .vllm-guard/nccl.toml" in found(capsys)


def test_github_shows_it_beside_the_file(repository: Path, capsys: Any) -> None:
    profile("pin", "nccl", *VERSIONS)
    capsys.readouterr()
    assert (profile("verify", "--format", "github"), capsys.readouterr().out) == (0, "")
    (repository / ".vllm-guard/nccl.toml").unlink()

    assert profile("verify", "--format", "github") == 1
    start = "::error file=.vllm-guard/nccl.toml,title=vllm-guard pin-missing::"
    assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 2\n",
        "version = 1\nprofile = 3\n",
        "version = 1\nprofile = [3]\n",
        'version = 1\ntrust = "all"\n',
        'version = 1\n[[profile]]\nname = "x"\n',
        ROW.replace("profiles/", "../"),
        ROW.replace('"x"', '"y"'),
        ROW.replace('"user"', '"me"'),
        ROW.replace('"1"', '"?"'),
        ROW.replace("[]", "[1]"),
        ROW.replace('"1"', f'"""{MANY}"""'),
        ROW.replace('"1"', f'"""1+{MANY}"""'),
        "version = 1\n" + "a." * 16000 + "a=1",
        "x" * 40000,
    ],
)
def test_a_lock_that_is_none_is_an_error_of_its_own(text: str, repository: Path) -> None:
    (repository / pins.LOCK).write_text(text)

    assert [profile("verify"), profile("pin", "nccl")] == [2, 2]


@given(
    st.lists(
        st.builds(
            lambda name, vllm: pins.Pin(
                name, f"profiles/{name}.toml", "0" * 64, "user", "1.0", vllm
            ),
            st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
            st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x7f"))).map(tuple),
        ),
        max_size=5,
        unique_by=lambda pin: pin.file,
    )
)
def test_a_lock_reads_as_it_was_written(rows: list[pins.Pin]) -> None:
    data = tomli.loads(pins.lock_text(rows).decode())

    assert list(pins._rows(data)) == sorted(rows, key=lambda pin: pin.file)


# ---- which vLLM knows what


@pytest.mark.parametrize(
    ("name", "kind", "version", "expected"),
    [
        ("VLLM_LOGGING_LEVEL", "variables", "0.33.0", True),
        ("VLLM_LOGGING_LEVEL", "variables", "0.32.0+cpu", True),
        ("VLLM_LOGGING_LEVEL", "variables", "0.12.1", True),
        ("VLLM_LOGGING_LEVEL", "variables", "0.34.0", None),
        ("VLLM_LOGGING_LEVEL", "variables", "0.1", None),
        ("VLLM_LOGGING_LEVEL", "variables", "main", None),
        ("VLLM_ALL2ALL_BACKEND", "variables", "0.8.5", False),
        ("VLLM_ALL2ALL_BACKEND", "variables", "0.8.6", None),
        ("VLLM_ALL2ALL_BACKEND", "variables", "0.14.1", True),
        ("VLLM_ALL2ALL_BACKEND", "variables", "0.15.0", None),
        ("VLLM_ALL2ALL_BACKEND", "variables", "0.16.0", False),
        ("VLLM_NO_SUCH", "variables", "0.33.0", False),
        ("VLLM_NO_SUCH", "variables", "0.15.0", None),
        ("swap_space", "engine", "0.8.5", True),
        ("enforce_eager", "engine", "0.15.0", True),
    ],
)
def test_what_the_samples_tell(name: str, kind: Any, version: str, expected: bool | None) -> None:
    assert vllm_names.knows(name, kind, version, TABLE) is expected


def test_the_table_of_names_is_that_of_the_samples() -> None:
    assert generator.FILE.read_text() == generator.text()


# ---- defaults of a repository


def launch(*words: str) -> subprocess.CompletedProcess[bytes]:
    return guard("--preflight", "off", *words, "--", "sh", "-c", 'printf %s "$NCCL_DEBUG"')


def test_defaults_are_used_where_no_profile_is_asked_for_and_are_told(repository: Path) -> None:
    write(repository, {"vllm-guard.toml": 'profiles = ["nccl"]\nignore = ["x-y"]\n', "sub/x": ""})

    default, chosen = launch(), launch("-p", "stats")
    below = guard("--", "sh", "-c", 'printf %s "$NCCL_DEBUG"', cwd=repository / "sub")

    assert (default.stdout, below.stdout, chosen.stdout) == (b"INFO", b"INFO", b"")
    told = f"note repository-defaults: {repository}/vllm-guard.toml: profile nccl, --ignore x-y"
    assert told.encode() in default.stderr
    vain = (
        f"{repository}/vllm-guard.toml: ignores what no finding of this vllm-guard is called: x-y"
    )
    assert f"note repository-ignore: {vain}".encode() in default.stderr


def test_an_ignored_finding_becomes_a_warning_and_is_not_hidden(repository: Path) -> None:
    write(
        repository, {"profiles/team.toml": HEAD + '[env]\nHF_TOKEN = { required = "see there" }\n'}
    )
    words = ("-p", "team", "--", "true")
    refused = guard(*words)
    write(repository, {"vllm-guard.toml": 'ignore = ["variable-required"]\n'})
    ignored = guard(*words)

    assert (refused.returncode, ignored.returncode) == (78, 0)
    assert b"warn variable-required" in ignored.stderr


def test_defaults_name_only_what_everybody_or_the_repository_has(repository: Path) -> None:
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles/mirror.toml")
    write(own.parent, {own.name: MIRROR})
    write(repository, {"vllm-guard.toml": 'profiles = ["mirror"]\n'})

    done = launch()

    assert done.returncode == 125
    assert b"asks for mirror, which is your own" in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "trust = true",
        'allow = ["x"]',
        "[guard]\nx = 1",
        'env = { LD_PRELOAD = "x" }',
        'profiles = "nccl"',
        "ignore = [1]",
        'profiles = ["../x.toml"]',
        'profiles = ["x.toml"]',
        "x",
    ],
)
def test_defaults_can_say_nothing_else(text: str, repository: Path) -> None:
    write(repository, {"vllm-guard.toml": text + "\n", "x.toml": HEAD})

    done = launch()

    assert (done.returncode, done.stdout) == (125, b"")
    assert b"vllm-guard.toml" in done.stderr


# ---- what calls it


@pytest.mark.parametrize(
    ("more", "status", "id_"),
    [
        ({}, 0, ""),
        ({"STRICT": "true"}, 1, "pin-unlocked"),
        ({"OUTDATED": "true"}, 1, "pin-outdated"),
    ],
)
def test_the_github_action_runs_verify(
    more: dict[str, str], status: int, id_: str, repository: Path, tmp_path: Path
) -> None:
    profile("pin", "nccl", *VERSIONS)
    write(repository, {".vllm-guard/stats.toml": HEAD})
    if "OUTDATED" in more:
        profile("pin", ".vllm-guard/stats.toml", *VERSIONS)
        file = repository / pins.LOCK
        file.write_text(file.read_text().replace('from = "repository"', 'from = "builtin"'))
    program = tmp_path / "vllm-guard/bin/vllm-guard"
    write(tmp_path, {"vllm-guard/bin/vllm-guard": f'#!/bin/sh\nexec {shlex.join(GUARD)} "$@"\n'})
    program.chmod(0o755)
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    *_, step = action["runs"]["steps"]
    inputs = {name.upper(): row["default"] for name, row in action["inputs"].items()}

    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env=guard_env(RUNNER_TEMP=str(tmp_path), **{**inputs, **more}),
        cwd=repository,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    assert set(step["env"]) == {"OUTDATED", "STRICT"}
    assert done.returncode == status
    assert f"vllm-guard {id_}::" in done.stdout.decode() or not id_


def test_the_pre_commit_hook_is_verify(repository: Path) -> None:
    hooks = {h["id"]: h for h in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    hook = hooks["vllm-guard-verify"]
    program, *words = hook["entry"].split()
    profile("pin", "nccl", *VERSIONS)
    assert guard(*words).returncode == 0
    (repository / ".vllm-guard/nccl.toml").unlink()

    assert program == "vllm-guard"
    assert guard(*words).returncode == 1
    assert (hook["always_run"], hook["pass_filenames"]) == (True, False)


# ---- a team


def test_pinned_by_one_cloned_by_another_drifted_allowed_edited_and_blocked_again(
    clean_world: Path,
) -> None:
    clean_world.chmod(0o755)
    shared = clean_world / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles")
    write(own, {"mirror.toml": MIRROR})
    source = make(shared / "source", {"README": "ours\n"})
    pinned = guard("profile", "pin", "mirror", "trace", *VERSIONS, cwd=source)
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "pins")

    other = as_nobody()
    mine = clone(source, shared / "mine", other)
    home = shared / "home-of-nobody"
    subprocess.run([*other, "mkdir", str(home)], check=True)
    env = guard_env(HOME=str(home), TMPDIR="/tmp", HF_ENDPOINT=None, NO_PROXY="*")

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [*other, *GUARD, *words],
            cwd=mine,
            env=env,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    use = ("--preflight", "off", "-p", "mirror", "--", "sh", "-c", "echo at $HF_ENDPOINT")
    file = mine / ".vllm-guard/mirror.toml"

    assert pinned.returncode == 0
    assert run("profile", "verify", "--outdated")[0] == 0
    assert run("--preflight", "off", "-p", "trace", "--", "true")[0] == 0
    status, said = run(*use)
    assert (status, "it sets HF_ENDPOINT" in said, "at https" in said) == (125, True, False)

    file.write_text(MIRROR.replace("mirror.example", "other.example"))
    status, said = run("profile", "verify")
    assert (status, "pin-drift" in said) == (1, True)

    assert run("profile", "allow", "mirror")[0] == 0
    status, said = run(*use)
    assert (status, "at https://other.example" in said) == (0, True)
    assert run("profile", "verify")[0] == 1, "allowed is not pinned"

    file.write_text(MIRROR.replace("mirror.example", "evil.example"))
    status, said = run(*use)
    assert (status, "it sets HF_ENDPOINT" in said, "evil.example" in said) == (125, True, False)

    git(mine, "checkout", "-q", "-f", ".", prefix=other)
    assert run("profile", "verify")[0] == 0
    assert run(*use)[0] == 125, "pinned is not allowed"


def test_what_another_user_put_into_the_repository_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder = make(tmp_path / "r", {".vllm-guard/nccl.toml": HEAD})
    os.chown(folder / ".vllm-guard/nccl.toml", 65534, -1)

    done = guard("-p", "nccl", "--", "true", cwd=folder)

    assert done.returncode == 125
    assert b"belongs to uid 65534, not to you or root" in done.stderr
