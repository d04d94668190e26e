"""The output path: slow readers, stopped terminals, full disks, long lines; the command does not notice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import (
    GUARD,
    PATIENCE,
    Lines,
    children,
    gone,
    guard_env,
    program,
    start,
    under_way,
    wait_for,
)
from tests.test_supervision import _state, finish
from tests.test_terminal import screen


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *words]


def test_a_stopped_terminal_does_not_stop_the_command_and_what_it_missed_is_in_the_log(tmp_path):
    """Ctrl-S for as long as the command runs: E72."""
    done = tmp_path / "done"
    code = (
        "import os, sys\nos.write(1, b'ready\\n')\nsys.stdin.readline()\n"
        "line = b'x' * 99 + b'\\n'\n"
        "for _ in range(120_000): os.write(1, line)\n"
        f"open({str(done)!r}, 'w').close()\nsys.stdin.readline()"
    )
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        shown.type("go\n\x13")  # and Ctrl-S
        wait_for(done.exists, "the command has written 12 MB to a stopped terminal")
        shown.type("\x11")  # Ctrl-Q
        shown.until("bytes are not shown here; the log has them]")
        shown.type("\n")
        shown.ended()
    (log,) = _state().glob("runs/*/output.log")

    assert log.stat().st_size >= 120_000 * 100


def test_a_reader_that_stalls_makes_the_command_wait_and_sigterm_ends_it_all() -> None:
    """Nothing that a pipe was promised is dropped, and nothing waits for it for ever: E69."""
    process = start("--", "yes")
    assert process.stdout is not None
    keeper_log = wait_for(lambda: list(_state().glob("runs/*/output.log")), "the log")[0]
    wait_for(lambda: keeper_log.stat().st_size > 4 << 20, "more than the reader has taken")

    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()

    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.soak)])
def test_one_long_line_passes_in_bounded_memory(size: int) -> None:
    code = f"import os\nfor _ in range({size >> 20}): os.write(1, b'x' * (1 << 20))"
    process = start("--", *python(code), stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    total = largest = 0
    while data := os.read(process.stdout.fileno(), 1 << 20):
        total += len(data)
        if not total % (1 << 24):
            largest = max(largest, memory(process.pid))
    process.wait(PATIENCE)
    process.stdout.close()

    assert total == size
    assert largest < 60 << 20


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.soak)])
def test_a_stopped_terminal_and_a_full_disk_take_no_memory(tmp_path, seconds: int) -> None:
    home, done = tmp_path / "home", tmp_path / "done"
    home.mkdir()
    script = f'mount -t tmpfs -o size=256k none {home} && exec "$@"'
    small = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    code = (
        "import os, sys, time\nos.write(1, b'keeper %d\\n' % os.getppid())\nsys.stdin.readline()\n"
        f"end, line = time.monotonic() + {seconds}, b'x' * 136 + b'\\n'\n"
        "while time.monotonic() < end: os.write(1, line)\n"
        f"open({str(done)!r}, 'w').close()\nsys.stdin.readline()"
    )
    with screen(*small, *GUARD, "--", *python(code), HOME=str(home)) as shown:
        shown.until("keeper ")
        keeper = int(shown.until("\n").rpartition("keeper ")[2])
        guard_pid = int(Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[1])
        shown.type("go\n\x13")  # and Ctrl-S
        wait_for(done.exists, "the writer has done its work", PATIENCE + seconds)
        largest = peak_memory(guard_pid)
        shown.type("\x11\n")  # Ctrl-Q
        shown.ended()

    assert largest < 150 << 20
    assert b"of the output are not in the log" in shown.lines.seen


def peak_memory(pid: int) -> int:
    """The most that was ever resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_partial_last_line_is_passed_on_at_once() -> None:
    process = start("--", *python("import os, sys; os.write(1, b'no end'); sys.stdin.read()"),
                    stdin=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    lines.until(b"no end")
    finish(process)

    assert process.returncode == 0


def test_a_command_that_closes_its_output_and_lives_is_waited_for(tmp_path) -> None:
    code = "import os, sys; os.close(1); os.close(2); sys.stdin.read(); sys.exit(9)"
    process = start("--", *python(code), stdin=subprocess.PIPE)
    process.communicate(b"", timeout=PATIENCE)

    assert process.returncode == 9


def test_a_record_that_is_removed_while_the_command_runs_disturbs_nothing() -> None:
    process = start("--", "cat", stdin=subprocess.PIPE)
    wait_for(lambda: list(_state().glob("runs/*/output.log")), "the log")
    shutil.rmtree(_state())
    out, err = process.communicate(b"through", timeout=PATIENCE)

    assert (process.returncode, out) == (0, b"through")
    assert b"Traceback" not in err


def test_a_full_disk_under_the_record_disturbs_nothing(tmp_path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    script = f'mount -t tmpfs -o size=128k none {state} && exec "$@"'
    code = "import os\nfor _ in range(64): os.write(1, b'x' * 65536)"
    command = [*GUARD, "--", *python(code)]

    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env=guard_env(XDG_STATE_HOME=str(state)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode == 0
    assert len(result.stdout) == 64 * 65536
    told = re.search(rb"note (\d+) bytes of the output are not in the log", result.stderr)
    assert told
    assert 61 * 65536 < int(told[1]) <= 64 * 65536  # all but what fitted into 128 KiB
    assert b"Traceback" not in result.stderr


def test_without_watching_the_command_has_the_very_descriptors(tmp_path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        subprocess.run(
            [*GUARD, "--no-watch", "--", "sh", "-c", "readlink /proc/$$/fd/1"],
            env=guard_env(),
            stdout=file,
            check=True,
        )

    assert out.read_text() == f"{out}\n"
    assert not any(path.stat().st_size for path in _state().glob("runs/*/output.log"))


def test_a_guard_that_is_stopped_catches_up_and_loses_nothing() -> None:
    """SIGSTOP of the guard: the command goes on up to a full pipe; SIGCONT: nothing is missing. C40."""
    process = start("--", *program("x")[:2], "-c", "print('a' * 200_000)")
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    out, _ = finish(process)

    assert out == b"a" * 200_000 + b"\n"


def test_a_storm_of_resizes_loses_no_sigterm() -> None:
    process = start("--", "sleep", "60")
    wait_for(under_way, "the start")
    for _ in range(1000):
        process.send_signal(signal.SIGWINCH)
    process.terminate()
    finish(process)

    assert process.returncode == 128 + signal.SIGTERM


def test_the_log_of_a_terminal_run_has_no_carriage_returns_of_the_terminal() -> None:
    with screen(*GUARD, "--", "printf", "a\\nb\\n") as shown:
        shown.ended()
    (log,) = _state().glob("runs/*/output.log")

    assert log.read_bytes() == b"a\nb\n"


def test_allow_daemon_lets_live_what_outlives_the_command() -> None:
    """And write where it did: the guard is not in between."""
    late = Path(os.environ["TMPDIR"], "late")
    script = f"(read _ < {late}; echo late; exec sleep 341) & echo $!"
    os.mkfifo(late)
    with start("--allow-daemon", "-v", "--", "sh", "-c", script, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = Lines(process.stdout.fileno())
        daemon = int(lines.until(b"\n"))
        assert process.wait(PATIENCE) == 0
        late.write_text("\n")
        lines.until(b"late\n")
        os.kill(daemon, signal.SIGKILL)
        gone([daemon])
        assert process.stderr is not None
        said = process.stderr.read()

    assert b"left running, as --allow-daemon says: 1 process\n" in said


def test_a_reader_that_has_left_ends_the_writer_at_its_next_write() -> None:
    """As it would bare: `command | head -1`."""
    process = start("--", "sh", "-c", "echo first; read _; echo second", stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    Lines(process.stdout.fileno()).until(b"first\n")
    (command,) = children(children(process.pid)[0])
    process.stdout.close()
    wait_for(lambda: not _reads_pipe(process.pid, command), "the guard has let go of the pipe")
    finish(process)

    assert process.returncode == 128 + signal.SIGPIPE


def _reads_pipe(guard_pid: int, command: int) -> bool:
    """Does the guard hold the other end of the command's stdout?"""
    pipe = os.readlink(f"/proc/{command}/fd/1")
    folder = Path(f"/proc/{guard_pid}/fd")
    return pipe in {os.readlink(path) for path in folder.iterdir() if path.is_symlink()}


def test_a_stalled_reader_of_our_words_does_not_keep_a_signal_from_the_command() -> None:
    """stdout and stderr are one full pipe: the words are dropped, not the signal."""
    read, write = os.pipe()
    script = "yes | head -c 3000000; exec sleep 341"
    process = subprocess.Popen(
        [*GUARD, "--", "sh", "-c", script],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=write,
    )
    os.close(write)
    log = wait_for(lambda: list(_state().glob("runs/*/output.log")), "the log")[0]
    wait_for(lambda: log.stat().st_size == 3_000_000, "the command has written it all")
    process.terminate()
    status = process.wait(PATIENCE)
    os.close(read)

    assert status == 128 + signal.SIGTERM


@pytest.mark.parametrize("how", ["signal", "deadline"])
def test_a_stalled_reader_is_waited_for_until_somebody_ends_it(how: str) -> None:
    words = ["--deadline", "4"] if how == "deadline" else []
    process = start(*words, "--", "sh", "-c", "yes | head -c 3000000")
    log = wait_for(lambda: list(_state().glob("runs/*/output.log")), "the log")[0]
    wait_for(lambda: log.stat().st_size == 3_000_000, "the command has written it all")
    (keeper,) = children(process.pid)
    wait_for(lambda: not children(keeper), "the command has ended")
    if how == "signal":
        process.terminate()
    process.wait(PATIENCE)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()

    assert process.returncode == 0


def test_the_ends_of_the_callers_pipes_are_let_go_when_the_command_does() -> None:
    script = "echo hi; exec <&- >&-; read _ < $0; exit 3"
    fifo = Path(os.environ["TMPDIR"], "fifo")
    os.mkfifo(fifo)
    process = start("--", "sh", "-c", script, fifo, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read() == b"hi\n"  # the end, while the command lives
    assert process.poll() is None
    fifo.write_text("\n")
    finish(process)

    assert process.returncode == 3


def test_a_master_of_a_pty_as_stdout_gets_the_output() -> None:
    master, slave = os.openpty()
    with open(slave, "rb", buffering=0) as reader:
        done = subprocess.run(
            [*GUARD, "--", "echo", "through"],
            env=guard_env(),
            stdin=subprocess.DEVNULL,
            stdout=master,
        )
        os.write(master, b"\n")
        line = reader.read(100)
    os.close(master)

    assert done.returncode == 0
    assert line is not None
    assert line.startswith(b"through")
