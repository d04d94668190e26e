"""Limits, memory, disks, compilers, packages: described machines, and a real one where it can be made."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT, machine
from vllm_guard import probes
from vllm_guard.frozen import replace
from vllm_guard.host import Host
from vllm_guard.probes.machine import shared_memory
from vllm_guard.probes.server import model_storage

HEALTHY = machine.situations("machines")


@pytest.mark.parametrize(("known", "situation"), HEALTHY)
def test_of_a_healthy_machine_nothing_is_warned(known, situation, tmp_path, nvml_library) -> None:
    one = machine.resolved(known, situation)
    with machine.around(one, tmp_path, nvml_library) as placed:
        found = machine.look(placed, tmp_path)

    machine.differ(
        "warned", [machine.line(f) for f in found if f.status in ("warn", "fail")], expected=[]
    )
    assert len({finding.id for finding in found}) > 10


@pytest.mark.parametrize(("known", "situation"), machine.situations("host", "packages"))
def test_a_machine_gives_exactly_these_findings(known, situation, tmp_path, nvml_library) -> None:
    machine.check(known, situation, tmp_path, nvml_library)


def test_there_are_as_many_situations_as_the_plan_asks_for() -> None:
    told = machine.situations("gpu", "host", "model", "network", "packages")

    assert len(told) >= 80
    assert len(HEALTHY) >= 10
    names = [param.id for param in (*told, *HEALTHY)]
    assert len(set(names)) == len(names)


WORDS = st.sampled_from(
    [
        *("-tp", "-pp", "-dp", "-dpl", "--nnodes", "--node-rank", "--master-addr", "--master-port"),
        *("--gpu-memory-utilization", "--kv-cache-memory-bytes", "--port", "--model", "--config"),
        *(
            "2",
            "0",
            "-1",
            "9" * 5000,
            "\u00b2",
            "\u0663",
            "nan",
            "inf",
            "1e400",
            "0.5",
            "",
            "~",
            "/",
        ),
        *(
            "/model",
            "org/model",
            "10.0.0.5",
            "::1",
            "node0",
            "\udcff",
            "..",
            "-",
            "--",
            "=",
        ),
    ]
)
NAMES = st.sampled_from(
    [
        *("VLLM_PORT", "VLLM_HOST_IP", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "CC", "PATH"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "VLLM_CACHE_ROOT", "HF_HOME"),
        *("XDG_CACHE_HOME", "NCCL_IB_DISABLE", "HOME"),
    ]
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, nvml_library) -> tuple[Any, Path]:
    """A machine with two GPUs, InfiniBand and two interfaces."""
    root = tmp_path_factory.mktemp("pair")
    one = machine.resolved(HEALTHY[0].values[0], {"like": "slurm"})
    with machine.fake_gpus(one, root, nvml_library):
        machine.look(one, root)
    return one, root


@given(st.lists(WORDS, max_size=6), st.dictionaries(NAMES, WORDS, max_size=3))
def test_no_words_and_no_environment_break_a_probe(pair, words: list[str], env) -> None:
    one, root = pair
    context = machine.context_of(one, root)
    context = replace(context, argv=("vllm", "serve", *words), env={**context.env, **env})

    for name in machine.ALL:
        folder, _, probe = name.partition("/")
        for finding in probes.load(folder, probe).check(context):
            assert finding.fact


# ---- shared memory


def plant(root: Path, name: str, size: int) -> None:
    (root / "dev/shm").mkdir(parents=True, exist_ok=True)
    (root / "dev/shm" / name).write_bytes(b"x" * size)


def stale(root: Path) -> list[str]:
    return [machine.line(finding) for finding in shared_memory._stale(Host(str(root)))]


def test_segments_that_nobody_has_mapped_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, "psm_1", 48 << 20)
    plant(tmp_path, "nccl-x", 32 << 20)
    plant(tmp_path, "somebody's", 64 << 20)

    assert stale(tmp_path) == [
        "note shm-stale: /dev/shm/: 2 segments of 80 MiB that no process here has mapped"
    ]


def test_segments_that_a_process_has_mapped_are_none(tmp_path: Path) -> None:
    plant(tmp_path, "psm_1", 80 << 20)
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/maps").write_text("7f00-7f01 rw-s 0 00:1a 5    /dev/shm/psm_1\n")

    assert stale(tmp_path) == []


def test_a_little_that_was_left_is_not_worth_a_word(tmp_path: Path) -> None:
    plant(tmp_path, "psm_1", 8 << 20)

    assert stale(tmp_path) == []


# ---- disks


def test_a_compile_cache_from_the_future_is_told(tmp_path, nvml_library) -> None:
    known, _ = HEALTHY[0].values
    one = machine.resolved(known, {"like": "bare"})
    folder = tmp_path / "root/.cache/vllm/torch_compile_cache"
    folder.mkdir(parents=True)
    os.utime(folder, (time.time() + 3600,) * 2)

    (_, finding) = machine.look(one, tmp_path, ["server/disk"])

    assert (finding.id, finding.status) == ("cache-clock", "warn")
    assert "3600 s in the future" in finding.fact or "3599 s in the future" in finding.fact


def test_the_rate_is_measured_on_the_disk_and_leaves_the_cache_alone(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(os.urandom(1 << 20) * 96)
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    start = time.monotonic()
    try:
        rate = model_storage.read_rate(str(file))
    except OSError as error:
        pytest.skip(f"no O_DIRECT on this file system: {error.strerror}")
    seconds = time.monotonic() - start

    if rate is None:
        pytest.skip("this file system keeps the file in memory all the same")
    assert rate > 1 << 20
    assert seconds < 2.0
    with file.open("rb") as opened:
        points = range(2 << 20, 96 << 20, 8 << 20)
        assert sum(model_storage._is_cached(opened.fileno(), point) for point in points) <= 1


def test_a_file_in_the_page_cache_is_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x" * (96 << 20))
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[i] for i in range(0, 96 << 20, 4096))
        if not model_storage._is_cached(opened.fileno(), 48 << 20):
            pytest.skip("this file system does not tell what is cached")

    assert model_storage.read_rate(str(file)) is None


# ---- a real small machine

SMALL = """
import sys
from tests.kit import machine
from vllm_guard import probes, record
from vllm_guard.probes.machine import limits, shared_memory
context = probes.Context((), {}, {}, None, (), (), record.Shelf({}))
for probe in (shared_memory, limits):
    for finding in probe.check(context):
        print(machine.line(finding))
"""


def test_a_tmpfs_of_64_mb_and_few_open_files_are_told() -> None:
    words = 'mount -t tmpfs -o size=64m none /dev/shm && ulimit -n 256 && exec "$@"'
    tried = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace here: {tried.stderr.decode().strip()}")

    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", words, "sh", sys.executable, "-c", SMALL],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )

    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("warn shm-size: /dev/shm/: 64 MiB free; ")
    assert any(line.startswith("warn nofile: open files: 256, and at most 256: ") for line in lines)
