"""What it costs that output passes through vllm-guard: CPU, throughput, latency, next to `tee`.

    python benchmarks/pump.py [--megabytes N] [--rounds N] [--seconds N]

A writer writes vLLM-like lines, or one NCCL trace line with each write, through vllm-guard (also where it
looks for phases), through `tee` and straight into the same drained pipe; all of them once a round, so that
a busy moment meets all. Then how
much a writer at full speed gets done in some seconds, and what memory the guard needs for it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
GOALS = {"cpu": 1.3, "throughput": 0.85, "latency": 1.5}  #: against tee
WATCHED = 0.95  #: throughput where phases are looked for, against not
WATCHING = "vllm-guard --progress"
FULL_SPEED = 0.95  #: lines of a writer under the guard, against one whose pipe `cat` drains
MEMORY = 150  #: MiB, the guard's most

#: Writes ARGV[2] megabytes of the lines named by ARGV[1], and its own CPU seconds into the file ARGV[3].
#: `ticks`: one line each 2 ms with the time. `full`: trace lines for ARGV[2] seconds, and how many.
WRITER = r"""
import os, sys, time
kind, size = sys.argv[1], int(sys.argv[2]) << 20
if kind == "ticks":
    for _ in range(300):
        os.write(1, b"%d\n" % time.monotonic_ns())
        time.sleep(0.002)
    sys.exit()
vllm = (b"(EngineCore pid=1234) INFO 11-25 08:21:17 [v1/metrics/loggers.py:335] Engine 000: Avg prompt "
        b"throughput: 0.0 tokens/s, Avg generation throughput: 12.3 tokens/s, Running: 1 reqs, "
        b"Waiting: 0 reqs, GPU KV cache usage: 0.1%, Prefix cache hit rate: 0.0%\n")
nccl = (b"host:1234:5678 [0] NCCL INFO AllReduce: opCount 1a sendbuff 0x7f0000000000 recvbuff "
        b"0x7f0000000000 count 4096 datatype 9 op 0 root 0\n")
if kind == "full":
    end, count = time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < end:
        os.write(1, nccl)
        count += 1
    with open(sys.argv[3], "w") as file:
        file.write(str(count))
    sys.exit()
block = vllm * 256 if kind == "vllm" else nccl
for _ in range(size // len(block)):
    os.write(1, block)
with open(sys.argv[3], "w") as file:
    file.write(str(time.process_time()))
"""


def main() -> int:
    """0 when the goals hold against tee, 1 when one does not."""
    parser = argparse.ArgumentParser(description="Measure the output path, next to tee.")
    parser.add_argument("--megabytes", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--seconds", type=int, default=10, metavar="N", help="default: 10")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as home:
        ways = commands(home)
        for kind, size in (("vllm", options.megabytes), ("nccl", options.megabytes // 2)):
            rows = {name: [one(ways[name], kind, size) for _ in range(1)] for name in ways}
            for name in list(ways) * (options.rounds - 1):
                rows[name].append(one(ways[name], kind, size))
            failed += print_rates(kind, size, rows)
        failed += print_latency(ways, options.rounds)
        failed += print_full_speed(ways["vllm-guard"], options.seconds, options.rounds)
    return min(failed, 1)


def commands(home: str) -> dict[str, list[str]]:
    """The ways that output takes; each is a prefix of the writer's command."""
    env = ["env", f"HOME={home}", f"PYTHONPATH={ROOT}"]
    guard = [*env, sys.executable, "-m", "vllm_guard"]
    tee = ["sh", "-c", f'"$@" | tee {home}/tee.log', "sh"]
    watching = [*guard, "--progress", "--"]
    return {"straight": [], "tee": tee, "vllm-guard": [*guard, "--"], WATCHING: watching}


def one(way: list[str], kind: str, size: int) -> tuple[float, float]:
    """(MB/s, CPU seconds of all but reader and writer) of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile("r") as told:
        words = [*way, sys.executable, "-S", "-c", WRITER, kind, str(size), told.name]
        total = drained(words)
        writer = float(told.read())
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return total / 1e6 / seconds, cpu - writer


def drained(words: list[str]) -> int:
    """Run a command to its end and read all it writes; how many bytes."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        total = 0
        while data := os.read(process.stdout.fileno(), 1 << 20):
            total += len(data)
    return total


def print_rates(kind: str, size: int, rows: dict[str, list[tuple[float, float]]]) -> int:
    """A table; the number of goals that do not hold."""
    rate = {name: median(r for r, _ in found) for name, found in rows.items()}
    cpu = {name: median(c for _, c in found) for name, found in rows.items()}
    print(f"\n{kind} lines, {size} MB, {len(rows['tee'])} rounds\n")
    print("| way | MB/s | CPU ms/MB, without the writer's | x tee, throughput | x tee, CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in rows:
        per_mb = f"{cpu[name] * 1000 / size:.2f}"
        ratios = f"{rate[name] / rate['tee']:.2f} | {cpu[name] / cpu['tee']:.2f}"
        print(f"| {name} | {rate[name]:.0f} | {per_mb} | {ratios} |")
    slow = rate["vllm-guard"] < GOALS["throughput"] * rate["tee"]
    lost = rate[WATCHING] < WATCHED * rate["vllm-guard"]
    return slow + lost + (cpu["vllm-guard"] > GOALS["cpu"] * cpu["tee"])


def print_latency(ways: dict[str, list[str]], rounds: int) -> int:
    """Microseconds from a line's write to its arrival; the number of goals that do not hold."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(latency(way))
    p50 = {name: median(values) for name, values in found.items()}
    added = {name: p50[name] - p50["straight"] for name in ways}
    print("\none line each 2 ms: median time from write to arrival\n")
    print("| way | us | added us | x tee |")
    print("| --- | ---: | ---: | ---: |")
    for name in ways:
        print(f"| {name} | {p50[name]:.0f} | {added[name]:.0f} | {p50[name] / p50['tee']:.2f} |")
    return int(p50["vllm-guard"] > GOALS["latency"] * p50["tee"])


def latency(way: list[str]) -> float:
    """Median microseconds of one run of ticks."""
    words = [*way, sys.executable, "-S", "-c", WRITER, "ticks", "0"]
    times: list[float] = []

    def read(fd: int) -> None:
        while data := os.read(fd, 65536):
            now = time.monotonic_ns()
            times.extend((now - int(word)) / 1000 for word in data.split())

    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=read, args=(process.stdout.fileno(),))
        reader.start()
        reader.join()
    return median(times)


def print_full_speed(guard: list[str], seconds: int, rounds: int) -> int:
    """Lines that a writer at full speed gets rid of; the number of goals that do not hold."""
    found = [(full_speed([], seconds), full_speed(guard, seconds)) for _ in range(rounds)]
    ratio = median(ours[0] / plain[0] for plain, ours in found)
    memory = max(ours[1] for _, ours in found)
    print(
        f"\na writer at full speed, one trace line each write, for {seconds} s, {rounds} rounds\n"
    )
    print("| way | lines/s | x drained pipe | peak RSS MiB |")
    print("| --- | ---: | ---: | ---: |")
    print(f"| straight into `cat` | {median(p[0] for p, _ in found):.0f} | 1.00 | |")
    print(f"| vllm-guard | {median(o[0] for _, o in found):.0f} | {ratio:.2f} | {memory:.0f} |")
    return (ratio < FULL_SPEED) + (memory > MEMORY)


def full_speed(way: list[str], seconds: int) -> tuple[float, float]:
    """(lines/s of the writer, peak RSS in MiB of what was started); without a way, `cat` drains it."""
    with tempfile.NamedTemporaryFile("r") as told:
        words = [*way, sys.executable, "-S", "-c", WRITER, "full", str(seconds), told.name]
        stdout = subprocess.DEVNULL if way else subprocess.PIPE
        with subprocess.Popen(words, stdout=stdout, stderr=subprocess.DEVNULL) as process:
            drain = ["cat"] if process.stdout else ["true"]
            with subprocess.Popen(drain, stdin=process.stdout, stdout=subprocess.DEVNULL):
                if process.stdout:
                    process.stdout.close()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        return int(told.read()) / seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
