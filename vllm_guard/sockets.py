"""TCP ports, by the kernel's own tables."""

from __future__ import annotations

_LISTEN = "0A"  #: TCP_LISTEN in /proc/net/tcp


def is_listening(port: int) -> bool:
    """Does a process of this network namespace listen on that TCP port, on whatever address?"""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        if any(int(row[1].rpartition(":")[2], 16) == port and row[3] == _LISTEN for row in rows):
            return True
    return False
