"""How fast a log is searched for every known failure, next to one regular expression on each line.

    python benchmarks/scan.py [--megabytes N] [--rounds N]

Whole diagnoses, from bytes to incidents, with all signatures of the package, on logs that this program
makes: what a server writes; NCCL's trace; and prompts, of which no line is like another. CPU time.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vllm_guard import diagnose, facts, needles, signatures  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAIVE = "one `re` on each line (1 MB)"
BLOCK = 1 << 18  #: bytes, as `explain` reads them
GOALS = {"stdlib": 50, "hyperscan": 300}  #: MB/s, on the server's log and on NCCL's
FAILURE = (
    b"(EngineCore_DP0 pid=271) ERROR 11-12 12:13:31 [core.py:708] ValueError: To serve at least one request "
    b"with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the "
    b"available KV cache memory (7.35 GiB).\n"
)
KNOWN = signatures.parse(facts.signatures())
LITERALS = [needle for signature in KNOWN for needle in signature.needles]


def main() -> int:
    """0 when the goals hold, 1 when one does not."""
    parser = argparse.ArgumentParser(description="How fast is a log diagnosed?")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    readers = dict(_readers())
    print(f"{len(KNOWN)} signatures, {len(LITERALS)} literals; {options.megabytes} MB; MB/s\n")
    print(f"| log | {' | '.join((NAIVE, *readers))} |\n|---|{'---:|' * (len(readers) + 1)}")
    missed = []
    for name, lines in (("server", _server()), ("nccl", _nccl()), ("prompts", _prompts())):
        log, short = _log(lines, options.megabytes), _log(lines, 1)
        speeds = {NAIVE: _speed(_naive, short, 1)}
        speeds |= {reader: _speed(read, log, options.rounds) for reader, read in readers.items()}
        print(f"| {name} | " + " | ".join(f"{speed:.0f}" for speed in speeds.values()) + " |")
        goals = GOALS.items() if name != "prompts" else ()
        missed += [f"{name}: {reader}" for reader, goal in goals if speeds.get(reader, goal) < goal]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nthe goals hold")
    return bool(missed)


def _readers() -> Iterator[tuple[str, Callable[[bytes], bool]]]:
    yield "stdlib", lambda log: _diagnosed(log, needles.Shapes)
    try:
        needles.Hyperscan(["literal"])
    except ImportError:
        print("hyperscan is not installed: pip install 'vllm-guard[fast]'", file=sys.stderr)
    else:
        yield "hyperscan", lambda log: _diagnosed(log, needles.Hyperscan)


def _naive(log: bytes) -> bool:
    """The literals only: the expressions themselves would take longer."""
    search = re.compile("|".join(map(re.escape, LITERALS)).encode()).search
    return sum(search(line) is not None for line in log.split(b"\n")) > 0


def _diagnosed(log: bytes, finder: Callable[[list[str]], needles.Finder]) -> bool:
    diagnosis = diagnose.Diagnosis(KNOWN, str, finder)
    for start in range(0, len(log), BLOCK):
        diagnosis.feed(log[start : start + BLOCK])
    return [incident.id for incident in diagnosis.finish()] == ["kv-cache-too-small"]


def _speed(read: Callable[[bytes], bool], log: bytes, rounds: int) -> float:
    """Megabytes in a second of CPU time, the median."""
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        assert read(log), "the failure was not found"
        seconds.append(time.process_time() - begun)
    return len(log) / 1e6 / median(seconds)


def _log(lines: Iterator[bytes], megabytes: int) -> bytes:
    """As many lines as it takes, and one failure in the middle."""
    some = list(islice(lines, 20_000))
    size = sum(map(len, some))
    count = megabytes * 1_000_000 * len(some) // size
    several = [*some, *islice(lines, max(0, count - len(some)))][:count]
    several.insert(len(several) // 2, FAILURE)
    return b"".join(several)


def _server() -> Iterator[bytes]:
    """Statistics and answers."""
    draw = random.Random(1)  # noqa: S311
    while True:
        yield (
            b"(APIServer pid=1) INFO 11-12 12:%02d:%02d [loggers.py:127] Engine 000: Avg prompt throughput: "
            b"%d.1 tokens/s, Avg generation throughput: %d.3 tokens/s, Running: %d reqs, Waiting: %d reqs, "
            b"GPU KV cache usage: %d.2%%, Prefix cache hit rate: %d.0%%\n"
        ) % tuple(draw.randrange(60) for _ in range(8))
        for _ in range(3):
            client = draw.randrange(256), draw.randrange(1 << 16)
            yield (
                b'(APIServer pid=1) INFO:     192.0.2.%d:%d - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
            ) % client


def _nccl() -> Iterator[bytes]:
    draw = random.Random(2)  # noqa: S311
    while True:
        yield (
            b"node-1:271:271 [%d] NCCL INFO AllReduce: opCount %x sendbuff 0x%x recvbuff 0x%x count %d "
            b"datatype 9 op 0 root 0 comm 0x%x [nranks=8] stream 0x%x\n"
        ) % tuple(draw.randrange(1 << bits) for bits in (3, 20, 47, 47, 20, 47, 47))


def _prompts() -> Iterator[bytes]:
    """Requests in the words of our own documentation, which speak of failures more than others do."""
    draw = random.Random(3)  # noqa: S311
    text = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    words = sorted(set(re.findall(r"[A-Za-z][a-z]+", text)) - {"Error", "Exception"})
    while True:
        prompt = " ".join(draw.choices(words, k=40))
        line = (
            f"(APIServer pid=1) INFO 11-12 12:12:12 [logger.py:39] Received request chatcmpl-"
            f"{draw.getrandbits(128):032x}: prompt: '{prompt}', params: SamplingParams(n=1)\n"
        )
        yield line.encode()


if __name__ == "__main__":
    sys.exit(main())
