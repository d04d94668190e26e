"""Several nodes: two hosts (network namespaces with a cable between them), each with its own doctor."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kit import ROOT, wait_for
from tests.kit.two_nodes import ADDRESSES, LONG, PORT, Doctor, Host, flags, two_hosts
from vllm_guard import probes, record
from vllm_guard.inside import hub
from vllm_guard.probes import meeting
from vllm_guard.probes.full import Answer, collective
from vllm_guard.target import Target

#: Firewalls without a firewall: the routes of what comes in, by port. Rule 0 is to be the last of them.
ORDER = "ip rule add pref 10 lookup local; ip rule del pref 0"
MASTER_DROPPED = f"{ORDER}; ip rule add pref 5 iif eth0 ipproto tcp dport {PORT} blackhole"
DATA_DROPPED = (
    f"{ORDER}; ip rule add pref 5 iif eth0 ipproto tcp sport {PORT} lookup local;"
    "ip rule add pref 6 iif eth0 ipproto tcp blackhole"
)
OTHER_NETWORK = (
    "ip link add off0 type veth peer name off1; ip addr add 10.88.0.2/24 dev off0;"
    "ip link set off0 up; ip link set off1 up"
)
LISTEN = "import socket, sys; s = socket.create_server(('', 29501)); print(1, flush=True); sys.stdin.read()"
STRANGER = (
    'import socket; s = socket.create_connection(("10.99.0.1", 29501));'
    's.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n"); s.makefile().read()'
)
#: Says that it is node 1, and these values; what it is told goes to stdout.
IMPOSTOR = """
import json, socket, sys
connection = socket.create_connection(("10.99.0.1", 29501))
lines = connection.makefile("r")
lines.readline()
for value in json.loads(sys.argv[1]):
    message = {"node": 1, "nodes": 2, "host": "evil", "value": value, "seconds": 60}
    connection.sendall(json.dumps(message).encode() + b"\\n")
    print(lines.readline())
"""
INTRODUCTION = {
    "host": "evil",
    "place": "x",
    "address": "10.99.0.2",
    "world": 2,
    "versions": {},
    "settings": {},
}
PICK = {"address": "10.99.0.2", "interface": "eth0", "port": 9, "given": ""}
OFFER = {"node": 1, "route": "eth0", "ports": "1-2", "kinds": {"Gloo": PICK}}
HANGING = """
import os, sys, threading
def hook():
    if "torch.distributed" in sys.modules:
        sys.modules["torch.distributed"].all_reduce = this_rank_hangs
def this_rank_hangs(*_, **__):
    open(os.environ["HANGS"], "w").close()
    threading.Event().wait()
os.register_at_fork(after_in_child=hook)
"""
#: A GPU that is none, and whose NCCL (Gloo in truth) fails on host b as long as P2P is on.
BROKEN_P2P = """
import builtins, os, sys, types
real = builtins.__import__
def patched(name, globals=None, *rest, **more):
    module = real(name, globals, *rest, **more)
    if name == "torch.distributed" and globals["__name__"].startswith("vllm_guard_inside"):
        fake(sys.modules["torch"])
        globals["_captured"] = lambda reduce: "no CUDA graph without a GPU"
    return module
def fake(torch):
    if torch.cuda.device_count() == 1:
        return
    nothing = lambda *_: None
    torch.cuda.device_count, torch.cuda.set_device, torch.cuda.synchronize = lambda: 1, nothing, nothing
    group, ones = torch.distributed.new_group, torch.ones
    torch.distributed.new_group = lambda backend, **more: group(backend="gloo", **more)
    def on_gpu(size, device):
        if device == "cuda" and os.uname().nodename == "b" and "NCCL_P2P_DISABLE" not in os.environ:
            raise RuntimeError("unhandled cuda error")
        return ones(size)
    torch.ones = on_gpu
    class PyNcclCommunicator:
        disabled = True
        def __init__(self, group, device): pass
    name, namespace = "vllm.distributed.device_communicators.pynccl", types.SimpleNamespace
    sys.modules[name] = namespace(PyNcclCommunicator=PyNcclCommunicator)
    sys.modules[name + "_wrapper"] = namespace(NCCLLibrary=lambda: None)
    sys.modules["vllm"] = namespace(envs=namespace(VLLM_DISABLE_PYNCCL=False))
builtins.__import__ = patched
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with two_hosts(tmp_path) as both:
        yield both


def failures(*doctors: Doctor) -> list[list[tuple[str, str, str]]]:
    """Of each doctor: id, fact and fix of all that fails."""
    every = [doctor.findings() for doctor in doctors]
    assert all(doctor.process.returncode == 1 for doctor in doctors)
    return [
        [(f["id"], f["fact"], f["fix"]) for f in found if f["status"] == "fail"] for found in every
    ]


def both(hosts: tuple[Host, Host], **env: Any) -> tuple[Doctor, Doctor]:
    a, b = hosts
    return Doctor(a, *flags(0)), Doctor(b, *flags(1), **env)


# ---- all is well


@pytest.mark.vllm
def test_every_rank_is_on_both_reports_and_differences_are_named(hosts, tmp_path) -> None:
    a, b = hosts
    fake = tmp_path / "torch-9.9.dist-info"
    fake.mkdir()
    (fake / "METADATA").write_text("Name: torch\nVersion: 9.9\n")
    own = {"VLLM_API_KEY": "of-a-only", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_DEBUG": "INFO"}
    at_a = [
        "NCCL_ALGO: Ring here, another value on b (node 1)",
        "NCCL_DEBUG: INFO here, not set on b (node 1)",
        "NCCL_PROTO: not set here, another value on b (node 1)",
    ]
    at_b = [
        "NCCL_ALGO: Tree here, another value on a (node 0)",
        "NCCL_DEBUG: not set here, another value on a (node 0)",
        "NCCL_PROTO: LL here, not set on a (node 0)",
    ]

    doctors = (
        Doctor(a, *flags(0), **own, NCCL_ALGO="Ring"),
        Doctor(b, *flags(1), NCCL_ALGO="Tree", NCCL_PROTO="LL", PYTHONPATH=f"{ROOT}:{tmp_path}"),
    )

    reports = [doctor.findings() for doctor in doctors]
    for found, settings in zip(reports, (at_a, at_b), strict=True):
        facts = {f["id"]: [g["fact"] for g in found if g["id"] == f["id"]] for f in found}
        (versions,) = facts["collective-versions"]
        assert versions.startswith("torch: ")
        assert versions.endswith(" on a (node 0), 9.9 on b (node 1)")
        assert facts["collective-settings"] == settings
        assert set(facts) == {"collective-versions", "collective-settings"}


@pytest.mark.vllm
def test_under_slurm_the_nodes_find_each_other_and_strangers_do_not_disturb(hosts) -> None:
    a, b = hosts
    slurm = {"SLURM_STEP_ID": "0", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "a,b"}

    first = Doctor(a, "-tp", "2", SLURM_NODEID="0", **slurm)
    a.until_it_listens(PORT)
    a.sh(f"exec {sys.executable} -c '{STRANGER}'")
    second = Doctor(b, "-tp", "2", SLURM_NODEID="1", **slurm)

    for doctor in (first, second):
        (found,) = doctor.findings()
        assert (found["id"], found["subject"]) == ("collective-works", "2 ranks on 2 nodes")
        assert found["fact"].startswith("join, gloo; on a (node 0), b (node 1); no GPU")
        ranks = [line.partition(":")[0] for line in found["evidence"]]
        assert ranks == ["rank 0 on a (node 0)", "rank 1 on b (node 1)"]
        assert all(" ms" in line for line in found["evidence"])


@pytest.mark.vllm
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.soak
def test_under_torchrun_one_process_of_each_node_does_it(hosts, named: bool) -> None:
    torchrun = f"{os.environ['VGUARD_TEST_VLLM']}/bin/torchrun"
    found = []
    for rank, host in enumerate(hosts):
        place = ("--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "2")
        before = (torchrun, *place, "--master-addr", ADDRESSES["a"], "--no-python")
        words = flags(rank) if named else ["-tp", "2"]
        found.append(Doctor(host, *words, before=before))

    for doctor in found:
        out, _ = doctor.process.communicate(timeout=LONG)
        assert doctor.process.returncode == 0
        assert out.count(b'"id": "collective-works"') == 1
        assert out.count(b'"fact": "the first process of this node does it"') == 1


@pytest.mark.vllm
@pytest.mark.soak
def test_the_nodes_may_meet_at_an_address_of_ipv6(hosts) -> None:
    for host, address in zip(hosts, ("fd00::1", "fd00::2"), strict=True):
        host.sh(f"ip addr add {address}/64 dev eth0 nodad")

    doctors = [Doctor(host, *flags(n, address="fd00::1")) for n, host in enumerate(hosts)]

    for doctor in doctors:
        (found,) = doctor.findings()
        assert found["id"] == "collective-works"
        assert "tcp://[fd00::1]:29501" in found["evidence"][0]


@pytest.mark.vllm
@pytest.mark.soak
def test_two_nodes_on_one_host_may_use_loopback(hosts) -> None:
    a, _ = hosts
    a.hosts.write_text("127.0.0.1 localhost\n")

    doctors = [Doctor(a, *flags(rank, address="127.0.0.1")) for rank in range(2)]

    assert [[f["id"] for f in d.findings()] for d in doctors] == [["collective-works"]] * 2


# ---- somebody else takes part


@pytest.mark.vllm
@pytest.mark.parametrize(
    "said",
    [
        ["evil"],
        [7],
        [{"x": 1}],
        [{**INTRODUCTION, "versions": {"torch": 9}}],
        [{**INTRODUCTION, "settings": ["NCCL_DEBUG"]}],
        [{**INTRODUCTION, "address": "evil.invalid"}],
        [{**INTRODUCTION, "host": "h" * 10_000}],
        [INTRODUCTION, {"picks": 1}],
        [INTRODUCTION, {**OFFER, "kinds": {"Gloo": {**PICK, "port": 65536}}}],
        [INTRODUCTION, OFFER, {"Gloo": ["x"]}],
    ],
    ids=lambda said: str(said[-1])[:60],
)
def test_a_program_that_says_it_is_a_node_gets_no_value_and_fails_nobody(hosts, said: Any) -> None:
    a, b = hosts
    doctor = Doctor(a, *flags(0), NCCL_TOPO_FILE="/the/value")
    a.until_it_listens(PORT)

    heard = b.sh(f"exec {sys.executable} -c '{IMPOSTOR}' '{json.dumps(said)}'")

    found = {f["id"]: f for f in doctor.findings()}
    meet = found.pop("collective-meet")
    assert (meet["status"], meet["fact"]) == (
        "unknown",
        "what says it is node 1 at 10.99.0.1 port 29501 is no doctor, but another program",
    )
    assert "ss -ltnp" in meet["fix"]
    assert set(found) <= {"collective-versions", "collective-settings"}
    assert '{"all": ' in heard
    assert "NCCL_TOPO_FILE" in heard
    assert "/the/value" not in heard


@pytest.fixture
def meeting_place() -> Iterator[int]:
    """The port of a hub for two nodes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pid = hub.start(port, 2, LONG, "a")
    yield port
    hub.end(pid, LONG)


def message(node: Any, **more: Any) -> bytes:
    said = {"node": node, "nodes": 2, "host": "h", "value": 1, "seconds": 60, **more}
    return json.dumps(said).encode() + b"\n"


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, Any]]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LONG) as connection,
        connection.makefile("rb") as lines,
    ):
        assert lines.readline() == b'{"hub": 2}\n'
        yield connection, lines


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x00\xff\n",
        b"[1]\n",
        b"null\n",
        b"[" * 200_000 + b"\n",
        b'{"node":' + b"9" * 5000 + b"}\n",
        b'{"node":1,"value":1,"seconds":1}\n',
        b"x" * (9 << 20),
        message([]),
        message(1.0),
        message(True),
        message(-1),
        message(1 << 20),
        message("1"),
        message(1, nodes="2"),
        message(1, host=7),
        message(1, host="h" * 10_000),
        message(1, seconds="5"),
        message(1, seconds=float("nan")),
        message(1, seconds=float("inf")),
        message(1, seconds=-1),
    ],
    ids=lambda line: line[:60].decode("ascii", "replace"),
)
def test_whatever_strangers_send_the_nodes_meet(meeting_place: int, line: bytes) -> None:
    with connected(meeting_place) as (first, of_first), connected(meeting_place) as (second, _):
        first.sendall(message(0))
        with connected(meeting_place) as (stranger, of_stranger), suppress(ConnectionError):
            stranger.sendall(line)
            assert of_stranger.read() == b""
        second.sendall(message(1, value=2))
        assert of_first.readline() == b'{"all": [1, 2]}\n'


# ---- they do not meet


@pytest.mark.vllm
def test_a_node_that_does_not_come_is_named_with_those_who_are_there(hosts) -> None:
    a, _ = hosts

    ((only,),) = failures(Doctor(a, *flags(0), meet=2.0))

    assert only == (
        "collective-meet",
        "node 1 of 2 did not come within 2 s; there: node 0 on a",
        (
            "start the doctor there with --node-rank 1 --master-addr 10.99.0.1 --master-port 29501;"
            " if it runs, its report says what kept it"
        ),
    )


@pytest.mark.vllm
def test_that_nobody_listens_at_node_0_is_named(hosts) -> None:
    _, b = hosts

    ((only,),) = failures(Doctor(b, *flags(1), meet=2.0))

    fact = "node 1 cannot connect to 10.99.0.1 port 29501: Connection refused for 2 s: nothing listens there"
    assert only[1:] == (fact, "start the doctor on node 0 as well, with --master-port 29501")


@pytest.mark.vllm
def test_a_master_port_that_a_firewall_drops_is_named_on_both(hosts) -> None:
    a, b = hosts
    a.sh(MASTER_DROPPED)

    (at_a,), (at_b,) = failures(Doctor(a, *flags(0), meet=4.0), Doctor(b, *flags(1), meet=4.0))

    assert at_a[1] == "node 1 of 2 did not come within 4 s; there: node 0 on a"
    assert at_b[1] == "node 1 cannot connect to 10.99.0.1 port 29501: no answer within 3 s"
    assert at_b[2].startswith("open TCP port 29501 of node 0 for this node")


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("rank", "address", "fact", "fix"),
    [
        (1, "head.invalid", "head.invalid cannot be resolved: ", "--master-addr with the IP"),
        (1, "10.55.0.1", "node 1 cannot connect to 10.55.0.1 port 29501: Network is unreachable", "a route"),
        (0, "10.99.0.2", "node 0 cannot connect to 10.99.0.2 port 29501: ", "--master-addr with"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_the_masters_is_named_at_once(
    hosts, rank: int, address: str, fact: str, fix: str
) -> None:
    ((only,),) = failures(Doctor(hosts[rank], *flags(rank, address=address)))

    assert only[0] == "collective-meet"
    assert only[1].startswith(fact)
    assert only[2].startswith(fix)


@pytest.mark.vllm
def test_a_master_that_is_loopback_by_its_name_is_named(hosts) -> None:
    _, b = hosts
    b.hosts.write_text("127.0.0.1 localhost\n127.0.1.1 a b\n")

    ((only,),) = failures(Doctor(b, *flags(1, address="a"), meet=1.0))

    assert only[1] == (
        "node 1 cannot connect to a (127.0.1.1) port 29501: Connection refused; that is this node itself"
    )
    assert only[2] == "--master-addr with an address of node 0 that this node reaches"


@pytest.mark.vllm
def test_another_program_at_the_masters_port_is_named_on_both(hosts) -> None:
    a, _ = hosts
    with subprocess.Popen(
        a.inside(sys.executable, "-c", LISTEN), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()

        (at_a,), (at_b,) = failures(*both(hosts))

        program.communicate()
    assert at_a[1] == "node 0 cannot listen at port 29501: Address already in use"
    assert at_b[1] == "at 10.99.0.1 port 29501 listens no doctor, but another program"
    assert at_a[2] == at_b[2]
    assert "ss -ltnp sport = :29501" in at_a[2]


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("second", "fact"),
    [
        (flags(0), "--node-rank 0 is given twice: on a and on b"),
        (flags(1, nodes=3), "--nnodes is 2 on a (node 0), 3 on b (node 1)"),
        (flags(2), "--node-rank 2 on b, of 2 nodes"),
        (flags(1, "-pp", "2"), "ranks in all: 2 on a (node 0), 4 on b (node 1)"),
    ],
    ids=["rank twice", "nnodes", "rank too high", "world"],
)
def test_commands_that_contradict_each_other_are_named_on_both(hosts, second, fact: str) -> None:
    a, b = hosts
    first = Doctor(a, *flags(0))
    a.until_it_listens(PORT)

    (at_a,), (at_b,) = failures(first, Doctor(b, *second))

    assert at_a[1] == at_b[1] == fact
    assert at_a[2]


# ---- they meet, and a pair does not get through


@pytest.mark.vllm
def test_an_interface_of_another_network_is_named_with_the_one_that_leads_to_the_master(
    hosts,
) -> None:
    _, b = hosts
    b.sh(OTHER_NETWORK)

    at_a, at_b = failures(*both(hosts, GLOO_SOCKET_IFNAME="off0", NCCL_SOCKET_IFNAME="off0"))

    assert at_a == at_b
    assert [row[0] for row in at_a] == ["collective-reach"] * 2
    for (_, fact, fix), kind in zip(at_a, ("Gloo", "NCCL"), strict=True):
        assert fact.startswith("a (node 0) cannot connect to b (node 1) at 10.88.0.2 port ")
        assert fact.endswith(f" (off0, which {kind} picks there): Network is unreachable")
        assert fix == f"on b (node 1): {kind.upper()}_SOCKET_IFNAME=eth0, which leads to the master"


@pytest.mark.vllm
def test_an_interface_that_is_not_there_is_named(hosts) -> None:
    at_a, at_b = failures(*both(hosts, GLOO_SOCKET_IFNAME="nope0"))

    assert at_a == at_b
    ((_, fact, fix),) = at_a
    assert fact == "GLOO_SOCKET_IFNAME=nope0 on b (node 1): no interface with an address"
    assert fix == "on b (node 1): GLOO_SOCKET_IFNAME=eth0, which leads to the master"


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("line", "address"),
    [("127.0.1.1 b", "127.0.1.1"), ("", "127.0.0.1")],
    ids=["Debian", "no name"],
)
def test_gloo_on_loopback_because_of_the_hosts_own_name_is_named(hosts, line, address) -> None:
    _, b = hosts
    b.hosts.write_text(f"127.0.0.1 localhost\n{line}\n")

    at_a, at_b = failures(*both(hosts))

    assert at_a == at_b
    ((_, fact, fix),) = at_a
    assert fact.startswith(f"a (node 0) cannot connect to b (node 1) at {address} port ")
    assert fact.endswith("(lo, which Gloo picks there): each of them has that address for itself")
    assert "GLOO_SOCKET_IFNAME=eth0" in fix
    assert "/etc/hosts" in fix


@pytest.mark.vllm
def test_the_masters_own_name_may_be_loopback_and_its_gloo_may_not(hosts) -> None:
    a, b = hosts
    a.hosts.write_text("127.0.0.1 localhost\n127.0.1.1 a\n10.99.0.2 b\n")

    at_a, at_b = failures(Doctor(a, *flags(0, address="a")), Doctor(b, *flags(1, address="a")))

    assert at_a == at_b
    ((_, fact, fix),) = at_a
    assert fact.startswith("b (node 1) cannot connect to a (node 0) at 127.0.1.1 port ")
    assert fix.startswith("on a (node 0): GLOO_SOCKET_IFNAME=eth0, which leads to the other nodes")


@pytest.mark.vllm
def test_data_ports_that_a_firewall_drops_are_named_for_each_direction(hosts) -> None:
    _, b = hosts
    b.sh(DATA_DROPPED)

    at_a, at_b = failures(*both(hosts))

    assert at_a == at_b
    pairs = [tuple(fact.split(" port ")[0].split(" cannot connect to ")) for _, fact, _ in at_a]
    assert pairs == [
        ("b (node 1)", "a (node 0) at 10.99.0.1"),
        ("a (node 0)", "b (node 1) at 10.99.0.2"),
    ]
    assert all(fact.endswith("picks there): no answer within 5 s") for _, fact, _ in at_a)
    assert [fix for _, _, fix in at_a] == [
        "on a (node 0): open the TCP ports 32768-60999 for b (node 1)",
        "on b (node 1): open the TCP ports 32768-60999 for a (node 0)",
    ]


# ---- the ranks run, and one is at fault


@pytest.mark.vllm
def test_a_rank_that_hangs_on_node_1_is_named_by_both_with_its_stack(hosts, tmp_path) -> None:
    a, b = hosts
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    hangs = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "HANGS": str(tmp_path / "hangs")}

    doctors = (Doctor(a, *flags(0), rank=3.0), Doctor(b, *flags(1), rank=3.0, **hangs))

    for doctor in doctors:
        hung = {f["subject"]: f for f in doctor.findings()}
        assert set(hung) == {"rank 0 on a (node 0)", "rank 1 on b (node 1)"}
        assert {f["id"] for f in hung.values()} == {"collective-hangs"}
        guilty, waits = hung["rank 1 on b (node 1)"], hung["rank 0 on a (node 0)"]
        assert re.search(r"has not ended after \d+ s, in gloo", waits["fact"])
        assert "it did not arrive: rank 0 on a (node 0) waits for it" in guilty["fact"]
        assert "this_rank_hangs" in "\n".join(guilty["evidence"])
        assert "all_reduce" in "\n".join(waits["evidence"])


@pytest.mark.vllm
def test_a_node_that_is_lost_is_named(hosts, tmp_path) -> None:
    a, b = hosts
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    mark = tmp_path / "hangs"
    hangs = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "HANGS": str(mark)}
    first, second = Doctor(a, *flags(0)), Doctor(b, *flags(1), **hangs)
    wait_for(mark.exists, "rank 1 hangs", LONG)

    second.process.send_signal(signal.SIGTERM)
    second.process.communicate(timeout=LONG)

    (found,) = failures(first)
    facts = {identifier: fact for identifier, fact, _ in found}
    assert facts["collective-others"].startswith("b (node 1) has not reported")
    assert "collective-gloo" in facts


@pytest.mark.vllm
def test_a_node_without_torch_is_named_by_the_other(hosts, tmp_path) -> None:
    a, b = hosts
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: no such file')")

    at_a, at_b = failures(
        Doctor(a, *flags(0)), Doctor(b, *flags(1), PYTHONPATH=f"{ROOT}:{tmp_path}")
    )

    ((identifier, fact, _),) = at_a
    assert identifier == "collective-others"
    assert fact.startswith("torch was not imported on b (node 1), or ")
    assert at_b[0][:2] == ("collective-import", "ImportError: libcudart.so.12: no such file")


@pytest.mark.vllm
@pytest.mark.soak
def test_both_nodes_meet_again_with_p2p_off_although_one_had_only_waited(hosts, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN_P2P)
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}

    a, b = failures(*(Doctor(h, *flags(n), rank=4.0, **env) for n, h in enumerate(hosts)))

    assert sorted(a) == sorted(b)
    facts = {identifier: fact for identifier, fact, _ in a}
    assert facts["collective-nccl"] == "RuntimeError: unhandled cuda error"
    assert {fix for _, _, fix in a} == {
        "with -p p2p-off all of it works: use that until the driver or topology is mended"
    }


# ---- the quick checks, without torch


def quick(host: Host, *words: str) -> dict[str, str]:
    doctor = Doctor(host, *words, only=("rendezvous",))
    return {f["id"]: f"{f['status']}: {f['fact']}" for f in doctor.findings()}


@pytest.mark.vllm
def test_what_the_quick_check_sees_of_the_master(hosts) -> None:
    a, b = hosts

    assert quick(a, *flags(0))["master-address"] == "ok: this node"
    assert quick(b, *flags(1))["master-port"] == "ok: 10.99.0.1 answers, nothing listens there yet"
    not_ours = quick(b, *flags(0))["master-address"]
    assert not_ours.startswith(
        "warn: is no address of this node, which is node 0; it has 10.99.0.2"
    )
    assert quick(a, *flags(1))["master-address"] == "warn: is this node, which is node 1"
    nowhere = quick(b, *flags(1, address="10.55.0.1"))
    assert nowhere["master-port"] == "warn: 10.55.0.1 is not reached: Network is unreachable"
    assert quick(b, *flags(2))["nodes"] == "fail: of 2 nodes, which begin with 0"
    assert quick(b, *flags(1, nodes=4))["nodes"] == "fail: does not divide 2 workers"

    a.sh(MASTER_DROPPED)
    assert quick(b, *flags(1))["master-port"] == "unknown: 10.99.0.1 did not answer in 0.2 s"
    b.sh("ip link set eth0 down")
    assert quick(b, *flags(1))["master-port"].startswith("warn: 10.99.0.1 is not reached")


# ---- pure

#: What each of three nodes would say: of the others it knows digests only.
OF_THREE = """
from types import SimpleNamespace
from vllm_guard.inside.main import load

nodes = load("nodes")
values = [{"A": "1", "B": "1"}, {"A": "2", "B": "1", "C": "1"}, {"A": "3", "C": "1"}]
known = [
    {"settings": {name: nodes._digest(value) for name, value in each.items()}} for each in values
]
for here in range(3):
    at = {"node": here, "settings": values[here]}
    meeting = SimpleNamespace(at=at, known=known, name="node {}".format)
    print([fact for _, fact in nodes.settings(meeting)])
"""


def test_each_of_three_nodes_tells_its_own_value_and_who_has_the_same() -> None:
    told = subprocess.run([sys.executable, "-c", OF_THREE], capture_output=True, check=True)

    assert [ast.literal_eval(line) for line in told.stdout.decode().splitlines()] == [
        [
            "1 here, another value on node 1, another value on node 2",
            "1 here and on node 1, not set on node 2",
            "not set here, another value on node 1 and node 2",
        ],
        [
            "2 here, another value on node 0, another value on node 2",
            "1 here and on node 0, not set on node 2",
            "1 here and on node 2, not set on node 0",
        ],
        [
            "3 here, another value on node 0, another value on node 1",
            "not set here, another value on node 0 and node 1",
            "1 here and on node 1, not set on node 0",
        ],
    ]


def context(*words: str, **env: str) -> probes.Context:
    target = Target("/usr/bin/python3", "vllm-cli", "serve", 2)
    argv = ("vllm", "serve", "/model", *words)
    return probes.Context(argv, env, {}, target, (), (), record.Shelf({}))


SLURM = {
    "SLURM_STEP_ID": "3",
    "SLURM_NNODES": "4",
    "SLURM_NODEID": "2",
    "SLURM_JOB_NODELIST": "gpu[07-09,11]",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "GROUP_RANK": "1",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.5",
    "MASTER_PORT": "29500",
    "LOCAL_RANK": "3",
}


@pytest.mark.parametrize(
    ("words", "env", "expected"),
    [
        ((), {}, None),
        (("--nnodes", "1"), SLURM, None),
        (("--nnodes", "2"), {}, (2, 0, "127.0.0.1", 29501)),
        (("-n=2", "-r=1", "--master-addr=h", "--master-port=7"), SLURM, (2, 1, "h", 7)),
        ((), SLURM, (4, 2, "gpu07", 29501)),
        ((), {**SLURM, "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "z1"}, (2, 2, "z1", 29501)),
        ((), {**SLURM, "MASTER_ADDR": "x", "MASTER_PORT": "8"}, (4, 2, "x", 8)),
        ((), {**SLURM, "SLURM_STEP_NUM_NODES": "1"}, None),
        ((), {name: SLURM[name] for name in SLURM if name != "SLURM_STEP_ID"}, None),
        ((), TORCHRUN, (2, 1, "10.0.0.5", 29501)),
        ((), {**TORCHRUN, "GROUP_WORLD_SIZE": "1"}, None),
        ((), {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x"}, None),
    ],
)  # fmt: skip
def test_who_says_which_nodes_there_are(words, env, expected) -> None:
    found = meeting.meeting(context(*words, **env))

    assert found == (meeting.Meeting(*expected) if expected else None)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("gpu[07-09,11],x", "gpu07"),
        ("gpu[3,5]-ib", "gpu3-ib"),
        ("r[1-2]n[04-08]", "r1n04"),
    ],
)
def test_the_first_host_of_slurms_list(hosts: str, first: str) -> None:
    assert meeting.first_host(hosts) == first


def test_one_process_of_each_node_is_enough() -> None:
    one = context(**{**TORCHRUN, "LOCAL_RANK": "0"})
    tasks = context(**SLURM, SLURM_LOCALID="1")

    assert collective.why_not(context(**TORCHRUN)) == "the first process of this node does it"
    assert collective.why_not(tasks) == "the first process of this node does it"
    assert collective.why_not(one) == collective.why_not(context(SLURM_LOCALID="1")) == ""


def test_what_is_done_together_is_always_done_anew() -> None:
    assert collective.is_shared(context("--nnodes", "2"))
    assert not collective.is_shared(context())


def test_a_batch_script_is_told_that_only_its_own_node_was_tested() -> None:
    works = Answer("exited", rows=({"who": "rank 0", "part": "gloo", "state": "ok", "fact": ""},))

    found = collective.check(context(SLURM_NNODES="2"), lambda *_: works)

    assert [(f.status, f.id) for f in found] == [
        ("note", "collective-slurm"),
        ("ok", "collective-works"),
    ]


@pytest.mark.parametrize("helps", [True, False])
def test_all_nodes_try_again_with_p2p_off_or_none(helps: bool) -> None:
    """Each judges the rows of all, so that the node whose ranks were well tries again, too."""
    where = [{"host": host, "node": number} for number, host in enumerate("ab")]
    rows = (
        {"who": "rank 0", "part": "nccl", "state": "ok", "fact": "", **where[0]},
        {"who": "rank 1", "part": "nccl", "state": "fail", "fact": "unhandled error", **where[1]},
    )
    bad, well = Answer("exited", rows=rows), Answer("exited", rows=rows[:1])
    words = ("--nnodes", "2", "--master-addr", "10.0.0.5", "-tp", "2")
    asked: list[tuple[int, Any]] = []

    def answer(_: str, told: dict[str, Any], __: float, profiles: Any = ()) -> Answer:
        asked.append((told["node"], profiles))
        return well if profiles and helps else bad

    every = [list(collective.check(context(*words, "-r", str(n)), answer)) for n in range(2)]

    assert asked == [(0, ()), (0, ("p2p-off",)), (1, ()), (1, ("p2p-off",))]
    assert every[0] == every[1]
    (found,) = every[0]
    assert found.subject == "rank 1 on b (node 1)"
    assert ("all of it works" in found.fix) == helps
