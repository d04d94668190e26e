"""A clean world for every test, and proof afterwards that the test left nothing behind.

Each test gets a HOME and a TMPDIR of its own, and an environment without anybody's vLLM variables. What it
starts carries `VGUARD_TEST_MARK`, so that leftovers are found even after a double fork, and other
people's processes on the same machine are not taken for them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kit import children, environ_of, is_alive, machine
from vllm_guard import cgroup

MARK = "VGUARD_TEST_MARK"
SHARED_HOME = "VGUARD_TEST_SHARED_HOME"  #: set it where other guards of the same user run meanwhile
REAL_VLLM = "VGUARD_TEST_VLLM"  #: a virtual environment with vLLM, for the tests marked `vllm`
KEPT = "VGUARD_TEST_"
STRIPPED = (
    *("VLLM_", "NCCL_", "VGUARD_", "XDG_"),
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"),
)
OURS = (".cache/vllm-guard", ".config/vllm-guard", ".local/state/vllm-guard")
SHM = Path("/dev/shm")
PATIENCE = 2.0  #: seconds that something on its way out may take

settings.register_profile("guard", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "guard"))

_failed = pytest.StashKey[bool]()
_collected = tempfile.TemporaryDirectory(
    prefix="vgcache"
)  #: for what test files read while they are loaded


def pytest_unconfigure() -> None:
    _collected.cleanup()


def pytest_configure() -> None:
    """Under nohup, or as a background job of a script, we ignore signals that our commands must not."""
    for number, handler in (
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    os.environ["XDG_CACHE_HOME"] = _collected.name  # until `real_home`


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("vllm") and REAL_VLLM not in os.environ:
        pytest.skip(f"{REAL_VLLM} names no environment with vLLM")


@pytest.fixture(scope="session", autouse=True)
def real_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of ours may be written in the user's own home; between tests HOME is an empty folder."""
    tmp_path_factory.getbasetemp()  # settled before TMPDIR changes
    homes = {Path(os.environ.get("HOME", "/")), Path(pwd.getpwuid(os.getuid()).pw_dir)}
    before = {home: _contents(home) for home in homes}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as empty:
        _strip(patch)
        patch.setenv("HOME", empty)
        yield
    written = {path for home in homes for path in _contents(home) - before[home]}
    if written and SHARED_HOME not in os.environ:
        pytest.fail(f"written in the real HOME: {sorted(written)}", pytrace=False)


@pytest.fixture(autouse=True)
def clean_world(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder that holds this test's HOME and TMPDIR."""
    world = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    home, temporary = world / "home", world / "tmp"
    home.mkdir()
    temporary.mkdir()
    mark = os.urandom(8).hex()
    before = _Before()
    with pytest.MonkeyPatch.context() as patch:
        _strip(patch)
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(temporary))
        patch.setenv(MARK, mark)
        yield world
    left = before.left_behind(mark)
    left += [f"folder {path}" for path in temporary.glob("vg-*")]
    shutil.rmtree(world, ignore_errors=True)
    if left and not request.node.stash.get(_failed, False):
        pytest.fail("the test left behind: " + "; ".join(left), pytrace=False)


class _Before:
    """What there was before the test."""

    def __init__(self) -> None:
        self._pids = _pids()
        self._children = set(children(os.getpid()))
        self._segments = _segments()
        self._fds = _fds()
        self._cgroups = _cgroups()

    def left_behind(self, mark: str) -> list[str]:
        """What there is now and should not be, in words; processes are ended."""
        processes = _settled(lambda: self._processes(mark))
        left = [_describe(pid) for pid in sorted(processes)]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in set(children(os.getpid())) - self._children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        left += [f"segment {path}" for path in sorted(_settled(self._new_segments))]
        cgroups = _settled(lambda: self._new_cgroups(mark))
        left += [f"cgroup {path}" for path in sorted(cgroups)]
        for path in cgroups:
            cgroup.remove(path)
        if self._new_fds():
            gc.collect()
        left += [f"descriptor {fd} of {target}" for fd, target in sorted(self._new_fds())]
        return left

    def _processes(self, mark: str) -> set[int]:
        """Children of the test, zombies included, and whoever carries its mark."""
        carriers = {pid for pid in _pids() - self._pids if _mark_of(pid) == mark}
        return carriers | (set(children(os.getpid())) - self._children)

    def _new_cgroups(self, mark: str) -> set[str]:
        """Cgroups of runs, but those that somebody else's run lives in."""
        new = _cgroups() - self._cgroups
        return {path for path in new if all(_mark_of(pid) == mark for pid in cgroup.pids(path))}

    def _new_segments(self) -> set[Path]:
        """Files of /dev/shm that no process of somebody else's test has mapped."""
        new = _segments() - self._segments
        return new - _mapped() if new else new

    def _new_fds(self) -> set[tuple[int, str]]:
        return _fds() - self._fds


def _strip(patch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(STRIPPED) and not name.startswith(KEPT):
            patch.delenv(name)


def _settled(look: Callable[[], set]) -> set:
    """What `look` finds, once it finds nothing or has had time to."""
    deadline = time.monotonic() + PATIENCE
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _mark_of(pid: int) -> str:
    try:
        return environ_of(pid).get(MARK, "") if is_alive(pid) else ""
    except OSError:
        return ""


def _describe(pid: int) -> str:
    try:
        words = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
        run = environ_of(pid).get("VGUARD_RUN_ID", "none")
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({words.strip() or 'a zombie'}; VGUARD_RUN_ID {run})"


def _segments() -> set[Path]:
    found = set()
    for path in SHM.glob("*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid():
                found.add(path)
    return found


def _mapped() -> set[Path]:
    """Files of /dev/shm that some process has mapped."""
    found = set()
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
            lines = (line.partition(b" /dev/shm/") for line in maps)
            found |= {SHM / os.fsdecode(name.strip()) for _, found_it, name in lines if found_it}
    return found


def _cgroups() -> set[str]:
    """The cgroups of runs."""
    above = Path(cgroup.place("x")).parent
    return {str(path) for path in above.glob("vllm-guard-*")}


def _fds() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return found


def _contents(home: Path) -> set[tuple[str, int]]:
    paths = (path for folder in OURS for path in (home / folder).rglob("*"))
    found = set()
    for path in paths:
        with contextlib.suppress(OSError):
            found.add((str(path), path.lstat().st_mtime_ns))
    return found


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libnvidia-ml.so.1 that says what a test wants."""
    return machine.compile_nvml(tmp_path_factory.mktemp("nvml"))
