"""Can each node connect to each other one, at the addresses that Gloo and NCCL pick there? Without torch.

Where a pair cannot, Gloo and NCCL say late or never which one, and in which direction.
"""

import contextlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from __main__ import load

hub = load("hub")

CONNECT = 5.0  #: seconds for one connection
_PICK = {
    "address": lambda value: value == "" or hub.is_address(value),
    "interface": str,
    "port": lambda value: type(value) is int and 0 <= value < 65536,
    "given": str,
}
_OFFER = {"node": int, "route": str, "ports": str, "kinds": {str: _PICK}}
_RESULT = {str: {str: str}}
_PORTS = "/proc/sys/net/ipv4/ip_local_port_range"


def failures(meeting, nccl):
    """The fact and the fix of each pair that does not get through; the same list on every node.

    `nccl`: the address that NCCL will listen at here, empty where there will be no NCCL.
    """
    picks = {"Gloo": gloo_address(meeting.at["interfaces"])}
    if nccl:
        picks["NCCL"] = nccl
    listeners = {kind: _listen(address) for kind, address in picks.items()}
    greeters = [_greet(listener, meeting) for listener in listeners.values() if listener]
    try:
        offers = meeting.gather(_offer(meeting, picks, listeners), CONNECT, _OFFER)
        results = meeting.gather(_connect_to_all(meeting, offers), 2 * CONNECT, _RESULT)
    finally:
        for listener in filter(None, listeners.values()):
            listener.shutdown(socket.SHUT_RDWR)  # `accept` ends with it
            listener.close()
        for greeter in greeters:  # a fork is to come, and it keeps no threads
            greeter.join()
    return list(_judged(meeting, offers, results))


def gloo_address(interfaces):
    """What torch's Gloo listens at: GLOO_SOCKET_IFNAME, else what this host's name is here, else loopback."""
    name = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if name:
        return next(iter(interfaces.get(name, ())), "")
    try:
        rows = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        rows = []
    for family, kind, _, _, address in rows:
        with socket.socket(family, kind) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return address[0]
    return "127.0.0.1"


def _listen(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, 0), family=family, backlog=128) if address else None
    except OSError:
        return None


def _greet(listener, meeting):
    """In a thread: tell whoever connects who we are, for private addresses are on many hosts."""

    def serve():
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.sendall(meeting.place.encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def _offer(meeting, picks, listeners):
    """Where this node listens, for each kind, and which interface leads to the others."""
    interfaces = meeting.at["interfaces"]
    with open(_PORTS) as file:
        ports = file.read().split()
    return {
        "node": meeting.at["node"],
        "route": _holder(interfaces, _outward(meeting)),
        "ports": "-".join(ports),
        "kinds": {
            kind: {
                "address": address,
                "interface": _holder(interfaces, address),
                "port": listeners[kind].getsockname()[1] if listeners[kind] else 0,
                "given": os.environ.get(kind.upper() + "_SOCKET_IFNAME", ""),
            }
            for kind, address in picks.items()
        },
    }


def _outward(meeting):
    """The address of this node on the way to the others. To itself node 0 may go by loopback."""
    if meeting.at["node"]:
        return meeting.here
    there = meeting.known[1]["address"]
    family = socket.AF_INET6 if ":" in there else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((there, 9))  # no packet is sent
        except OSError:  # behind a translator of addresses
            return meeting.here
        return probe.getsockname()[0]


def _holder(interfaces, address):
    if address.startswith("127."):
        return "lo"
    return next((name for name, known in interfaces.items() if address in known), "")


def _connect_to_all(meeting, offers):
    """`{kind: {node: why there is no connection}}`; a failed one is told and no error."""
    mine = [address for known in meeting.at["interfaces"].values() for address in known]
    wanted = [
        (kind, number, pick)
        for number, offer in enumerate(offers)
        if offer and number != meeting.at["node"]
        for kind, pick in offer["kinds"].items()
        if pick["port"]
    ]

    def connect(kind, number, pick):
        there = meeting.known[number]["place"]
        local = pick["address"] in mine or pick["address"].startswith("127.")
        if local and there != meeting.place:
            return kind, number, "each of them has that address for itself"
        return kind, number, _connect(pick["address"], pick["port"], there)

    found = {}
    with ThreadPoolExecutor(max_workers=32) as pool:
        for kind, number, why in pool.map(lambda one: connect(*one), wanted):
            if why:
                found.setdefault(kind, {})[str(number)] = why
    return found


def _connect(address, port, place):
    try:
        with socket.create_connection((address, port), timeout=CONNECT) as connection:
            heard = connection.makefile("rb").read(len(place) + 1).decode("utf-8", "replace")
    except socket.timeout:  # noqa: UP041 (in Python 3.8 not the same)
        return f"no answer within {CONNECT:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return "" if heard == place else "another host answers there"


def _judged(meeting, offers, results):
    """The fact and the fix for each node, kind and reason."""
    for number, offer in enumerate(offers):
        for kind, pick in (offer or {"kinds": {}})["kinds"].items():
            there = meeting.name(number)
            if not pick["port"]:
                yield _unusable(kind, pick, there, offer)
                continue
            reasons = {}
            for source, result in enumerate(results):
                why = (result or {}).get(kind, {}).get(str(number))
                if why:
                    reasons.setdefault(why, []).append(meeting.name(source))
            for why, sources in reasons.items():
                yield _unreached(kind, pick, (", ".join(sources), there, why), offer)


def _unusable(kind, pick, there, offer):
    name = kind.upper() + "_SOCKET_IFNAME"
    what = f"{name}={pick['given']} on {there}" if pick["given"] else f"{kind} on {there}"
    where = (
        f"cannot listen at {pick['address']}" if pick["address"] else "no interface with an address"
    )
    return f"{what}: {where}", _right_interface(kind, there, offer)


def _unreached(kind, pick, pair, offer):
    sources, there, why = pair
    by = f"{pick['interface'] or 'an interface'}, which {kind} picks there"
    fact = f"{sources} cannot connect to {there} at {pick['address']} port {pick['port']} ({by}): {why}"
    if pick["interface"] == offer["route"]:
        return fact, f"on {there}: open the TCP ports {offer['ports']} for {sources}"
    fix = _right_interface(kind, there, offer)
    if kind == "Gloo" and not pick["given"]:
        fix += ", or a line for its own name with an address that others reach in its /etc/hosts"
    return fact, fix


def _right_interface(kind, there, offer):
    to = "the other nodes" if offer["node"] == 0 else "the master"
    return f"on {there}: {kind.upper()}_SOCKET_IFNAME={offer['route']}, which leads to {to}"
