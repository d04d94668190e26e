"""Stalls of real processes under the guard: told, kept, ended where asked; and what is read of a process."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kit import GUARD, PATIENCE, ROOT, Lines, children, gone, guard, guard_env, wait_for
from tests.kit.machine import nvml_from
from tests.test_terminal import screen
from vllm_guard import facts, gpu, stacks
from vllm_guard.commands import watching
from vllm_guard.probes import Context
from vllm_guard.record import Shelf
from vllm_guard.redact import Redactor
from vllm_guard.target import Target

#: Says what a vLLM says when it loads, then does one thing for ever.
LOADING = "print('INFO [x.py:1] Starting to load model m...', flush=True)\n"
READS = f"""import sys
def load_weights(path):
    return open(path).read()
{LOADING}
load_weights(sys.argv[-1])
"""
STARTS_ONE_THAT_STOPS = f"""import os, signal, subprocess, time
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
os.kill(child.pid, signal.SIGSTOP)
{LOADING}
while True:
    print("Loading", flush=True)
    time.sleep(0.1)
"""
REDACTOR = Redactor(facts.load("redact"))


class Run:
    """A Python script under the guard with that limit, until it is told to end."""

    def __init__(self, script: Path, *words: str, guard: tuple[str, ...], **env: str):
        command = [*GUARD, "-q", *guard, "--", sys.executable, str(script), *words]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=guard_env(**env),
        )
        assert self.process.stderr is not None
        self.err = Lines(self.process.stderr.fileno())

    def until(self, text: str) -> str:
        """Wait until the guard has said this; returns all that it said."""
        return self.err.until(text.encode()).decode()

    def ends(self) -> tuple[int, str]:
        """Its status, when it has ended, and all that the guard said."""
        said = self.err.rest().decode()
        return self.process.wait(PATIENCE), said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a script under the guard; no run outlives the test."""
    started: list[Run] = []

    def one(
        code: str, *words: str, guard: tuple[str, ...] = ("--stall-after", "1"), **env: str
    ) -> Run:
        script = tmp_path / "script.py"
        script.write_text(code)
        started.append(Run(script, *words, guard=guard, **env))
        return started[-1]

    yield one
    while started:
        run = started.pop()
        with run.process:
            run.process.terminate()
            run.ends()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    os.mkfifo(path)
    return path


def feed(fifo: Path) -> None:
    """Let whoever waits for a writer go on, with nothing to read."""
    os.close(os.open(fifo, os.O_WRONLY))


def record() -> dict[str, Any]:
    (path,) = Path(os.environ["HOME"], ".local/state/vllm-guard/runs").glob("*/run.json")
    return json.loads(path.read_text())


def found() -> list[dict[str, Any]]:
    return [finding for finding in record()["findings"] if finding["id"] == "stall"]


def tool(folder: Path, script: str) -> str:
    """A PATH with a py-spy that does this."""
    program = folder / "bin" / "py-spy"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


# Told, and kept


def test_a_stall_is_told_with_process_and_frame_and_kept_with_all_stacks(start, fifo) -> None:
    run = start(READS, str(fifo))
    run.until("  fix: put the file itself in the FIFO's place\n")
    feed(fifo)
    status, said = run.ends()
    (finding,) = found()
    kept = Path(finding["fact"].rpartition("; stacks: ")[2])

    assert status == 0
    assert (finding["status"], finding["subject"]) == ("warn", "phase load")
    assert re.match(r"no output, reading, CPU or GPU use for [1-9]\d* s: ", finding["fact"])
    assert (
        f"waits for somebody to write to a FIFO in load_weights (script.py:3) [open of {fifo}"
        in (finding["fact"])
    )
    assert f"vllm-guard: warn stall: phase load: {finding['fact']}\n" in said
    assert said.count(" stall: ") == 1, "not again at the end"
    assert kept.parent == Path(record()["log"]).parent
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.read_text().startswith(finding["fact"].partition("; stacks: ")[0])
    assert "\n  thread MainThread\n    load_weights (" in kept.read_text()


def test_a_run_that_moves_again_is_told_and_a_second_stall_too(start, fifo) -> None:
    code = READS + f"{LOADING}\nload_weights(sys.argv[-1])"
    run = start(code, str(fifo))
    run.until(" fix: put the file")
    feed(fifo)
    said = run.until("the run moves again, ")
    run.err.until(b" fix: put the file", start=len(said))
    feed(fifo)

    assert run.ends()[0] == 0
    assert [f["fact"].rpartition("/")[2] for f in found()] == ["stacks-1.txt", "stacks-2.txt"]


def test_one_stopped_process_of_several_is_told_and_how_to_let_it_go_on(start) -> None:
    run = start(STARTS_ONE_THAT_STOPS)
    said = run.until("  fix: kill -CONT ")
    said = run.until("\n") if not said.endswith("\n") else said
    pid = int(re.search(r"cat \(pid (\d+)\): stopped by a signal", said)[1])

    assert "a process is stopped, for " in said
    os.kill(pid, signal.SIGCONT)
    run.until("the run moves again, ")
    run.process.terminate()
    assert run.ends()[0] == 128 + signal.SIGTERM


def test_no_secret_of_the_command_line_is_told_or_kept(start, fifo) -> None:
    secrets = ("--api-key", "pass1", "--hf-token=hf_abcdefghijklmnopqrstuvwxyz")
    run = start(READS, *secrets, str(fifo))
    said = run.until(" fix: put the file")
    feed(fifo)
    run.ends()
    (finding,) = found()
    kept = Path(finding["fact"].rpartition("; stacks: ")[2]).read_text()

    assert "script.py --api-key [m" in kept
    for text in (said, json.dumps(finding), kept):
        assert "pass1" not in text
        assert "hf_abc" not in text


def test_where_no_record_can_be_kept_the_stall_is_told_all_the_same(start, fifo) -> None:
    Path(os.environ["HOME"], ".local").write_text("a file, so that there is no folder")
    run = start(READS, str(fifo))
    said = run.until(" fix: put the file")
    feed(fifo)

    assert run.ends()[0] == 0
    assert "in load_weights (script.py:3)" in said
    assert "stacks: " not in said


def test_on_a_terminal_the_stall_takes_the_place_of_the_live_line(fifo) -> None:
    code = f"echo 'INFO [x.py:1] Starting to load model m...'; read x < {fifo}"
    words = ("--progress", "--stall-after", "2")
    with screen(*GUARD, *words, "--", "sh", "-c", code) as shown:
        shown.until(" s in all")
        shown.until(" fix: put the file")
        shown.until(" s in all")  # it goes on
        feed(fifo)
        shown.ended()
    line = next(line for line in shown.lines.seen.split(b"\r\n") if b" stall: phase load" in line)

    assert b"\r\x1b[Kvllm-guard: \x1b[33mwarn\x1b[0m stall: phase load: no output" in line


# What is to be done about it


def test_kill_ends_the_run_as_a_deadline_does_when_the_stacks_are_kept(start, fifo) -> None:
    run = start(READS, str(fifo), guard=("--stall-after", "1", "--stall", "kill"))
    status, said = run.ends()

    assert status == 124
    assert " fix: put the file itself in the FIFO's place\n" in said
    assert "was ended after " in said
    assert record()["outcome"]["kind"] == "deadline"
    assert re.fullmatch(
        r"--stall kill in phase load: no output, reading, CPU or GPU use for \d s",
        record()["outcome"]["ended_by"],
    )
    assert Path(found()[0]["fact"].rpartition("; stacks: ")[2]).exists()


def test_with_off_nobody_looks(start, fifo) -> None:
    run = start(READS, str(fifo), guard=("--progress", "--stall", "off", "--deadline", "2"))

    assert run.ends()[0] == 124
    assert found() == []


def test_kill_makes_the_command_one_that_is_watched() -> None:
    result = guard("--stall", "kill", "--", "printf", LOADING.partition("'")[2], stdin=None)

    assert result.returncode == 0
    assert [phase["name"] for phase in record()["phases"]] == ["import", "load"]


@pytest.mark.parametrize("option", [("--stall", "kill"), ("--stall-after", "9")])
@pytest.mark.parametrize("without", ["--exec", "--no-watch", "--allow-daemon"])
def test_what_needs_the_output_is_refused_where_it_is_left_alone(option, without) -> None:
    result = guard(*option, without, "--", "true")

    assert result.returncode == 2
    assert f"error: {option[0]} has no effect with {without}\n".encode() in result.stderr


def test_a_limit_for_nothing_is_refused() -> None:
    result = guard("--stall", "off", "--stall-after", "9", "--", "true")

    assert result.returncode == 2
    assert b"error: --stall-after has no effect with --stall off\n" in result.stderr


# Who looks


@pytest.mark.parametrize(
    ("script", "clause"),
    [
        (
            "echo 'Error: Permission Denied: Try running again as root' >&2; exit 1",
            "; py-spy is not permitted here",
        ),
        ("echo nonsense", "; py-spy: Expecting value"),
        ("echo '[{}]'", "; py-spy: 'frames'"),
        ("echo why >&2; exit 1", "; py-spy: why"),
        ("exit 1", "; py-spy: failed"),
        ("kill -9 $$", "; py-spy: failed"),
    ],
)
def test_without_a_stack_the_kernels_view_is_told_and_why(
    start, fifo, tmp_path, script, clause
) -> None:
    plain = ("--stall-after", "1", "--main-guard", "off")  # no harness: it cannot say it itself
    run = start(READS, str(fifo), guard=plain, PATH=tool(tmp_path, script))
    said = run.until(" fix: put the file")
    feed(fifo)
    run.ends()

    assert f"waits for somebody to write to a FIFO [open of {fifo}, a FIFO]{clause}" in said


@pytest.mark.parametrize(
    ("said", "scope", "clause"),
    [
        (
            "Error: Permission Denied: Try running again with elevated permissions",
            1,
            "py-spy is not permitted here (ptrace_scope 1): sysctl kernel.yama.ptrace_scope=0",
        ),
        (
            "Error: Operation not permitted (os error 1)",
            0,
            "py-spy is not permitted here: docker run --cap-add SYS_PTRACE, or as root",
        ),
        ("Error: No such process\n\n", 1, "py-spy: Error: No such process"),
    ],
)
def test_where_stacks_may_not_be_read_the_way_out_is_told(said, scope, clause) -> None:
    assert stacks.refusal(said, scope) == clause


def looker(run: Run, hangs: Path) -> int:
    """The pid of a py-spy that hangs, when it does."""
    return int(wait_for(lambda: hangs.exists() and hangs.read_text(), "it looks"))


def test_who_looks_ends_with_the_run(start, fifo, tmp_path) -> None:
    hangs = tmp_path / "hangs"
    run = start(READS, str(fifo), PATH=tool(tmp_path, f"echo $$ > {hangs}; exec sleep 1000"))
    pid = looker(run, hangs)
    feed(fifo)

    assert run.ends()[0] == 0
    gone([pid])
    assert [f["fact"].partition(" for ")[0] for f in found()] == [
        "no output, reading, CPU or GPU use"
    ]


def test_signals_do_not_wait_for_who_looks(start, fifo, tmp_path) -> None:
    hangs = tmp_path / "hangs"
    run = start(READS, str(fifo), PATH=tool(tmp_path, f"echo $$ > {hangs}; exec sleep 1000"))
    pid = looker(run, hangs)
    run.process.terminate()

    assert run.ends()[0] == 128 + signal.SIGTERM
    gone([pid])


def pipes(pid: int) -> set[str]:
    """Those that a process holds."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(link))
    return {name for name in found if name.startswith("pipe:")}


def test_who_looks_holds_nothing_of_the_guards(start, fifo, tmp_path) -> None:
    """A pipe that stays open would hide the guard's death from the keeper, or the end from a reader."""
    looks = tmp_path / "looks"
    script = f"echo $PPID > {looks}.new; mv {looks}.new {looks}; exec sleep 1000"
    run = start(READS, str(fifo), PATH=tool(tmp_path, script))
    pid = looker(run, looks)
    shared = pipes(pid) & pipes(run.process.pid)
    held = pipes(run.process.pid)
    feed(fifo)
    run.ends()

    assert len(shared) == 2, "stderr, and that of the answer"
    assert len(held) >= 5


def test_a_guard_that_is_killed_takes_who_looks_with_it(start, fifo, tmp_path) -> None:
    hangs = tmp_path / "hangs"
    run = start(READS, str(fifo), PATH=tool(tmp_path, f"echo $$ > {hangs}; exec sleep 1"))
    pid = looker(run, hangs)
    (above,) = (child for child in children(run.process.pid) if pid in children(child))
    run.process.kill()

    gone([above, pid])
    assert run.process.wait(PATIENCE) == -signal.SIGKILL


# What is read of a process


@contextmanager
def python(code: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python that has said one line."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def look(pid: int, tool: str | None = None) -> stacks.Stack:
    tool = stacks.find_tool("", "") if tool is None else tool
    (one,) = stacks.look([pid], tool, REDACTOR)
    return one


THREADS = """
import threading, sys
def waits(): event.wait()
event = threading.Event()
threading.Thread(target=waits, name="T\\x1b[2J").start()
def outer(): sys.stdin.read()
print("", flush=True)
outer()
"""


def test_all_threads_of_a_process_are_read_and_none_is_stopped() -> None:
    with python(THREADS) as process:
        wait_for(lambda: look(process.pid).waits.startswith("read of pipe:["), "it reads")
        one = look(process.pid)
        assert process.poll() is None

    assert [frame.function for frame in one.main][:2] == ["outer", "<module>"]
    assert {"MainThread", "T\x1b[2J"} == {thread.name for thread in one.threads}
    assert one.waits.startswith("read of pipe:[")
    assert (one.state, one.problem) == ("", "")


def test_a_stopped_process_is_read_all_the_same() -> None:
    with python(THREADS) as process:
        wait_for(lambda: look(process.pid).waits.startswith("read of pipe:["), "it reads")
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: look(process.pid).stopped, "it is stopped")
        assert look(process.pid).main[0].function == "outer"


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("print(1, flush=True); open('fifo')", "open of {folder}/fifo, a FIFO"),
        ("print(1, flush=True); open('{folder}/fifo')", "open of {folder}/fifo, a FIFO"),
        (
            "f = open('fifo', 'rb+', 0); print(1, flush=True); f.read(1)",
            "read of {folder}/fifo, a FIFO",
        ),
        (
            "import fcntl; f = open('lock'); print(1, flush=True); fcntl.flock(f, fcntl.LOCK_EX)",
            "flock of {folder}/lock",
        ),
        ("import time; print(1, flush=True); time.sleep(1000)", "sleep"),
        ("import signal; print(1, flush=True); signal.pause()", "pause"),
        ("import select; print(1, flush=True); select.poll().poll()", "poll"),
    ],
)
def test_what_a_process_waits_for_by_the_kernel(tmp_path, monkeypatch, code, waits) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with Path("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with python(code.replace("{folder}", str(tmp_path))) as process:
            expected = waits.replace("{folder}", str(tmp_path))
            wait_for(lambda: look(process.pid).waits == expected, f"it waits: {expected}")


def test_a_title_is_the_command_with_its_secrets_masked() -> None:
    with python(
        "print(1, flush=True); input()", "--api-key", "pass1", "x" * 200, "\x1b[2J"
    ) as process:
        title = look(process.pid).title

    assert title.startswith(f"{Path(sys.executable).name} -c print(")
    assert len(title) < 80
    assert "pass1" not in title
    assert title.isprintable()


def test_processes_that_are_gone_are_left_out() -> None:
    with python("print(1, flush=True)") as process:
        process.wait(PATIENCE)
        assert stacks.look([process.pid, 2**22 + 1], "", REDACTOR) == []


def test_without_py_spy_the_way_to_it_is_told() -> None:
    with python("print(1, flush=True); input()") as process:
        (one,) = stacks.look([process.pid], "", REDACTOR)

    assert one.threads == ()
    assert one.problem == "its Python stack is not known: pip install py-spy"


HARNESS = str(ROOT / "vllm_guard/inside/harness.py")
LOCKS = """
import multiprocessing, os, sys, threading
def waits_for_ever(lock):
    lock.acquire(); print(os.getpid(), flush=True)
    lock.acquire()
def child():
    waits_for_ever(threading.Lock())
if __name__ == "__main__":
    how = sys.argv[1]
    if how == "main":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        waits_for_ever(threading.Lock())
    process = multiprocessing.get_context(how).Process(target=child, daemon=True)
    process.start()
    process.join()
"""


@contextmanager
def by_harness(
    tmp_path: Path, code: str, *words: str, options: tuple[str, ...] = ("--stacks", "yes")
) -> Iterator[int]:
    """The pid that a script under the harness has told."""
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, HARNESS, *options, str(script), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["main", "fork", "spawn"])
def test_without_py_spy_a_script_and_its_children_write_their_stacks(tmp_path, how) -> None:
    with by_harness(tmp_path, LOCKS, how) as pid:
        wait_for(lambda: look(pid, "").waits == "lock", "it waits")
        first, second = look(pid, ""), look(pid, "")

    assert str(first.main[0]) == "waits_for_ever (script.py:5)"
    assert (first.problem, first.waits) == ("", "lock")
    assert second.threads == first.threads, "it is asked as often as one likes"
    assert len(first.threads) == 1 + (how == "main")


@pytest.mark.parametrize(
    "code",
    [
        "os.execv('/bin/sleep', ['sleep', '60'])",
        "os.close(1000)\nsignal.pause()",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [53])\nsignal.pause()",
        "signal.signal(53, signal.SIG_DFL)\nsignal.pause()",
        "os.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["exec", "closed", "blocked", "default", "stopped"],
)
def test_who_would_not_answer_is_not_asked(tmp_path, code) -> None:
    said = "import os, signal\nprint(os.getpid(), flush=True)\n"
    with by_harness(tmp_path, f"{said}{code}\n") as pid:
        wait_for(lambda: state(pid)["State"][0] in "ST" and not runs_python(pid, code), "it stands")
        one, after = look(pid, ""), state(pid)

    assert one.threads == ()
    lacks = "its Python stack is not known: pip install py-spy"
    assert one.problem == ("" if "exec" in code else lacks)
    assert after["State"][0] in "ST"
    assert not (int(after["SigPnd"], 16) | int(after["ShdPnd"], 16)) >> 52 & 1


def test_a_script_that_nobody_watches_is_left_as_it_is(tmp_path) -> None:
    with by_harness(tmp_path, LOCKS, "spawn", options=()) as pid:
        wait_for(lambda: look(pid, "").waits == "lock", "it waits")
        one, fds = look(pid, ""), os.listdir(f"/proc/{pid}/fd")

    assert one.problem == "its Python stack is not known: pip install py-spy"
    assert "1000" not in fds


def state(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def runs_python(pid: int, code: str) -> bool:
    """Has it not come to where it stands?"""
    if "exec" in code:
        return Path(f"/proc/{pid}/comm").read_text() != "sleep\n"
    number = Path(f"/proc/{pid}/wchan").read_text()
    return ("STOP" in code and state(pid)["State"][0] != "T") or "pipe" in number


def test_a_signal_that_is_ignored_already_is_left_alone(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\nprint(signal.getsignal(53) is signal.SIG_IGN)\nos.fstat(1000)\n"
    )
    ignores = "import os, signal, sys; signal.signal(53, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", ignores, sys.executable, HARNESS, str(script)]
    done = subprocess.run(command, capture_output=True, check=False)

    assert done.stdout == b"True\n"
    assert b"Bad file descriptor" in done.stderr


def test_under_the_guard_the_frame_is_named_without_py_spy(start, tmp_path) -> None:
    code = f"""import threading
def waits(lock):
    lock.acquire()
lock = threading.Lock()
lock.acquire()
{LOADING}waits(lock)
"""
    run = start(code, PATH=tool(tmp_path, "exit 1"))
    said = run.until("; stacks: ")

    assert " in waits (script.py:3)" in said


def test_py_spy_is_looked_for_beside_the_commands_interpreter_too(tmp_path) -> None:
    path = tool(tmp_path, "true").partition(":")[0]

    assert stacks.find_tool("/nowhere", f"{path}/python3") == f"{path}/py-spy"
    assert stacks.find_tool(path, "") == f"{path}/py-spy"
    assert stacks.find_tool("", "") == str(Path(sys.executable).with_name("py-spy"))


# What vLLM writes itself


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (("--watchdog-config", '{"dump_dir": "/x", "timeout": 60}'), "/x"),
        (('--watchdog-config={"dump_dir": "x"}',), f"{os.getcwd()}/x"),
        (("--watchdog_config.dump_dir", "/x"), "/x"),
        (("--watchdog-config", '{"timeout": 60}'), ""),
        (("--watchdog-config", '{"dump_dir": 1}'), ""),
        (("--watchdog-config", "[]"), ""),
        (("--watchdog-config", "{"), ""),
        ((), ""),
    ],
)
def test_where_vllms_own_watchdog_writes(words, folder) -> None:
    target = Target("/usr/bin/python3", "vllm-cli", "serve", 2)
    argv = ("vllm", "serve", "/model", *words)
    context = Context(argv, {}, {}, target, (), (), Shelf({}))

    assert watching.dumps(context) == folder


# The GPUs


def test_a_gpu_that_computes_is_a_sign_of_life(nvml_library, tmp_path, monkeypatch) -> None:
    described = tmp_path / "gpus"
    monkeypatch.setenv("FAKE_NVML", str(described))
    monkeypatch.setattr(gpu, "has_driver", lambda host: True)
    for text, busy in (
        ("device 0\nbusy 0\ndevice 1\nbusy 3\n", True),
        ("device 0\nbusy 0\n", False),
        ("device 0\ndevice 1\nerror handle 15\n", False),
        ("init 9\n", False),
    ):
        described.write_text(text)
        with nvml_from(nvml_library):
            assert gpu.Meter().busy() is busy


def test_of_a_program_that_is_no_python_none_is_said_to_be_lacking() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        wait_for(lambda: look(process.pid, "").waits == "sleep", "it sleeps")
        one = look(process.pid, "")
        process.kill()

    assert (one.title, one.threads, one.problem) == ("sleep 1000", (), "")
