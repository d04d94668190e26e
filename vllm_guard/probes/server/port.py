"""Is the API server's address free?"""

from __future__ import annotations

import errno
import os

from vllm_guard.frozen import replace
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the API server's port"

_DEFAULT_PORT = "8000"
_LISTEN = "0A"  #: TCP_LISTEN in /proc/net/tcp


def check(context: Context) -> Iterator[Finding]:
    if context.has("--uds", "--headless") or context.flag("--api-server-count", "-asc") == "0":
        return
    config, given = context.flag("--config"), context.flag("--port")
    if config is not None and given is None:
        yield Finding("port-in-config", "skip", config, "may name the port, and is not read")
        return
    word = _DEFAULT_PORT if given is None else given
    port = _number(word)
    if port is None:
        yield Finding(
            "port-invalid", "fail", f"--port {word}", "not a port number", fix="use 1 to 65535"
        )
        return
    finding = _try(context.flag("--host") or "", port)
    if config is not None and finding.status == "fail":
        fact = f"{finding.fact}; {config} may name another host or a Unix socket"
        finding = replace(finding, status="warn", fact=fact)
    yield finding


def _number(word: str) -> int | None:
    """The port, as argparse reads it."""
    try:
        port = int(word)
    except ValueError:
        return None
    return port if 0 <= port < 65536 else None


def _try(host: str, port: int) -> Finding:
    subject = f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"
    address = "127.0.0.1" if host == "localhost" else host
    if not _is_numeric(address):
        return Finding("port-unknown", "unknown", subject, "not tried: a name, not an address")
    problem = _bind(address, port)
    if problem == errno.EADDRINUSE:
        return Finding(
            "port-busy",
            "fail",
            subject,
            "another process listens there",
            fix=f"--port with a free number; `ss -ltnp sport = :{port}` names the process",
        )
    if problem == errno.EADDRNOTAVAIL:
        return Finding(
            "host-not-here", "fail", subject, "no interface has that address", fix="--host 0.0.0.0"
        )
    if problem == errno.EACCES:
        fact = "this user may not listen there; ports below 1024 need root"
        return Finding("port-privileged", "fail", subject, fact, fix="--port 8000")
    if problem:
        return Finding("port-unknown", "unknown", subject, f"not tried: {os.strerror(problem)}")
    if port and _somebody_listens(port):
        return Finding(
            "port-shared",
            "warn",
            subject,
            "another server listens on that port with SO_REUSEPORT, or on another address: vLLM may"
            " not start, or the kernel would split the requests between the two",
            fix="--port with a free number",
        )
    return Finding("port-free", "ok", subject, "free")


def _is_numeric(address: str) -> bool:
    """Can it be bound without asking DNS, which may take many seconds? The empty one is every address."""
    import socket

    try:
        socket.getaddrinfo(address or None, 0, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def _bind(address: str, port: int) -> int:
    """The errno of binding as vLLM's `create_server_socket` does; 0 when it works."""
    import socket

    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind((address, port))
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _somebody_listens(port: int) -> bool:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        if any(int(row[1].rpartition(":")[2], 16) == port and row[3] == _LISTEN for row in rows):
            return True
    return False
