"""Private folders and files: real ones, planted ones, and several processes at once."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit import guard_env
from vllm_guard import paths
from vllm_guard.errors import GUARD_FAILED, GuardError

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")


@pytest.mark.parametrize(
    ("kind", "default"), [("config", ".config"), ("state", ".local/state"), ("cache", ".cache")]
)
def test_each_kind_has_its_own_xdg_folder(kind: str, default: str) -> None:
    variable = f"XDG_{kind.upper()}_HOME"

    assert paths.base_dir(kind, {"HOME": "/h"}) == f"/h/{default}/vllm-guard"
    assert paths.base_dir(kind, {"HOME": "/h", variable: "/x"}) == "/x/vllm-guard"
    for ignored in ("", "x", "./x", "~/x"):
        env = {"HOME": "/h", variable: ignored}
        assert paths.base_dir(kind, env) == f"/h/{default}/vllm-guard"


@pytest.mark.parametrize("env", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_in_the_environment_it_is_the_password_databases(env) -> None:
    assert paths.home(env) == pwd.getpwuid(os.getuid()).pw_dir


def in_child(work: Callable[[], None], uid: int = NOBODY) -> int:
    """Status of `work` done as another user: 0 when it returned, 1 when it raised."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@as_root
def test_a_user_whom_the_database_does_not_know_has_no_home() -> None:
    def work() -> None:
        assert paths.home({}) == "/dev/null"

    assert in_child(work, uid=4_000_000) == 0


# ---- folders


def test_a_folder_that_is_private_already_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "a")

    assert paths.make_private(path) == paths.make_private(path) == path


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(OSError, match="not a private folder"):
        paths.make_private(str(path))


@as_root
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir(mode=0o700)
    os.chown(path, NOBODY, NOBODY)

    with pytest.raises(OSError, match="not a private folder"):
        paths.make_private(str(path))


MAKE = "import sys; from vllm_guard import paths; paths.make_private(sys.argv[1])"


def test_processes_that_make_the_same_folder_all_get_it(tmp_path: Path) -> None:
    deep = tmp_path / "a/b/c/d/e"
    running = [
        subprocess.Popen([sys.executable, "-c", MAKE, str(deep)], env=guard_env(), stderr=-1)
        for _ in range(4)
    ]

    assert [process.communicate(timeout=30)[1] for process in running] == [b""] * 4
    assert stat.S_IMODE(deep.stat().st_mode) == 0o700


# ---- writing


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    with pytest.raises(OSError, match="directory"):
        paths.write_private(str(tmp_path / "there"), b"x")

    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from vllm_guard import paths
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    paths.write_private(sys.argv[1], b"x" * 101)
except OSError as error:
    print(error.strerror)
"""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=guard_env(), capture_output=True, check=True
    )

    assert done.stdout == b"File too large\n"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


WRITE = """
import sys
from vllm_guard import paths
for turn in range(300):
    paths.write_private(sys.argv[1], bytes([65 + turn % 26]) * 200_000)
"""


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"A" * 200_000)
    writer = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], env=guard_env())

    while writer.poll() is None:
        content = path.read_bytes()
        assert content == content[:1] * 200_000
    assert writer.returncode == 0
    assert list(tmp_path.iterdir()) == [path]


# ---- reading


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def link(path: Path) -> None:
    path.with_name("target").write_bytes(b"x")
    path.symlink_to("target")


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def anybodys(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o602)


def nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("plant", "message", "hint"),
    [
        (fifo, "is not a regular file", ""),
        (folder, "is not a regular file", ""),
        (listening, "cannot read", ""),
        (sparse, "at most 10 are read", ""),
        (link, "is a symbolic link", "/target"),
        (broken_link, "is a symbolic link", "/nowhere"),
        (link_to_itself, "is a symbolic link", ""),
        (anybodys, "can be written by other users", "chmod go-w "),
        (nothing, "No such file", ""),
    ],
)
def test_what_is_no_private_regular_file_is_refused_at_once(plant, message, hint, tmp_path) -> None:
    path = tmp_path / "file"
    plant(path)

    with pytest.raises(GuardError) as caught:
        paths.read_regular(str(path), 10)

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == GUARD_FAILED


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/mem", "/proc/kmsg"])
def test_no_device_is_read(path: str) -> None:
    with pytest.raises(GuardError):
        paths.read_regular(path, 10)


def test_a_file_whose_size_the_kernel_does_not_tell_is_read_to_the_limit() -> None:
    with pytest.raises(GuardError, match="longer than 10 bytes"):
        paths.read_regular("/proc/self/status", 10)

    assert paths.read_regular("/proc/self/comm", 100).endswith(b"\n")


@as_root
@pytest.mark.parametrize(("owner", "status"), [(0, 0), (NOBODY, 0), (4_000_000, 1)])
def test_a_user_reads_their_own_files_and_roots(owner: int, status: int, clean_world: Path) -> None:
    path = clean_world / "file"
    path.write_bytes(b"x")
    path.chmod(0o644)
    os.chown(path, owner, owner)
    clean_world.chmod(0o755)

    assert in_child(lambda: print(paths.read_regular(str(path), 10))) == status


@as_root
def test_root_reads_no_other_users_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.chown(path, NOBODY, NOBODY)

    with pytest.raises(GuardError, match=f"belongs to uid {NOBODY}, not to you or root"):
        paths.read_regular(str(path), 10)


@as_root
def test_a_shared_group_is_somebody_else_and_a_private_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o664)
    assert paths.read_regular(str(path), 10) == b"x"

    os.chown(path, -1, NOBODY)
    with pytest.raises(GuardError, match="can be written by other users"):
        paths.read_regular(str(path), 10)


@as_root
def test_a_file_that_may_not_be_read_is_refused(clean_world: Path) -> None:
    path = clean_world / "file"
    path.write_bytes(b"x")
    path.chmod(0o600)
    clean_world.chmod(0o755)

    def work() -> None:
        with pytest.raises(GuardError, match=r"cannot read .*: Permission denied"):
            paths.read_regular(str(path), 10)

    assert in_child(work) == 0


def test_a_descriptor_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert paths.read_fd(fd, 4) == b"0123"
        assert paths.read_fd(fd, 0) == b""
        assert paths.read_fd(fd, 100) == b"456789"
        assert paths.read_fd(fd, 100) == b""
    finally:
        os.close(fd)
