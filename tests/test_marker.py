"""Markers in the state folder: whose they are, what they may say, and when a run counts as dead."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit import (
    GUARD,
    PATIENCE,
    Lines,
    children,
    gone,
    guard,
    guard_env,
    is_alive,
    kill_at_once,
    plant_marker,
    start,
    wait_for,
)
from tests.test_supervision import _state
from vllm_guard import cgroup, marker

RUN = "20000101-000000-aa"
OTHER_BOOT = "11111111-2222-3333-4444-555555555555"
DEAD = f"{2**22 - 3} 0"


def private(world: Path, run_id: str = RUN) -> Path:
    folder = world / "tmp" / f"vg-{run_id}"
    folder.mkdir()
    (folder / "socket").touch()
    return folder


def state_of(run_id: str = RUN) -> str:
    rows = json.loads(guard("runs", "list", "--json").stdout)["runs"]
    return next(row["state"] for row in rows if row["id"] == run_id)


# ---- where it was made


@pytest.mark.parametrize(
    "rows",
    [
        {"pidns": "1"},
        {"host": "- elsewhere"},
        {"host": "- elsewhere", "boot": OTHER_BOOT},
        {"boot": ""},
    ],
    ids=["another container", "another host", "which was restarted", "made without /proc"],
)
def test_a_run_of_another_place_is_left_alone(rows: dict[str, str], clean_world: Path) -> None:
    folder = private(clean_world)
    path = plant_marker(RUN, private=str(folder), **rows)

    result = guard("--", "true")
    guard("runs", "clean", "--records")

    assert result.stderr == b""
    assert state_of() == "elsewhere"
    assert path.exists()
    assert (folder / "socket").exists()
    assert (_state() / "runs" / RUN).exists()
    shutil.rmtree(folder)


def test_a_run_from_before_a_reboot_is_dead(clean_world: Path) -> None:
    """A process has its guard's number by now."""
    folder = private(clean_world)
    start_time = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    rows = {"guard": f"{os.getpid()} {start_time}", "boot": OTHER_BOOT, "pidns": "1"}
    path = plant_marker(RUN, private=str(folder), **rows)

    assert b"removed 0 files of /dev/shm and its private folder" in guard("--", "true").stderr
    assert not path.exists()
    assert not folder.exists()


def test_a_living_run_in_a_pid_namespace_of_its_own_is_left_alone() -> None:
    words = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", *GUARD]
    process = subprocess.Popen(
        [*words, "--", "sh", "-c", "echo ready; cat"],
        env=guard_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready")

    assert guard("--", "true").stderr == b""
    out, _ = process.communicate(b"alive", timeout=PATIENCE)

    assert out == b"alive"
    assert process.returncode == 0


# ---- what it may say


@pytest.mark.parametrize("name", ["home", f"vg-{RUN}/..", f"other/../vg-{RUN}", f"vg-{RUN}x"])
def test_only_the_folder_of_that_run_is_taken_for_its_private_one(
    name: str, clean_world: Path
) -> None:
    plant_marker(RUN, private=f"{clean_world}/{name}")
    folder = Path(f"{clean_world}/{name}")
    (clean_world / f"vg-{RUN}").mkdir()
    (clean_world / "other").mkdir()
    folder.mkdir(exist_ok=True)

    assert b"no private folder" in guard("--", "true").stderr
    assert folder.exists()


def test_a_private_folder_that_is_a_link_is_not_followed(clean_world: Path) -> None:
    mine = clean_world / "mine"
    mine.mkdir()
    (mine / "file").touch()
    link = clean_world / f"vg-{RUN}"
    link.symlink_to(mine)
    plant_marker(RUN, private=str(link))

    assert b"no private folder" in guard("--", "true").stderr
    assert (mine / "file").exists()
    assert link.is_symlink()


@pytest.mark.parametrize(
    "path",
    [
        f"/tmp/vllm-guard-{RUN}",
        f"{cgroup.root()}/../../../tmp/vllm-guard-{RUN}",
        f"{cgroup.root()}/vllm-guard-{RUN}/..",
        f"{cgroup.root()}/vllm-guard-{RUN}-x",
        f"relative/vllm-guard-{RUN}",
    ],
)
def test_only_a_cgroup_of_that_run_is_taken_for_its_cgroup(path: str) -> None:
    content = plant_marker(RUN, cgroup=path).read_bytes()
    parsed = marker.parse(RUN, content)

    assert parsed is not None
    assert parsed.cgroup == ""


def test_what_a_marker_says_is_read_as_it_was_written() -> None:
    folder = f"/tmp/ä b/vg-{RUN}"
    content = marker.text(folder, f"{cgroup.root()}/a/vllm-guard-{RUN}", {7, 5})
    before = marker.parse(RUN, content)
    after = marker.parse(RUN, content + marker.keeper_line(os.getpid()))
    torn = marker.parse(RUN, content + marker.keeper_line(os.getpid())[:-2])

    assert before is not None
    assert after is not None
    assert (before.private, before.present) == (folder, {5, 7})
    assert bool(before.cgroup) == bool(cgroup.root())
    assert (before.guard, before.keeper) == (after.keeper, (0, "0"))
    assert torn == before
    assert before.state == "running"


# ---- what is none


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def folder(path: Path) -> None:
    path.mkdir()


def without_start(path: Path) -> None:
    path.write_bytes(plant_marker(RUN, guard=f"{2**22 - 3} ?").read_bytes())


def letters(path: Path) -> None:
    path.write_bytes(b"guard x y\nkeeper\n\xff\xfe\n")


@pytest.mark.parametrize("plant", [fifo, device, huge, folder, without_start, letters])
def test_a_marker_that_cannot_be_read_is_said_to_be_and_left(plant) -> None:
    path = plant_marker("20000101-000000-ab")
    path.unlink()
    plant(path)
    plant_marker(RUN).unlink()

    assert guard("--", "true").stderr == b""
    assert state_of("20000101-000000-ab") == "unreadable"
    assert guard("runs", "clean", "--records").returncode == 0
    assert os.path.lexists(path)


# ---- a run that was killed before it had begun


STOP = """
import os, signal, sys
def hook(event, arguments):
    if event == {event!r} and {part!r} in str(arguments) and not seen:
        seen.append(1)
        os.kill(os.getpid(), signal.{name})
seen = []
sys.addaudithook(hook)
sys.argv[0] = "vllm-guard"
from vllm_guard import cli
cli.main()
"""
MOMENTS = {
    "with a marker": ("os.mkdir", "/vg-"),
    "with a folder": ("os.fork", ""),
}
STARTED = {
    "with a keeper": ("os.mkdir", "/vllm-guard/runs/"),
    "with a record": ("open", "/output.log"),
}


@pytest.fixture
def serve(tmp_path: Path):
    """The words that start a server with a private folder; `MOMENTS` end its guard."""
    module = tmp_path / "vllm/entrypoints/openai/api_server.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "vllm/__init__.py").touch()
    (tmp_path / "vllm/envs.py").touch()
    module.write_text(
        "import os, signal\nprint(os.environ['TMPDIR'])\nif 'STAY' in os.environ: signal.pause()\n"
    )
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    words = ["--preflight", "off", "--", *server]

    def run(program: Sequence[str] = GUARD, **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*program, *words],
            env=guard_env(**env),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


def struck(moment: str, name: str) -> list[str]:
    """The words of a guard that gets this signal then."""
    event, part = {**MOMENTS, **STARTED}[moment]
    return [sys.executable, "-c", STOP.format(event=event, part=part, name=name)]


def places(world: Path) -> list[str]:
    return [path.name for path in (*world.glob("tmp/vg-*"), *_state().glob("active/*"))]


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_guard_left_that_was_killed_at_its_start_is_removed_by_the_next(
    serve, moment: str, clean_world: Path
) -> None:
    assert serve(struck(moment, "SIGKILL")).returncode == -signal.SIGKILL
    left = places(clean_world)
    result = guard("--", "true")

    assert len(left) == 1 + (moment == "with a folder")
    assert b"note dead-run" in result.stderr
    assert places(clean_world) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
@pytest.mark.parametrize("moment", [*MOMENTS, *STARTED])
def test_a_signal_at_its_start_ends_the_run_and_leaves_nothing(
    serve, moment: str, name: str, clean_world: Path
) -> None:
    number = getattr(signal, name)
    ended = serve(struck(moment, name), STAY="1")

    by_python = (1,) * (name == "SIGINT")  # while Python itself starts, it exits with 1
    assert ended.returncode in (-number, 128 + number, *by_python)
    assert moment in MOMENTS or f"ended by {name} sent to vllm-guard".encode() in ended.stderr
    assert places(clean_world) == []


def test_a_run_that_is_starting_is_running_and_its_record_stays() -> None:
    """Stopped before it is known who its keeper is."""
    process = subprocess.Popen(
        [*struck("with a record", "SIGSTOP"), "--", "true"],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
    )
    os.waitpid(process.pid, os.WUNTRACED)
    (path,) = _state().glob("active/*")

    assert state_of(path.name) == "running"
    guard("runs", "clean", "--records")
    assert (_state() / "runs" / path.name).exists()
    process.send_signal(signal.SIGCONT)
    assert process.wait(PATIENCE) == 0
    assert not path.exists()


# ---- the private folder


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    subprocess.run(mount, check=True, timeout=PATIENCE)
    try:
        yield str(path)
    finally:
        subprocess.run(["umount", str(path)], check=True, timeout=PATIENCE)


def falls_back(result: subprocess.CompletedProcess[bytes]) -> bool:
    assert result.returncode == 0
    assert not os.path.exists(result.stdout.strip())
    return result.stdout.startswith(b"/tmp/vg-")


def test_a_tmpdir_that_will_not_do_does_not_hinder_the_run(serve, clean_world: Path) -> None:
    broken = clean_world / "a\nb"
    broken.mkdir()

    assert falls_back(serve(TMPDIR=str(broken)))
    assert falls_back(serve(TMPDIR=str(clean_world / "none")))
    assert falls_back(serve(TMPDIR=f"{clean_world}/home/../tmp"))
    with mounted(clean_world / "read-only", "ro") as path:
        assert falls_back(serve(TMPDIR=path))


def test_a_private_folder_that_cannot_be_made_is_a_message(serve, clean_world: Path) -> None:
    with mounted(clean_world / "full", "nr_inodes=1") as path:
        result = serve(TMPDIR=path)

    assert result.returncode == 125
    assert b"error: cannot make the folder" in result.stderr
    assert b"hint: set TMPDIR" in result.stderr
    assert places(clean_world) == []
    assert list(_state().glob("runs/*")) == []


# ---- from inside


def test_clean_from_inside_a_dead_run_spares_itself_and_who_called_it(clean_world: Path) -> None:
    """What it spared keeps the marker, so that nothing is forgotten."""
    answer = clean_world / "answer"
    clean = f"{{ {' '.join(GUARD)} runs clean; echo survived; }} >{answer} 2>&1"
    script = f"sleep 61 & echo started; read line; {clean}; read line"
    process = start("--", "sh", "-c", script, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    Lines(process.stdout.fileno()).until(b"started")
    (keeper,) = children(process.pid)
    (shell,) = children(keeper)
    (sleeper,) = children(shell)
    kill_at_once(keeper, process.pid)
    process.wait(PATIENCE)

    process.stdin.write(b"clean\n")
    process.stdin.flush()
    wait_for(lambda: answer.exists() and "survived" in answer.read_text(), "the end of clean")

    assert "ended 1 processes; left alone: 2 that this process belongs to" in answer.read_text()
    assert not is_alive(sleeper)
    assert is_alive(shell)
    assert b"ended 1 processes, " in guard("--", "true").stderr
    gone([shell])
    assert list(_state().glob("active/*")) == []
    process.communicate(timeout=PATIENCE)
