"""What is left of a real `vllm serve` when somebody is killed: bare, under its peers, under vllm-guard.

    python benchmarks/leaks.py VLLM MODEL [--tp N] [--only WAY]

VLLM is a virtual environment with vLLM, MODEL a folder. Each case starts a server of its own in a private
TMPDIR, waits until it has come so far, does it, and looks when all is over, or 10 seconds later.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = "LEAKS_MARK"
READY, LATER = 300.0, 10.0  #: seconds
GUARD = "vllm-guard"
IMPORTS, LOADS, SERVES = "while it imports torch", "while it loads the model", "while it serves"


@dataclass(frozen=True)
class Case:
    """What is done, to whom, and when."""

    number: signal.Signals
    victims: tuple[str, ...]
    moment: str = SERVES
    guard_only: bool = False  #: the others have no such process

    def __str__(self) -> str:
        to = "of" if self.number == signal.SIGKILL else "to"
        return f"{self.number.name} {to} the {' and the '.join(self.victims)} {self.moment}"


CASES = (
    *(
        Case(number, ("wrapper",), moment)
        for moment in (IMPORTS, LOADS, SERVES)
        for number in (signal.SIGTERM, signal.SIGINT)
    ),
    *(
        Case(signal.SIGKILL, (victim,))
        for victim in ("wrapper", "API server", "EngineCore", "Worker")
    ),
    Case(signal.SIGKILL, ("keeper",), guard_only=True),
    Case(signal.SIGKILL, ("keeper", "wrapper"), guard_only=True),
)


@dataclass(frozen=True)
class Left:
    """What was found after a case."""

    processes: int
    shm_mib: int
    files: int
    port: bool

    def __str__(self) -> str:
        port = ", port" if self.port else ""
        if not (self.processes or self.shm_mib or self.files or self.port):
            return "nothing"
        return f"{self.processes} proc, {self.shm_mib} MiB shm, {self.files} files{port}"


def main() -> int:
    """0 when nothing is ever left under vllm-guard, else 1."""
    parser = argparse.ArgumentParser(description="What is left of a killed vllm serve?")
    parser.add_argument("vllm", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tp", type=int, default=1, metavar="N", help="workers (default: 1)")
    parser.add_argument("--only", metavar="WAY", help="only this way, for example vllm-guard")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    ways = {n: w for n, w in wrappers(options.vllm).items() if options.only in (None, n)}
    print("| what happens | " + " | ".join(ways) + " |", flush=True)
    print("| --- |" + " --- |" * len(ways), flush=True)
    bad = 0
    for case in CASES:
        if "Worker" in case.victims and options.tp == 1:
            continue  # EngineCore does the work itself
        cells = []
        for name, way in ways.items():
            if case.guard_only and name != GUARD:
                cells.append("")
                continue
            left = one(way, options, case)
            bad += name == GUARD and str(left) != "nothing"
            cells.append(str(left))
        print(f"| {case} | " + " | ".join(cells) + " |", flush=True)
    return min(bad, 1)


def wrappers(vllm: Path) -> dict[str, list[str]]:
    """Each way to start the server that is installed here."""
    python = str(vllm / "bin" / "python")
    guard = [sys.executable, "-m", "vllm_guard", "--"]
    known = {
        "bare": [],
        "tini -s": ["tini", "-s", "--"],
        "dumb-init": ["dumb-init", "--"],
        "uv run": ["uv", "run", "--no-project", "--python", python, "--"],
        GUARD: guard,
    }
    return {n: w for n, w in known.items() if not w or shutil.which(w[0])}


def one(way: list[str], options: argparse.Namespace, case: Case) -> Left:
    """Start, wait, do it, look."""
    with tempfile.TemporaryDirectory(prefix="leaks-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        temporary = Path(folder, "tmp")
        temporary.mkdir()
        serve = ["vllm", "serve", str(options.model), "--port", str(port), "--enforce-eager"]
        serve += ["--max-model-len", "128", "--tensor-parallel-size", str(options.tp)]
        before = shared_memory()
        mark = os.urandom(8).hex()
        with open(Path(folder, "log"), "wb") as log:
            process = subprocess.Popen(
                [*way, *serve],
                env=environment(options.vllm, folder, mark),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(case.moment, process, (mark, port), Path(folder, "log"))
        do(case, process.pid, mark)
        deadline = time.monotonic() + LATER
        while time.monotonic() < deadline and (process.poll() is None or marked(mark)):
            time.sleep(0.1)
        if {"keeper", "wrapper"} <= set(case.victims):  # only the next start can mend that
            subprocess.run([*way, "true"], env=environment(options.vllm, folder, mark), check=True)
        left = look(mark, before, temporary, port)
        for pid in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        for path in shared_memory() - before:
            path.unlink(missing_ok=True)
        return left


def environment(vllm: Path, folder: str, mark: str) -> dict[str, str]:
    """Private folders; SPT_NOENV so that a process's mark can be read whatever its title."""
    return {
        **os.environ,
        "PATH": f"{vllm}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": folder,
        "TMPDIR": str(Path(folder, "tmp")),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "SPT_NOENV": "1",
        MARK: mark,
    }


def wait_until(
    moment: str, process: subprocess.Popen[bytes], server: tuple[str, int], log: Path
) -> None:
    """Until the server, by its mark and its port, has come so far."""
    mark, port = server
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        if moment == SERVES and answers(port):
            return
        if moment == LOADS and b"Starting to load model" in log.read_bytes():
            return
        if moment == IMPORTS and any(imports_torch(pid) for pid in marked(mark)):
            return
        time.sleep(0.1)
    raise SystemExit(f"error: the server did not come up\n{log.read_text()[-2000:]}")


def answers(port: int) -> bool:
    """Does the server answer?"""
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
        return True
    return False


def imports_torch(pid: int) -> bool:
    """Has this process mapped torch?"""
    with contextlib.suppress(OSError):
        return b"libtorch" in Path(f"/proc/{pid}/maps").read_bytes()
    return False


def do(case: Case, wrapper: int, mark: str) -> None:
    """Send the signal; of several, none sees the end of another."""
    victims = [find(wrapper, mark, victim) for victim in case.victims]
    if len(victims) > 1:
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
    for pid in victims:
        os.kill(pid, case.number)


def find(wrapper: int, mark: str, victim: str) -> int:
    """The pid to signal."""
    if victim == "wrapper":
        return wrapper
    if victim == "keeper":
        (keeper,) = Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()
        return int(keeper)
    title = "/bin/vllm" if victim == "API server" else f"VLLM::{victim}"
    found = [pid for pid in sorted(marked(mark)) if title in command_of(pid).split(" serve")[0]]
    return found[-1] if victim == "API server" else found[0]


def look(mark: str, before: set[Path], temporary: Path, port: int) -> Left:
    """What is there that was not there before; torch's cache of kernels is meant to stay."""
    new = shared_memory() - before
    size = sum(path.stat().st_size for path in new)
    files = [p for p in temporary.iterdir() if not p.name.startswith("torchinductor_")]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy = probe.connect_ex(("127.0.0.1", port)) == 0
    return Left(len(list(marked(mark))), -(-size >> 20), len(files), busy)


def marked(mark: str) -> list[int]:
    """Living processes that carry the mark."""
    return [pid for pid in pids() if f"{MARK}={mark}".encode() in environ_of(pid)]


def pids() -> Iterator[int]:
    """All processes but zombies."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b") Z " not in (entry / "stat").read_bytes():
                yield int(entry.name)


def environ_of(pid: int) -> list[bytes]:
    """The entries of a process's environment."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def command_of(pid: int) -> str:
    """The command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def shared_memory() -> set[Path]:
    """The files of /dev/shm."""
    return set(Path("/dev/shm").iterdir())  # noqa: S108


if __name__ == "__main__":
    sys.exit(main())
