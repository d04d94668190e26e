"""TCP ports, by the kernel's own tables."""

from __future__ import annotations

_LISTEN = "0A"  #: TCP_LISTEN in /proc/net/tcp


def is_listening(port: int) -> bool:
    """Does a process of this network namespace listen on that TCP port, on whatever address?"""
    return port in listening()


def listening(root: str = "") -> set[int]:
    """The TCP ports that processes of this network namespace listen on."""
    ports: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(root + table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN}
    return ports
