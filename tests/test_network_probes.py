"""What will be picked of the network: described machines, and real namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.kit import ROOT, machine
from vllm_guard.host import Host
from vllm_guard.probes import net
from vllm_guard.probes.net import Interface
from vllm_guard.probes.server.network_picks import nccl_interfaces

LOOPBACK, IB = ("lo", "127.0.0.1"), ("ib0", "10.1.0.5")
DOCKER, ETHERNET = ("docker0", "172.17.0.1"), ("eth0", "10.0.0.5")


@pytest.mark.parametrize(("known", "situation"), machine.situations("network"))
def test_a_machine_gives_exactly_these_findings(known, situation, tmp_path, nvml_library) -> None:
    machine.check(known, situation, tmp_path, nvml_library)


@pytest.mark.parametrize(
    ("value", "here", "expected"),
    [
        ("", [LOOPBACK, DOCKER, ETHERNET, IB], ["ib0"]),
        ("", [LOOPBACK, DOCKER, ETHERNET], ["eth0"]),
        ("", [LOOPBACK, DOCKER], ["docker0"]),
        ("", [LOOPBACK], ["lo"]),
        ("", [], []),
        ("e", [LOOPBACK, ETHERNET], ["eth0"]),
        ("=e", [LOOPBACK, ETHERNET], []),
        ("=eth0,lo", [LOOPBACK, ETHERNET], ["lo", "eth0"]),
        ("^lo", [LOOPBACK, ETHERNET, IB], ["eth0", "ib0"]),
        ("^=lo", [LOOPBACK, ETHERNET], ["eth0"]),
        ("^=l", [LOOPBACK, ETHERNET], ["lo", "eth0"]),
        ("^", [LOOPBACK, ETHERNET], ["lo", "eth0"]),
        (",", [LOOPBACK], []),
    ],
)
def test_nccl_takes_these_interfaces(value: str, here, expected: list[str]) -> None:
    interfaces = [Interface(name, "up", (address,)) for name, address in here]

    assert [interface.name for interface in nccl_interfaces(value, interfaces)] == expected


def test_nccl_passes_over_interfaces_without_an_address() -> None:
    interfaces = [Interface("ib0", "up", ()), Interface("eth0", "up", ("10.0.0.5",))]

    assert [interface.name for interface in nccl_interfaces("", interfaces)] == ["eth0"]


def test_the_real_network_is_read_as_the_kernel_has_it() -> None:
    host = Host()
    found = {interface.name: interface for interface in net.interfaces(host)}

    assert set(found) >= {name for _, name in socket.if_nameindex()}
    assert "127.0.0.1" in found["lo"].addresses
    assert net.hostname(host) == socket.gethostname()
    known = net.resolve(host, "localhost")
    assert known is not None
    assert any(net.is_loopback(address) for address in known)


def test_the_address_to_the_world_is_that_of_a_socket() -> None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("8.8.8.8", 80))
            expected = probe.getsockname()[0]
    except OSError:
        expected = net.outgoing(Host())  # no IPv4 route: by IPv6, or none

    assert net.outgoing(Host()) == expected


def test_a_resolver_that_hangs_is_not_waited_for(tmp_path, monkeypatch) -> None:
    program = tmp_path / "getent"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert net.resolve(Host(), "nobody.example.invalid") is None


# ---- namespaces

PICKS = """
import os, sys
from tests.kit import machine
from vllm_guard import probes, record
from vllm_guard.probes.server import network_picks, rendezvous
from vllm_guard.target import Target
target = Target("/usr/bin/python3", "vllm-cli", "serve", 2)
argv = ("vllm", "serve", *sys.argv[1:])
context = probes.Context(argv, dict(os.environ), {}, target, (), (), record.Shelf({}))
for probe in (network_picks, rendezvous):
    for finding in probe.check(context):
        print(machine.line(finding))
"""


def picked(script: str, *words: str, **env: str) -> list[str]:
    """The findings in a network namespace of its own that the script sets up."""
    tried = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespace here: {tried.stderr.decode().strip()}")
    done = subprocess.run(
        [
            *("unshare", "-rn", "sh", "-c", f'{script}; exec "$@"', "sh"),
            *(sys.executable, "-c", PICKS, "/model", *words),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().splitlines()


@pytest.fixture
def ip() -> None:
    """Skips where the program `ip` is missing."""
    if subprocess.run(["sh", "-c", "command -v ip"], capture_output=True, check=False).returncode:
        pytest.skip("no ip(8) here")


def test_a_namespace_whose_loopback_is_down() -> None:
    lines = picked("true", "-tp", "2")

    assert any(line.startswith("warn loopback: 127.0.0.1: ") for line in lines)
    assert lines[0].startswith("note vllm-address: vLLM: no route leads out: ")


def test_a_namespace_with_loopback_only(ip) -> None:
    lines = picked("ip link set lo up", "-tp", "2")

    assert "ok loopback: 127.0.0.1: can be connected to" in lines
    assert "ok nccl-interface: NCCL: picks lo, 127.0.0.1" in lines


def test_a_namespace_with_two_interfaces_one_of_them_down(ip) -> None:
    script = (
        "ip link set lo up; ip link add veth0 type veth peer name veth1;"
        "ip addr add 10.77.0.1/24 dev veth0; ip link set veth0 up; ip link set veth1 up;"
        "ip route add default via 10.77.0.2;"
        "ip link add off0 type veth peer name off1; ip addr add 10.78.0.1/24 dev off0"
    )
    words = ("-tp", "2", "--nnodes", "2", "--master-addr", "10.77.0.1")

    well = picked(script, *words, GLOO_SOCKET_IFNAME="veth0", NCCL_SOCKET_IFNAME="veth0")
    down = picked(script, *words, GLOO_SOCKET_IFNAME="off0", NCCL_SOCKET_IFNAME="off0")

    assert "ok vllm-address: vLLM: picks veth0, 10.77.0.1" in well
    assert "ok gloo-interface: Gloo: picks veth0, 10.77.0.1" in well
    assert "ok nccl-interface: NCCL: picks veth0, 10.77.0.1" in well
    assert "ok master-address: --master-addr 10.77.0.1: this node" in well
    assert "warn gloo-interface: Gloo: picks off0, 10.78.0.1; the interface is down" in down
    assert "warn nccl-interface: NCCL: picks off0, 10.78.0.1; the interface is down" in down
