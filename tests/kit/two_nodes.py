"""Two hosts on one machine: network, host name and /etc/hosts of their own, joined by a cable (veth).

A host is a process that holds the namespaces; they end with it, and nothing else has to be removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit import ROOT, wait_for
from tests.kit.serving import vllm_env

ADDRESSES = {"a": "10.99.0.1", "b": "10.99.0.2"}
PORT = 29501
HOSTS = "127.0.0.1 localhost\n10.99.0.1 a\n10.99.0.2 b\n"
LONG = 120.0  #: seconds that a doctor may take on two busy cores

_HOLD = """
set -e
hostname "$1"
mount --make-rprivate /
mount --bind "$2" /etc/hosts
ip link set lo up
echo ready
exec cat
"""
#: The guard with other limits: those of a minute would make the tests long.
_SHORT = """
from vllm_guard.probes.full import collective
collective._MEET, collective._RANK = {meet}, {rank}
from vllm_guard import cli
cli.main()
"""


class Host:
    """One of the two."""

    def __init__(self, name: str, folder: Path, hosts: str = HOSTS) -> None:
        self.name = name
        self.hosts = folder / f"hosts-{name}"
        self.hosts.write_text(hosts)
        self._holder = subprocess.Popen(
            ["unshare", "-n", "-m", "-u", "sh", "-c", _HOLD, "sh", name, str(self.hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            _, said = self._holder.communicate()
            pytest.skip(f"no namespaces here: {said.decode().strip()}")
        self.pid = self._holder.pid

    def inside(self, *words: str) -> list[str]:
        """The command that runs `words` on this host."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", *words]

    def sh(self, script: str) -> str:
        """Carry out a script on this host; what it printed."""
        done = subprocess.run(
            self.inside("sh", "-ec", script), check=True, capture_output=True, text=True
        )
        return done.stdout

    def until_it_listens(self, port: int) -> None:
        """Wait until something on this host listens at the port."""
        table = Path(f"/proc/{self.pid}/net/tcp6"), Path(f"/proc/{self.pid}/net/tcp")
        row = f":{port:04X} "

        def listens() -> bool:
            lines = [line for path in table for line in path.read_text().splitlines()]
            return any(row in line and " 0A " in line for line in lines)

        wait_for(listens, f"port {port} is listened at on {self.name}", LONG)

    def end(self) -> None:
        self._holder.communicate()


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Hosts `a` (10.99.0.1) and `b` (10.99.0.2), each with an eth0."""
    if os.getuid() != 0:
        pytest.skip("two network namespaces with a cable between them need root")
    with ExitStack() as stack:
        hosts = []
        for name in ADDRESSES:
            hosts.append(Host(name, folder))
            stack.callback(hosts[-1].end)
        a, b = hosts
        try:
            a.sh(f"ip link add eth0 type veth peer name eth0 netns {b.pid}")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no cable (veth) between network namespaces here: {error.stderr.strip()}")
        for host in hosts:
            host.sh(f"ip addr add {ADDRESSES[host.name]}/24 dev eth0; ip link set eth0 up")
        yield a, b


class Doctor:
    """`vllm-guard doctor --only collective` on one host, with limits that a test can wait for."""

    def __init__(
        self,
        host: Host,
        *flags: str,
        meet: float = 20.0,
        rank: float = 20.0,
        only: tuple[str, ...] = ("collective",),
        before: tuple[str, ...] = (),
        **env: str,
    ) -> None:
        checks = [word for name in only for word in ("--only", name)]
        serve = ["vllm", "serve", os.environ["VGUARD_TEST_MODEL"], *flags]
        self.process = subprocess.Popen(
            host.inside(
                *before,
                *(sys.executable, "-c", _SHORT.format(meet=meet, rank=rank)),
                *("doctor", "--json", *checks, "--", *serve),
            ),
            env=vllm_env(**{"PYTHONPATH": str(ROOT), **env}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def findings(self) -> list[dict[str, Any]]:
        """Wait for the end; what it found."""
        out, said = self.process.communicate(timeout=LONG)
        assert said == b""
        return list(json.loads(out)["findings"])


def flags(rank: int, *more: str, address: str = ADDRESSES["a"], nodes: int = 2) -> list[str]:
    """The words that tell vLLM its place among the nodes."""
    place = ("--nnodes", str(nodes), "--node-rank", str(rank), "--master-addr", address)
    return [*place, "--master-port", str(PORT), "-tp", "2", *more]
