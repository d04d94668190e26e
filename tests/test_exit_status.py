"""The exit-status contract (design, section 2), with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.kit import GUARD, PATIENCE, Lines, guard, guard_env, program, start

CATCHABLE = [
    number
    for number in range(1, 32)
    if signal.Signals(number).name
    not in ("SIGSTOP", "SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU")
]


def test_every_status_of_the_command_is_returned_verbatim() -> None:
    found = [guard("--", "sh", "-c", f"exit {code}").returncode for code in range(256)]

    assert found == list(range(256))


@pytest.mark.parametrize("number", CATCHABLE)
def test_death_by_a_signal_is_128_plus_its_number(number: int) -> None:
    result = guard("--", "sh", "-c", f"ulimit -c 0; kill -{number} $$")

    # SIGINT is not reported but died of, so that scripts stop: the shell shows 130.
    assert result.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_a_core_dump_is_told(tmp_path: object) -> None:
    result = guard("-v", "--", "sh", "-c", "ulimit -c 0; kill -ABRT $$", cwd=tmp_path)

    assert result.returncode == 128 + signal.SIGABRT
    assert b"killed by signal 6" in result.stderr


def test_a_missing_command_is_127_and_names_the_searched_path() -> None:
    result = guard("--", "no-such-command", env=guard_env(PATH="/nowhere:/bin"))

    assert result.returncode == 127
    assert b"command not found: no-such-command on PATH: /nowhere:/bin" in result.stderr


def test_the_path_of_the_planned_environment_is_searched(tmp_path) -> None:
    tool = tmp_path / "only-here"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)

    assert guard("-e", f"PATH={tmp_path}:/bin", "--", "only-here").returncode == 9


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda p: p.mkdir(), 126, b"is a directory"),
        (lambda p: p.write_text("#!/bin/sh\n"), 126, b"is not executable"),
        (lambda p: (p.write_text("#!/no/such/interp\n"), p.chmod(0o755)), 127, b"/no/such/interp"),
        (lambda p: (p.write_text("echo no shebang\n"), p.chmod(0o755)), 126, b"not a program"),
        (lambda p: (p.write_bytes(b"\x7fELF"), p.chmod(0o755)), 126, b"not a program"),
    ],
)
def test_what_cannot_be_executed(make, status, words, tmp_path) -> None:
    path = tmp_path / "thing"
    make(path)

    result = guard("--", str(path))

    assert result.returncode == status
    assert words in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_deadline_is_124_and_says_so() -> None:
    result = guard("--deadline", "0.3", "--", "sleep", "60")

    assert result.returncode == 124
    assert b"deadline of 0.3 s" in result.stderr


def test_a_command_that_exits_124_is_not_called_a_deadline(tmp_path) -> None:
    record = tmp_path / "run.json"

    result = guard("--json", str(record), "--", "sh", "-c", "exit 124")

    assert result.returncode == 124
    assert '"kind": "exited"' in record.read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["--"],
        ["run"],
        ["-p"],
        ["--no-such-option", "--", "true"],
        ["--deadline", "soon", "--", "true"],
        ["-e", "NOVALUE", "--", "true"],
        ["nonsense"],
        ["-q", "true"],
        [],
    ],
)
def test_usage_errors_are_2(words: list[str]) -> None:
    result = guard(*words)

    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stdout == b""


def test_a_failing_check_is_78_and_ignore_starts_it_all_the_same(tmp_path) -> None:
    profile = tmp_path / "needs.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[env]\nNEEDED = { required = "set it" }\n')
    words = ["-p", str(profile), "--", "true"]

    refused = guard(*words)
    ignored = guard("--ignore", "variable-required", *words)

    assert refused.returncode == 78
    assert b"fail variable-required: NEEDED" in refused.stderr
    assert b"--ignore variable-required" in refused.stderr
    assert ignored.returncode == 0
    assert b"warn variable-required: NEEDED" in ignored.stderr


def test_a_broken_profile_is_125(tmp_path) -> None:
    profile = tmp_path / "broken.toml"
    profile.write_text("schema = 1\n[env\n")

    assert guard("-p", str(profile), "--", "true").returncode == 125


#: Where memory ends first depends on the machine: a launch that asks for too much at once stands for all.
ASKS = "from vllm_guard import cli, options; options.parse_launch = lambda _: {}; cli.main()"


@pytest.mark.parametrize(
    "what", ["bytearray(1 << 62)", "__import__('mmap').mmap(-1, 1 << 62)"], ids=["Python", "kernel"]
)
def test_no_memory_is_125_in_one_line(what: str, tmp_path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ASKS.format(what)],
        env=guard_env(HOME=str(tmp_path)),
        capture_output=True,
        check=False,
    )

    told = b"vllm-guard: error: no memory is left for vllm-guard: see ulimit -v, free -h\n"
    assert (ran.returncode, ran.stderr) == (125, told)
    assert not list(tmp_path.rglob("crash.txt"))


def test_words_after_the_command_are_the_commands() -> None:
    result = guard("--", "printf", "%s\n", "--profile", "-n", "--", "--help")

    assert result.stdout == b"--profile\n-n\n--\n--help\n"


def test_sigint_to_the_group_stops_a_bash_script_that_calls_the_guard() -> None:
    script = f'"{sys.executable}" -m vllm_guard -- "$@"; echo went on'
    shell = subprocess.Popen(
        ["bash", "-c", script, "bash", *program("report_signals_default")],
        env=guard_env(),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert shell.stdout is not None
    lines = Lines(shell.stdout.fileno())
    lines.until(b"ready")

    os.killpg(shell.pid, signal.SIGINT)
    rest, _ = shell.communicate(timeout=PATIENCE)

    assert shell.returncode == -signal.SIGINT
    assert b"went on" not in lines.seen + rest


def test_exec_replaces_the_process() -> None:
    process = start("--exec", "--", "sh", "-c", "echo $$; exit 3")
    out, _ = process.communicate(timeout=PATIENCE)

    assert int(out) == process.pid
    assert process.returncode == 3


def test_dry_run_starts_nothing_and_prints_the_exact_command(tmp_path) -> None:
    witness = tmp_path / "started"

    result = guard("-n", "-e", "A=b c", "--", "touch", str(witness), "it's")

    assert result.returncode == 0
    assert not witness.exists()
    assert b"A=b c" in result.stderr
    assert b"touch" in result.stderr
    assert result.stdout == b""


def test_a_dry_run_without_a_vllm_shows_the_plan_and_says_what_is_missing() -> None:
    env = guard_env(PATH="/usr/bin:/bin")

    result = guard("-n", "-p", "debug", "--", "vllm", "serve", "m", env=env)

    told = result.stderr.decode()
    assert (result.returncode, result.stdout) == (127, b"")
    assert "  VLLM_LOGGING_LEVEL=DEBUG   (was unset; profile debug;" in told
    assert "executes nothing:\nvllm-guard:   vllm serve m\n" in told
    assert "error: command not found: vllm on PATH: /usr/bin:/bin\n" in told


def test_the_module_and_the_guard_agree() -> None:
    assert GUARD[1:] == ("-m", "vllm_guard")
    assert guard("--version").stdout.startswith(b"vllm-guard, version ")
