"""The hub of nodes that meet (`nodes.py`): a process on node 0 at the master's port. Standard library only.

One JSON object a line. Who connects is greeted. A node sends `node`, `nodes`, `host`, `value` and `seconds`;
when every node has, or after `seconds` from the first of them, each gets `{"all": [...]}`; or it gets
`{"refused": why, "fix": ...}`, which is the end. Whoever reaches the port may connect and say anything: what
is no such message is dropped with its connection.
"""

import json
import os
import selectors
import signal
import socket
import time

LARGEST = 8 << 20  #: bytes of one message
SENDING = 10.0  #: seconds that a node may take to receive
_NUMBERS = range(1 << 20)  #: of nodes, and how many
_LONGEST = 3600.0  #: seconds of one round
_TEXT = 8192  #: characters of one text


def start(port, nodes, seconds, host):
    """Fork it; its pid. It waits so long for all nodes. Raises OSError where it cannot listen."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    listener = socket.create_server(
        ("", port), family=family, backlog=nodes + 8, dualstack_ipv6=both
    )
    pid = os.fork()
    if pid == 0:
        try:
            _Hub(listener, nodes, seconds, host).run()
        finally:
            os._exit(0)
    listener.close()
    return pid


def end(pid, seconds):
    """It ends when all nodes have gone; wait so long for that, then kill it."""
    limit = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.005)


def fits(value, shape):
    """Has what came as JSON this shape?

    A shape is a type; a function that tells; `[SHAPE]`; `{str: SHAPE}` for any names; or
    `{"name": SHAPE}`, where more names may be there.
    """
    if isinstance(shape, type):
        return type(value) is shape and (shape is not str or len(value) <= _TEXT)  # True is no int
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if not isinstance(shape, dict):
        return shape(value)
    if not isinstance(value, dict):
        return False
    if str in shape:
        return all(fits(one, shape[str]) for one in value.values())
    return all(name in value and fits(value[name], shape[name]) for name in shape)


def parsed(line):
    """The JSON of a line. Raises ValueError for what is none, or nested deeper than any of ours."""
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError from None


def is_address(value):
    """An IP address, maybe with its interface (`fe80::1%eth0`)."""
    if not isinstance(value, str):
        return False
    family = socket.AF_INET6 if ":" in value else socket.AF_INET
    try:
        socket.inet_pton(family, value.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _is_number(value):
    return type(value) is int and value in _NUMBERS


def _is_time(value):
    return type(value) in (int, float) and 0.0 <= value <= _LONGEST  # NaN is not


def _anything(_):
    return True


_MESSAGE = {
    "node": _is_number,
    "nodes": _is_number,
    "host": str,
    "value": _anything,
    "seconds": _is_time,
}


def send(connection, message):
    connection.sendall(json.dumps(message).encode() + b"\n")


def _try_to_send(connection, message):
    try:
        send(connection, message)
    except OSError:
        return False
    return True


class _Hub:
    """Takes one message of each node, then sends all of them to each; and so on until nobody is left."""

    def __init__(self, listener, nodes, seconds, host):
        self._listener = listener
        self._nodes = nodes
        self._host = host
        self._hosts = {}  #: node -> its host
        self._members = {}  #: node -> its connection
        self._said = {}  #: node -> what it has said in this round
        self._partial = {}  #: connection -> the bytes of its line so far
        self._end = time.monotonic() + seconds  #: of this round
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self):
        while self._listener or self._members:
            left = None if self._end is None else max(0.0, self._end - time.monotonic())
            for key, _ in self._selector.select(left):
                if key.fileobj is self._listener:
                    self._accept()
                elif not self._read(key.fileobj):
                    return
            is_over = self._end is not None and time.monotonic() >= self._end
            if is_over or (self._said and self._expected() <= set(self._said)):
                self._answer()

    def _expected(self):
        """Whose word is waited for: at first that of every node, then of those that are still there."""
        return set(range(self._nodes)) if self._listener else set(self._members)

    def _accept(self):
        connection = self._listener.accept()[0]
        connection.settimeout(SENDING)
        if not _try_to_send(connection, {"hub": self._nodes}):
            connection.close()
            return
        self._partial[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection):
        """What a connection has to say; False where that ends the meeting."""
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        line = self._partial[connection] + data
        if not data or len(line) > LARGEST:
            self._drop(connection)
        elif not line.endswith(b"\n"):
            self._partial[connection] = line
        else:
            self._partial[connection] = b""
            return self._take(connection, line)
        return True

    def _take(self, connection, line):
        try:
            message = parsed(line)
        except ValueError:
            message = None
        if not fits(message, _MESSAGE):  # no node, but a stranger
            self._drop(connection)
            return True
        node = message["node"]
        if self._members.get(node) is not connection:
            wrong = self._objection(message)
            if wrong:
                self._refuse(connection, *wrong)
                return False
            self._members[node] = connection
            self._hosts[node] = message["host"]
        if self._end is None:
            self._end = time.monotonic() + message["seconds"]
        self._said[node] = message["value"]
        return True

    def _objection(self, message):
        """Why this node cannot be one of ours, and the fix; None where it can."""
        node, nodes, host = message["node"], message["nodes"], message["host"]
        if nodes != self._nodes:
            fact = f"--nnodes is {self._nodes} on {self._host} (node 0), {nodes} on {host} (node {node})"
            return fact, "the same --nnodes on every node"
        if node not in range(nodes):
            return f"--node-rank {node} on {host}, of {nodes} nodes", f"use 0 to {nodes - 1}"
        if node in self._members:
            fact = f"--node-rank {node} is given twice: on {self._hosts[node]} and on {host}"
            return fact, f"each node its own --node-rank, from 0 to {nodes - 1}"
        return None

    def _refuse(self, newcomer, fact, fix):
        for connection in (newcomer, *self._members.values()):
            _try_to_send(connection, {"refused": fact, "fix": fix})

    def _answer(self):
        """The end of a round: everybody gets everything. Who was late has left the meeting."""
        everything = {"all": [self._said.get(node) for node in range(self._nodes)]}
        for node, connection in tuple(self._members.items()):
            if node not in self._said or not _try_to_send(connection, everything):
                self._drop(connection)
        self._said = {}
        self._end = None
        if self._listener:  # the port is free for torch's store
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _drop(self, connection):
        self._selector.unregister(connection)
        connection.close()
        del self._partial[connection]
        for node in [node for node, other in self._members.items() if other is connection]:
            del self._members[node]
            self._said.pop(node, None)
