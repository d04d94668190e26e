"""Where the processes of one server meet: the master's address and port, vLLM's own ports, loopback, RDMA."""

from __future__ import annotations

from vllm_guard import sockets
from vllm_guard.model import Finding
from vllm_guard.probes import net, parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.host import Port
    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.parallel import Sizes

TITLE = "where the processes meet"

_RANGE = 10  #: ports from VLLM_PORT on that are looked at
_CONNECT_SECONDS = 0.2
_URI = "https://docs.vllm.ai/en/latest/serving/parallelism_scaling/"


def check(context: Context) -> Iterator[Finding]:
    yield from _own_ports(context)
    sizes = parallel.sizes(context)
    if sizes is None or not sizes.is_distributed:
        return
    if not context.host.root:  # a described machine has no sockets
        yield _loopback()
    if sizes.nodes < 2:
        return
    yield from _place(context, sizes)
    address = context.flag("--master-addr") or parallel.MASTER_ADDRESS
    known = (address,) if net.is_numeric(address) else net.resolve(context.host, address)
    yield _master_address(context, sizes, address, known)
    yield _master_port(context, sizes, known)
    yield _rdma(context, context.host.rdma())


def _own_ports(context: Context) -> Iterator[Finding]:
    """VLLM_PORT is where vLLM looks for free ports for itself, upwards."""
    word = context.env.get("VLLM_PORT", "")
    first, subject = parallel.port_of(word), f"VLLM_PORT={word}"
    if first is None:
        return
    if first == context.port:
        fact = "is the API server's port, too: it is for sockets between vLLM's own processes"
        yield Finding("vllm-port", "note", subject, fact, fix=f"VLLM_PORT={first + 100}")
        return
    busy = sorted(sockets.listening(context.host.root).intersection(range(first, first + _RANGE)))
    if busy:
        fact = f"{', '.join(map(str, busy))} busy: vLLM takes the next free ones"
        yield Finding("vllm-port", "note", subject, fact, fix="unset VLLM_PORT, or another range")
    else:
        yield Finding("vllm-port", "ok", subject, f"{first} to {first + _RANGE - 1} are free")


def _loopback() -> Finding:
    """A connection to oneself: what a firewall or a namespace without `lo` would refuse."""
    import socket

    subject = "127.0.0.1"
    try:
        with socket.create_server((subject, 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address, timeout=_CONNECT_SECONDS):
                server.settimeout(_CONNECT_SECONDS)
                server.accept()[0].close()
    except OSError as error:
        fact = f"a process cannot connect to its own host: {error.strerror or error}"
        return Finding("loopback", "warn", subject, fact, fix="ip link set lo up")
    return Finding("loopback", "ok", subject, "can be connected to")


def _place(context: Context, sizes: Sizes) -> Iterator[Finding]:
    """What vLLM refuses of a node's number, and of the number of nodes."""
    status: Status = "warn" if context.has("--config") else "fail"
    if sizes.rank >= sizes.nodes:
        subject, fact = f"--node-rank {sizes.rank}", f"of {sizes.nodes} nodes, which begin with 0"
        yield Finding("nodes", status, subject, fact, fix=f"use 0 to {sizes.nodes - 1}")
    if sizes.total % sizes.nodes:
        subject, fact = f"--nnodes {sizes.nodes}", f"does not divide {sizes.total} workers"
        fix = "--nnodes that divides TP x PP x DP"
        yield Finding("nodes", status, subject, fact, fix=fix)


def _master_address(
    context: Context, sizes: Sizes, address: str, known: tuple[str, ...] | None
) -> Finding:
    """`known`: what the name is, if it was resolved."""
    subject = f"--master-addr {address}"
    if not known:
        why = "cannot be resolved" if known == () else "was not resolved in 0.3 s"
        status = "warn" if known == () else "unknown"
        fix = "--master-addr with the IP address of node 0"
        return Finding("master-address", status, subject, why, fix=fix)  # type: ignore[arg-type]
    here = net.interfaces(context.host)
    mine = {address for interface in here for address in interface.addresses}
    local = [a for a in known if net.holder_of(here, a) or net.is_loopback(a)]
    if any(map(net.is_loopback, known)):
        fact = f"is loopback: of the {sizes.nodes} nodes, each would wait for itself"
        fix = "--master-addr with the IP address of node 0"
    elif sizes.rank == 0 and not local:
        fact = f"is no address of this node, which is node 0; it has {', '.join(sorted(mine))}"
        fix = "--master-addr with one of them, or another --node-rank"
    elif sizes.rank > 0 and local:
        fact, fix = f"is this node, which is node {sizes.rank}", "--node-rank 0 here"
    else:
        where = "this node" if local else "another node"
        return Finding("master-address", "ok", subject, where)
    return Finding("master-address", "warn", subject, fact, fix=fix, uri=_URI)


def _master_port(context: Context, sizes: Sizes, known: tuple[str, ...] | None) -> Finding:
    word = context.flag("--master-port") or str(parallel.MASTER_PORT)
    subject = f"--master-port {word}"
    port = parallel.port_of(word)
    if port is None:
        return Finding("master-port", "fail", subject, "not a port number", fix="use 1 to 65535")
    if sizes.rank > 0:
        if context.host.root or not known:
            fact = "node 0 listens there: not tried from here"
            return Finding("master-port", "skip", subject, fact)
        return _seen_from_here(subject, known[0], port)
    if port not in sockets.listening(context.host.root):
        return Finding("master-port", "ok", subject, "free")
    return Finding(
        "master-port",
        "warn" if context.has("--config") else "fail",
        subject,
        "another process listens there: torch's store cannot",
        fix=f"another --master-port, on every node; `ss -ltnp sport = :{word}` names the process",
    )


def _seen_from_here(subject: str, address: str, port: int) -> Finding:
    """Node 0 may not have been started yet: it need not listen, but must be there."""
    import errno
    import os
    import socket

    try:
        socket.create_connection((address, port), timeout=_CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        fact = f"{address} answers, nothing listens there yet"
        return Finding("master-port", "ok", subject, fact)
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            fact = f"{address} is not reached: {os.strerror(error.errno)}"
            fix = "a route to node 0, or its address in a network that both have"
            return Finding("master-port", "warn", subject, fact, fix=fix, uri=_URI)
        fact = f"{address} did not answer in {_CONNECT_SECONDS} s"
        fix = f"if it is up: open TCP port {port} of node 0 for this node"
        return Finding("master-port", "unknown", subject, fact, fix=fix, uri=_URI)
    return Finding("master-port", "ok", subject, f"{address} listens")


def _rdma(context: Context, ports: Sequence[Port]) -> Finding:
    active = [port for port in ports if port.state == "ACTIVE"]
    names = ", ".join(f"{port.device}:{port.number}" for port in active or ports)
    if not ports:
        return Finding("rdma", "skip", "RDMA", "no InfiniBand or RoCE device: NCCL uses TCP")
    if not active:
        fact = f"{names}: no port is ACTIVE ({', '.join(sorted({p.state for p in ports}))})"
        fix = "`ibstat` shows the ports; without them NCCL uses TCP, which is slow"
        return Finding("rdma", "warn", "RDMA", fact, fix=fix)
    if context.env.get("NCCL_IB_DISABLE") == "1":
        fact = f"{names} ACTIVE, and NCCL_IB_DISABLE=1 turns them off"
        return Finding("rdma", "note", "RDMA", fact, fix="unset NCCL_IB_DISABLE")
    if not context.host.exists("/dev/infiniband"):
        fact = f"{names} ACTIVE, and /dev/infiniband is not there: NCCL cannot open them"
        fix = "docker run --device /dev/infiniband --cap-add IPC_LOCK"
        return Finding("rdma", "warn", "RDMA", fact, fix=fix, uri=_URI)
    bare = [port.device for port in active if port.link == "Ethernet" and not port.gids]
    if bare:
        fact = f"{', '.join(bare)}: RoCE without a GID: its interface has no address"
        fix = "`show_gids`; ip addr add ... dev INTERFACE"
        return Finding("rdma", "warn", "RDMA", fact, fix=fix)
    kinds = ", ".join(sorted({port.link for port in active}))
    return Finding("rdma", "ok", "RDMA", f"{names} ACTIVE ({kinds})")
