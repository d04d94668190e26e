"""The main job, for real: what `make demo` runs.

    python dev/demo.py VLLM MODEL

VLLM is a virtual environment with vLLM, MODEL a folder. It runs `vllm-guard --profile debug -- vllm serve
MODEL`, waits until that answers, asks for one completion, sends the signal of Ctrl-C, and looks at
what is left. Exit status 0 when a completion came and nothing is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 600.0  #: seconds until it must answer: two slow cores, cold caches
END_LIMIT = 60.0  #: seconds from Ctrl-C to the end
PROMPT = "The quick brown fox"
MARK = "VGUARD_RUN_ID"
NVIDIA = ("/dev/nvidiactl", "/proc/driver/nvidia")
SHM = Path("/dev/shm")  # noqa: S108  (looked at, not written to)


class DemoError(Exception):
    """What went wrong, in one line."""


def main(vllm: str, model: str) -> int:
    """0 when a completion came and nothing is left."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # what ends the demo ends the server
    if any(Path(trace).exists() for trace in NVIDIA):
        say("this machine has an NVIDIA GPU. To see a vLLM of yours instead of one for the CPU:")
        say("    make demo VLLM=/path/to/its/virtual/environment")
        say("and at any time:  vllm-guard --profile debug -- vllm serve YOUR_MODEL")
    try:
        demonstrate(vllm, model)
    except DemoError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def demonstrate(vllm: str, model: str) -> None:
    """Start, show, end, look. Raises DemoError when anything is not as it should be."""
    before = shared_memory()
    port = free_port()
    serve = ["vllm", "serve", model, "--port", str(port), "--max-model-len", "128"]
    command = ["vllm-guard", "--profile", "debug", "--", *serve, "--enforce-eager"]
    say(f"$ {' '.join(command)}")
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm_guard", *command[1:]],
        env=environment(vllm),
        cwd=ROOT,  # where `-m` finds this checkout's guard
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # so that your own Ctrl-C comes to the guard once: from us
    )
    try:
        wait_until_healthy(process, f"http://127.0.0.1:{port}/health")
        run = run_id(process.pid)
        text = show(process, port, model)
    finally:
        end(process)
    left = [f"process {pid}" for pid in carriers(run)]
    left += [str(SHM / name) for name in sorted(shared_memory() - before)]
    if left:
        raise DemoError(f"left of run {run}: {', '.join(left)}")
    say(f"it completed {PROMPT!r} with {text!r}")
    say(f"left of run {run}: no process that carries its {MARK}, nothing in {SHM}")


def show(process: subprocess.Popen[bytes], port: int, model: str) -> str:
    """Get a completion, end the server as Ctrl-C does; returns the text."""
    say(f"it answers; asking it to complete {PROMPT!r}")
    text = complete(f"http://127.0.0.1:{port}/v1/completions", model)
    say(f"the answer (a tiny model with random weights): {text!r}")
    say("sending SIGINT, which is what Ctrl-C does")
    process.send_signal(signal.SIGINT)
    try:
        status = process.wait(END_LIMIT)
    except subprocess.TimeoutExpired:
        raise DemoError(f"it did not end within {END_LIMIT:g} s") from None
    if status:
        raise DemoError(f"it ended with status {status}")
    return text


def wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when the server answers. Raises DemoError when it ends or takes too long."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"it ended with status {process.returncode} before it answered")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    raise DemoError(f"it did not answer within {START_LIMIT:g} s")


def complete(url: str, model: str) -> str:
    """The text that the server adds to the prompt. Raises DemoError when it refuses."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), kind)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return str(json.load(answer)["choices"][0]["text"])
    except urllib.error.URLError as error:
        raise DemoError(f"no completion: {error}") from None


def end(process: subprocess.Popen[bytes]) -> None:
    """Whatever happened: the guard ends its run on SIGTERM, and by its death at the latest."""
    for stop in (process.terminate, process.kill):
        if process.poll() is None:
            stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_LIMIT)


def environment(vllm: str) -> dict[str, str]:
    """That vLLM first on PATH; nothing is sent to anybody."""
    settings = {
        "PATH": f"{vllm}/bin:{os.environ.get('PATH', os.defpath)}",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; read by vLLM for CPUs only
    }
    return {**os.environ, **settings}


def run_id(guard: int) -> str:
    """The id that every process of this guard's run carries. Raises DemoError when none does."""
    for pid, mark in marks():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == guard:
                return mark
    raise DemoError(f"no process of the run carries {MARK}")


def carriers(run: str) -> list[int]:
    """The processes that belong to this run."""
    return [pid for pid, mark in marks() if mark == run]


def marks() -> Iterator[tuple[int, str]]:
    """(pid, run id) of every process that belongs to a run."""
    name = f"{MARK}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended by now, or somebody else's
            for pair in (entry / "environ").read_bytes().split(b"\0"):
                if pair.startswith(name):
                    yield int(entry.name), os.fsdecode(pair.removeprefix(name))


def shared_memory() -> set[str]:
    """The names in /dev/shm."""
    return {path.name for path in SHM.iterdir()} if SHM.is_dir() else set()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    """One line, set off from what vLLM and the guard print."""
    print(f"\n==> {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python dev/demo.py VLLM MODEL")
    sys.exit(main(*sys.argv[1:]))
