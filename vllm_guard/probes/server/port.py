"""Is the API server's address free?"""

from __future__ import annotations

import errno
import os

from vllm_guard import sockets
from vllm_guard.frozen import replace
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the API server's port"


def check(context: Context) -> Iterator[Finding]:
    if not context.has_port:
        return
    config, port = (
        context.flag("--config"),
        context.port,
    )  # a file that could be read is no flag here
    word = context.flag("--port")
    if config is not None and word is None:
        return
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
    if port and sockets.is_listening(port):
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
