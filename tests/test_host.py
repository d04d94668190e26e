"""The machine as its files tell it: real ones by the kernel's own tools, described ones by a folder."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from vllm_guard import sockets
from vllm_guard.host import Host, Limit, Mount, Port, Space


def write(root: Path, **files: str) -> Host:
    """A host with these files; `__` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(str(root))


# ---- the real one


def test_the_memory_is_that_of_sysconf() -> None:
    memory = Host().memory()

    assert memory is not None
    assert memory.total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.available <= memory.total


def test_the_limits_are_those_of_getrlimit() -> None:
    expected = [
        None if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    ]

    assert Host().limits("Max open files") == tuple(expected)


def test_the_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    info = os.statvfs(tmp_path)

    found = Host().space(str(tmp_path / "not/yet/there"))

    assert found is not None
    assert found.total == info.f_blocks * info.f_frsize


def test_what_is_mounted_at_proc() -> None:
    mount = Host().mount_of("/proc/self")

    assert mount is not None
    assert mount.kind == "proc"


def test_this_process_is_told() -> None:
    found = Host().process(os.getpid())

    assert found is not None
    assert found.parent == os.getppid()
    assert "pytest" in found.title


def test_a_process_that_is_not_there() -> None:
    assert Host().process(2**22 - 3) is None


def test_the_kernel_log_ends() -> None:
    lines = Host().kernel_log()

    assert lines is None or isinstance(lines, list)


def test_all_readers_answer_on_this_machine() -> None:
    host = Host()

    assert host.glibc().count(".") == 1
    for answer in (host.memory_limit(), host.pids_limit()):
        assert answer is None or answer.limit > 0
    assert isinstance(host.may_lock(), bool)
    assert isinstance(host.rdma(), tuple)
    assert host.mounts()


# ---- described ones


def test_a_folder_without_files_tells_nothing(tmp_path: Path) -> None:
    host = Host(str(tmp_path))

    assert host.memory() is host.memory_limit() is host.pids_limit() is None
    assert host.space("/") is host.mount_of("/") is host.limits("Max open files") is None
    assert host.kernel_log() is host.process(1) is None
    assert host.rdma() == host.mounts() == ()
    assert host.names("/sys") == []
    assert not host.may_lock()
    assert host.glibc() == host.word("/etc/hostname") == ""
    assert sockets.listening(str(tmp_path)) == set()


def test_the_tightest_limit_above_us_counts(tmp_path: Path) -> None:
    host = write(
        tmp_path,
        proc__self__cgroup="0::/a/b\n",
        **{
            "sys__fs__cgroup__a__b__memory.max": "max\n",
            "sys__fs__cgroup__a__memory.max": "5000\n",
            "sys__fs__cgroup__a__memory.current": "4900\n",
            "sys__fs__cgroup__memory.max": "1000\n",
        },
    )

    assert host.memory_limit() == Limit("/sys/fs/cgroup/a/memory.max", 5000, 4900)


def test_more_in_use_than_allowed_leaves_nothing() -> None:
    assert Limit("x", 100, 120).left == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Max open files            1024                 unlimited            files\n",
            (1024, None),
        ),
        (
            "Max open files            unlimited            unlimited            files\n",
            (None, None),
        ),
        ("Max open files in all     1                    1                    files\n", None),
        ("", None),
    ],
)
def test_limits_are_read_by_their_whole_name(text: str, expected, tmp_path: Path) -> None:
    host = write(tmp_path, proc__self__limits=text)

    assert host.limits("Max open files") == expected


def test_a_mount_covers_another_and_its_name_may_hold_a_space(tmp_path: Path) -> None:
    text = (
        "a / ext4 rw 0 0\nb /my\\040models nfs ro 0 0\nc /my\\040models xfs rw 0 0\nd /my ext4 rw\n"
    )
    host = write(tmp_path, proc__self__mounts=text)

    assert host.mount_of("/my models/x") == Mount("c", "/my models", "xfs", ("rw",))
    assert host.mount_of("/my") == Mount("d", "/my", "ext4", ("rw",))
    assert host.mount_of("/mything") == Mount("a", "/", "ext4", ("rw",))


def test_the_space_of_a_described_machine_is_that_of_the_longest_path(tmp_path: Path) -> None:
    host = write(tmp_path, **{".calls": "space / 10 5\nspace /data 100 50\nother x\n\n"})

    assert host.space("/data/hf") == Space(100, 50)
    assert host.space("/database") == Space(10, 5)


@pytest.mark.parametrize(
    ("mask", "expected"), [("0000000000004000", True), ("0000003fffffbfff", False)]
)
def test_the_capability_to_lock(mask: str, expected: bool, tmp_path: Path) -> None:
    assert write(tmp_path, proc__self__status=f"CapEff:\t{mask}\n").may_lock() is expected


def test_a_process_may_be_called_anything(tmp_path: Path) -> None:
    host = write(tmp_path, proc__5__stat="5 (a) b (c) S 42 5 5 0\n", proc__5__cmdline="")

    found = host.process(5)

    assert found is not None
    assert (found.parent, found.title) == (42, "a) b (c")


def test_ports_of_rdma(tmp_path: Path) -> None:
    port = "sys__class__infiniband__mlx5_1__ports__2"
    host = write(
        tmp_path,
        **{
            f"{port}__state": "4: ACTIVE\n",
            f"{port}__link_layer": "Ethernet\n",
            f"{port}__gids__0": "0000:0000:0000:0000:0000:0000:0000:0000\n",
            f"{port}__gids__1": "0000:0000:0000:0000:0000:ffff:0a00:0005\n",
        },
    )

    gids = ("0000:0000:0000:0000:0000:ffff:0a00:0005",)
    assert host.rdma() == (Port("mlx5_1", "2", "ACTIVE", "Ethernet", gids),)


def test_a_folder_or_a_fifo_is_no_text_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    host = Host(str(tmp_path))

    assert host.text("/fifo") is host.text("/folder") is None
    assert host.text("/bytes") == "\ufffd\ufffd"


def test_ports_that_are_listened_on(tmp_path: Path) -> None:
    write(
        tmp_path,
        proc__net__tcp="  sl\n 0: 0100007F:1F90 00000000:0000 0A\n 1: 0100007F:1F91 0:0 01\n",
        proc__net__tcp6=f"  sl\n 0: {'0' * 32}:0016 {'0' * 32}:0000 0A\n",
    )

    assert sockets.listening(str(tmp_path)) == {8080, 22}
