"""The verbs besides `run`, as real processes: text for people, one JSON document for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, Lines, guard, guard_env
from tests.test_probes import fake_vllm  # noqa: F401  (a fixture)

SECRET = "s3cr3t-of-mine"


def answer(*words: str, **options) -> tuple[int, dict]:
    """Exit status and the JSON document, which is all of stdout."""
    result = guard(*words, **options)
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert type(document["schema_version"]) is int
    return result.returncode, document


# ---- env


def test_env_show_lists_the_stacks_variables_with_secrets_masked() -> None:
    env = guard_env(NCCL_DEBUG="INFO", HF_TOKEN=SECRET, VLLM_X="\x1b[2J", MINE="no")
    text = guard("env", "show", env=env)
    status, document = answer("env", "show", "--json", env=env)
    values = {row["name"]: (row["value"], row["family"]) for row in document["variables"]}

    assert (text.returncode, status) == (0, 0)
    assert values["NCCL_DEBUG"] == ("INFO", "nccl")
    assert values["HF_TOKEN"] == (f"[masked] ({len(SECRET)} characters)", "huggingface")
    assert "MINE" not in values
    assert SECRET.encode() not in text.stdout
    assert b"\x1b" not in text.stdout
    assert b"NCCL_DEBUG" in text.stdout


def test_env_show_of_names_shows_these_and_all_shows_every_one() -> None:
    env = guard_env(MINE="x")

    assert answer("env", "show", "--json", "MINE", env=env)[1]["variables"] == [
        {"name": "MINE", "value": "x", "family": ""}
    ]
    assert len(answer("env", "show", "--json", "--all", env=env)[1]["variables"]) >= len(env)
    assert guard("env", "show", "NOT_SET").stdout == b"none of them is set\n"


def test_env_diff_says_what_a_profile_would_change_and_starts_nothing(tmp_path) -> None:
    words = ("env", "diff", "-p", "debug", "-e", f"HF_TOKEN={SECRET}", "--unset", "GONE")
    command = ("--", "touch", str(tmp_path / "witness"))
    env = guard_env(NCCL_DEBUG="WARN", GONE="1")

    text = guard(*words, *command, env=env)
    status, document = answer(*words, "--json", *command, env=env)

    lines = text.stdout.decode().splitlines()
    assert text.returncode == status == 0
    assert "~ NCCL_DEBUG=TRACE   (was WARN; profile debug)" in lines
    assert "+ VLLM_LOGGING_LEVEL=DEBUG   (was unset; profile debug)" in lines
    assert "- GONE   (was 1; the command line)" in lines
    assert SECRET not in text.stdout.decode() + json.dumps(document)
    changes = {change["name"]: change for change in document["changes"]}
    assert changes["NCCL_DEBUG"]["before"] == "WARN"
    assert changes["GONE"]["after"] is None
    assert not (tmp_path / "witness").exists()


def test_env_diff_says_what_it_left_out_for_want_of_a_vllm(fake_vllm) -> None:  # noqa: F811
    words = ("env", "diff", "-p", "debug", "--json")
    packages = guard_env(PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages")

    _, without = answer(*words)
    _, found = answer(*words, "--python", sys.executable, env=packages)

    assert [(f["id"], f["status"]) for f in without["findings"]] == [("vllm-not-found", "skip")]
    assert ">=0.10.2" in without["findings"][0]["fact"]
    assert (found["vllm"], found["findings"]) == ("0.20.0", [])
    added = {c["name"] for c in found["changes"]} - {c["name"] for c in without["changes"]}
    assert added == {"VLLM_LOG_STATS_INTERVAL"}


@pytest.mark.parametrize("python", ["/nonexistent", "/etc", "/bin/true"])
def test_an_interpreter_that_is_none_is_a_usage_error(python: str) -> None:
    for more in ((), ("--json",)):
        result = guard("env", "diff", "-p", "debug", "--python", python, *more)

        assert (result.returncode, result.stdout) == (2, b"")
        assert result.stderr.startswith(f"vllm-guard: error: --python: {python}".encode())


def test_env_diff_fails_in_both_forms_when_something_required_is_missing(tmp_path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[env]\nMINE = { required = "make one" }\n')

    text = guard("env", "diff", "-p", str(profile))
    status, document = answer("env", "diff", "-p", str(profile), "--json")

    assert text.returncode == status == 1
    assert text.stdout.startswith(b"no changes\nfail variable-required: MINE: ")
    assert b"  fix: make one\n" in text.stdout
    assert [f["id"] for f in document["findings"]] == ["variable-required"]
    assert guard("env", "diff", "-p", str(profile), env=guard_env(MINE="x")).returncode == 0


def test_env_diff_lists_the_flags_that_the_command_gets(fake_vllm) -> None:  # noqa: F811
    words = ("env", "diff", "-p", "eager", "-p", "dummy-weights")
    env = guard_env(
        PATH=f"{fake_vllm}/bin:{os.environ['PATH']}",
        PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages",
    )
    serve = ("--", "vllm", "serve", "m", "--load-format", "auto")

    without = guard(*words).stdout
    found = guard(*words, *serve, env=env).stdout
    _, document = answer(*words, "--json", *serve, env=env)
    script = guard(*words, "--", "true")

    assert without == b"+ --enforce-eager --load-format dummy   (arguments of vllm serve)\n"
    assert found == b"+ --enforce-eager   (arguments of vllm serve)\n"
    assert document["flags"] == ["--enforce-eager"]
    assert script.stdout.startswith(b"no changes\nwarn engine-options-not-applied: profile eager: ")
    assert script.returncode == 0


EXPORTS = {
    "json": b'{\n "NCCL_DEBUG": null,\n "A": "it\'s"\n}\n',
    "dotenv": b"# unset NCCL_DEBUG\nA='it\\'s'\n",
    "docker": b"-e A='it'\\''s'\n",
    "k8s": b'env:\n  # unset NCCL_DEBUG\n  - name: "A"\n    value: "it\'s"\n',
    "slurm": b"unset -v NCCL_DEBUG\nexport A='it'\\''s'\n",
    "bash": b"unset -v NCCL_DEBUG\nexport A='it'\\''s'\n",
    "zsh": b"unset -v NCCL_DEBUG\nexport A='it'\\''s'\n",
    "sh": b"unset -v NCCL_DEBUG\nexport A='it'\\''s'\n",
    "powershell": b"$env:NCCL_DEBUG = $null\n$env:A = 'it''s'\n",
}


@pytest.mark.parametrize("form", EXPORTS)
def test_env_diff_exports_the_plan_and_nothing_else(form: str) -> None:
    words = ("env", "diff", "-p", "clean", "-p", "eager", "-e", "A=it's", "--shell", form)

    result = guard(*words, env=guard_env(NCCL_DEBUG="INFO"))

    assert (result.returncode, result.stdout) == (0, EXPORTS[form])
    assert b"note engine-options-apart: --enforce-eager: " in result.stderr


def test_an_export_holds_also_what_is_so_here_already() -> None:
    words = ("env", "diff", "-p", "debug", "-p", "single-process")

    here = guard(*words, "--shell", "json", env=guard_env(NCCL_DEBUG="TRACE", OTHER="x"))

    assert json.loads(here.stdout) == {
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "CUDA_LAUNCH_BLOCKING": "1",
        "NCCL_DEBUG": "TRACE",
        "PYTHONFAULTHANDLER": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }


def test_an_export_with_a_failure_is_none(tmp_path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[env]\nMINE = { required = "make one" }\n')

    missing = guard("env", "diff", "-p", str(profile), "-e", "A=1", "--shell", "json")
    bytes_ = guard("env", "diff", "-e", "A=\udcff", "--shell", "k8s")
    both = guard("env", "diff", "-p", "debug", "--json", "--shell", "json")

    assert (missing.returncode, missing.stdout) == (1, b"")
    assert b"fail variable-required: MINE: " in missing.stderr
    assert (bytes_.returncode, bytes_.stdout) == (2, b"")
    assert b"error: k8s cannot hold the value of A: it is not text" in bytes_.stderr
    assert (both.returncode, both.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "debgu"], "did you mean debug?"),
        (["-e", "A"], "A=VALUE"),
        (["-e", "=x"], "not a variable name"),
        (["--unset", "A=B"], "not a variable name"),
        (["-e", "VGUARD_RUN_ID=x"], "vllm-guard's own"),
        (["--no-such"], "env diff --help"),
    ],
)
def test_a_mistaken_env_diff_is_status_2_with_a_hint(words: list[str], said: str) -> None:
    result = guard("env", "diff", "--json", *words)

    assert (result.returncode, result.stdout) == (2, b"")
    assert said in result.stderr.decode()
    assert result.stderr.count(b"\n") <= 2


def test_the_words_of_the_command_are_not_env_diffs_own() -> None:
    status, document = answer("env", "diff", "--json", "vllm", "serve", "m", "--json", "-p", "x")

    assert (status, document["changes"]) == (0, [])


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    env = {**os.environb, b"VLLM_ODD": b"a\xff\n", b"PYTHONPATH": os.fsencode(ROOT)}
    text = subprocess.run([*GUARD, "env", "show"], env=env, capture_output=True, check=True)
    status, document = answer("env", "show", "--json", "VLLM_ODD", env=env)

    assert b"a\\udcff\\n" in text.stdout
    assert (status, document["variables"][0]["value"]) == (0, "a\udcff\n")


# ---- profile


def test_profile_list_names_each_profile_once_and_where_it_is_from(tmp_path) -> None:
    own = Path(os.environ["HOME"], ".config/vllm-guard/profiles")
    own.mkdir(parents=True)
    (own / "debug.toml").write_text('schema = 1\nsummary = "mine"\n')
    (own / "bad.toml").write_text("schema = 2\n")

    text = guard("profile", "list").stdout.decode().splitlines()
    status, document = answer("profile", "list", "--json")

    rows = [(row["name"], row["origin"], row["shadowed"]) for row in document["profiles"]]
    assert status == 0
    assert rows == sorted(rows)
    assert ("debug", "builtin", True) in rows
    assert ("debug", "user", False) in rows
    assert any(line.split()[:3] == ["debug", "builtin", "(hidden)"] for line in text)
    assert any(line.split() == ["debug", "user", "mine"] for line in text)
    assert any(line.startswith("bad ") and "cannot be used" in line for line in text)
    assert len(text) == 1 + len(rows)


def test_profile_show_says_each_change_and_its_reason() -> None:
    text = guard("profile", "show", "p2p-off").stdout.decode()
    _, document = answer("profile", "show", "p2p-off", "--json")

    assert "  NCCL_P2P_DISABLE=1   # NCCL copies through host memory" in text
    assert "  [engine] disable_custom_all_reduce = True" in text
    assert "when vLLM >=0.10.2:" in text
    assert document["profile"]["name"] == "p2p-off"
    assert len(document["profile"]["digest"]) == 64
    assert b"  [remove] every debugging variable" in guard("profile", "show", "clean").stdout


def test_profile_check_fails_on_a_bad_file_and_says_so_in_both_forms(tmp_path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("schema = 1\n")
    good = tmp_path / "good.toml"
    good.write_text('schema = 1\nsummary = "s"\n[env]\nA = "1"\n')

    text = guard("profile", "check", str(bad), str(good))
    status, document = answer("profile", "check", "--json", str(bad), str(good))

    assert text.returncode == status == 1
    assert b"fail profile-invalid: " in text.stdout
    assert b"ok profile-valid: good: 1 setting" in text.stdout
    by_id = {finding["id"]: finding["status"] for finding in document["findings"]}
    assert by_id["profile-invalid"] == "fail"
    assert by_id["profile-valid"] == "ok"


def test_profile_check_of_an_unknown_name_is_a_usage_error() -> None:
    result = guard("profile", "check", "debgu")

    assert result.returncode == 2
    assert b"did you mean debug?" in result.stderr


def test_strict_makes_warnings_count(fake_vllm, tmp_path) -> None:  # noqa: F811
    profile = tmp_path / "new.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[env]\nVLLM_NO_SUCH = "1"\n')
    env = guard_env(
        PATH=f"{fake_vllm}/bin:{os.environ['PATH']}",
        PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages",
    )

    lax = guard("profile", "check", str(profile), env=env)
    strict = guard("profile", "check", "--strict", str(profile), env=env)

    assert (lax.returncode, strict.returncode) == (0, 1)
    assert b"warn variable-unknown" in lax.stdout
    assert b"against vLLM 0.20.0" in lax.stdout


def test_an_interpreter_named_with_python_is_used(fake_vllm) -> None:  # noqa: F811
    env = guard_env(PYTHONPATH=f"{ROOT}:{fake_vllm}/lib/vllm-packages", PATH="/usr/bin:/bin")

    status, document = answer(
        "profile", "check", "nccl", "--json", "--python", sys.executable, env=env
    )

    assert (status, document["vllm"]) == (0, "0.20.0")


# ---- the group


def test_a_verb_that_could_not_run_says_nothing_on_stdout() -> None:
    for words in (["profile", "show", "debgu"], ["profile", "check", "x"], ["env", "diff", "-px"]):
        for more in ([], ["--json"]):
            result = guard(*words[:2], *more, *words[2:])
            assert (result.returncode, result.stdout) == (2, b"")
            assert result.stderr.startswith(b"vllm-guard: error: no such profile: ")


def test_help_and_version_are_on_stdout() -> None:
    shown = guard("--help")

    assert shown.returncode == 0
    assert b"Usage: vllm-guard" in shown.stdout
    assert shown.stderr == b""
    assert guard("-h").stdout == shown.stdout
    for verb in ("run", "env", "profile", "completion"):
        assert verb.encode() in shown.stdout
        assert guard(verb, "--help").returncode == 0


def test_an_unknown_verb_is_a_usage_error_with_the_nearest_one() -> None:
    result = guard("profil", "list")

    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        b"vllm-guard: error: no such command: profil",
        b"vllm-guard: hint: did you mean profile?",
    ]
    assert b"put `--` before it" in guard("true").stderr


VERBS = (
    ["profile", "list"],
    ["profile", "show", "clean"],
    ["profile", "check"],
    ["env", "show", "--all", "--json"],
    ["env", "diff", "-p", "debug"],
    ["env", "diff", "-e", "BIG=x", "--shell", "sh"],
    ["env", "activate", "-e", "BIG=x"],
    ["completion", "bash"],
    ["--help"],
    ["--version"],
)


@pytest.mark.parametrize("reader", ["true", "head -1", "head -c1"])
def test_a_reader_that_leaves_is_no_failure(reader: str) -> None:
    for verb in VERBS:
        result = subprocess.run(
            ["bash", "-c", f'set -o pipefail; "$@" | {reader}', "bash", *GUARD, *verb],
            env=guard_env(BIG="x" * 100_000),
            capture_output=True,
            check=False,
        )

        assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("reader", ["true", "head -1"])
@pytest.mark.parametrize(
    "verb",
    [
        ["doctor", "--", "no-such-program"],
        ["doctor", "--json", "--", "no-such-program"],
        ["profile", "check", "/no/such.toml"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_verdict_outlives_its_reader(verb: list[str], reader: str) -> None:
    whole = guard(*verb)
    piped = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" | {reader}', "bash", *GUARD, *verb],
        env=guard_env(),
        capture_output=True,
        check=False,
    )

    assert piped.returncode == whole.returncode != 0


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_an_answer_that_cannot_be_written_is_a_failure_in_one_line(verb: list[str]) -> None:
    for to, why in ((">&-", b"closed"), (">/dev/full", b"No space left on device")):
        result = subprocess.run(
            ["sh", "-c", f'"$@" {to}', "sh", *GUARD, *verb],
            env=guard_env(),
            capture_output=True,
            check=False,
        )

        assert result.returncode == 125
        assert result.stderr.startswith(b"vllm-guard: error: stdout")
        assert why in result.stderr
        assert result.stderr.count(b"\n") == 1


COLOURS: list[tuple[dict[str, str], bool, bool]] = [  # with these, on a terminal, elsewhere
    ({}, True, False),
    ({"NO_COLOR": "1"}, False, False),
    ({"NO_COLOR": ""}, True, False),
    ({"TERM": "dumb"}, False, False),
    ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ({"FORCE_COLOR": "1"}, True, True),
    ({"FORCE_COLOR": "0"}, True, False),
    ({"CLICOLOR_FORCE": "1"}, True, True),
    ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
]


@pytest.mark.parametrize(("env", "on_terminal", "elsewhere"), COLOURS)
def test_colours_follow_the_conventions(env, on_terminal: bool, elsewhere: bool) -> None:
    env = guard_env(**{"TERM": "xterm-256color", **env})
    for verb in (["profile", "check", "debug"], ["profile", "list"]):
        assert (b"\x1b[" in on_a_terminal(*verb, env=env)) is on_terminal
        assert (b"\x1b[" in guard(*verb, env=env).stdout) is elsewhere
    assert b"\x1b[" not in on_a_terminal("env", "show", "--json", env=env)


def on_a_terminal(*words: str, env: dict[str, str]) -> bytes:
    """What a verb writes on a terminal of its own."""
    master, slave = os.openpty()
    with subprocess.Popen([*GUARD, *words], env=env, stdin=-3, stdout=slave, stderr=slave) as verb:
        os.close(slave)
        lines = Lines(master)
        with pytest.raises(AssertionError, match="the stream ended"):
            lines.until(b"never written")
        assert verb.wait(PATIENCE) == 0
    os.close(master)
    return lines.seen


def test_a_narrow_terminal_folds_long_rows_and_a_pipe_does_not() -> None:
    env = guard_env(COLUMNS="40", TERM="dumb")

    narrow = on_a_terminal("profile", "list", env=env).decode().splitlines()
    piped = guard("profile", "list", env=env).stdout.decode().splitlines()

    assert max(map(len, narrow)) <= 40
    assert len(piped) == 1 + len(answer("profile", "list", "--json")[1]["profiles"])


@pytest.mark.parametrize("encoding", ["latin-1", "koi8-r", "cp1252"])
def test_a_terminal_that_is_not_utf8_gets_escapes_and_no_crash(encoding: str, tmp_path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('schema = 1\nsummary = "\u2603"\n')
    env = guard_env(PYTHONIOENCODING=encoding, MINE="\u2603")
    for verb in (["profile", "show", str(profile)], ["env", "show", "MINE"]):
        result = guard(*verb, env=env)

        assert (result.returncode, result.stderr) == (0, b"")
        assert b"\\u2603" in result.stdout


@pytest.mark.parametrize("verb", ["env", "profile", "runs"])
def test_a_verb_without_its_second_word_shows_its_help_on_stderr(verb: str) -> None:
    result = guard(verb)

    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.startswith(f"Usage: vllm-guard {verb} ".encode())
    assert b"\nCommands:\n" in result.stderr


def test_a_missing_word_is_an_error_in_one_line() -> None:
    result = guard("completion")

    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        (
            b"vllm-guard: error: Missing argument '{bash|zsh|fish|powershell}'. "
            b"Choose from: bash, zsh, fish, powershell"
        ),
        b"vllm-guard: hint: see vllm-guard completion --help",
    ]


def test_an_unknown_shell_is_a_usage_error() -> None:
    result = guard("completion", "tcsh")

    assert (result.returncode, result.stdout) == (2, b"")
    assert b"'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.stderr


def test_nothing_is_left_in_the_working_folder(tmp_path: Path) -> None:
    for words in (["profile", "list"], ["env", "show"], ["env", "diff", "-p", "debug"]):
        guard(*words, cwd=tmp_path)

    assert list(tmp_path.iterdir()) == []
