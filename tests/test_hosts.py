"""Odd hosts and odd starts: PID 1, no /proc, hidden processes, no room, no home, another user."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from tests.kit import (
    GUARD,
    PATIENCE,
    ROOT,
    Lines,
    children,
    gone,
    guard,
    guard_env,
    program,
    start,
    tree_of,
    under_way,
    wait_for,
)
from tests.test_supervision import _state, finish

NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount"]


def run_in(prefix: list[str], script: str, *words: str, **env: str) -> subprocess.CompletedProcess:
    """Run a shell script, then these words, behind a prefix such as `unshare`."""
    return subprocess.run(
        [*prefix, "sh", "-c", f'{script} exec "$@"', "sh", *words],
        env=guard_env(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


# ---- PID 1 of a container


def as_pid_1(*words: str) -> list[str]:
    return ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", *words]


@pytest.mark.parametrize("code", [0, 7])
def test_as_pid_1_orphans_are_reaped_and_the_status_is_passed_on(code: int) -> None:
    script = f"(sleep 0 & sleep 0 &) ; ps -o stat= | grep -c Z; exit {code}"

    result = subprocess.run(
        as_pid_1(*GUARD, "--", "sh", "-c", script),
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode == code
    assert result.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_pid_1_a_signal_ends_the_run_with_its_status(number: int) -> None:
    """PID 1 cannot die of a signal it sends itself: it exits with 128 + its number (K19)."""
    process = subprocess.Popen(
        as_pid_1(*GUARD, "--", *program("report_signals_default")),
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready")
    (pid_1,) = children(process.pid)
    os.kill(pid_1, number)
    process.wait(PATIENCE)
    process.stdout.close()

    assert process.returncode == 128 + number


# ---- a host that shows or gives less


def test_without_proc_the_command_runs_and_its_status_is_passed_on() -> None:
    result = run_in(NAMESPACES, "mount -t tmpfs none /proc &&", *GUARD, "--", "sh", "-c", "exit 5")

    assert result.returncode == 5
    assert b"Traceback" not in result.stderr


def test_without_dev_shm_nothing_is_missed() -> None:
    result = run_in(NAMESPACES, "umount -l /dev/shm;", *GUARD, "--", "sh", "-c", "exit 5")

    assert result.returncode == 5
    assert b"Traceback" not in result.stderr


def limited(**limits: int):
    """A pre-exec function that lowers resource limits."""

    def lower() -> None:
        for name, value in limits.items():
            kind = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(kind, (value, value))

    return lower


NOBODY = {"user": 54_321, "group": 54_321, "extra_groups": [], "cwd": "/"}


@pytest.fixture
def theirs(clean_world) -> list[str]:
    """The words that run the guard as a user who has no name, no home and none of our files."""
    site = clean_world / "site"
    shutil.copytree(ROOT / "vllm_guard", site / "vllm_guard")
    shutil.copytree(ROOT / "profiles", site / "vllm_guard/_profiles")
    packages = Path(tomli.__file__).parent.parent
    for package in ("tomli", "packaging"):
        shutil.copytree(packages / package, site / package)
    for library in packages.glob("*__mypyc*.so"):
        shutil.copy(library, site)
    for folder in (clean_world, site):
        folder.chmod(0o755)
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            subprocess.run([python, "-c", "import sys; assert sys.version_info > (3, 10)"],
                           check=True, capture_output=True, **NOBODY)  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return ["env", f"PYTHONPATH={site}", "HOME=/nonexistent", python, "-m", "vllm_guard"]
    pytest.skip("no Python on this machine that another user may run")


def as_nobody(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        words,
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **NOBODY,
        **options,
    )


def test_another_user_without_a_home_or_a_name_can_run(theirs) -> None:
    result = as_nobody(*theirs, "-p", "debug", "--", "sh", "-c", "echo $NCCL_DEBUG; exit 6")

    assert result.returncode == 6
    assert result.stdout == b"TRACE\n"
    assert result.stderr.count(b"no record is kept") == 1


def test_with_processes_of_others_hidden_the_escapees_are_ended(theirs) -> None:
    """/proc with hidepid=2; root would see all of it."""
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    prefix = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t proc -o hidepid=2 proc /proc && exec "$@"',
    ]
    escape = "setsid sleep 63 & setsid sh -c 'trap \"\" TERM; sleep 64' & ls -d /proc/1; exit 7"

    result = subprocess.run(
        [*prefix, "sh", *user, *theirs, "-v", "--", "sh", "-c", escape],
        env=guard_env(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    assert result.returncode == 7
    assert result.stdout == b""  # /proc/1 is hidden indeed
    assert b"processes outlived it: ended" in result.stderr


def test_a_process_limit_is_a_message_and_nothing_is_left(theirs) -> None:
    """Root has no such limit; another user has."""
    result = as_nobody(*theirs, "--", "true", preexec_fn=limited(NPROC=1))

    assert result.returncode == 125
    assert b"cannot start /" in result.stderr
    assert b"Resource temporarily unavailable" in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_home_that_is_read_only_is_one_note(tmp_path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = f"mount -t tmpfs -o ro none {home} &&"

    result = run_in(NAMESPACES, script, *GUARD, "--", "sh", "-c", "exit 4", HOME=str(home))

    assert result.returncode == 4
    assert result.stderr.count(b"note ") == 1


@pytest.mark.parametrize("limit", range(4, 16))
def test_too_few_descriptors_is_a_message_or_a_run_never_a_traceback(limit: int) -> None:
    result = subprocess.run(
        [*GUARD, "--", "sh", "-c", "exit 3"],
        env=guard_env(),
        preexec_fn=limited(NOFILE=limit),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode in (1, 3, 125)  # 1: Python itself could not start
    if result.returncode != 1:
        assert b"Traceback" not in result.stderr


def test_small_files_do_not_disturb_the_run() -> None:
    result = subprocess.run(
        [*GUARD, "--", "sh", "-c", "head -c 100000 /dev/zero; exit 3"],
        env=guard_env(),
        preexec_fn=limited(FSIZE=4096),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert (result.returncode, len(result.stdout)) == (3, 100_000)


# ---- odd starts


def test_a_working_folder_that_is_gone_is_passed_on_as_it_is(tmp_path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    script = f'cd {folder} && rmdir {folder} && exec "$@"'

    result = subprocess.run(
        ["sh", "-c", script, "sh", *GUARD, "--", "sh", "-c", "exit 4"],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode == 4
    assert b"vllm-guard" not in result.stderr  # the shells have their own words for it


def test_a_guard_whose_files_are_removed_meanwhile_gives_the_status_of_a_command_that_fails(
    tmp_path: Path,
) -> None:
    shutil.copytree(ROOT / "vllm_guard", tmp_path / "copy/vllm_guard")
    shutil.copytree(ROOT / "profiles", tmp_path / "copy/vllm_guard/_profiles")
    words = ("sh", "-c", "echo begun; read wait; exit 7")
    process = subprocess.Popen(
        [*GUARD, "--", *words],
        env=guard_env(PYTHONPATH=str(tmp_path / "copy"), PYTHONDONTWRITEBYTECODE="1"),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"\n")
    shutil.rmtree(tmp_path / "copy")
    _, err = process.communicate()

    assert process.returncode == 7
    assert b"not explained: " in err or b"the log may hold secrets: " in err


def test_a_guard_whose_files_are_removed_meanwhile_ends_well(tmp_path) -> None:
    shutil.copytree(ROOT / "vllm_guard", tmp_path / "copy/vllm_guard")
    shutil.copytree(ROOT / "profiles", tmp_path / "copy/vllm_guard/_profiles")
    process = subprocess.Popen(
        [*GUARD, "--", *program("hydra", 3)[:-1], "3", "stay"],
        env=guard_env(PYTHONPATH=str(tmp_path / "copy"), PYTHONDONTWRITEBYTECODE="1"),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"\n")
    everybody = list(tree_of(process.pid))
    shutil.rmtree(tmp_path / "copy")
    process.terminate()
    _, err = finish(process)

    gone(everybody)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in err


def test_a_guard_that_crashes_leaves_nothing() -> None:
    process = start("--", *program("hydra", 6, "stay"), preexec_fn=limited(CORE=0))
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"\n")
    everybody = list(tree_of(process.pid))
    process.send_signal(signal.SIGSEGV)
    finish(process)

    gone(everybody)
    assert process.returncode == -signal.SIGSEGV


def test_ctrl_c_before_the_start_is_130_and_nothing_was_started(tmp_path) -> None:
    slow = tmp_path / "python3"  # asked for its search path, it takes its time
    slow.write_text("#!/bin/sh\necho asked > asked\nexec sleep 60\n")
    slow.chmod(0o755)
    process = start("--", str(slow), "-c", "pass", cwd=tmp_path)
    wait_for((tmp_path / "asked").exists, "the interpreter is being asked")
    process.send_signal(signal.SIGINT)
    finish(process)

    assert process.returncode == -signal.SIGINT
    assert not list(_state().glob("runs/*"))


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_the_zombies_of_a_careless_command_are_reaped(count: int) -> None:
    code = (
        "import os, sys\n"
        f"for _ in range({count}):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: os._exit(0)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('made', flush=True)\nsys.stdin.read()"
    )
    process = start("--", sys.executable, "-S", "-c", code, stdin=subprocess.PIPE)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"made")
    (keeper,) = children(process.pid)
    wait_for(lambda: len(children(keeper)) == 1, "only the command is left")
    finish(process)

    assert process.returncode == 0


def test_three_guards_in_one_another_end_together_with_one_sigterm() -> None:
    words = [*GUARD, "--", *GUARD, "--", *program("hydra", 3, "stay")]
    process = start("--", *words)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"\n")
    everybody = list(tree_of(process.pid))
    process.terminate()
    finish(process)

    gone(everybody)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_outer_of_three_guards_killed_takes_all_with_it() -> None:
    words = [*GUARD, "--", *GUARD, "--", *program("hydra", 3, "stay")]
    process = start("--", *words)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"\n")
    everybody = list(tree_of(process.pid))
    process.kill()
    finish(process)

    gone(everybody)


def test_with_one_thread_only_is_forked() -> None:
    process = start("--", "cat", stdin=subprocess.PIPE)
    wait_for(under_way, "the start")
    (keeper,) = children(process.pid)
    threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in (process.pid, keeper)]
    finish(process)

    assert threads == [1, 1]


def test_the_record_of_every_kind_of_end_is_json(tmp_path) -> None:
    answer = tmp_path / "run.json"
    for words in (["true"], ["false"], ["sh", "-c", "kill -9 $$"], ["/nonexistent"]):
        guard("--json", str(answer), "--", *words)
        text = answer.read_text()
        assert not text or '"schema_version": 1' in text


def test_idle_is_idle() -> None:
    idle_for(3.0)


@pytest.mark.soak
def test_idle_is_idle_for_a_minute() -> None:
    idle_for(60.0)


def idle_for(seconds: float) -> None:
    """Guard and keeper of a sleeping command use no CPU time and are never scheduled."""
    process = start("--", "sh", "-c", "echo ready; exec sleep 600")
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready")
    (keeper,) = children(process.pid)
    pids = (process.pid, keeper)
    wait_for(lambda: all(_sleeps(pid) for pid in pids), "both wait")
    before = [_activity(pid) for pid in pids]
    subprocess.run(["sleep", str(seconds)], check=True)  # what is measured is that nothing happens
    after = [_activity(pid) for pid in pids]
    resident = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in pids) * 4096
    process.terminate()
    finish(process)

    assert after == before
    assert resident < 3 * _resident_of_python()


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _activity(pid: int) -> tuple[str, ...]:
    """CPU ticks (user, system) and voluntary context switches."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (switches,) = [line for line in status if line.startswith("voluntary_ctxt_switches")]
    return fields[11], fields[12], switches


def _resident_of_python() -> int:
    code = "print(open('/proc/self/statm').read().split()[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return int(done.stdout) * 4096
