"""What the main guard's harness adds to the start of a script that does nothing, next to `python -c pass`.

    python benchmarks/mainguard.py [PYTHON ...] [--rounds N]

Every command runs once a round, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HARNESS = Path(__file__).resolve().parent.parent / "vllm_guard" / "inside" / "harness.py"
GOAL = 0.5  #: times `python -c pass`


def main() -> int:
    """0 when the goal holds for every Python, 1 when it does not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="default: 50")
    options = parser.parse_args()
    held = [added(python, options.rounds) <= GOAL for python in options.pythons]
    return 0 if all(held) else 1


def added(python: str, rounds: int) -> float:
    """The median over the rounds of what the harness adds, in times `python -c pass`; printed, too."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "s.py")
        script.touch()
        times = [
            [timed(python, "-c", "pass"), timed(python, script), timed(python, HARNESS, script)]
            for _ in range(rounds)
        ]
    nothing, bare, guarded = (1e3 * median(column) for column in zip(*times, strict=True))
    ratio = median((row[2] - row[1]) / row[0] for row in times)
    print(
        f"{python}: -c pass {nothing:.1f} ms, script {bare:.1f} ms, under the harness {guarded:.1f} ms:"
        f" {ratio:.2f} times `-c pass` (goal {GOAL})"
    )
    return ratio


def timed(*command: str | Path) -> float:
    """Seconds until the command has ended."""
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
