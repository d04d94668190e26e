"""What dumb-init's and tini's own suites ask of a supervisor, where no other test of ours does.

docs/reliability.md lists all of their cases, each with the test that shows it or the reason why it differs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.kit import (
    GUARD,
    Lines,
    children,
    gone,
    guard,
    program,
    start,
    tree_of,
    wait_for,
)
from tests.test_supervision import finish
from tests.test_terminal import screen


def test_sigterm_ends_a_pipeline_of_six() -> None:
    """dumb-init 7."""
    process = start("--", "sh", "-c", " | ".join(["sleep 65"] * 6))
    wait_for(lambda: len(list(tree_of(process.pid))) == 8, "keeper, shell and six")
    everybody = list(tree_of(process.pid))
    process.terminate()
    finish(process)

    gone(everybody)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_sibling_that_outlives_the_command_gets_sigterm(tmp_path: Path) -> None:
    """dumb-init 9."""
    told, ready = tmp_path / "told", tmp_path / "ready"
    sibling = f"trap 'echo 15 > {told}; exit' TERM; : > {ready}; while :; do sleep 0.1; done"
    script = f'sh -c "{sibling}" & until [ -e {ready} ]; do sleep 0.01; done; exit 4'

    assert guard("--", "sh", "-c", script).returncode == 4
    assert told.read_text() == "15\n"


def test_a_filter_under_a_terminal_reads_it_to_its_end() -> None:
    """dumb-init 14."""
    with screen(*GUARD, "--", "tac") as shown:
        wait_for(lambda: _waits_for_input(shown.pid), "tac reads")
        shown.type("one\ntwo\n\x04")
        assert shown.ended() == 0

    assert shown.lines.seen.endswith(b"two\r\none\r\n")


def _waits_for_input(guard_pid: int) -> bool:
    names = (Path(f"/proc/{pid}/comm").read_text().strip() for pid in tree_of(guard_pid))
    return "tac" in names


def test_a_shell_has_job_control_where_it_has_the_terminal_itself() -> None:
    """dumb-init 15. bash asks its stderr, which without --no-watch is a pty that controls no session."""
    with screen(*GUARD, "--no-watch", "--", "bash", "-mc", "echo flags $-") as shown:
        flags = shown.until("\n")
        assert shown.ended() == 0

    assert "m" in flags.partition("flags ")[2]


def test_the_keeper_holds_no_folder_busy_and_the_command_is_where_the_caller_is(tmp_path) -> None:
    """dumb-init 17."""
    process = start("--", "sh", "-c", "pwd; read wait", cwd=tmp_path, stdin=-1)
    assert process.stdout is not None
    shown = Lines(process.stdout.fileno()).until(b"\n")
    (keeper,) = children(process.pid)
    wait_for(lambda: os.readlink(f"/proc/{keeper}/cwd") == "/", "the keeper leaves the folder")
    finish(process)

    assert shown.strip() == os.fsencode(tmp_path)


def with_a_grandchild(number: int) -> bytes:
    """What a shell that handles the signal, and its child, which does not, say of it."""
    name = signal.Signals(number).name.removeprefix("SIG")
    code = (
        f"import signal\nsignal.signal({number}, signal.SIG_DFL)\n"
        "print('ready', flush=True)\nprint(input())"
    )
    script = f"echo $$; trap 'echo shell' {name}; \"$@\" ; echo grandchild $?"
    words = ["sh", "-c", script, "sh", *program("x")[:2], "-c", code]
    process = start("--", *words, stdin=subprocess.PIPE)
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    shell = int(lines.until(b"\n").splitlines()[0])
    lines.until(b"ready\n")
    wait_for(lambda: _status(shell)["State"].startswith("S"), "the shell waits")
    slept = _status(shell)["voluntary_ctxt_switches"]
    process.send_signal(number)
    if number == signal.SIGUSR1:
        wait_for(lambda: _status(shell)["voluntary_ctxt_switches"] != slept, "the signal woke it")
        assert process.stdin is not None
        process.stdin.write(b"lived\n")
        process.stdin.flush()
    said = lines.rest().partition(b"ready\n")[2]
    finish(process)
    assert process.returncode == 0
    return said


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_what_a_service_manager_sends_reaches_the_grandchild() -> None:
    """tini 5: the whole process group gets it."""
    assert with_a_grandchild(signal.SIGHUP) == b"shell\ngrandchild %d\n" % (128 + signal.SIGHUP)


def test_what_is_between_two_processes_reaches_the_command_only() -> None:
    """As without us: vLLM's workers have no handler for what its server may."""
    assert with_a_grandchild(signal.SIGUSR1) == b"lived\nshell\ngrandchild 0\n"
