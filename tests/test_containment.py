"""What holds the processes of a run: a cgroup of its own, the keeper, or, where both are refused, less."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit import (
    GUARD,
    PATIENCE,
    Lines,
    children,
    gone,
    guard_env,
    is_alive,
    kill_at_once,
    program,
    wait_for,
)
from vllm_guard import cgroup

#: Not in a user namespace: a process of one cannot be looked at from another.
HIDDEN = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]
PREFIXES = {"cgroup": [], "keeper": HIDDEN, "group": [*HIDDEN, *program("refuse")]}
STATE = ".local/state/vllm-guard"


class Contained:
    """Starts guards on a host that has just that containment."""

    def __init__(self, how: str, stdout: str, home: Path) -> None:
        self.how = how
        self._prefix = PREFIXES[how]
        self._pty = stdout == "pty"
        self._home = home
        self._open: list[int] = []

    def run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        process, lines = self.start(*words)
        _, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(words, process.returncode, lines.rest(), err)

    def start(self, *words: str) -> tuple[subprocess.Popen[bytes], Lines]:
        ours, theirs = pty.openpty() if self._pty else os.pipe()
        process = subprocess.Popen(
            [*self._prefix, *GUARD, *words],
            env=guard_env(),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(theirs)
        self._open.append(ours)
        return process, Lines(ours)

    def record(self) -> dict:
        (path,) = (self._home / STATE).glob("runs/*/run.json")
        return json.loads(path.read_text())

    def markers(self) -> list[Path]:
        return list((self._home / STATE).glob("active/*"))

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)


@pytest.fixture(params=["cgroup", "keeper", "group"])
def how(request: pytest.FixtureRequest) -> str:
    if request.param == "cgroup" and not cgroup.place("x"):
        pytest.skip("no cgroup (v2) was delegated to this user")
    if request.param != "cgroup" and os.geteuid() != 0:
        pytest.skip("hiding the cgroups needs root")
    return request.param


@pytest.fixture(params=["pipe", "pty"])
def contained(how: str, request: pytest.FixtureRequest, clean_world: Path):
    contained = Contained(how, request.param, clean_world / "home")
    yield contained
    contained.close()


def hydra(lines: Lines) -> list[int]:
    lines.until(b"\n")
    return [int(word) for word in lines.seen.split()[1:]]


def test_escapees_die_with_the_run_and_are_counted(contained: Contained) -> None:
    result = contained.run("-v", "--", *program("hydra", 6))

    pids = [int(word) for word in result.stdout.split()[1:]]
    assert (result.returncode, len(pids)) == (7, 6)
    assert not any(is_alive(pid) for pid in pids)
    assert b"6 processes outlived it: ended" in result.stderr
    assert contained.record()["containment"] == contained.how
    assert result.stderr.count(b"note containment") == (contained.how == "group")


def test_a_process_whose_main_thread_has_ended_does_not_outlive_the_run(
    contained: Contained,
) -> None:
    """`ps` calls it a zombie; its other threads run on."""
    name = f"vgtest-{os.urandom(4).hex()}"
    ended = 'until grep -q "^State:.Z" /proc/$!/status; do sleep 0.01; done'
    script = f"{shlex.join(program('headless', name))} & {ended}"
    result = contained.run("-v", "--", "sh", "-c", script)

    assert not is_alive(int(result.stdout.split()[1]))
    assert not Path("/dev/shm", name).exists()
    assert (b"outlived it: ended" in result.stderr) or contained.how == "group"


@pytest.mark.parametrize("victim", ["guard", "keeper", "group"])
def test_death_of_the_guard_or_the_keeper_leaves_nothing(contained: Contained, victim: str) -> None:
    process, lines = contained.start("--", *program("hydra", 6, "stay"))
    pids = hydra(lines)
    (keeper,) = children(process.pid)
    everybody = [*pids, *children(keeper), keeper]

    os.kill({"guard": process.pid, "keeper": keeper, "group": -process.pid}[victim], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)

    gone(everybody)
    assert process.returncode == (125 if victim == "keeper" else -signal.SIGKILL)
    assert (b"was lost" in err) == (victim == "keeper")


def test_what_both_left_when_killed_is_removed_by_the_next_start(contained: Contained) -> None:
    process, lines = contained.start("--", *program("hydra", 6, "stay"))
    pids = hydra(lines)
    (keeper,) = children(process.pid)
    (main,) = [pid for pid in children(keeper) if os.getsid(pid) == process.pid]
    everybody = {*pids, main}
    wait_for(contained.markers, "the marker of the run")
    kill_at_once(keeper, process.pid)
    process.communicate(timeout=PATIENCE)
    assert all(is_alive(pid) for pid in everybody)

    result = contained.run("--", "true")

    assert result.returncode == 0
    assert b"note dead-run" in result.stderr
    assert b"ended 7 processes" in result.stderr
    gone(everybody)
    assert contained.markers() == []


def test_a_sweep_lets_the_resource_tracker_unlink_what_nobody_holds_any_more(
    contained: Contained,
) -> None:
    """Registered and let go of: no mapping and no open file tells whose it is."""
    script = (
        "import time\nfrom multiprocessing.shared_memory import SharedMemory\n"
        "memory = SharedMemory(create=True, size=1)\nmemory.close()\n"
        "print(memory.name, flush=True)\ntime.sleep(347)\n"
    )
    process, lines = contained.start("--", sys.executable, "-c", script)
    segment = Path("/dev/shm", lines.until(b"\n").decode().strip())
    (keeper,) = children(process.pid)
    wait_for(contained.markers, "the marker of the run")
    kill_at_once(keeper, process.pid)
    process.communicate(timeout=PATIENCE)
    assert segment.exists()

    result = contained.run("--", "true")

    assert b"note dead-run" in result.stderr
    assert not segment.exists()


@pytest.mark.parametrize("how", ["cgroup", "keeper"], indirect=True)
def test_a_fork_storm_ends_with_the_run(contained: Contained) -> None:
    life = {"cgroup": 0.001, "keeper": 0.1}[
        contained.how
    ]  # what /proc is too slow for, and what not
    process, lines = contained.start("--", *program("storm", 50, life))
    lines.until(b"ready")
    said = Lines(process.stderr.fileno())  # type: ignore[union-attr]
    begin = time.monotonic()
    for word in (b"passed on", b"to every process", b"SIGKILL to every"):
        process.terminate()
        said.until(word)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 128 + signal.SIGKILL
    assert storming() == []
    if contained.how == "cgroup":
        assert time.monotonic() - begin < 5.0


def storming() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        try:
            if b"kit/storm.py" in Path(f"/proc/{int(name)}/cmdline").read_bytes():
                found.append(int(name))
        except (OSError, ValueError):
            continue
    return [pid for pid in found if is_alive(pid)]


def test_daemons_that_may_live_on_are_in_no_cgroup_of_ours() -> None:
    script = "cat /proc/self/cgroup; setsid sleep 61 & echo pid $!"
    result = subprocess.run(
        [*GUARD, "--allow-daemon", "--", "sh", "-c", script],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    os.kill(int(result.stdout.split()[-1]), signal.SIGKILL)

    assert b"vllm-guard" not in result.stdout


@pytest.mark.parametrize("how", ["cgroup"], indirect=True)
def test_cgroups_that_the_command_made_are_removed_with_its_own(contained: Contained) -> None:
    script = (
        "own=/sys/fs/cgroup; [ -e $own/cgroup.procs ] || own=$own/unified; "
        'own=$own$(sed -n "s/^0:://p" /proc/self/cgroup); mkdir -p $own/a/b; '
        "(echo 0 > $own/a/b/cgroup.procs; exec setsid sleep 62) & exit 3"
    )
    assert contained.run("--", "sh", "-c", script).returncode == 3


def test_in_a_cgroup_that_was_once_killed_the_command_runs_all_the_same(tmp_path) -> None:
    """Linux 6.18 kills what is born from such a cgroup into another one."""
    above = Path(cgroup.place("x")).parent
    if not cgroup.place("x") or os.geteuid() != 0:
        pytest.skip("needs a cgroup (v2) to be made by root")
    old = above / f"vgtest-{os.urandom(4).hex()}"
    old.mkdir()
    os.setxattr(old, "user.delegate", b"1")
    (old / "cgroup.kill").write_text("1")
    enter = ["sh", "-c", f'echo 0 > {old}/cgroup.procs && exec "$@"', "sh"]
    words = [*enter, *GUARD, "--", "sh", "-c", "exit 9"]
    try:
        done = subprocess.run(
            words, env=guard_env(), stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE
        )
        assert list(old.glob("vllm-guard-*")) == []
    finally:
        cgroup.remove(str(old))

    assert done.returncode == 9


def test_nested_guards_have_nested_cgroups(how: str) -> None:
    show = ["sh", "-c", "sed -n s/^0:://p /proc/self/cgroup"]
    words = [*PREFIXES[how], *GUARD, "--", *GUARD, "--", *show]
    result = subprocess.run(
        words, env=guard_env(), stdin=subprocess.DEVNULL, capture_output=True, check=True
    )

    assert result.stdout.count(b"/vllm-guard-") == (2 if how == "cgroup" else 0)
