"""What `vllm-guard doctor` costs, next to `import torch`, `vllm collect-env` and `torchrun`.

    python benchmarks/doctor.py VLLM MODEL [--rounds N]

VLLM is a virtual environment with vLLM, MODEL a folder. Every command runs once a round, so that a busy
moment of the machine meets all of them, and is compared with `python -c "import torch"` of the same round.
All of them run on the CPU: no GPU is shown to them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from launch import Row, make_environment, prepare_venv, say, timed

BASE = 'python -c "import torch"'
QUICK, COLLECTIVE = "doctor, quick", "doctor --only collective, 2 ranks"
TORCHRUN = "torchrun, 2 ranks"
QUICK_GOAL = 0.1  #: times the base
COLLECTIVE_GOAL = 1.1  #: times the base
TORCHRUN_GOAL = 0.5  #: times torchrun

#: The least that tells whether two ranks can talk.
ALL_REDUCE = """import torch
import torch.distributed as dist
dist.init_process_group("gloo")
data = torch.ones(1024)
dist.all_reduce(data)
assert data[0] == dist.get_world_size()
dist.destroy_process_group()
"""


def main() -> int:
    """0 when the goals hold, 1 when one does not, 2 for usage."""
    parser = argparse.ArgumentParser(
        description="Measure what the doctor costs, next to its peers."
    )
    parser.add_argument("vllm", type=Path, help="a virtual environment with vLLM")
    parser.add_argument("model", type=Path, help="the folder of a model")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: 10")
    options = parser.parse_args()
    there = options.vllm.resolve() / "bin"
    guard = prepare_venv() / "bin" / "vllm-guard"
    with tempfile.TemporaryDirectory(prefix="doctor-") as scratch:
        env = make_environment(Path(scratch), there)
        env["CUDA_VISIBLE_DEVICES"] = ""
        os.chdir(scratch)
        Path("all_reduce.py").write_text(ALL_REDUCE, encoding="utf-8")
        rows = commands(there, str(guard), str(options.model.resolve()))
        measure(rows, options.rounds, env)
        os.chdir("/")
    return print_table(rows)


def commands(there: Path, guard: str, model: str) -> list[Row]:
    """Everything that is measured; the base first."""
    serve = ["--", str(there / "vllm"), "serve", model]
    ranks = ["--standalone", "--nproc-per-node", "2", "all_reduce.py"]
    return [
        Row(BASE, [str(there / "python"), "-c", "import torch"]),
        Row(QUICK, [guard, "doctor", *serve]),
        Row(COLLECTIVE, [guard, "doctor", "--only", "collective", *serve, "-tp", "2"]),
        Row(TORCHRUN, [str(there / "torchrun"), *ranks]),
        Row("vllm collect-env", [str(there / "vllm"), "collect-env"]),
    ]


def measure(rows: list[Row], rounds: int, env: dict[str, str]) -> None:
    """Fill the rows, round by round; the first one warms caches and does not count."""
    for number in range(rounds + 1):
        for row in rows:
            wall, cpu = timed(row, env)
            if number:
                row.wall.append(wall)
                row.cpu.append(cpu)
        say(f"round {number} of {rounds}")


def print_table(rows: list[Row]) -> int:
    """A table for people, which is also Markdown, and its verdict."""
    base, quick, collective, torchrun, _ = rows
    print("| command | wall ms | CPU ms | x import torch, wall | CPU |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        wall, cpu = row.ratios(base)
        print(
            f"| {row.label} | {median(row.wall):.0f} | {median(row.cpu):.0f} | {wall:.2f} | {cpu:.2f} |"
        )
    verdicts = [
        (QUICK, quick.ratios(base)[0], BASE, QUICK_GOAL),
        (COLLECTIVE, collective.ratios(base)[0], BASE, COLLECTIVE_GOAL),
        (COLLECTIVE, collective.ratios(torchrun)[0], TORCHRUN, TORCHRUN_GOAL),
    ]
    print()
    for label, ratio, to, goal in verdicts:
        print(f"{label}: {ratio:.2f} x {to} (goal: at most {goal})")
    return int(any(ratio > goal for _, ratio, _, goal in verdicts))


if __name__ == "__main__":
    sys.exit(main())
