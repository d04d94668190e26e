"""Is the API server's address free?"""

from __future__ import annotations

import errno

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the API server's port"

_DEFAULT_PORT = "8000"
_LISTEN = "0A"  #: TCP_LISTEN in /proc/net/tcp


def check(context: Context) -> Iterator[Finding]:
    if context.flag("--uds") is not None:
        return
    host = context.flag("--host") or ""
    word = context.flag("--port") or _DEFAULT_PORT
    if not word.isdigit() or not 0 <= int(word) < 65536:
        yield Finding(
            "port-invalid", "fail", f"--port {word}", "not a port number", fix="use 1 to 65535"
        )
        return
    port = int(word)
    subject = f"{host or '*'}:{port}"
    problem = _bind(host, port)
    if problem == errno.EADDRINUSE:
        yield Finding(
            "port-busy",
            "fail",
            subject,
            "another process listens there",
            fix=f"--port with a free number; `ss -ltnp sport = :{port}` names the process",
        )
    elif problem == errno.EADDRNOTAVAIL:
        yield Finding(
            "host-not-here", "fail", subject, "no interface has that address", fix="--host 0.0.0.0"
        )
    elif problem == errno.EACCES:
        yield Finding("port-privileged", "fail", subject, "ports below 1024 need root")
    elif problem:
        yield Finding("port-unknown", "unknown", subject, f"cannot tell: errno {problem}")
    elif port and _somebody_listens(port):
        yield Finding(
            "port-shared",
            "warn",
            subject,
            "another server listens there with SO_REUSEPORT: the kernel would split requests",
            fix="--port with a free number",
        )
    else:
        yield Finding("port-free", "ok", subject, "free")


def _bind(host: str, port: int) -> int:
    """The errno of binding as vLLM's `create_server_socket` does; 0 when it works."""
    import socket

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind((_numeric(host), port))
    except socket.gaierror:
        return -1
    except OSError as error:
        return error.errno or -1
    return 0


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


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
