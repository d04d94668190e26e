"""A repository's profiles: what runs unasked, what needs `profile allow`, and what that is bound to."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT, guard, guard_env
from tests.kit.repository import HEAD, clone, make, write
from vllm_guard import __version__, cache, facts, model, profiles, trust
from vllm_guard.errors import GUARD_FAILED, GuardError
from vllm_guard.model import Part, Profile, Setting

DATA = Path(__file__).parent / "data"
ROWS = facts.variables()["rows"]
ENGINE = facts.load("engine_risks")
#: What executes code, moves caches, or sends data elsewhere (the project's threat model).
DANGEROUS = (DATA / "dangerous.txt").read_text().split()
FAMILIES = ("OMPI_MCA_btl", "BASH_FUNC_ls", "TRITON_CUOBJDUMP_PATH", "TRANSFORMERS_CACHE")
NOT_EVEN_LOGS = ("TORCH_LOGS", "VLLM_LOGGING_STREAM")  #: both import what their value names
OPTIONS = {
    "trust_remote_code": "true",
    "middleware": '["evil.Middleware"]',
    "logits_processors": '["evil:Processor"]',
    "tool_parser_plugin": '"evil.py"',
    "reasoning_parser_plugin": '"evil.py"',
    "io_processor_plugin": '"evil"',
    "worker_cls": '"evil.Worker"',
    "worker_extension_cls": '"evil.Extension"',
    "scheduler_cls": '"evil.Scheduler"',
    "kv_transfer_config": '{ kv_connector_module_path = "evil" }',
    "allowed_local_media_path": '"/"',
    "enable_prompt_embeds": "true",
    "hf_token": '"x"',
    "load_format": '"pt"',
    "no_such_option": "1",
}
EVIL = HEAD + '[env]\nLD_PRELOAD = "./evil.so"\n'
SAFE = HEAD + '[env]\nNCCL_DEBUG = "INFO"\n'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a repository."""
    folder = tmp_path / "repository"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone, with a profile for each dangerous name that sets nothing else."""
    folder = tmp_path_factory.mktemp("hostile")
    names = (*DANGEROUS, *FAMILIES, *NOT_EVEN_LOGS)
    files = {f".vllm-guard/{n}.toml": HEAD + f'[env]\n{n} = "./evil"\n' for n in names}
    for name, value in OPTIONS.items():
        files[f"profiles/{name}.toml"] = HEAD + f"[engine]\n{name} = {value}\n"
    yield clone(make(folder / "theirs", files), folder / "mine")
    shutil.rmtree(folder)


def load(name: str) -> Profile:
    return profiles.load_profile(name, os.environ)


def refused(name: str, given: tuple[str, ...] = ()) -> GuardError | None:
    return trust.refusal(load(name), os.environ, given)


def reasons(env: str = "", more: str = "") -> list[str]:
    """Of a profile with this `[env]` table."""
    write(Path.cwd(), {"profiles/p.toml": HEAD + more + f"\n[env]\n{env}\n"})
    return list(trust.reasons(load("p")))


# ---- what is refused


@pytest.mark.parametrize("name", [*DANGEROUS, *FAMILIES, *NOT_EVEN_LOGS, *OPTIONS])
def test_a_fresh_clone_that_sets_it_is_refused_before_anything_runs(
    name: str, hostile: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"

    done = guard("-p", name, "--", "touch", str(marker), cwd=hostile)

    assert done.returncode == GUARD_FAILED
    path = next(str(path) for path in hostile.glob(f"*/{name}.toml"))
    first, hint = done.stderr.decode().splitlines()
    assert f"{path} is not allowed: " in first
    assert name in first.partition("not allowed")[2]
    assert hint.endswith(f"then: vllm-guard profile allow {path}")
    assert not marker.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "-p", "evil"),
        ("env", "diff", "-p", "evil"),
        ("env", "diff", "--shell", "json", "-p", "evil"),
        ("env", "activate", "--shell", "bash", "evil"),
        ("-p", "./profiles/evil.toml", "--", "true"),
        ("-p", "debug", "-p", "evil", "--exec", "--", "true"),
        ("-p", "evil", "--preflight", "off", "--ignore", "variable-value", "--", "true"),
    ],
    ids=" ".join,
)
def test_no_other_way_leads_to_it(words: tuple[str, ...], repository: Path) -> None:
    write(repository, {"profiles/evil.toml": EVIL})

    done = guard(*words, env=guard_env(CI="1", GITHUB_ACTIONS="true"))

    assert (done.returncode, done.stdout) == (GUARD_FAILED, b"")
    assert b"it sets LD_PRELOAD, which can execute code" in done.stderr


def test_a_dry_run_shows_it_and_starts_nothing_with_it(repository: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (repository / "sitecustomize.py").write_text(f"open({str(marker)!r}, 'w')\n")
    fake = repository / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {marker}\n")
    fake.chmod(0o755)
    text = HEAD + f'[env]\nPYTHONPATH = "{repository}"\nPATH = "{fake.parent}:/usr/bin:/bin"\n'
    write(repository, {"profiles/evil.toml": text})

    done = guard("-n", "-p", "evil", "--", "python", "-c", "pass")

    assert done.returncode == GUARD_FAILED
    assert f"PYTHONPATH={repository}".encode() in done.stderr
    assert b"is not allowed: it sets PYTHONPATH" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ('NCCL_DEBUG = "INFO"', []),
        ('NCCL_DEBUG = { value = "INFO", why = "x" }', []),
        ("NCCL_DEBUG = false", []),
        ('HF_TOKEN = { required = "see there" }', []),
        ('CUDA_LAUNCH_BLOCKING = "1"', ["sets CUDA_LAUNCH_BLOCKING, which changes how vLLM works"]),
        ("VLLM_NO_USAGE_STATS = false", ["unsets VLLM_NO_USAGE_STATS, which can send"]),
        ("HTTPS_PROXY = false", ["unsets HTTPS_PROXY, which can open or redirect the network"]),
        ('HF_TOKEN = "x"', ["sets HF_TOKEN, which holds or moves a token"]),
        ('NEW = { default = "1" }', ["sets NEW, which is not known"]),
        ("NEW = false", ["unsets NEW, which is not known"]),
        ('NCCL_DEBUG = "evil"', ["sets NCCL_DEBUG to 'evil'"]),
        ('VLLM_LOGGING_PREFIX = "../x"', ["sets VLLM_LOGGING_PREFIX to '../x'"]),
        ('VLLM_LOGGING_PREFIX = "a\\u001b[2J"', [r"to 'a\x1b[2J'"]),
        ('A = "1"\nB = "1"', ["A, which", "B, which"]),
    ],
)
def test_only_a_known_safe_change_needs_nobody(
    env: str, expected: list[str], repository: Path
) -> None:
    found = reasons(env)

    assert len(found) == len(expected)
    assert [want for want, got in zip(expected, found, strict=True) if want not in got] == []


def test_a_part_for_other_versions_and_a_removal_count(repository: Path) -> None:
    assert reasons(more='when = [{ vllm = ">=99", env.LD_PRELOAD = "x" }]') != []
    assert reasons(more='remove = ["debugging"]') == [
        'remove "debugging" unsets what your environment holds'
    ]


@pytest.mark.parametrize("probe", ["collective", "shared-memory"])
def test_a_probe_is_asked_about(probe: str, repository: Path) -> None:
    assert reasons(more=f'preflight = {{ probes = ["{probe}"] }}') == [
        f"it asks for the probe {probe}, which may run code of your environment"
    ]


def test_the_worst_is_named_first(repository: Path) -> None:
    quiet = "\n".join(f'MINE_{number} = "1"' for number in range(20))
    first, second, *_ = reasons(f'MAX_JOBS = "2"\n{quiet}\nHF_TOKEN = "x"\nLD_PRELOAD = "x"')
    (*_, last) = reasons('MAX_JOBS = "2"\nHF_TOKEN = "x"')

    assert (first, "MINE_0" in second, "MAX_JOBS" in last) == (
        "it sets LD_PRELOAD, which can execute code",
        True,
        True,
    )


#: Text by nature, which is printed; and what Python asks only whether it is empty.
FREE = {
    "VLLM_LOGGING_PREFIX",
    *("PYTHONUNBUFFERED", "PYTHONDEBUG", "PYTHONFAULTHANDLER"),
}


@pytest.mark.parametrize("name", sorted({n for n in ROWS if ROWS[n]["risk"] == "safe"} - FREE))
def test_a_safe_variable_takes_no_other_value_than_its_types(name: str) -> None:
    part = Part("", (Setting(name, "set", "no such value"),), (), (), doubted=True)

    assert any(trust.reasons(Profile("p", "repository", "/p", "", "", "", "", "", (part,))))


@pytest.mark.parametrize(
    "name",
    [
        *("PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONNOUSERSITE", "CUDA_COREDUMP_GENERATION_FLAGS"),
        *("RANK", "LOCAL_RANK", "WORLD_SIZE", "MAX_JOBS", "TORCH_NCCL_DUMP_ON_TIMEOUT"),
    ],
)
def test_what_changes_more_than_what_is_printed_is_asked_about(name: str) -> None:
    assert ROWS[name]["risk"] != "safe"


@given(st.sampled_from(sorted(ROWS)), st.text(), st.sampled_from(["set", "default", "unset"]))
def test_no_value_makes_a_variable_safe(name: str, value: str, kind: Any) -> None:
    part = Part("", (Setting(name, kind, value),), (), (), doubted=True)
    profile = Profile("p", "repository", "/p", "", "", "", "", "", (part,))

    assert ROWS[name]["risk"] == "safe" or any(trust.reasons(profile))


# ---- what runs


def test_a_safe_profile_runs_unasked_and_says_what_it_changes(repository: Path) -> None:
    write(repository, {".vllm-guard/team.toml": SAFE + "[engine]\nmax_model_len = 4096\n"})

    done = guard("-q", "-p", "team", "--", "sh", "-c", 'printf %s "$NCCL_DEBUG"')

    assert (done.returncode, done.stdout) == (0, b"INFO")
    place = repository / ".vllm-guard/team.toml"
    assert (
        f"profile team ({place}), this run only: NCCL_DEBUG=INFO, max_model_len=4096".encode()
        in done.stderr
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "profiles").glob("*.toml")))
def test_a_copy_of_a_built_in_profile_is_as_good_as_it(name: str, repository: Path) -> None:
    text = (ROOT / f"profiles/{name}.toml").read_text()
    write(repository, {f".vllm-guard/{name}.toml": text})

    assert load(name).origin == "repository"
    assert refused(name) is None


def test_what_a_built_in_profile_sets_may_be_built_upon(repository: Path) -> None:
    write(repository, {"profiles/more.toml": HEAD + 'extends = ["debug"]\n'})

    assert refused("more") is None


def test_what_a_repository_makes_of_a_users_profile_is_asked_about(repository: Path) -> None:
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles/mirror.toml")
    write(own.parent, {own.name: HEAD + '[env]\nHF_ENDPOINT = "https://mirror.example"\n'})
    write(repository, {"profiles/team.toml": HEAD + 'extends = ["mirror"]\n'})

    assert refused("mirror") is None
    assert "HF_ENDPOINT" in getattr(refused("team"), "message", "")


def test_not_even_by_way_of_a_built_in_one(repository: Path) -> None:
    """The user's own `debug` is what the built-in `trace` extends."""
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles/debug.toml")
    write(own.parent, {own.name: EVIL})
    write(repository, {"profiles/team.toml": HEAD + 'extends = ["trace"]\n'})

    assert refused("trace") is None
    assert "LD_PRELOAD" in getattr(refused("team"), "message", "")


def test_a_built_in_profile_never_extends_a_repositorys(repository: Path) -> None:
    write(repository, {"profiles/debug.toml": EVIL})

    assert "LD_PRELOAD" in getattr(refused("debug"), "message", "")
    assert refused("trace") is None
    assert {source.origin for source in load("trace").sources} == {"builtin"}


# ---- what a decision is bound to


def test_allowed_then_edited_then_put_back(repository: Path) -> None:
    path = repository / "profiles/evil.toml"
    write(repository, {"profiles/evil.toml": EVIL})
    trust.allow(load("evil"), os.environ)
    assert refused("evil") is None
    assert refused("./profiles/evil.toml") is None

    path.write_text(EVIL + "#")
    assert refused("evil") is not None

    path.write_text(EVIL)
    assert refused("evil") is None


def test_a_copy_or_a_move_is_another_profile(repository: Path) -> None:
    write(repository, {"profiles/evil.toml": EVIL})
    trust.allow(load("evil"), os.environ)
    for other in ("profiles/evil2.toml", "profiles-evil/evil.toml", "profiles/EVIL.toml"):
        write(repository, {other: EVIL})
        assert refused(f"./{other}") is not None

    assert refused("./profiles/../profiles/evil.toml") is None


def test_what_it_extends_is_part_of_it(repository: Path) -> None:
    write(repository, {"profiles/a.toml": HEAD + 'extends = ["b"]\n', "profiles/b.toml": EVIL})
    trust.allow(load("a"), os.environ)
    assert refused("a") is None
    assert refused("b") is not None, "only as what a extends"

    write(repository, {"profiles/b.toml": EVIL + 'NEW = "1"\n'})
    assert refused("a") is not None


def test_what_comes_to_hide_a_base_is_part_of_it(repository: Path) -> None:
    """`extends = ["nccl"]` means another file as soon as the repository has one of that name."""
    write(repository, {"profiles/a.toml": EVIL.replace("[env]", 'extends = ["nccl"]\n[env]')})
    trust.allow(load("a"), os.environ)
    assert refused("a") is None

    write(repository, {"profiles/nccl.toml": HEAD + '[env]\nPATH = "x"\n'})
    assert refused("a") is not None


def test_denied_wins_and_outlives_an_edit(repository: Path) -> None:
    write(
        repository, {"profiles/safe.toml": SAFE, "profiles/up.toml": 'extends = ["safe"]\n' + SAFE}
    )
    given = (trust.PREFIX + trust.key(load("safe")),)
    trust.allow(load("safe"), os.environ)
    trust.deny("profiles/safe.toml", os.environ)

    for text in (SAFE, SAFE + "#"):
        write(repository, {"profiles/safe.toml": text})
        assert getattr(refused("safe", given), "message", "").endswith("is denied")
    base = repository / "profiles/safe.toml"
    assert getattr(refused("up"), "hint", "").endswith(f"vllm-guard profile allow {base}")

    trust.allow(load("safe"), os.environ)
    assert refused("safe") is None


def test_a_digest_on_the_command_line_lets_exactly_that_profile_run(repository: Path) -> None:
    write(repository, {"profiles/evil.toml": EVIL.replace("LD_PRELOAD", "MINE")})
    shown = json.loads(guard("profile", "show", "--json", "evil").stdout)
    digest = shown["trust"]["digest"]
    launch = ("-p", "evil", "--", "sh", "-c", 'printf %s "$MINE"')

    done = guard("--trust", digest, *launch)
    other = guard("--trust", digest[:-1] + ("0" if digest[-1] != "0" else "1"), *launch)

    assert shown["trust"]["state"] == "blocked"
    assert (done.returncode, done.stdout) == (0, b"./evil.so")
    assert (other.returncode, other.stdout) == (GUARD_FAILED, b"")


@pytest.mark.parametrize(
    "word", ["x", "sha256:", "sha256:" + "g" * 64, "0" * 64, "SHA256:" + "0" * 64]
)
def test_what_is_no_digest_is_a_usage_error(word: str) -> None:
    done = guard("--trust", word, "--", "true")

    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is not sha256: and 64 hexadecimal digits" in done.stderr


# ---- the commands


def test_allow_shows_what_it_allows_and_deny_undoes_it(repository: Path) -> None:
    write(repository, {"profiles/p q.toml": EVIL})

    allowed = guard("profile", "allow", "p q")
    run = guard("-p", "p q", "--preflight", "off", "--", "true")
    denied = guard("profile", "deny", "p q")
    blocked = guard("-p", "p q", "--", "true")

    assert allowed.returncode == 0
    lines = allowed.stdout.decode().splitlines()
    assert lines[1] == "  LD_PRELOAD=./evil.so   # it sets LD_PRELOAD, which can execute code"
    assert "  LD_PRELOAD=./evil.so" in lines
    assert run.returncode == 0
    assert denied.returncode == 0
    assert blocked.returncode == GUARD_FAILED
    place = repository / "profiles/p q.toml"
    assert f"vllm-guard profile allow '{place}'".encode() in blocked.stderr


def test_there_is_nothing_to_allow_and_nothing_to_deny_in_what_is_the_users_own(tmp_path) -> None:
    (tmp_path / "x.toml").write_text(EVIL)
    path = str(tmp_path / "x.toml")

    allowed, denied = guard("profile", "allow", path), guard("profile", "deny", "debug")

    assert (allowed.returncode, b"nothing to allow" in allowed.stdout) == (0, True)
    assert (denied.returncode, b"no repository's profile" in denied.stderr) == (2, True)
    assert not Path(os.environ["HOME"], ".local/state/vllm-guard/trust").exists()


def test_decisions_are_private_whatever_the_umask(repository: Path) -> None:
    write(repository, {"profiles/evil.toml": EVIL})
    old = os.umask(0)
    try:
        trust.allow(load("evil"), os.environ)
    finally:
        os.umask(old)
    folder = Path(os.environ["HOME"], ".local/state/vllm-guard/trust")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]


def test_a_decision_that_is_no_own_file_does_not_count(repository: Path, tmp_path: Path) -> None:
    write(repository, {"profiles/evil.toml": EVIL})
    trust.allow(load("evil"), os.environ)
    (file,) = Path(os.environ["HOME"], ".local/state/vllm-guard/trust").iterdir()
    kept = file.read_bytes()

    file.chmod(0o666)
    assert refused("evil") is not None

    file.unlink()
    (tmp_path / "elsewhere").write_bytes(kept)
    file.symlink_to(tmp_path / "elsewhere")
    assert refused("evil") is not None


# ---- nothing in a repository or in the environment grants trust


@pytest.mark.parametrize(
    "line", ["trust = true", "allow = true", "[guard]\ntrust = true", "[trust]"]
)
def test_a_profile_that_calls_itself_trusted_is_refused(line: str, repository: Path) -> None:
    write(repository, {"profiles/evil.toml": HEAD + line + "\n"})

    done = guard("-p", "evil", "--", "true")

    assert (done.returncode, b"unknown key" in done.stderr) == (GUARD_FAILED, True)


@pytest.mark.parametrize("name", ["XDG_STATE_HOME", "HOME"])
def test_decisions_that_came_with_a_clone_are_not_believed(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, {"profiles/evil.toml": EVIL})
    trust.allow(load("evil"), os.environ)
    planted = repository / ("state" if name == "XDG_STATE_HOME" else "home/.local/state")
    shutil.copytree(Path(os.environ["HOME"], ".local/state/vllm-guard"), planted / "vllm-guard")
    monkeypatch.setenv(name, str(repository / ("state" if name == "XDG_STATE_HOME" else "home")))

    assert refused("evil") is not None
    with pytest.raises(GuardError, match="no decision is kept there"):
        trust.allow(load("evil"), os.environ)


@pytest.mark.parametrize("name", ["XDG_STATE_HOME", "HOME"])
@pytest.mark.parametrize("below", ["", "sub"])
def test_decisions_that_came_with_an_archive_are_not_believed(
    name: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no `.git`: the folder it was unpacked in, and those below it."""
    archive = tmp_path / "archive"
    write(archive, {"profiles/evil.toml": EVIL, "sub/x": ""})
    monkeypatch.chdir(archive / below)
    trust.allow(load("evil"), os.environ)
    assert refused("evil") is None
    planted = archive / ("state" if name == "XDG_STATE_HOME" else "home/.local/state")
    shutil.copytree(Path(os.environ["HOME"], ".local/state/vllm-guard"), planted / "vllm-guard")
    monkeypatch.setenv(name, str(archive / planted.relative_to(archive).parts[0]))

    assert refused("evil") is not None
    with pytest.raises(GuardError, match="no decision is kept there") as caught:
        trust.allow(load("evil"), os.environ)
    assert caught.value.hint.startswith(f"{name} put it there")


def test_a_users_folder_below_this_one_is_not_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"conf/vllm-guard/profiles/debug.toml": EVIL})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "conf"))
    assert refused("debug") is None

    monkeypatch.chdir(tmp_path)
    assert refused("debug") is not None


def test_who_works_in_a_home_that_a_variable_names_has_their_own_folders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Path(os.environ["HOME"])
    write(home, {".config/vllm-guard/profiles/debug.toml": EVIL})
    monkeypatch.chdir(home)

    assert refused("debug") is None


@pytest.mark.parametrize("name", ["XDG_CONFIG_HOME", "HOME"])
def test_a_users_folder_that_came_with_a_clone_is_the_repositorys(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = "" if name == "XDG_CONFIG_HOME" else ".config/"
    write(repository, {f"x/{below}vllm-guard/profiles/debug.toml": EVIL})
    monkeypatch.setenv(name, str(repository / "x"))

    assert refused("debug") is not None


# ---- where it is looked for


def test_the_nearest_wins_and_the_search_ends_at_the_root(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository.parent, {"profiles/outside.toml": SAFE})
    write(
        repository, {"profiles/a.toml": SAFE, ".vllm-guard/a.toml": SAFE, "profiles/b.toml": SAFE}
    )
    write(repository, {"sub/deep/x": "", "sub/profiles/b.toml": SAFE})
    monkeypatch.chdir(repository / "sub/deep")

    assert load("a").path == str(repository / ".vllm-guard/a.toml")
    assert load("b").path == str(repository / "sub/profiles/b.toml")
    with pytest.raises(GuardError, match="no such profile"):
        load("outside")


def test_the_search_ends_before_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["HOME"])
    write(home, {"profiles/a.toml": SAFE, "sub/x": ""})
    monkeypatch.chdir(home / "sub")

    with pytest.raises(GuardError, match="no such profile"):
        load("a")


def test_a_file_is_judged_by_where_it_lies(repository: Path, tmp_path: Path) -> None:
    write(
        tmp_path, {"repository/any/x.toml": EVIL, "archive/profiles/x.toml": EVIL, "x.toml": EVIL}
    )

    assert refused("any/x.toml") is not None
    assert refused(str(tmp_path / "archive/profiles/x.toml")) is not None
    assert refused(str(tmp_path / "x.toml")) is None, "a file of the user's own, named by its path"


def test_a_repositorys_profile_hides_the_users_and_is_listed_so(repository: Path) -> None:
    write(repository, {"profiles/debug.toml": SAFE})
    rows = {(r.name, r.origin): r.shadowed for r in profiles.list_profiles(os.environ)}

    assert rows["debug", "repository"] is False
    assert rows["debug", "builtin"] is True


# ---- the table of engine options


def test_every_engine_option_of_the_table_is_one_of_a_release() -> None:
    known = set()
    for path in (DATA / "engine_args").glob("*.json"):
        known |= set(json.loads(path.read_text()))
    table = tomli.loads((ROOT / "vllm_guard/data/engine_risks.toml").read_text())

    assert set(table) == {"plain", "words"}
    assert (set(table["plain"]) | set(table["words"])) - known == set()
    assert set(table["plain"]) & set(table["words"]) == set()
    assert table["plain"] == sorted(table["plain"])


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_that_can_execute_code_is_in_it(name: str) -> None:
    assert name not in ENGINE["plain"]
    assert name == "load_format" or name not in ENGINE["words"]


def test_the_nouns_say_who_has_a_say() -> None:
    own = model.Source("/a", "0", "path")
    theirs = model.Source("/b", "0", "repository")
    profile = Profile("p", "path", "/a", "0", "", "", "", "", (), (own,))

    assert not profile.is_doubted
    assert model.Profile(**{**profile.__dict__, "sources": (theirs, own)}).is_doubted


def test_a_cache_that_came_with_a_clone_is_not_believed(tmp_path, monkeypatch) -> None:
    """A repository that ships what the guard "has parsed already", and is where XDG_CACHE_HOME points."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    planted = cache._entry_path("rows")
    cache._write(planted, ((__version__, "key"), "planted"))

    assert cache.remember("rows", "key", lambda: "computed") == "computed"
    assert cache._read(planted)[1] == "planted", "it is not written either"


def test_a_file_that_a_repository_links_to_is_the_repositorys(tmp_path) -> None:
    elsewhere, repository = tmp_path / "elsewhere", tmp_path / "clone"
    elsewhere.mkdir()
    (repository / ".git").mkdir(parents=True)
    (elsewhere / "x.toml").write_text('schema = 1\nsummary = "x"\n[env]\nBASH_ENV = "/e"\n')
    (repository / "conf").symlink_to(elsewhere)

    refused = guard("-p", "conf/x.toml", "--", "true", cwd=repository)
    taken = guard("-p", f"{elsewhere}/x.toml", "--", "true", cwd=repository)

    assert refused.returncode == GUARD_FAILED
    assert b"conf is a symbolic link" in refused.stderr
    assert taken.returncode == 0
