"""Where the processes of a run are: their Python stacks, and what the kernel says of each."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard import dumps, screen, tree
from vllm_guard.target.script import as_typed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from vllm_guard.redact import Redactor

TOOL = "py-spy"
_MAIN = "MainThread"
_EACH, _ALL = 10.0, 30.0  #: seconds for one process, and for all of them
_OWN = 2.0  #: seconds for one that writes its stacks itself
_TITLE = 80  #: characters
_PATH = 4096  #: bytes, PATH_MAX

#: System calls that wait, by their numbers (asm/unistd_64.h, asm-generic/unistd.h): of a descriptor,
_OF_A_FILE = {
    "x86_64": {0: "read", 17: "read", 42: "connect", 45: "receive", 47: "receive",
               1: "write", 73: "flock", 72: "fcntl", 43: "accept"},
    "aarch64": {63: "read", 67: "read", 203: "connect", 207: "receive", 212: "receive",
                64: "write", 32: "flock", 25: "fcntl", 202: "accept"},
}  # fmt: skip
#: of a path, which stands in that argument,
_OF_A_PATH = {
    "x86_64": {2: ("open", 0), 257: ("open", 1), 4: ("stat", 0), 262: ("stat", 1)},
    "aarch64": {56: ("open", 1), 79: ("stat", 1)},
}
#: and others.
_OTHERS = {
    "x86_64": {
        7: "poll",
        271: "poll",
        23: "select",
        270: "select",
        232: "epoll",
        281: "epoll",
        202: "lock",
        61: "a child",
        247: "a child",
        35: "sleep",
        230: "sleep",
        34: "pause",
        128: "a signal",
    },
    "aarch64": {
        73: "poll",
        72: "select",
        22: "epoll",
        98: "lock",
        260: "a child",
        95: "a child",
        101: "sleep",
        115: "sleep",
        137: "a signal",
    },
}
_OPENS_A_FIFO = ("wait_for_partner", "fifo_open")  #: functions of the kernel's fs/pipe.c
_A_FIFO = "a FIFO"
_STOPPED = "stopped by a signal"
_STATES = {"T": _STOPPED, "t": "held by a debugger", "Z": "dead, but for its threads"}
_UNINTERRUPTIBLE = "D"


@dataclass(frozen=True)
class Frame:
    """One call of a stack."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return screen.printable(f"{self.function} ({os.path.basename(self.file)}:{self.line})")

    @property
    def in_full(self) -> str:
        """With the whole path."""
        return screen.printable(f"{self.function} ({self.file}:{self.line})")


@dataclass(frozen=True)
class Thread:
    """One thread and its calls, the innermost first."""

    name: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class Stack:
    """Where one process is."""

    pid: int
    title: str
    state: str = ""  #: what the kernel says beyond running and sleeping; empty for these
    waits: str = ""  #: what its main thread waits for, by the kernel: "read of /models/x, a FIFO"
    threads: tuple[Thread, ...] = ()
    problem: str = ""  #: why there are no threads, and the way out

    @property
    def main(self) -> tuple[Frame, ...]:
        """The calls of the main thread."""
        named = [thread for thread in self.threads if thread.name == _MAIN]
        return next((thread.frames for thread in named or self.threads), ())

    @property
    def stopped(self) -> bool:
        """Does it wait for SIGCONT?"""
        return self.state == _STOPPED


def find_tool(path: str, interpreter: str) -> str:
    """py-spy on PATH or beside the command's interpreter or ours; empty where there is none."""
    beside = (os.path.dirname(program) for program in (interpreter, sys.executable))
    return shutil.which(TOOL, path=os.pathsep.join((path, *filter(None, beside)))) or ""


def look(pids: Sequence[int], tool: str, redactor: Redactor) -> list[Stack]:
    """Each of the processes that is still there; their titles are masked."""
    until = time.monotonic() + _ALL
    return [stack for pid in pids if (stack := _stack(pid, tool, until, redactor)) is not None]


def _stack(pid: int, tool: str, until: float, redactor: Redactor) -> Stack | None:
    info = tree.stat(pid)
    if info is None or tree.is_dead(info):
        return None
    state = _STATES.get(info["state"], "")
    if info["state"] == _UNINTERRUPTIBLE:
        state = f"uninterruptible, in the kernel's {_word(pid, 'wchan') or 'code'}"
    threads, problem = _threads(pid, tool, min(_EACH, until - time.monotonic()))
    return Stack(pid, _title(pid, redactor), state, _waits(pid), threads, problem)


def _title(pid: int, redactor: Redactor) -> str:
    """Its command line, of whose program and script the names only, without our harness."""
    text = _read(pid, "cmdline").decode("utf-8", "replace").rstrip("\0 ")
    words = as_typed(text.split("\0"))
    named = [os.path.basename(word) for word in words[:2]] + words[2:]
    title = " ".join(redactor.argv(named)) or _word(pid, "comm")
    return screen.shortened(title, _TITLE)


def _waits(pid: int) -> str:
    """By /proc/PID/syscall, which only who may trace the process is told; else by its `wchan`."""
    number, *arguments = _word(pid, "syscall").split() or [""]
    in_kernel = _word(pid, "wchan")
    if not number.isdigit() or not arguments:  # "running"
        return f"open of {_A_FIFO}" if in_kernel in _OPENS_A_FIFO else ""
    machine, call = platform.machine(), int(number)
    if name := _OF_A_FILE.get(machine, {}).get(call):
        path = _open_file(pid, int(arguments[0], 16))
        return f"{name} of {_named(path, path.startswith('/') and 'pipe' in in_kernel)}"
    if found := _OF_A_PATH.get(machine, {}).get(call):
        name, place = found
        path = _path(pid, int(arguments[place], 16))
        return f"{name} of {_named(path, in_kernel in _OPENS_A_FIFO)}"
    return _OTHERS.get(machine, {}).get(call, "")


def _open_file(pid: int, fd: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return f"file {fd}"


def _path(pid: int, address: int) -> str:
    """The path at this address of its memory."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            path = os.fsdecode(memory.read(_PATH).partition(b"\0")[0])
        return os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
    except (OSError, OverflowError):
        return "a file"


def _named(path: str, is_fifo: bool) -> str:
    """`/models/x, a FIFO`. Files are not asked what they are: on a dead file system we would wait, too."""
    return screen.shortened(path) + (f", {_A_FIFO}" if is_fifo else "")


def _threads(pid: int, tool: str, seconds: float) -> tuple[tuple[Thread, ...], str]:
    """By py-spy; where there is none, or it may not, by the process itself."""
    if not _is_python(pid):
        return (), ""
    threads, problem = _by_tool(pid, tool, seconds)
    if not problem:
        return threads, ""
    own = _by_itself(pid)
    return own, "" if own else problem


def _is_python(pid: int) -> bool:
    """Not known of a process that we may not look into: then it counts as one."""
    try:
        if "python" in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
            return True
        with open(f"/proc/{pid}/maps", "rb") as maps:
            return b"/libpython" in maps.read()
    except OSError:
        return True


def _by_itself(pid: int) -> tuple[Thread, ...]:
    found = list(dumps.threads(dumps.read(pid, _OWN)))
    names = [""] * (len(found) - 1) + [_MAIN]
    return tuple(
        Thread(name, tuple(Frame(*frame) for frame in frames))
        for name, frames in zip(names, found, strict=False)
    )


def _by_tool(pid: int, tool: str, seconds: float) -> tuple[tuple[Thread, ...], str]:
    """Not stopped while it is read: what is stopped already could not be otherwise."""
    if not tool:
        return (), f"its Python stack is not known: pip install {TOOL}"
    try:
        done = subprocess.run(
            [tool, "dump", "--json", "--nonblocking", "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.0, seconds),
            check=True,
        )
        return tuple(_thread(pid, row) for row in json.loads(done.stdout)), ""
    except subprocess.TimeoutExpired:
        return (), f"{TOOL}: no answer in time"
    except subprocess.CalledProcessError as error:
        return (), refusal(error.stderr.decode("utf-8", "replace"), _scope())
    except (OSError, ValueError, KeyError, TypeError) as error:
        return (), screen.shortened(f"{TOOL}: {error}")


def refusal(said: str, scope: int) -> str:
    """What py-spy said in one clause, with the way out where it is known; `scope`: Yama's ptrace_scope."""
    if "ermission" not in said and "not permitted" not in said:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return screen.shortened(f"{TOOL}: {lines[-1] if lines else 'failed'}")
    if scope:
        return f"{TOOL} is not permitted here (ptrace_scope {scope}): sysctl kernel.yama.ptrace_scope=0"
    return f"{TOOL} is not permitted here: docker run --cap-add SYS_PTRACE, or as root"


def _scope() -> int:
    """0 also where the kernel has no Yama."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _thread(pid: int, row: dict[str, Any]) -> Thread:
    """Python's names are known where `threading` was imported."""
    frames = (Frame(f["name"], f["filename"], int(f["line"])) for f in row["frames"])
    name = row["thread_name"] or (_MAIN if row["os_thread_id"] == pid else "")
    return Thread(name, tuple(frames))


def _word(pid: int, name: str) -> str:
    return _read(pid, name).decode("utf-8", "replace").strip()


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read(4096)
    except OSError:
        return b""
