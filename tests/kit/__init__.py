"""The little real programs that the tests run, and how they are run under the guard."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vllm_guard import record

KIT = Path(__file__).parent
ROOT = KIT.parent.parent
PATIENCE = 30.0  #: seconds after which an event that should have come counts as missing

GUARD = (sys.executable, "-m", "vllm_guard")


NO_HUB = "http://127.0.0.1:9"  #: refuses: no test asks the real hub


def guard_env(**extra: str | None) -> dict[str, str]:
    """The environment for a guard run from this checkout; None removes a variable."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), HF_ENDPOINT=NO_HUB)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling 25 modules for each launch takes time
    for name, value in extra.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


def guard(*words: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the guard to its end, output captured."""
    options.setdefault("env", guard_env())
    options.setdefault("timeout", PATIENCE)
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*GUARD, *words], capture_output=True, check=False, **options)


def start(*words: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
    """Start the guard with pipes for its output."""
    options.setdefault("env", guard_env())
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([*GUARD, *words], **options)


def program(name: str, *arguments: object) -> list[str]:
    """The words that run one of the kit's programs."""
    return [sys.executable, "-S", str(KIT / f"{name}.py"), *map(str, arguments)]


def under_way() -> bool:
    """Has a run of this HOME a keeper, and its marker says which?"""
    markers = Path(record.Shelf(os.environ).root, "active").glob("*")
    return any(path.read_bytes().count(b"keeper ") > 1 for path in markers)


def plant_marker(run_id: str, **rows: str) -> Path:
    """The marker of a run whose guard is dead and which had no keeper yet; `rows` replace its lines."""
    shelf = record.Shelf(os.environ)
    shelf.mark(run_id, "", "", ())
    shelf.open(run_id)
    path = Path(shelf.root, "active", run_id)
    words = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    given = {"guard": f"{2**22 - 3} 0", **rows}
    path.write_text("".join(f"{word} {value}\n" for word, value in (words | given).items()))
    return path


class Lines:
    """Lines of a pipe as they come; every wait has an end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)
        self.seen = b""

    def until(self, wanted: bytes, patience: float = PATIENCE, start: int = 0) -> bytes:
        """Read until `wanted` has been written, after `start` bytes; returns everything so far."""
        deadline = time.monotonic() + patience
        while wanted not in self.seen[start:]:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} did not come; seen: {self.seen!r}"
            if not self._selector.select(left):
                continue
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO: a pty whose other side is closed
                data = b""
            assert data, f"the stream ended before {wanted!r}; seen: {self.seen!r}"
            self.seen += data
        return self.seen

    def rest(self) -> bytes:
        """Read what is left, whose writers are gone; returns everything."""
        while self._selector.select(PATIENCE):
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO, as above
                break
            if not data:
                break
            self.seen += data
        return self.seen


def wait_for(condition: Any, what: str, patience: float = PATIENCE) -> Any:
    """Poll a condition of the system that gives no event; fails when it does not come true."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"did not come true: {what}"
        time.sleep(0.01)


def kill_at_once(*pids: int) -> None:
    """SIGKILL to all, none of which sees the end of another.

    A keeper is named before its guard: the kernel continues a stopped process group whose parent ends.
    """
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in (b"Z", b"X") or int(fields[17]) > 1  # its main thread has ended


def gone(pids: Iterable[int], patience: float = PATIENCE) -> None:
    """Wait until none of the processes is alive."""
    rest = list(pids)
    wait_for(lambda: not any(is_alive(pid) for pid in rest), f"end of {rest}", patience)


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def tree_of(pid: int) -> Iterator[int]:
    """Every process below `pid`."""
    for child in children(pid):
        yield child
        yield from tree_of(child)


def environ_of(pid: int) -> dict[str, str]:
    """The environment a process was started with."""
    raw = Path(f"/proc/{pid}/environ").read_bytes()
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
