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

ROOT = Path(__file__).resolve().parent.parent
START_LIMIT = 600.0  #: seconds until it must answer: two slow cores, cold caches
END_LIMIT = 60.0  #: seconds from Ctrl-C to the end
PROMPT = "The quick brown fox"
SHM = Path("/dev/shm")  # noqa: S108  (looked at, not written to)


class DemoError(Exception):
    """What went wrong, in one line."""


def main(vllm: str, model: str) -> int:
    """0 when a completion came and nothing is left."""
    if Path("/dev/nvidiactl").exists():
        say("this machine has an NVIDIA GPU. To use a vLLM of yours instead of one for the CPU:")
        say("    make demo VLLM=/path/to/its/virtual/environment")
        say("and at any time:  vllm-guard --profile debug -- vllm serve YOUR_MODEL")
    before = shared_memory()
    port = free_port()
    serve = ["vllm", "serve", model, "--port", str(port), "--max-model-len", "128"]
    command = ["vllm-guard", "--profile", "debug", "--", *serve, "--enforce-eager"]
    say(f"$ {' '.join(command)}")
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm_guard", *command[1:]],
        env=environment(vllm),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # so that your own Ctrl-C comes to the guard once: from us
    )
    try:
        text = show(process, port, model)
    except DemoError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        end(process)
    left = what_is_left(process.pid, before)
    say(f"it completed {PROMPT!r} with {text!r}")
    say(f"left of it: {', '.join(left) or 'no process, nothing in /dev/shm'}")
    return 1 if left else 0


def show(process: subprocess.Popen[bytes], port: int, model: str) -> str:
    """Wait for the server, get a completion, end it as Ctrl-C does; returns the text."""
    base = f"http://127.0.0.1:{port}"
    wait_until_healthy(process, f"{base}/health")
    say(f"it answers; asking it to complete {PROMPT!r}")
    text = complete(f"{base}/v1/completions", model)
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
    """That vLLM first on PATH; nothing is sent to anybody; this checkout's guard."""
    settings = {
        "PATH": f"{vllm}/bin:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; read by vLLM for CPUs only
    }
    return {**os.environ, **settings}


def what_is_left(guard: int, before: set[str]) -> list[str]:
    """Processes of the guard's session (it led one of its own), and new files in /dev/shm."""
    left = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == guard:
                left.append(f"process {entry.name}")
    return left + [str(SHM / name) for name in sorted(shared_memory() - before)]


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
