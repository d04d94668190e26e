"""Addresses and interfaces that the environment names: do they exist here?"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.probes import Context

TITLE = "VLLM_HOST_IP and *_SOCKET_IFNAME"

_ADDRESSES = ("VLLM_HOST_IP", "VLLM_LOOPBACK_IP")
_INTERFACES = (
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "TP_SOCKET_IFNAME",
    "NCCL_OOB_NET_IFNAME",
)
_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#incorrect-network-setup"


def check(context: Context) -> Iterator[Finding]:
    yield from named(context.env)


def named(env: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each address and each interface that the environment names."""
    given = {name: env[name] for name in _ADDRESSES + _INTERFACES if env.get(name)}
    if not given:
        return
    here = addresses_by_interface()
    for name, value in given.items():
        if name in _ADDRESSES:
            yield _address(name, value, here)
        else:
            yield _interface(name, value, here)


def addresses_by_interface() -> dict[str, list[str]]:
    """IPv4 and IPv6 addresses of each interface, without scope suffix.

    netifaces-plus costs 1 ms, psutil 40; psutil where the former has no wheel.
    """
    try:
        import netifaces
    except ImportError:
        return _by_psutil()
    families = (netifaces.AF_INET, netifaces.AF_INET6)
    result = {}
    for interface in netifaces.interfaces():
        known = netifaces.ifaddresses(interface)
        rows = [row["addr"] for family in families for row in known.get(family, [])]
        result[interface] = [address.partition("%")[0] for address in rows]
    return result


def _by_psutil() -> dict[str, list[str]]:
    import psutil

    return {
        interface: [
            a.address.partition("%")[0] for a in rows if a.family.name.startswith("AF_INET")
        ]
        for interface, rows in psutil.net_if_addrs().items()
    }


def _address(name: str, value: str, here: Mapping[str, list[str]]) -> Finding:
    wanted = packed(value)
    if wanted is None:
        fact = "a name, not an address: not looked up"
        return Finding("host-ip", "unknown", f"{name}={value}", fact, uri=_URI)
    for interface, addresses in here.items():
        if wanted in map(packed, addresses):
            return Finding("host-ip", "ok", f"{name}={value}", f"on {interface}")
    known = sorted({a for addresses in here.values() for a in addresses})
    return Finding(
        "host-ip",
        "warn",
        f"{name}={value}",
        f"no interface has that address; this host has {', '.join(known)}",
        fix=f"set {name} to one of them, or unset it",
        uri=_URI,
    )


def packed(address: str) -> bytes | None:
    """The bytes of an address, which can be written in many ways; None for what is none."""
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.inet_pton(family, address.partition("%")[0])
    except (OSError, ValueError):
        return None


def _interface(name: str, value: str, here: Mapping[str, list[str]]) -> Finding:
    if _matches(name, value, here):
        return Finding("socket-ifname", "ok", f"{name}={value}", "exists")
    return Finding(
        "socket-ifname",
        "warn",
        f"{name}={value}",
        f"matches no interface; this host has {', '.join(sorted(here))}",
        fix=f"set {name} to one of them, or unset it",
        uri=_URI,
    )


def _matches(name: str, value: str, here: Mapping[str, list[str]]) -> bool:
    """NCCL takes prefixes, `=` for exact names and `^` for all but these; Gloo takes exact names."""
    if not name.startswith("NCCL_"):
        return all(word in here for word in value.split(","))
    without, exact = value.startswith("^"), value.lstrip("^").startswith("=")
    words = tuple(word for word in value.lstrip("^=").split(",") if word)
    named = {i for i in here if (i in words if exact else i.startswith(words))}
    return bool(set(here) - named if without else named)
