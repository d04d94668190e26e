"""Job control: pipelines, scripts and sessions that the guard is a member of, on a real pty."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import struct
import termios
from pathlib import Path

from tests.kit import GUARD, children, gone, tree_of, wait_for
from tests.test_terminal import GUARD_WORDS, python, screen

#: Reads a line of the terminal, whatever its stdin is: what a pager does.
PAGER = "import sys; tty = open('/dev/tty'); print('pag' + 'er'); print('got', tty.readline())"


def test_a_pager_behind_the_guard_has_the_terminal() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- echo out | {shlex.join(python(PAGER))}; echo status $?\n")
        shown.until("pager")
        shown.type("key\n")
        shown.until("got key")
        shown.until("status 0")
        shown.type("exit\n")
        shown.ended()


def test_a_reader_of_the_terminal_before_the_guard_has_it() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"cat | {GUARD_WORDS} -- sed s/a/o/\n")
        shown.type("hat\n")
        shown.until("hot")
        shown.type("\x04")
        shown.until("$ ")
        shown.type("exit\n")
        shown.ended()


def test_a_command_in_a_pipeline_that_reads_the_terminal_gets_it() -> None:
    """As pdb does in `command | tee log`."""
    code = "print('na' + 'me?', flush=True); print('hello', input())"
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- {shlex.join(python(code))} | cat; echo status $?\n")
        shown.until("name?")
        shown.type("vllm\n")
        shown.until("hello vllm")
        shown.until("status 0")
        shown.type("exit\n")
        shown.ended()


def test_ctrl_c_reaches_all_of_a_pipeline() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- sh -c 'echo rea''dy; exec sleep 341' | cat\n")
        shown.until("ready")
        shown.type("\x03")
        shown.until("ended by SIGINT")
        shown.type("echo statuses ${PIPESTATUS[*]}\n")
        shown.until("statuses 130 130")
        shown.type("exit\n")
        shown.ended()


def test_ctrl_c_reaches_the_script_also_when_the_command_ends_well(tmp_path) -> None:
    """As vLLM does, and as without us: the whole foreground group gets it."""
    code = (
        "import signal,sys\nsignal.signal(2, lambda *_: sys.exit(0))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    script = tmp_path / "script.sh"
    script.write_text(
        f"trap 'echo trapped; exit 9' INT\n{GUARD_WORDS} -- {shlex.join(python(code))}\necho went on\n"
    )
    with screen("bash", str(script)) as shown:
        shown.until("ready")
        shown.type("\x03")
        shown.until("trapped")
        assert shown.ended() == 9

    assert b"went on" not in shown.lines.seen


def test_ctrl_z_of_a_session_leader_goes_on_as_the_kernel_lets_nobody_stop_it() -> None:
    code = "import time\nfor i in range(10**6): print('tick', i, flush=True); input()"
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("tick 0")
        shown.type("\x1a")
        shown.type("\n")
        shown.until("tick 1")
        shown.type("\x03")
        shown.ended()


def test_a_command_that_wants_the_terminal_in_the_background_stops_the_job_and_fg_gives_it() -> (
    None
):
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- cat &\n")
        (job,) = wait_for(lambda: children(shown.pid), "the job")
        wait_for(lambda: "\nState:\tT" in Path(f"/proc/{job}/status").read_text(), "it stops")
        shown.type("jobs\n")
        shown.until("Stopped")
        (command,) = children(children(job)[0])
        shown.type("fg\n")
        wait_for(lambda: os.tcgetpgrp(shown.fd) == command, "the command has the terminal")
        shown.type("typed\n")
        shown.until("typed\r\ntyped")
        shown.type("\x04")
        shown.until("$ ")
        shown.type("exit\n")
        shown.ended()


def test_the_last_size_that_a_command_hears_of_is_the_right_one() -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print('size', *os.get_terminal_size(1), flush=True))\n"
        "print('ready', flush=True)\nwhile True: signal.pause()"
    )
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        for rows, columns in ((50, 200), (30, 100)):
            fcntl.ioctl(shown.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            shown.until(f"size {columns} {rows}")
        shown.type("\x03")
        shown.ended()


def test_after_the_death_of_the_guard_the_script_has_its_terminal_again(tmp_path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(  # it may read before the keeper has noticed
        f"{GUARD_WORDS} -- sh -c 'echo rea''dy; exec sleep 341'\n"
        "until read word; do :; done 2>/dev/null\necho got $word\n"
    )
    with screen("bash", str(script)) as shown:
        shown.until("ready")
        (guard_pid,) = children(shown.pid)
        everybody = list(tree_of(guard_pid))
        os.kill(guard_pid, signal.SIGKILL)
        gone(everybody)
        shown.type("key\n")
        shown.until("got key")
        assert shown.ended() == 0


def test_the_witness_is_the_only_other_process_and_goes_with_the_command() -> None:
    with screen(*GUARD, "-v", "--", "cat") as shown:
        wait_for(lambda: len(list(tree_of(shown.pid))) == 3, "keeper, command and witness")
        (keeper,) = children(shown.pid)
        everybody = children(keeper)
        title = Path(f"/proc/{keeper}/cmdline").read_bytes()
        shown.type("\x04")
        shown.until("left behind: nothing")
        shown.ended()

    gone(everybody)
    assert title.startswith(b"vllm-guard: keeper of ")
    assert b"cat" not in title
    assert b"outlived" not in shown.lines.seen
