"""The network of a host: interfaces, addresses, names and routes, real or described.

A described machine says what system calls would tell in its file `/.calls` (`host.Host`).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from dataclasses import dataclass

    from vllm_guard.host import Host
else:
    from vllm_guard.frozen import dataclass

_RESOLVE_SECONDS = 0.3
_SIOCGIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8913, 0x1, 0x40
_PUBLIC = (
    "8.8.8.8",
    "2001:4860:4860::8888",
)  #: what vLLM's `get_ip` connects to; no packet is sent


@dataclass(frozen=True)
class Interface:
    """One network interface."""

    name: str
    state: str  #: "up", "down", "unknown" (what loopback and tunnels say)
    addresses: tuple[str, ...]


def interfaces(host: Host) -> tuple[Interface, ...]:
    """In the kernel's order, in which getifaddrs(3) gives them, too."""
    addresses, states = _addresses(host), _states(host)
    return tuple(Interface(n, s, tuple(addresses.get(n, ()))) for n, s in states.items())


def _states(host: Host) -> dict[str, str]:
    """The state of each interface. Not by /sys, where that may be: it can be another namespace's."""
    if not host.root:
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return {name: _flags(any_socket, name) for _, name in socket.if_nameindex()}
    above = "/sys/class/net"
    states = {name: host.word(f"{above}/{name}/operstate") for name in host.names(above)}
    states |= {name: "unknown" for name, _ in host.calls("address") if name not in states}

    def order(name: str) -> tuple[int, str]:
        return int(host.word(f"{above}/{name}/ifindex") or 1 << 30), name

    return {name: states[name] or "unknown" for name in sorted(states, key=order)}


def _flags(any_socket: socket.socket, name: str) -> str:
    """By SIOCGIFFLAGS of netdevice(7)."""
    import fcntl
    import struct

    request = struct.pack("16sH14x", os.fsencode(name), 0)
    try:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    except OSError:
        return "unknown"
    flags = struct.unpack("16xH14x", answer)[0]
    return "up" if flags & _IFF_UP and flags & _IFF_RUNNING else "down"


def _addresses(host: Host) -> dict[str, list[str]]:
    if not host.root:
        from vllm_guard.probes.python.network import addresses_by_interface

        return addresses_by_interface()
    found: dict[str, list[str]] = {}
    for name, address in host.calls("address"):
        found.setdefault(name, []).append(address)
    return found


def outgoing(host: Host) -> str:
    """The address that a packet to the world would come from; empty without a route."""
    if host.root:
        device = _default_device(host)
        return next((a for name, a in host.calls("address") if name == device), "")
    import socket

    for target in _PUBLIC:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 80))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


def _default_device(host: Host) -> str:
    """The interface of the default route with the lowest metric (/proc/net/route)."""
    rows = [line.split() for line in (host.text("/proc/net/route") or "").splitlines()[1:]]
    routes = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == "0" * 8]
    return min(routes)[1] if routes else ""


def hostname(host: Host) -> str:
    return host.word("/proc/sys/kernel/hostname")


def resolve(host: Host, name: str) -> tuple[str, ...] | None:
    """The addresses of a name: /etc/hosts, then the resolver for a moment; None where it did not answer."""
    known = tuple(_in_file(host, name))
    if known or host.root:
        return known
    import subprocess

    # A process of its own: a resolver that hangs must not hold the launch, and a thread no fork.
    try:
        done = subprocess.run(
            ["getent", "ahosts", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_RESOLVE_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    lines = os.fsdecode(done.stdout).splitlines()
    return tuple(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def _in_file(host: Host, name: str) -> list[str]:
    lines = (
        line.partition("#")[0].split() for line in (host.text("/etc/hosts") or "").splitlines()
    )
    return [words[0] for words in lines if name in words[1:]]


def holder_of(here: tuple[Interface, ...], address: str) -> Interface | None:
    """The interface that has the address, however it is written."""
    from vllm_guard.probes.python.network import packed

    wanted = packed(address)
    return next((i for i in here if wanted and wanted in map(packed, i.addresses)), None)


def is_numeric(address: str) -> bool:
    return ":" in address or address.replace(".", "").isdigit()


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
