"""Nodes that are checked together: they meet at the master's address and port before torch is imported.

Node 0 forks a hub that listens there; each node, node 0 too, is its client. There is one operation: every
node says something and gets what all have said. What cannot be done is told in a second, by the socket's own
error, and no node waits for another without a limit. Standard library only, Python 3.8 or later.
"""

import contextlib
import errno
import importlib.metadata
import json
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
_HOPELESS = (errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EADDRNOTAVAIL)


class StoppedError(Exception):
    """Why the nodes cannot go on together, and the fix."""

    def __init__(self, fact, fix=""):
        super().__init__(fact)
        self.fix = fix


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
            self._answer(ATTEMPT)
        except StoppedError:
            self.close()
            fact = f"at {at['address']} port {at['port']} listens no doctor, but another program"
            raise StoppedError(fact, _OTHER_PORT.format(**at)) from None

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
                "settings": at["settings"],
            },
            at["meet"],
        )
        missing = [number for number, other in enumerate(self.known) if other is None]
        if missing:
            raise StoppedError(*_missing(self.at, self.known, missing))

    def gather(self, value, seconds):
        """What every node says here, this one `value`; None for who has said nothing within `seconds`."""
        at = self.at
        line = {"node": at["node"], "nodes": at["nodes"], "host": self.host}
        with contextlib.suppress(OSError):  # the answer, or that there is none, says why
            hub.send(self._socket, dict(line, value=value, seconds=seconds))
        answer = self._answer(seconds + SPARE)
        if "refused" in answer:
            raise StoppedError(answer["refused"], answer["fix"])
        return answer["all"]

    def _answer(self, seconds):
        """The next line of the hub."""
        self._socket.settimeout(seconds)
        try:
            return json.loads(self._lines.readline(hub.LARGEST))
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


def differences(meeting, kind):
    """`(name, "1 on a, not set on b")` for each of `versions` or `settings` that differs."""
    for name in sorted({name for other in meeting.known for name in other[kind]}):
        who = {}
        for number, other in enumerate(meeting.known):
            value = other[kind].get(name)
            who.setdefault("not set" if value is None else value, []).append(meeting.name(number))
        if len(who) > 1:
            yield name, ", ".join(f"{value} on {' and '.join(who[value])}" for value in who)


def _torch():
    try:
        return importlib.metadata.version("torch")
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
