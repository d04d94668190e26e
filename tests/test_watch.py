"""What the guard does while a vLLM runs: phases told, ready told on, samples, the live line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.kit import (
    GUARD,
    PATIENCE,
    ROOT,
    Lines,
    gone,
    guard,
    guard_env,
    is_alive,
    start,
    wait_for,
)
from tests.test_terminal import screen
from vllm_guard import counters, progress, samples, voice
from vllm_guard.progress import Blobs, Line, Model
from vllm_guard.watch import Asked, Moment, Watch

LOG = tomli.loads((ROOT / "tests/data/phases/0.24.0.toml").read_text())["log"][0]
TEXT, EXPECTED = LOG["text"].encode(), LOG["expect"]
LOADS, TOOK = (
    b"INFO [x.py:1] Starting to load model m...\n",
    b"INFO [x.py:1] Loading weights took 1 s\n",
)
READY = b"INFO:     Application startup complete.\n"


class Server:
    """A program that writes what it is told, under the guard; it ends with its input."""

    def __init__(self, *words: str, **options: Any) -> None:
        options.setdefault("stdin", subprocess.PIPE)
        self.process = start(*words, "--", "cat", **options)
        assert self.process.stdout is not None
        self.out = Lines(self.process.stdout.fileno())
        self.err = Lines(self.process.stderr.fileno()) if self.process.stderr else self.out

    def writes(self, text: bytes) -> None:
        """It writes this, and all of it has come through the guard."""
        assert self.process.stdin is not None
        before = len(self.out.seen)
        self.process.stdin.write(text)
        self.process.stdin.flush()
        self.out.until(text, start=before)

    def ends(self) -> tuple[int, str]:
        """Its status, and all that the guard said."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = self.err.rest().decode()
        self.out.rest()
        return self.process.wait(PATIENCE), said


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers; none of them, and none of their pipes, outlives the test."""
    started: list[Server] = []

    def one(*words: str, **options: Any) -> Server:
        started.append(Server(*words, **options))
        return started[-1]

    yield one
    while started:
        with started.pop().process as process:
            process.kill()


@pytest.fixture
def record() -> Iterator[Any]:
    """Reads the record of the only run."""

    def read() -> dict[str, Any]:
        (path,) = Path(os.environ["HOME"], ".local/state/vllm-guard/runs").glob("*/run.json")
        return json.loads(path.read_text())

    return read


def told(said: str) -> list[str]:
    """The phases that the guard named."""
    lines = [line.removeprefix("vllm-guard: ") for line in said.splitlines()]
    named = [line.partition(" after ")[0] for line in lines if " after " in line]
    return [name.removeprefix("phase ") for name in named if name.startswith(("phase ", "ready"))]


def test_each_phase_is_one_line_and_ready_is_a_timeline(serve, record) -> None:
    server = serve("--progress")
    for line in TEXT.splitlines(keepends=True):
        server.writes(line)
    status, said = server.ends()

    assert status == 0
    assert server.out.seen == TEXT
    assert told(said) == EXPECTED
    (timeline,) = [line for line in said.splitlines() if "ready after" in line]
    assert ": import " in timeline
    assert [
        word.rsplit(" ", 2)[0] for word in timeline.partition(": import ")[2].split(", ")[1:]
    ] == [*EXPECTED[:-3]]
    phases = record()["phases"]
    assert [phase["name"] for phase in phases] == ["import", *EXPECTED]
    ends = [phase["started"] + phase["seconds"] for phase in phases]
    begins = [phase["started"] for phase in phases]
    assert begins[0] == 0
    assert begins[1:] == pytest.approx(ends[:-1], abs=0.002)
    shown = guard("runs", "show").stdout.decode()
    assert re.findall(r"(?:phases +|, )([a-z ]+) [0-9.]+ s", shown) == ["import", *EXPECTED]


@pytest.mark.parametrize(
    ("words", "speaks"),
    [
        (("-p", "stats", "--on-ready", "true"), True),
        (("-v", "--on-ready", "true"), True),
        (("--quiet-child",), True),
        (("--on-ready", "true"), False),
        (("-q", "--progress"), False),
        (("-q", "-p", "stats", "--on-ready", "true"), False),
        ((), False),
    ],
)
def test_phases_are_told_where_something_was_asked_of_the_guard(words, speaks) -> None:
    result = guard(*words, "--", "cat", input=TEXT, stdin=None)

    assert (told(result.stderr.decode()) == EXPECTED) is speaks
    assert speaks or told(result.stderr.decode()) == []


def test_without_a_sign_of_vllm_nothing_is_told_and_nothing_is_sampled(serve, record) -> None:
    server = serve("--progress")
    server.writes(b"INFO: started\n" * 100)
    status, said = server.ends()

    assert (status, told(said)) == (0, [])
    assert record()["phases"] == []
    assert record()["samples"] == ""


def test_a_line_of_ours_does_not_end_one_of_the_commands(serve) -> None:
    server = serve("--progress", stderr=subprocess.STDOUT)
    server.writes(b"Loading: 10%")
    server.writes(b" INFO [x.py:1] Starting to load model m...")
    server.out.until(b"vllm-guard: phase load")

    assert b"model m...\nvllm-guard: phase load" in server.out.seen
    server.writes(b"\n")
    server.ends()


def test_what_a_flood_of_output_brings_is_not_lost_after_it(serve) -> None:
    server = serve("--progress")
    for _ in range(40):
        server.writes(b"host:1:2 [0] NCCL INFO AllReduce: opCount 1a\n" * 5000)
    server.writes(LOADS)
    server.err.until(b"phase load")
    server.ends()


# Ready


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and how NOTIFY_SOCKET names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"{tmp_path}/notify" if request.param == "path" else f"vllm-guard-{os.getpid()}"
        listener.bind(name if request.param == "path" else f"\0{name}")
        listener.settimeout(PATIENCE)
        yield listener, name if request.param == "path" else f"@{name}"


def test_systemd_is_told_of_each_phase_and_that_it_is_ready(manager) -> None:
    listener, name = manager
    script = 'echo "$NOTIFY_SOCKET"; exec cat'
    words = (*GUARD, "--on-ready", "true", "--", "sh", "-c", script)
    env = guard_env(NOTIFY_SOCKET=name)
    result = subprocess.run(words, input=LOADS + READY, env=env, capture_output=True, check=True)

    assert result.stdout == f"{name}\n".encode() + LOADS + READY, (
        "the variable is the command's, too"
    )
    assert listener.recv(4096) == b"STATUS=load"
    assert listener.recv(4096).startswith(b"READY=1\nSTATUS=ready after ")


@pytest.mark.parametrize("address", ["/nowhere/notify", "@nobody", "vsock:2:1234", "x", ""])
def test_a_manager_that_does_not_listen_changes_nothing(address) -> None:
    env = guard_env(NOTIFY_SOCKET=address)
    result = guard("-q", "--on-ready", "true", "--", "cat", input=READY, stdin=None, env=env)

    assert (result.returncode, result.stdout, result.stderr) == (0, READY, b"")


def test_on_ready_runs_once_with_the_runs_environment_and_writes_to_stderr(serve, record) -> None:
    server = serve("--on-ready", 'echo "$VGUARD_RUN_ID $MARK"', "-e", "MARK=here")
    server.writes(READY * 3)
    server.err.until(b" here\n")
    status, said = server.ends()

    assert status == 0
    assert said.count(f"{record()['id']} here\n") == 1
    assert server.out.seen == READY * 3


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("exit 3", "exited 3"),
        ("kill -9 $$", "was killed by signal 9"),
        ("nonsense-x", "exited 127"),
    ],
)
def test_on_ready_that_fails_is_a_warning(serve, line, warning) -> None:
    server = serve("--on-ready", line)
    server.writes(READY)
    server.err.until(f"warn on-ready: {warning}\n".encode())

    assert server.ends()[0] == 0


def test_on_ready_ends_with_the_run(serve, tmp_path) -> None:
    pid = tmp_path / "pid"
    server = serve("--on-ready", f"echo $$ > {pid}; exec sleep 1000")
    server.writes(READY)
    wait_for(lambda: pid.exists() and pid.read_text(), "it runs")
    assert is_alive(int(pid.read_text()))
    assert server.ends()[0] == 0
    assert not is_alive(int(pid.read_text()))


def test_on_ready_that_ignores_sigterm_ends_all_the_same(serve, tmp_path) -> None:
    pid = tmp_path / "pid"
    server = serve("--on-ready", f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done")
    server.writes(READY)
    wait_for(lambda: pid.exists() and pid.read_text(), "it runs")
    assert server.ends()[0] == 0
    assert not is_alive(int(pid.read_text()))


def test_on_ready_dies_with_a_guard_that_is_killed(serve, tmp_path) -> None:
    pid = tmp_path / "pid"
    server = serve("--on-ready", f"echo $$ > {pid}; exec sleep 1000")
    server.writes(READY)
    wait_for(lambda: pid.exists() and pid.read_text(), "it runs")
    server.process.send_signal(signal.SIGKILL)
    gone([int(pid.read_text())])
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.process.wait(PATIENCE) == -signal.SIGKILL


def test_a_server_that_never_gets_ready_runs_nothing(tmp_path) -> None:
    failed = LOADS + b"INFO [core.py:1] [shutdown] EngineCore: trigger received signal=SIGTERM\n"
    result = guard("--on-ready", f"touch {tmp_path}/x", "--", "cat", input=failed, stdin=None)

    assert result.returncode == 0
    assert not (tmp_path / "x").exists()


# The output


def test_quiet_child_writes_to_the_record_only(record) -> None:
    script = "echo out; echo err >&2; echo out"
    result = guard("-q", "--quiet-child", "--", "sh", "-c", script)

    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert Path(record()["log"]).read_text() == "out\nerr\nout\n", "in their order"


def test_quiet_child_with_closed_streams(record) -> None:
    script = f"exec {' '.join(GUARD)} -q --quiet-child -- sh -c 'echo out; true' >&- 2>&-"
    done = subprocess.run(["sh", "-c", script], env=guard_env(), check=False)

    assert done.returncode == 0
    assert not record()["log"] or Path(record()["log"]).read_text() == ""


@pytest.mark.parametrize("option", [("--on-ready", "true"), ("--progress",), ("--quiet-child",)])
@pytest.mark.parametrize("without", ["--exec", "--no-watch", "--allow-daemon"])
def test_what_needs_the_output_is_refused_where_it_is_left_alone(option, without) -> None:
    result = guard(*option, without, "--", "true")

    assert result.returncode == 2
    assert f"error: {option[0]} has no effect with {without}\n".encode() in result.stderr


def test_the_live_line_stands_alone_and_goes_before_anything_else_is_written(tmp_path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    with screen(*GUARD, "--progress", "--", "cat", str(fifo)) as shown, fifo.open("wb", 0) as log:
        log.write(LOADS)
        shown.until("phase load")
        first = shown.until(" s in all")
        assert re.search(r"\r\x1b\[Kvllm-guard: load \d s; \d+ s in all$", first)
        log.write(b"half a line")
        shown.until("half a line")
        seen = len(shown.lines.seen)
        log.write(b", the other half\n")
        shown.until("the other half")
        between = shown.lines.seen[seen:]
        shown.until(" s in all")
        log.write(READY)
        shown.until("ready after")
        log.close()
        assert shown.ended() == 0
    text = shown.lines.seen.decode()

    assert "in all\r\x1b[Khalf a line, the other half" in text, "erased first, and not drawn within"
    assert between.startswith(b", the other half")
    assert "in all\r\x1b[KINFO:     Application startup complete." in text
    assert " s in all" not in text.partition("ready after")[2], "there is none once it is ready"


def moment(phase: str, seconds: float, read: int = 0, downloaded: int = 0) -> Moment:
    process = counters.Process(rss=0, cpu=0.0, read=read, asked=0, faults=0, stopped=False)
    return Moment(
        seconds=seconds,
        phase=phase,
        in_phase=seconds,
        is_ready=False,
        idle=0.0,
        downloaded=downloaded,
        foreground=True,
        late=False,
        gpu_busy=False,
        counters=counters.Counters({1: process}),
    )


def test_the_live_line_tells_what_was_read_or_downloaded_of_how_much(monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(voice, "live", lines.append)
    line = Line(Model(to_read=1 << 30, to_download=3 << 30))
    for at in (
        moment("import", 1.0, read=50 << 20),
        moment("load", 3.0, read=50 << 20),
        moment("download", 4.0, read=60 << 20, downloaded=100 << 20),
        moment("download", 6.0, read=60 << 20, downloaded=2 << 30),
        moment("load", 7.0, read=60 << 20),
        moment("load", 9.0, read=2108 << 20),
        moment("profile", 10.0, read=9 << 30),
    ):
        line.draw(at)

    assert lines == [
        "import 1 s; 1 s in all",
        "load 3 s; 3 s in all",
        "download 4 s, 100 MiB of 3.0 GiB downloaded, 1000 MiB/s; 4 s in all",
        "download 6 s, 2.0 GiB of 3.0 GiB downloaded, 974 MiB/s; 6 s in all",
        "load 7 s; 7 s in all",
        "load 9 s, 2.0 GiB of 4.0 GiB read from disk, 1.0 GiB/s; 9 s in all",
        "profile 10 s; 10 s in all",
    ]


# Samples and counters


def test_samples_tell_what_the_run_used(serve, record) -> None:
    server = serve("--progress")
    server.writes(LOADS)
    wait_for(lambda: list(Path(os.environ["HOME"]).rglob("samples.jsonl")), "the first sample")
    server.writes(READY)
    server.ends()
    path = Path(record()["samples"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]

    assert path.parent == Path(record()["log"]).parent
    assert path.stat().st_mode & 0o777 == 0o600
    assert [set(line) for line in lines] == [
        {"seconds", "phase", "processes", "rss", "cpu", "read", "gpus"}
    ]
    assert lines[0]["phase"] == "load"
    assert lines[0]["processes"] == 1
    assert 0 < lines[0]["rss"] < 1 << 30
    assert lines[0]["seconds"] < PATIENCE


def asked(**changes: Any) -> Asked:
    fields = {"script": False, "vllm": False, "speaks": False, "live": False, "on_ready": ""}
    fields |= {"env": {}, "guard_env": {}, "model": Model(), "stalls": None}
    return Asked(**(fields | changes))


def test_a_watch_without_vllm_is_never_due() -> None:
    watch = Watch(asked(), lambda data: None)
    watch.begin(os.getpid(), "")
    assert watch.due is None
    watch.keep(b"hello\n")
    assert watch.due is None
    watch.keep(LOADS)
    assert watch.due is not None
    watch.end()


def test_a_tick_tells_all_lookers_the_moment_and_finds_a_download(tmp_path) -> None:
    blobs = tmp_path / "blobs"
    watch = Watch(asked(vllm=True, model=Model(str(blobs))), lambda data: None)
    watch.begin(os.getpid(), str(tmp_path))
    moments: list[Any] = []
    watch.lookers.append(moments.append)

    def ticks() -> Any:
        watch.due = 0.0
        watch.tick(foreground=False)
        return moments[-1]

    first = ticks()
    assert (first.phase, first.is_ready, first.downloaded) == ("import", False, 0)
    watch.keep(LOADS)
    assert ticks().phase == "load"
    blobs.mkdir()
    (blobs / "abc.incomplete").write_bytes(b"x" * 1000)
    found = ticks()
    assert (found.phase, found.downloaded) == ("download", 1000)
    quiet = ticks()
    assert found.idle < quiet.idle, "what came is a sign of progress"
    watch.keep(TOOK)
    assert ticks().phase == "load"
    assert ticks().in_phase < ticks().seconds
    watch.end()
    assert [time.name for time in watch.times] == ["import", "load", "download", "load"]
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 1, "one each 5 s"


def test_a_server_that_listens_is_ready_although_it_does_not_say_so() -> None:
    engine = b"INFO [core.py:1] init engine (profile, create kv cache, warmup model) took 1 s\n"
    with socket.socket() as server, socket.socket() as other:
        server.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = (server.getsockname()[1], other.getsockname()[1])
        found = [Watch(asked(vllm=True, port=port), lambda data: None) for port in ports]
        for watch in found:
            watch.begin(os.getpid(), "")
        server.listen()
        for said in (LOADS, engine):
            for watch in found:
                watch.keep(said)
                watch.due = 0.0
                watch.tick(foreground=False)
        for watch in found:
            watch.end()

    assert [time.name for time in found[0].times] == ["import", "load", "api server", "ready"]
    assert found[1].times[-1].name == "api server", "somebody listened before"


def test_the_samples_of_a_year_do_not_fill_the_disk(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(samples, "LIMIT", 3)
    watch = Watch(asked(vllm=True), lambda data: None)
    watch.begin(os.getpid(), str(tmp_path))
    monkeypatch.setattr(samples, "STARTING", 0.0)
    for _ in range(5):
        watch.due = 0.0
        watch.tick(foreground=False)
    watch.end()

    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 3


def test_a_looker_that_breaks_ends_the_watch_and_not_the_run(capfd) -> None:
    def breaks(_: Moment) -> None:
        raise ValueError("what it says")

    watch = Watch(asked(vllm=True), lambda data: None)
    watch.begin(os.getpid(), "")
    watch.lookers.append(breaks)
    watch.due = 0.0
    watch.tick(foreground=False)

    assert watch.due is None
    assert "note watch: looks no more: ValueError: what it says" in capfd.readouterr().err
    watch.end()


def test_lines_that_a_vllm_repeats_while_it_waits_are_no_sign_of_life() -> None:
    waits = b"DEBUG 02:05:49 [utils.py:1407] Waiting for 1 local, 0 remote core engine proc(s) to start.\n"
    watch = Watch(asked(vllm=True), lambda data: None)
    watch.begin(os.getpid(), "")
    moments: list[Any] = []
    watch.lookers.append(moments.append)
    for output in (LOADS, waits, waits * 2 + b"\n", waits + b"and more\n"):
        watch.keep(output)
        watch.due = 0.0
        watch.tick(foreground=False)
    watch.end()
    idle = [moment.idle for moment in moments]

    assert idle[0] < idle[1] < idle[2] > idle[3]
    assert all(moment.late for moment in moments), "they were due at the boot of the machine"


def test_a_full_disk_ends_the_samples_and_not_the_run() -> None:
    watch = Watch(asked(vllm=True), lambda data: None)
    watch.begin(os.getpid(), "/proc/self/nowhere")
    watch.due = 0.0
    watch.tick(foreground=False)
    watch.end()

    assert watch.samples == ""


def test_the_processes_of_a_run_are_found_whoever_their_parent_is_by_now() -> None:
    """The shell's first child is orphaned; here nobody adopts it, under the guard the keeper does."""
    script = "sleep 1000 & echo $!; exec sleep 1000"
    tree = counters.Tree(os.getpid())
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        below = int(shell.stdout.readline())
        found = tree.read()
        assert {shell.pid, below} <= set(found.processes)
        shell.kill()
        shell.wait()
        found = tree.read()
        assert shell.pid not in found.processes
        assert below in found.processes
        os.kill(below, signal.SIGKILL)
    gone([below])


def test_counters_tell_memory_time_and_what_came_from_a_disk(tmp_path) -> None:
    code = (
        "import sys, time\nheld = bytearray(64 << 20)\n"
        "while time.process_time() < 0.2: pass\nprint('done', flush=True)\nsys.stdin.read()"
    )
    tree = counters.Tree(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own = tree.read().processes[process.pid]
        assert own.rss > 64 << 20
        assert 0.15 < own.cpu < 30
        assert own.read >= 0
        assert own.asked > 1000, "its own modules, at the least"
        assert not own.stopped
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: tree.read().stopped == {process.pid}, "it is stopped")
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: not tree.read().stopped, "it goes on")


def test_the_growth_of_a_models_blobs_counts_what_is_under_way(tmp_path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 10)
    blobs = Blobs(str(tmp_path))
    assert blobs.grown() == 0
    (tmp_path / "new.incomplete").write_bytes(b"x" * 7)
    assert blobs.grown() == 7
    (tmp_path / "new.incomplete").rename(tmp_path / "new")
    assert blobs.grown() == 7
    (tmp_path / "old").unlink()
    assert blobs.grown() == 0
    assert Blobs("").grown() == 0


def test_a_line_is_begun_anew_after_half_a_line_of_the_commands(capfd) -> None:
    voice.passed(ord("x"))
    voice.say("one")
    voice.say("two")
    voice.passed(ord("\n"))
    voice.say("three")

    assert capfd.readouterr().err == "\nvllm-guard: one\nvllm-guard: two\nvllm-guard: three\n"


@pytest.mark.parametrize("line", ["setsid sh -c '{}' & wait", "setsid sh -c '{}' &"])
def test_on_ready_does_not_outlive_the_run_in_another_session(serve, tmp_path, line) -> None:
    pid = tmp_path / "pid"
    server = serve("--on-ready", line.format(f"echo $$ > {pid}; exec sleep 1000"))
    server.writes(READY)
    wait_for(lambda: pid.exists() and pid.read_text(), "it runs")
    assert server.ends()[0] == 0
    gone([int(pid.read_text())])


def test_quiet_child_without_a_record_is_refused(tmp_path) -> None:
    (tmp_path / "file").touch()
    result = guard(
        "--quiet-child", "--", "echo", "x", env=guard_env(XDG_STATE_HOME=str(tmp_path / "file"))
    )

    assert result.returncode == 125
    assert b"error: --quiet-child: the output would be lost: " in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--stall", "repot"),
            "choose from report, kill, off\nvllm-guard: hint: did you mean report?",
        ),
        (("--stall", "bogus"), "--stall 'bogus': choose from report, kill, off\n"),
        *((("--stall-after", n), "is not a time in seconds\n") for n in ("1e9", "nan", "-1", "0")),
        (("--on-ready", ""), "--on-ready has an empty command\n"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_in_one_line(words, says) -> None:
    result = guard(*words, "--", "true")

    assert result.returncode == 2
    assert says in result.stderr.decode()


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (900, "900 B"), (52_000, "51 KiB"), (5 << 20, "5 MiB"), (3 << 29, "1.5 GiB")],
)
def test_a_size_is_told_in_a_unit_that_fits(size, words) -> None:
    assert progress._words(size) == words


@pytest.mark.parametrize(
    ("name", "value", "drawn"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_a_live_line_is_drawn_only_where_escapes_are_wanted(name, value, drawn) -> None:
    ours, theirs = os.openpty()
    code = "from vllm_guard import voice; voice.live('x'); voice.erase()"
    env = {"TERM": "xterm", "PATH": os.environ["PATH"], name: value}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, check=True, cwd=ROOT)
    os.write(theirs, b"end")
    said = Lines(ours).until(b"end")
    os.close(theirs)
    os.close(ours)

    assert said.endswith(b"end")
    assert (b"\x1b" in said) is drawn
    assert drawn or said == b"end"
