"""What of the host must be as it was: ports by real sockets, the memory of GPUs by tables."""

from __future__ import annotations

import os
import socket

import pytest

from vllm_guard import gpu
from vllm_guard.gpu import Gpu
from vllm_guard.proof import Before

MIB = 1 << 20
ME, NOBODY = os.getpid(), 2**22 - 3  #: a process that lives, and the number of none


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_port_that_is_free_again_is_nothing(port: int) -> None:
    before = Before(port)

    assert f"port {port}" in before.looked_at
    assert list(before.differences()) == []


def test_a_port_that_somebody_holds_at_the_end_is_named(port: int) -> None:
    before = Before(port)
    with socket.create_server(("127.0.0.1", port)):
        (finding,) = before.differences()

    assert (finding.id, finding.status, finding.subject) == ("left-behind", "note", f"port {port}")
    assert str(port) in finding.fix


def test_a_port_that_was_busy_before_is_not_looked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = Before(server.getsockname()[1])
        differences = list(before.differences())

    assert not any("port" in words for words in before.looked_at)
    assert differences == []


@pytest.mark.parametrize(
    ("before", "after", "unexplained"),
    [
        ((0, {}), (10, {}), None),  # the driver's own use varies
        ((0, {}), (9000, {}), 9000),
        ((500, {}), (9500, {}), 9000),
        ((0, {}), (9000, {NOBODY: 9000}), 9000),  # a process that is dead
        ((0, {}), (9000, {ME: 9000}), None),  # somebody else's, started meanwhile
        ((4000, {ME: 4000}), (9000, {ME: 9000}), None),  # somebody else's, grown
        ((4000, {ME: 4000}), (9000, {ME: 4000}), 5000),
        ((4000, {ME: 4000}), (0, {}), None),
    ],
)
def test_memory_that_no_living_process_explains(before, after, unexplained) -> None:
    then, now = (
        (Gpu(0, used * MIB, {pid: size * MIB for pid, size in holders.items()}),)
        for used, holders in (before, after)
    )

    found = [(device.index, size // MIB) for device, size in gpu.unexplained(then, now)]

    assert found == ([] if unexplained is None else [(0, unexplained)])


def test_a_device_that_was_not_there_before_explains_nothing() -> None:
    assert list(gpu.unexplained((), (Gpu(3, 9000 * MIB, {}),))) == []


def test_without_an_nvidia_driver_there_are_no_devices() -> None:
    if os.path.exists("/dev/nvidiactl"):
        assert gpu.read()
    else:
        assert gpu.read() == ()
