"""What vLLM, Gloo and NCCL will each pick of this host's network, by their own rules."""

from __future__ import annotations

from vllm_guard import paths
from vllm_guard.model import Finding
from vllm_guard.probes import net, parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.probes.net import Interface

TITLE = "the network that will be picked"

#: Bridges of containers and virtual machines: other hosts do not reach the addresses on them.
_BRIDGES = ("docker", "br-", "virbr", "cni", "lxcbr", "podman")
_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#incorrect-network-setup"


def check(context: Context) -> Iterator[Finding]:
    sizes = parallel.sizes(context)
    if sizes is None or not sizes.is_distributed:
        fact = "one process computes: no NCCL, no Gloo, no other node"
        if context.has("--config"):
            fact = "--config may name more workers, and is not read"
        yield Finding("network-picks", "skip", "network", fact)
        return
    here, far = net.interfaces(context.host), sizes.nodes > 1
    yield _vllm(context, here, far)
    yield _gloo(context, here, far)
    yield _nccl(context, here, far)


def _vllm(context: Context, here: tuple[Interface, ...], far: bool) -> Finding:
    """`get_ip`: VLLM_HOST_IP, else the address that a packet to 8.8.8.8 would come from."""
    address = context.env.get("VLLM_HOST_IP") or net.outgoing(context.host)
    if not address:
        fact = "no route leads out: vLLM takes 0.0.0.0, which no other node can reach"
        status: Status = "warn" if far else "note"
        fix = f"VLLM_HOST_IP={_first_address(here) or '127.0.0.1'}"
        return Finding("vllm-address", status, "vLLM", fact, fix=fix, uri=_URI)
    fix = f"VLLM_HOST_IP={_first_address(here) or 'ADDRESS'}"
    if not net.is_numeric(address):
        fact = f"VLLM_HOST_IP={address} is a name, not an address: not looked up"
        return Finding("vllm-address", "unknown", "vLLM", fact, fix=fix, uri=_URI)
    holder = net.holder_of(here, address)
    return _judged("vllm-address", "vLLM", (address, holder), far, fix)


def _gloo(context: Context, here: tuple[Interface, ...], far: bool) -> Finding:
    """GLOO_SOCKET_IFNAME, else the first address of the host's name that is this host's; else loopback."""
    given = context.env.get("GLOO_SOCKET_IFNAME")
    fix = f"GLOO_SOCKET_IFNAME={_first_name(here) or 'INTERFACE'}"
    if given:
        named = next((i for i in here if i.name == given.split(",")[0]), None)
        address = next(iter(named.addresses), "") if named else ""
        if named is None or not address:
            fact = f"{given} {'has no address' if named else 'is not there'}"
            return Finding("gloo-interface", "warn", "Gloo", fact, fix=fix, uri=_URI)
        return _judged("gloo-interface", "Gloo", (address, named), far, fix)
    name = net.hostname(context.host)
    known = net.resolve(context.host, name) if name else ()
    if known is None:
        fact = f"the resolver did not answer for the host's own name {name} in 0.3 s"
        return Finding("gloo-interface", "unknown", "Gloo", fact, fix=fix, uri=_URI)
    for address in known:
        holder = _holder(here, address)
        if holder is not None:
            return _judged("gloo-interface", "Gloo", (address, holder), far, fix)
    what = f"is {', '.join(known)}, not this host" if known else "cannot be resolved"
    fact = f"the host's own name {name or '(none)'} {what}: Gloo falls back to loopback"
    fix = fix if far else f"a line for {name} in /etc/hosts, or {fix}"
    status: Status = "warn" if far else "note"
    return Finding("gloo-interface", status, "Gloo", fact, fix=fix, uri=_URI)


def _holder(here: tuple[Interface, ...], address: str) -> Interface | None:
    """The interface that an address can be bound on; the whole of 127.0.0.0/8 is loopback's."""
    holder = net.holder_of(here, address)
    if holder is None and address.startswith("127."):
        return next((i for i in here if i.name == "lo"), None)
    return holder


def _nccl(context: Context, here: tuple[Interface, ...], far: bool) -> Finding:
    found = nccl_interfaces(nccl_ifname(context), here)
    fix = f"NCCL_SOCKET_IFNAME={_first_name(here) or 'INTERFACE'}"
    if not found:
        fact = "no interface with an address is left: NCCL ends with `no socket interface found`"
        return Finding("nccl-interface", "warn", "NCCL", fact, fix=fix, uri=_URI)
    return _judged("nccl-interface", "NCCL", (found[0].addresses[0], found[0]), far, fix)


def nccl_ifname(context: Context) -> str:
    """NCCL_SOCKET_IFNAME, which NCCL's own files may set as well; the environment wins, then the user's."""
    name, env = "NCCL_SOCKET_IFNAME", context.env
    if name in env:
        return env[name]
    own = env.get("NCCL_CONF_FILE") or f"{paths.home(env)}/.nccl.conf"
    for path in (own, "/etc/nccl.conf"):
        for line in (context.host.text(path) or "").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == name:
                return value.strip()
    return ""


def nccl_interfaces(value: str, here: Sequence[Interface]) -> list[Interface]:
    """Those that NCCL will use, in its order (`ncclFindInterfaces`).

    Of NCCL_SOCKET_IFNAME, prefixes; `=` for exact names, `^` for all but these. Without it: those named
    ib..., else all but docker's and loopback, else docker's, else loopback.
    """
    usable = [interface for interface in here if interface.addresses]
    if value:
        return [interface for interface in usable if _matches(value, interface.name)]
    for prefix in ("ib", "^docker,lo", "docker", "lo"):
        found = [interface for interface in usable if _matches(prefix, interface.name)]
        if found:
            return found
    return []


def _matches(value: str, name: str) -> bool:
    without = value.startswith("^")
    rest = value.removeprefix("^")
    words = tuple(word for word in rest.removeprefix("=").split(",") if word)
    named = name in words if rest.startswith("=") else name.startswith(words)
    return named != without


def _judged(
    id_: str, who: str, picked: tuple[str, Interface | None], far: bool, fix: str
) -> Finding:
    """Can the other processes reach what was picked?"""
    address, interface = picked
    if interface is None:
        fact = f"picks {address}, which no interface has"
        return Finding(id_, "warn", who, fact, fix=fix, uri=_URI)
    fact = f"picks {interface.name}, {address}"
    if interface.state not in ("up", "unknown"):
        fact += f"; the interface is {interface.state}"
        return Finding(id_, "warn", who, fact, fix=fix, uri=_URI)
    if far and net.is_loopback(address):
        fact += ": loopback, which no other node can reach"
        return Finding(id_, "warn", who, fact, fix=fix, uri=_URI)
    if far and interface.name.startswith(_BRIDGES):
        fact += ": a bridge of containers, which no other node can reach"
        return Finding(id_, "warn", who, fact, fix=fix, uri=_URI)
    return Finding(id_, "ok", who, fact)


def _good(here: Sequence[Interface]) -> list[Interface]:
    """Interfaces that a user would name: up, no loopback, no bridge, with an address."""
    bad = ("lo", *_BRIDGES)
    return [i for i in here if i.addresses and i.state == "up" and not i.name.startswith(bad)]


def _first_name(here: Sequence[Interface]) -> str:
    return next((interface.name for interface in _good(here)), "")


def _first_address(here: Sequence[Interface]) -> str:
    return next((interface.addresses[0] for interface in _good(here)), "")
