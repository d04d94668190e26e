"""Nodes that are checked together: they meet at the master's address and port before torch is imported.

Node 0 forks a hub that listens there; each node, node 0 too, is its client. There is one operation: every
node says something and gets what all have said. What cannot be done is told in a second, by the socket's own
error, and no node waits for another without a limit. Standard library only, Python 3.8 or later.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import os
import socket
import time

from __main__ import load

hub = load("hub")

ATTEMPT = 3.0  #: seconds for one connection: the first SYN is repeated after one
ENDING = 2.0  #: seconds for the hub to see that all have gone
SPARE = 10.0  #: seconds that an answer of the hub may be late
_OTHER_PORT = (
    "another --master-port, on every node; `ss -ltnp sport = :{port}` on node 0 names the process"
)
_GREETING = {"hub": int}
_REFUSAL = {"refused": str, "fix": str}
_ALL = {"all": list}
_INTRODUCTION = {
    "host": str,
    "place": str,
    "address": hub.is_address,
    "world": int,
    "versions": {str: str},
    "settings": {str: str},
}
_HOPELESS = (errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL)


class StoppedError(Exception):
    """Why the nodes cannot go on together, and the fix."""

    def __init__(self, fact, fix=""):
        super().__init__(fact)
        self.fix = fix


class StrangerError(StoppedError):
    """What takes part in the meeting is no doctor: nothing is known of the nodes."""

    def __init__(self, at, who):
        fact = f"{who} at {at['address']} port {at['port']} is no doctor, but another program"
        super().__init__(fact, _OTHER_PORT.format(**at))


class Meeting:
    """The connection of this node to the others, and its hub, where it is node 0."""

    def __init__(self, at):
        """Meet at `address` and `port` of `at`, which tells `node`, `nodes` and `meet` (seconds) as well.

        Raises StoppedError.
        """
        self.at = at
        self.host = socket.gethostname()
        self.place = _place()
        self.known = []  #: what each node said of itself, in their order
        self._socket = None
        end = time.monotonic() + at["meet"]
        addresses = _resolve(at["address"])
        self._hub = _start_hub(at, self.host) if at["node"] == 0 else 0
        try:
            self._socket = _connect(at, addresses, end)
        except StoppedError:
            self.close()
            raise
        self.here = self._socket.getsockname()[0]  #: this node's address on the way to node 0
        self._lines = self._socket.makefile("rb")
        try:
            is_hub = hub.fits(self._answer(ATTEMPT), _GREETING)
        except StoppedError:
            is_hub = False
        if not is_hub:
            self.close()
            fact = f"at {at['address']} port {at['port']} listens no doctor, but another program"
            raise StoppedError(fact, _OTHER_PORT.format(**at))

    def introduce(self):
        """Everybody says who it is. Raises StoppedError where one does not come in time."""
        at = self.at
        self.known = self.gather(
            {
                "host": self.host,
                "place": self.place,
                "address": self.here,
                "world": at["world"],
                "versions": {**at["versions"], "torch": _torch()},
                "settings": {name: _digest(value) for name, value in at["settings"].items()},
            },
            at["meet"],
            _INTRODUCTION,
        )
        missing = [number for number, other in enumerate(self.known) if other is None]
        if missing:
            raise StoppedError(*_missing(self.at, self.known, missing))

    def gather(self, value, seconds, shape):
        """What every node says here, this one `value`; None for who has said nothing within `seconds`.

        Raises StoppedError, and StrangerError where one says what has not this shape (`hub.fits`).
        """
        at = self.at
        line = {"node": at["node"], "nodes": at["nodes"], "host": self.host}
        with contextlib.suppress(OSError):  # the answer, or that there is none, says why
            hub.send(self._socket, dict(line, value=value, seconds=seconds))
        answer = self._answer(seconds + SPARE)
        if hub.fits(answer, _REFUSAL):
            raise StoppedError(answer["refused"], answer["fix"])
        if not hub.fits(answer, _ALL) or len(answer["all"]) != at["nodes"]:
            raise StrangerError(at, "what collects the answers")
        for number, said in enumerate(answer["all"]):
            if said is not None and not hub.fits(said, shape):
                raise StrangerError(at, f"what says it is node {number}")
        return answer["all"]

    def _answer(self, seconds):
        """The next line of the hub."""
        self._socket.settimeout(seconds)
        try:
            return hub.parsed(self._lines.readline(hub.LARGEST))
        except socket.timeout:  # noqa: UP041 (in Python 3.8 not the same)
            why = f"no answer for {seconds:.0f} s"
        except (OSError, ValueError) as error:
            why = _words(error) if isinstance(error, OSError) else "it was closed"
        fix = "look at the doctor's report on node 0, and start all of them again"
        raise StoppedError(f"lost the connection to node 0: {why}", fix)

    def name(self, number):
        """How node `number` is called."""
        return f"{self.known[number]['host']} (node {number})"

    def close(self):
        """Say goodbye; node 0's hub ends when everybody has."""
        if self._socket:
            self._lines.close()
            self._socket.close()
        if self._hub:
            hub.end(self._hub, ENDING if self._socket else 0.0)


def versions(meeting):
    """`(name, "1 on a, none on b")` for each version that differs."""
    for name, who in _groups(meeting, "versions"):
        each = (f"{value or 'none'} on {_names(meeting, nodes)}" for value, nodes in who.items())
        yield name, ", ".join(each)


def settings(meeting):
    """`(name, "1 here, not set on b")` for each variable that differs. Only the own values are known."""
    here = meeting.at["node"]
    for name, who in _groups(meeting, "settings"):
        own = meeting.known[here]["settings"].get(name)
        alike = [number for number in who.pop(own) if number != here]
        facts = [f"{meeting.at['settings'].get(name, 'not set')} here"]
        facts[0] += f" and on {_names(meeting, alike)}" if alike else ""
        for value, numbers in who.items():
            what = "not set" if value is None else "another value"
            facts.append(f"{what} on {_names(meeting, numbers)}")
        yield name, ", ".join(facts)


def _groups(meeting, kind):
    """For each name on which the nodes differ, the nodes by their value; None where one has no such name."""
    for name in sorted({name for other in meeting.known for name in other[kind]}):
        who = {}
        for number, other in enumerate(meeting.known):
            who.setdefault(other[kind].get(name), []).append(number)
        if len(who) > 1:
            yield name, who


def _names(meeting, numbers):
    return " and ".join(map(meeting.name, numbers))


def _digest(value):
    """Enough to see whether two are alike. Strangers may come to the meeting: they get no value."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _torch():
    try:
        return importlib.metadata.version("torch") or "none"
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _place():
    """What tells one host from another of the same name: the boot, and the network namespace."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return f"{boot} {os.stat('/proc/self/ns/net').st_ino}"


def _resolve(name):
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        fact = f"{name} cannot be resolved: {getattr(error, 'strerror', None) or error}"
        fix = f"--master-addr with the IP address of node 0, or a line for {name} in /etc/hosts"
        raise StoppedError(fact, fix) from None
    return list(dict.fromkeys(row[4][0] for row in found))


def _start_hub(at, host):
    try:
        return hub.start(at["port"], at["nodes"], at["meet"], host)
    except OSError as error:
        fact = f"node 0 cannot listen at port {at['port']}: {_words(error)}"
        raise StoppedError(fact, _OTHER_PORT.format(**at)) from None


def _connect(at, addresses, end):
    """The connection to the hub. Node 0's is there, so that it need not try for long."""
    if at["node"] == 0:
        end = time.monotonic() + ATTEMPT
    while True:
        try:
            made = socket.create_connection((at["address"], at["port"]), timeout=ATTEMPT)
        except OSError as error:
            if error.errno in _HOPELESS or time.monotonic() > end:
                raise StoppedError(*_unreached(at, addresses, error)) from None
        else:
            return made
        time.sleep(0.1)


def _unreached(at, addresses, error):
    """Why there is no connection to the hub, and the fix."""
    port = at["port"]
    where = f"{at['address']} port {port}"
    if addresses != [at["address"]]:
        where = f"{at['address']} ({', '.join(addresses)}) port {port}"
    fact = f"node {at['node']} cannot connect to {where}: {_words(error)}"
    every = (address for known in at["interfaces"].values() for address in known)
    mine = ", ".join(a for a in every if not is_loopback(a) and not a.startswith("fe80:"))
    if at["node"] == 0:
        fact += f"; this is node 0, and has {mine}"
        return fact, "--master-addr with an address of node 0, or another --node-rank here"
    if any(map(is_loopback, addresses)):
        fact += "; that is this node itself"
        return fact, "--master-addr with an address of node 0 that this node reaches"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return (
            f"{fact}; this node has {mine}",
            "a route to node 0, or an address in a network that both have",
        )
    if error.errno == errno.ECONNREFUSED:
        fix = f"start the doctor on node 0 as well, with --master-port {port}"
        return f"{fact} for {at['meet']:.0f} s: nothing listens there", fix
    return (
        fact,
        f"open TCP port {port} of node 0 for this node: a firewall or a network policy is between",
    )


def _missing(at, known, missing):
    """Who has not come to the hub, and the fix."""
    there = ", ".join(f"node {n} on {known[n]['host']}" for n in range(len(known)) if known[n])
    names = ", ".join(f"node {number}" for number in missing)
    fact = f"{names} of {at['nodes']} did not come within {at['meet']:.0f} s; there: {there}"
    to = f"--node-rank {missing[0]} --master-addr {at['address']} --master-port {at['port']}"
    fix = f"start the doctor there with {to}; if it runs, its report says what kept it"
    if is_loopback(at["address"]):
        fact += f"; {at['address']} is loopback, which no other host reaches"
        fix = "--master-addr with the IP address of node 0, on every node"
    return fact, fix


def is_loopback(address):
    return address.startswith("127.") or address in ("::1", "localhost")


def _words(error):
    if isinstance(error, socket.timeout):
        return f"no answer within {ATTEMPT:.0f} s"
    return os.strerror(error.errno) if error.errno else str(error)
