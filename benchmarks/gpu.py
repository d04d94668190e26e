"""On a machine with an NVIDIA GPU: is its memory free again when a run under vllm-guard is killed?

    python benchmarks/gpu.py

Needs torch with CUDA in the Python that runs it. A process in a session of its own, two forks below the
command, holds GPU memory; then the command, the guard, the keeper, or guard and keeper are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIB = 8
LIMIT = 10.0  #: seconds

HOLDER = f"""
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import torch
        held = torch.zeros({GIB} << 28, device="cuda")
        torch.cuda.synchronize()
        print("held", flush=True)
        while True: signal.pause()
    while True: signal.pause()
while True: signal.pause()
"""


def main() -> int:
    """0 when every way ends with the memory free, else 1."""
    print("| killed | MiB held | MiB after | seconds until free |")
    print("| --- | ---: | ---: | ---: |")
    bad = 0
    for who in ("the command", "guard", "keeper", "guard and keeper"):
        before = used()
        held, after, seconds = one(who, before)
        print(f"| {who} | {held - before} | {after - before} | {seconds:.2f} |", flush=True)
        bad += after > before
    return min(bad, 1)


def one(who: str, before: int) -> tuple[int, int, float]:
    """(MiB while held, MiB at last, seconds from the kill until it was free)."""
    words = [sys.executable, "-m", "vllm_guard", "--", sys.executable, "-c", HOLDER]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    guard = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert guard.stdout is not None
    assert guard.stdout.readline() == b"held\n"
    held = used()
    keeper = child_of(guard.pid)
    pids = {
        "the command": [child_of(keeper)],
        "guard": [guard.pid],
        "keeper": [keeper],
        "guard and keeper": [
            keeper,
            guard.pid,
        ],  # or the kernel would continue the keeper in between
    }[who]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    start = time.monotonic()
    guard.wait()
    if who == "guard and keeper":
        subprocess.run([*words[:4], "true"], env=env, check=True)
    while (after := used()) > before and time.monotonic() - start < LIMIT:
        time.sleep(0.05)
    return held, after, time.monotonic() - start


def child_of(pid: int) -> int:
    """The first child."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def used() -> int:
    """MiB in use on the first GPU."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
