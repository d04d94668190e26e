"""The terminal: a real pty, a real shell, real keys."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit import GUARD, Lines, gone, guard_env, program, tree_of

GUARD_WORDS = shlex.join(GUARD)


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, words: list[str], **extra: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, guard_env(TERM="xterm", PS1="$ ", **extra))
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self.lines = Lines(self.fd)
        self.waited_for = 0

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def until(self, text: str) -> str:
        """Read until `text` is on the screen; what was waited for before does not count again."""
        shown = self.lines.until(text.encode(), start=self.waited_for)
        self.waited_for = shown.index(text.encode(), self.waited_for) + len(text.encode())
        return shown.decode(errors="replace")

    def ended(self) -> int:
        """Wait for the program's end; its exit status, negative for a signal."""
        self._drain()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            if not data:
                return
            self.lines.seen += data


@contextmanager
def screen(*words: str, **extra: str) -> Iterator[Screen]:
    shown = Screen(list(words), **extra)
    try:
        yield shown
    finally:
        os.close(shown.fd)
        if shown.pid:
            os.kill(shown.pid, signal.SIGKILL)
            os.waitpid(shown.pid, 0)


def python(code: str) -> list[str]:
    return [*program("x")[:2], "-c", code]


def test_the_command_sees_terminals_of_the_right_size() -> None:
    code = (
        "import os,time\n"
        "while os.get_terminal_size(1).columns != 77: time.sleep(0.01)\n"
        "print([os.isatty(fd) for fd in (0,1,2)], os.get_terminal_size(1))"
    )
    with screen(*GUARD, "--", "sh", "-c", f"echo go; {shlex.join(python(code))}") as shown:
        assert shown.ended() == 0

    assert b"[True, True, True] os.terminal_size(columns=77, lines=33)\r\n" in shown.lines.seen


def test_newlines_get_one_carriage_return() -> None:
    with screen(*GUARD, "--", "printf", "a\\nb\\n") as shown:
        shown.ended()

    assert shown.lines.seen == b"a\r\nb\r\n"


def test_ctrl_c_reaches_the_command_once_and_the_guard_dies_of_it_too() -> None:
    with screen(*GUARD, "-v", "--", *program("report_signals_default")) as shown:
        shown.until("ready")
        shown.type("\x03")

        assert shown.ended() == -signal.SIGINT
    assert b"ended by Ctrl-C" in shown.lines.seen


def test_a_command_that_ends_well_on_ctrl_c_ends_the_guard_well() -> None:
    code = "import signal,sys\nsignal.signal(2, lambda *a: sys.exit(0))\nprint('ready')\nsignal.pause()"
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        shown.type("\x03")

        assert shown.ended() == 0


SERVER = "vllm/entrypoints/openai/api_server.py"
AS_SERVER = shlex.join([*program("x")[:1], "-m", "vllm.entrypoints.openai.api_server"])


@contextmanager
def server(folder: Path, on_interrupt: str) -> Iterator[Screen]:
    """Something that the guard takes for an API server, in a shell on a terminal."""
    module = folder / SERVER
    module.parent.mkdir(parents=True)
    module.write_text(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
        f"signal.signal(signal.SIGINT, lambda *_: {on_interrupt})\n"
        "print('rea' + 'dy', flush=True)\nwhile True: signal.pause()\n"
    )
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"cd {folder}; {GUARD_WORDS} -p stats --preflight off -- {AS_SERVER}\n")
        shown.until("ready")
        yield shown
        shown.type("echo status $?; exit\n")
        shown.ended()


def test_a_server_that_ends_well_on_ctrl_c_was_ended_by_it(tmp_path) -> None:
    with server(tmp_path, "sys.exit(0)") as shown:
        shown.type("\x03")
        shown.until("SIGINT passed on; waiting for the command to end, for at most 8 s")
        shown.until("exited 0")
        ended = shown.until("left behind: nothing")

    assert "ended by Ctrl-C" in ended
    assert "server-ended" not in ended
    assert "status 0" in shown.lines.seen.decode()


def test_the_third_ctrl_c_kills_a_server_that_goes_on(tmp_path) -> None:
    with server(tmp_path, "print('no' + 't yet', flush=True)") as shown:
        shown.type("\x03")
        shown.until("(again: faster)")
        shown.type("\x03")
        shown.until("(again: SIGKILL)")
        shown.type("\x03")
        shown.until("SIGKILL to every process")
        ended = shown.until("left behind: nothing")

    assert "was killed by signal 9" in ended
    assert "outlived" not in ended


def test_a_script_may_get_ctrl_c_as_often_as_its_user_likes() -> None:
    code = (
        "import signal\ncount = 0\n"
        "def note(*_):\n global count\n count += 1; print('n', count, flush=True)\n"
        "signal.signal(signal.SIGINT, note)\nprint('ready', flush=True)\n"
        "while count < 4: signal.pause()"
    )
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        for count in range(1, 5):
            shown.type("\x03")
            shown.until(f"n {count}")
        assert shown.ended() == 0

    assert b"SIGINT" not in shown.lines.seen


def test_ctrl_c_stops_a_bash_script_that_calls_the_guard() -> None:
    inner = shlex.join([*GUARD, "--", *program("report_signals_default")])
    with screen("bash", "-c", f"{inner}; echo went on") as shown:
        shown.until("ready")
        shown.type("\x03")

        assert shown.ended() == -signal.SIGINT
    assert b"went on" not in shown.lines.seen


def test_ctrl_z_stops_the_job_and_fg_goes_on() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- sh -c 'echo g''o; exec cat'\n")
        shown.until("go\r\n")
        shown.type("one\n")
        shown.until("one\r\none\r\n")
        shown.type("\x1a")
        shown.until("Stopped")
        shown.until("$ ")
        shown.type("fg\n")
        shown.until("exec cat'\r\n")
        shown.type("two\n")
        shown.until("two\r\ntwo\r\n")
        shown.type("\x04")
        shown.type("echo status $?\n")
        shown.until("status 0\r\n")
        shown.type("exit\n")

        assert shown.ended() == 0


def test_in_the_background_the_guard_does_not_take_the_terminal() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- sh -c 'sleep 0.2; echo from behind; sleep 30' &\n")
        shown.until("from behind")
        shown.type("echo still $((20 + 1))\n")
        shown.until("still 21")
        shown.type("kill %1; wait %1; echo status $?\n")
        shown.until("status 143")
        shown.type("exit\n")

        assert shown.ended() == 0


def test_settings_that_a_killed_command_changed_are_restored() -> None:
    code = "import os,tty\ntty.setraw(0)\nos.write(1,b'raw')\nos.kill(os.getpid(), 9)"
    with screen(*GUARD, "--", *python(code)) as shown:
        before = termios.tcgetattr(shown.fd)
        assert shown.ended() == 128 + signal.SIGKILL
        after = termios.tcgetattr(shown.fd)

    assert after[:4] == before[:4]


def test_input_and_pdb_work_in_the_command() -> None:
    code = "name = input('name? ')\nprint('hello', name)\nbreakpoint()\nprint('after')"
    with screen(*GUARD, "--", *program("x")[:1], "-c", code) as shown:
        shown.until("name? ")
        shown.type("vllm\n")
        shown.until("hello vllm")
        shown.until("(Pdb)")
        shown.type("p 6*7\n")
        shown.until("42")
        shown.type("c\n")

        assert shown.ended() == 0


def test_without_a_controlling_terminal_nothing_is_said_about_it() -> None:

    result = subprocess.run(
        [*GUARD, "--", "sh", "-c", "exit 8"],
        env=guard_env(),
        start_new_session=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )

    assert result.returncode == 8
    assert result.stderr == b""


def test_a_resize_reaches_the_command() -> None:
    code = (
        "import os,signal\n"
        "got=[]\n"
        "signal.signal(signal.SIGWINCH, lambda *a: got.append(1))\n"
        "print('ready', flush=True)\n"
        "while not got: signal.pause()\n"
        "print('now', os.get_terminal_size(0))"
    )
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        fcntl.ioctl(shown.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
        shown.until("columns=20, lines=10")
        assert shown.ended() == 0


def test_ctrl_backslash_reaches_the_command() -> None:
    code = (
        "import resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "print('ready', flush=True)\n"
        "signal.pause()"
    )
    with screen(*GUARD, "--", *python(code)) as shown:
        shown.until("ready")
        shown.type("\x1c")

        assert shown.ended() == 128 + signal.SIGQUIT


def test_a_hang_up_ends_the_run_and_leaves_nothing() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        words = shlex.join(program("hydra", 4, "stay"))
        shown.type(f"exec {GUARD_WORDS} -- {words}\n")
        shown.until("pids ")
        everybody = [shown.pid, *tree_of(shown.pid)]
        os.close(shown.fd)  # the terminal is gone
        shown.fd = os.open(os.devnull, os.O_RDONLY)
        _, status = os.waitpid(shown.pid, 0)
        shown.pid = 0

    gone(everybody)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def test_a_hang_up_at_any_moment_is_a_hang_up() -> None:
    """Never the guard's own failure: 10 ms around the start of the command."""
    ends = set()
    for step in range(40):
        shown = Screen([*GUARD, "-v", "-p", "stats", "--", "sleep", "341"])
        shown.until("cost")
        everybody = [shown.pid, *tree_of(shown.pid)]
        select.select([], [], [], step % 10 / 1000)
        os.close(shown.fd)
        _, status = os.waitpid(shown.pid, 0)
        ends.add(os.waitstatus_to_exitcode(status))
        gone(everybody)

    assert ends <= {128 + signal.SIGHUP, -signal.SIGHUP}
    assert list((Path(os.environ["HOME"]) / ".local/state/vllm-guard/active").glob("*")) == []


def test_with_tostop_the_guard_never_stops_at_its_own_words() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type("stty tostop\n")
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -v -p debug -- sh -c 'echo in''side; exit 3'; echo status $?\n")
        shown.until("inside")
        shown.until("status 3")
        shown.type("exit\n")
        shown.ended()


def test_a_command_stopped_in_the_background_goes_on_with_bg() -> None:
    with screen("bash", "--norc", "-i") as shown:
        shown.until("$ ")
        shown.type(f"{GUARD_WORDS} -- sh -c 'sleep 0.5 & echo go; wait; echo la''ter; exit 0'\n")
        shown.until("go\r\n")
        shown.type("\x1a")
        shown.until("Stopped")
        shown.type("bg\n")
        shown.until("later")
        shown.type("wait; echo status $?\n")
        shown.until("status 0")
        shown.type("exit\n")
        shown.ended()
