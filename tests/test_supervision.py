"""Signals, streams, containment: the guard, the keeper and real processes."""

from __future__ import annotations

import json
import os
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.kit import (
    GUARD,
    PATIENCE,
    Lines,
    children,
    environ_of,
    gone,
    guard,
    guard_env,
    plant_marker,
    program,
    start,
    tree_of,
    under_way,
    wait_for,
)

FORWARDED = [
    number
    for number in (*range(1, 32), 34, 50, 64)
    if number
    not in (
        signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
        signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS, signal.SIGTTIN, signal.SIGTTOU,
        signal.SIGTERM, signal.SIGUSR2,
        signal.SIGPIPE, signal.SIGXFSZ,  # answers to the guard's own writes
    )
]  # fmt: skip


def started(process: subprocess.Popen[bytes]) -> tuple[Lines, int]:
    """Wait for `ready PID`; returns the stream and the command's pid."""
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    lines.until(b"\n")
    return lines, int(lines.seen.split()[1])


def finish(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    return process.communicate(timeout=PATIENCE)


def test_every_signal_is_forwarded_once_and_in_order() -> None:
    process = start("--", *program("report_signals"))
    lines, _ = started(process)
    for number in FORWARDED:
        process.send_signal(number)
        lines.until(b"\n%d\n" % number)
    process.send_signal(signal.SIGUSR2)
    lines.until(b"\n%d\n" % signal.SIGUSR2)
    process.send_signal(signal.SIGUSR2)
    rest, _ = finish(process)

    got = [int(word) for word in (lines.seen + rest).split()[2:]]

    assert got == [*FORWARDED, signal.SIGUSR2, signal.SIGUSR2]
    assert process.returncode == 0


def test_a_reader_of_the_guards_words_that_left_does_not_end_the_command(tmp_path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = ["-v", "-p", "debug", "--", "sh", "-c", f"echo done > {tmp_path}/file; exit 5"]
    result = subprocess.run(
        [*GUARD, *words], env=guard_env(), stdin=subprocess.DEVNULL, stderr=write, check=False
    )
    os.close(write)

    assert result.returncode == 5
    assert (tmp_path / "file").read_text() == "done\n"


def test_sigterm_ends_the_run_and_the_report_says_who_asked() -> None:
    process = start("-v", "--", "sleep", "60")
    wait_for(lambda: any(_name(p) == "sleep" for p in tree_of(process.pid)), "start of sleep")

    process.terminate()
    _, err = finish(process)

    assert process.returncode == 128 + signal.SIGTERM
    assert b"SIGTERM sent to vllm-guard" in err


def test_masks_dispositions_descriptors_and_cwd_are_as_inherited(tmp_path) -> None:
    def odd() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGQUIT})
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    read, write = os.pipe()
    bare, guarded = (
        json.loads(
            subprocess.run(
                [*words, *program("show_state")],
                env=guard_env(),
                cwd=tmp_path,
                preexec_fn=odd,
                pass_fds=(write,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        for words in ([], [*GUARD, "--no-watch", "--"])
    )
    os.close(read)
    os.close(write)

    same = ("SigBlk", "SigIgn", "SigCgt", "cwd")

    assert {k: guarded[k] for k in same} == {k: bare[k] for k in same}
    assert _kinds(guarded["fds"]) == _kinds(bare["fds"])
    assert guarded["pgid"] == guarded["pid"]
    assert guarded["sid"] == bare["sid"]


def test_stdout_and_stderr_of_one_file_keep_their_order(tmp_path) -> None:
    script = "import os\nfor i in range(2000): os.write(1 + i % 2, b'%d\\n' % i)"
    out = tmp_path / "both"
    with out.open("wb") as file:
        subprocess.run(
            [*GUARD, "--", *program("x")[:2], "-c", script],
            env=guard_env(),
            stdout=file,
            stderr=file,
            check=True,
        )

    assert out.read_bytes().split() == [b"%d" % i for i in range(2000)]


def test_bytes_pass_unchanged_and_end_up_in_the_log(tmp_path) -> None:
    blob = os.urandom(300_000) + b"\0\r\n\xff\xfe\x1b[31m" + b"x" * 200_000
    source = tmp_path / "blob"
    source.write_bytes(blob)

    result = guard("--", "cat", str(source))
    logs = list(_state().glob("runs/*/output.log"))

    assert result.stdout == blob
    assert [log.read_bytes() for log in logs] == [blob]
    assert logs[0].stat().st_mode & 0o777 == 0o600


def test_stdin_reaches_the_command() -> None:
    process = start("--", "cat", stdin=subprocess.PIPE)
    out, _ = process.communicate(b"through the guard", timeout=PATIENCE)

    assert out == b"through the guard"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_stay_closed_and_nothing_takes_their_place(
    closed, tmp_path
) -> None:
    words = [*GUARD, "--", "sh", "-c", f"ls -l /proc/$$/fd > {tmp_path}/fds; exit 5"]
    shell = " ".join(f"{fd}>&-" if fd else "0<&-" for fd in closed)

    result = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *words], env=guard_env(), check=False
    )

    shown = (tmp_path / "fds").read_text()
    assert result.returncode == 5
    for fd in set(closed) - {1}:  # 1 is where `ls` writes to
        assert f" {fd} -> " not in shown


def test_a_reader_that_leaves_ends_the_command_as_it_would_bare() -> None:
    result = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | head -1', "bash", *GUARD, "--", "yes"],
        env=guard_env(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    assert result.stdout == b"y\n"
    assert result.returncode == 128 + signal.SIGPIPE
    assert b"Traceback" not in result.stderr


def test_a_full_disk_does_not_disturb_the_command() -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*GUARD, "--", "sh", "-c", "echo lost; exit 4"],
            env=guard_env(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert result.returncode == 4
    assert b"5 bytes of its output could not be written" in result.stderr


def test_a_sweep_spares_processes_that_are_older_than_the_run(tmp_path) -> None:
    bystander = subprocess.Popen(["sleep", "60"], env=guard_env(VGUARD_RUN_ID="20000101-000000-aa"))
    stat = Path(f"/proc/{bystander.pid}/stat").read_text()
    later = int(stat.rpartition(")")[2].split()[19]) + 1
    plant_marker("20000101-000000-aa", guard=f"{2**22 - 3} {later}")

    result = guard("--", "true")

    assert b"ended 0 processes" in result.stderr
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace() -> None:
    process = start("--deadline", "0.2", "--", *program("stubborn"))
    _, err = finish(process)

    assert process.returncode == 124
    assert b"deadline" in err


def test_a_server_that_swallows_sigint_is_ended_after_its_grace(tmp_path) -> None:
    """As an import of torch may; a script or a REPL that goes on after SIGINT is left alone."""
    module = tmp_path / "vllm/entrypoints/openai/api_server.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    process = start("--preflight", "off", "--", *words, cwd=tmp_path)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready")
    process.send_signal(signal.SIGINT)
    _, err = finish(process)

    assert process.returncode == 128 + signal.SIGTERM
    assert b"SIGINT passed on; waiting for the command to end, for at most 8 s" in err
    assert b"ended by SIGINT sent to vllm-guard, which it ignored: SIGTERM" in err


def test_the_second_sigterm_goes_to_every_process_and_the_third_kills() -> None:
    process = start("--", *program("hydra", 6, "stay"))
    assert process.stdout is not None
    assert process.stderr is not None
    Lines(process.stdout.fileno()).until(b"\n")
    said = Lines(process.stderr.fileno())
    keeper = _keeper(process.pid)
    everybody = list(tree_of(keeper))
    os.kill(children(keeper)[0], signal.SIGSTOP)  # the command itself answers nothing

    process.terminate()
    said.until(
        b"SIGTERM passed on; waiting for the command to end, for at most 8 s (again: faster)"
    )
    process.terminate()
    said.until(b"SIGTERM again: SIGTERM to every process of the run (again: SIGKILL)")
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()
    process.stderr.close()

    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    gone(everybody)


def test_the_third_sigterm_kills_also_what_outlives_the_command() -> None:
    process = start("--", *program("hydra", 6))
    assert process.stderr is not None
    wait_for(under_way, "the start")
    (keeper,) = children(process.pid)
    wait_for(lambda: _has_lost_its_command(keeper), "only escapees are left")
    said = Lines(process.stderr.fileno())
    begin = time.monotonic()
    for word in (b"passed on", b"to every process", b"SIGKILL to every"):
        process.terminate()
        said.until(word)
    _, _ = finish(process)

    assert process.returncode == 7
    assert time.monotonic() - begin < 4.0  # five seconds is what they have after SIGTERM


def test_a_command_that_is_killed_in_the_end_is_told_with_the_reason() -> None:
    process = start("--", *program("stubborn"))
    assert process.stderr is not None
    wait_for(lambda: len(list(tree_of(process.pid))) == 3, "keeper and two that ignore all")
    said = Lines(process.stderr.fileno())

    for word in (b"passed on", b"to every process", b"SIGKILL to every"):
        process.terminate()
        said.until(word)
    process.wait(PATIENCE)
    rest = process.stderr.read()
    assert process.stdout is not None
    process.stdout.close()
    process.stderr.close()

    assert process.returncode == 128 + signal.SIGKILL
    assert b"ended by SIGTERM sent to vllm-guard, which it ignored: SIGKILL" in said.seen + rest


SHARED = """
import ctypes, mmap, os, sys
fd = os.open("/dev/shm/" + sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.ftruncate(fd, 3 << 20)
mapped = mmap.mmap(fd, 3 << 20)
os.close(fd)
libc = ctypes.CDLL(None, use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
assert libc.sem_open(b"/" + sys.argv[2].encode(), os.O_CREAT | os.O_EXCL, 0o600, 1)
print("made", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("victim", ["nobody", "guard", "keeper"])
def test_shared_memory_that_the_command_leaves_is_removed_and_its_size_told(victim: str) -> None:
    names = f"vgtest-{os.urandom(4).hex()}", f"vgtest-{os.urandom(4).hex()}"
    bystander = Path("/dev/shm") / f"vgtest-{os.urandom(4).hex()}"
    words = ["-v", "--", sys.executable, "-c", SHARED, *names]
    process = start(*words, stdin=subprocess.PIPE)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"made")
    bystander.write_bytes(b"of somebody else")
    keeper = _keeper(process.pid)
    wait_for(lambda: _state_of(keeper) == "S", "the keeper has dealt with all that has happened")
    if victim == "guard":
        process.kill()
    elif victim == "keeper":
        os.kill(keeper, signal.SIGKILL)
    _, err = finish(process)

    if victim == "guard":
        gone([keeper])
    assert [name for name in names if Path("/dev/shm", name).exists()] == []
    assert not Path("/dev/shm", f"sem.{names[1]}").exists()
    assert bystander.exists()
    if victim == "nobody":
        assert b"its shared memory, 3 MiB, outlived it: removed" in err
        assert f"note shared-memory: {bystander}: ".encode() in err
    bystander.unlink()


def test_output_that_a_grandchild_keeps_open_does_not_hold_the_guard() -> None:
    result = guard("--", "sh", "-c", "sleep 60 & echo started; exit 3")

    assert result.returncode == 3
    assert result.stdout == b"started\n"


def test_nested_guards_pass_status_and_end_together() -> None:
    inner = [*GUARD, "-v", "--", "sh", "-c", "echo $VGUARD_LEVEL; exit 11"]

    result = guard("--", *inner)

    assert result.stdout == b"2\n"
    assert result.returncode == 11


def test_the_command_carries_the_run_id_and_nothing_else_of_ours() -> None:
    result = guard("--", "env", "-0")
    theirs = {item.partition(b"=")[0] for item in result.stdout.split(b"\0") if item}
    ours = {os.fsencode(name) for name in guard_env()}

    assert theirs - ours == {b"VGUARD_RUN_ID", b"VGUARD_LEVEL"}
    assert ours - theirs == set()


def test_the_callers_environment_is_unchanged() -> None:
    before = environ_of(os.getpid())
    guard("-p", "debug", "--", "true")

    assert environ_of(os.getpid()) == before


def test_nothing_is_written_outside_the_state_and_cache_folders(tmp_path) -> None:
    work = tmp_path / "work"
    work.mkdir()

    guard("-p", "debug", "--", "true", cwd=work)

    assert list(work.iterdir()) == []
    assert [path for path in _home().iterdir() if not path.name.startswith(".")] == []
    hidden = {str(path.relative_to(_home())) for path in _home().glob(".*/*")}
    assert hidden <= {".cache/vllm-guard", ".local/state"}
    for path in _state().rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_without_a_writable_home_the_run_works_and_one_note_says_so() -> None:
    result = guard("-p", "debug", "--", "sh", "-c", "exit 6", env=guard_env(HOME="/proc/nowhere"))

    assert result.returncode == 6
    assert result.stderr.count(b"no record is kept") == 1


def test_fifty_guards_at_once_have_fifty_records() -> None:
    processes = [start("--", "sh", "-c", f"echo {n}") for n in range(50)]
    results = [finish(process)[0] for process in processes]

    assert results == [b"%d\n" % n for n in range(50)]
    assert len(list(_state().glob("runs/*/run.json"))) == 50
    assert list(_state().glob("active/*")) == []
    for path in _state().glob("runs/*/run.json"):
        json.loads(path.read_text())


@pytest.mark.soak
def test_a_thousand_rapid_runs_return_their_status_and_leave_nothing() -> None:
    statuses = [guard("--", "sh", "-c", f"exit {n % 256}").returncode for n in range(1000)]

    assert statuses == [n % 256 for n in range(1000)]
    assert list(_state().glob("active/*")) == []


@pytest.mark.parametrize("trials", [40, pytest.param(10_000, marks=pytest.mark.soak)])
def test_start_and_signal_race_leaves_no_orphan(trials: int) -> None:
    for trial in range(trials):
        delay_us = trial * 37_081 % 60_000  # every part of the start comes up
        process = start("--", "sleep", "61")
        subprocess.run(["sleep", str(delay_us / 1e6)], check=True)
        process.terminate()
        finish(process)
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def _has_lost_its_command(keeper: int) -> bool:
    """Are all of its children orphans, in sessions of their own?"""
    pids = children(keeper)
    return bool(pids) and all(os.getsid(pid) != os.getsid(keeper) for pid in pids)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _keeper(guard_pid: int) -> int:
    (keeper,) = children(guard_pid)
    return keeper


def _kinds(fds: dict[str, str]) -> dict[str, str]:
    return {fd: path.partition(":")[0] for fd, path in fds.items()}


def _home() -> Path:
    return Path(os.environ["HOME"])


def _state() -> Path:
    return _home() / ".local" / "state" / "vllm-guard"


def test_the_name_of_a_file_cannot_speak_for_the_keeper() -> None:
    code = (
        "import os, sys\nname = '/dev/shm/%d\\nexited 0\\ndone' % os.getpid()\n"
        "file = open(name, 'w')\nprint('made', flush=True)\nsys.stdin.readline()\n"
        "os.unlink(name)\nsys.exit(7)"
    )
    process = start("-v", "--", sys.executable, "-c", code, stdin=subprocess.PIPE)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"made\n")
    _, err = process.communicate(b"\n", PATIENCE)

    assert process.returncode == 7
    assert b"left behind: nothing" in err


def test_a_keeper_killed_as_it_is_born_leaves_no_cgroup() -> None:
    for step in range(10):
        process = start("-v", "--", "sleep", "341")
        (keeper,) = wait_for(partial(children, process.pid), "the keeper")
        select.select([], [], [], step * 0.0003)  # each time a little later
        os.kill(keeper, signal.SIGKILL)
        finish(process)

        assert process.returncode == 125


def test_a_deadline_of_years_and_a_grace_of_months_are_waited_for() -> None:
    assert guard("--deadline", "999999999", "--", "true").returncode == 0

    words = ["--preflight", "off", "--", "sh", "-c", "echo ready; exec sleep 341", "x"]
    process = start(*words, "--shutdown-timeout", "9999999")
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready")
    process.terminate()
    finish(process)

    assert process.returncode == 128 + signal.SIGTERM


def test_a_sigint_that_the_command_inherits_as_ignored_is_not_urged() -> None:
    words = shlex.join([*GUARD, "--", "sh", "-c", "echo ready; read _; exit 4"])
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' INT; exec {words}"],
        env=guard_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready\n")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(b"\n", PATIENCE)

    assert process.returncode == 4
    assert err == b""


def test_a_stopped_keeper_is_continued_when_there_is_something_to_do() -> None:
    process = start("--", "sh", "-c", "echo ready; exec sleep 341")
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready\n")
    os.kill(_keeper(process.pid), signal.SIGSTOP)
    wait_for(lambda: _state_of(_keeper(process.pid)) == "T", "the keeper is stopped")
    process.terminate()
    finish(process)

    assert process.returncode == 128 + signal.SIGTERM


def test_the_rest_after_a_deadline_is_ended_without_a_busy_loop() -> None:
    script = "(trap '' TERM; while :; do sleep 1; done) & sleep 0.5"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = guard("--deadline", "0.6", "--", "sh", "-c", script)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert result.returncode in {0, 124}
    assert after.ru_utime - before.ru_utime < 1.0
