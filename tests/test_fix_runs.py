"""Scripts that fail under spawn, and run when `vllm-guard fix` has written their guards: real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import PATIENCE, guard

RUNS = {
    "a worker that reads the arguments": """\
import argparse
import multiprocessing
from time import sleep

parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int, default=3)
args = parser.parse_args()
multiprocessing.set_start_method("spawn")
print("start", flush=True)


def work():
    print("worker", args.n, flush=True)


p = multiprocessing.Process(target=work)
p.start()
p.join()
print("end", p.exitcode, flush=True)
""",
    "a pool of an executor": """\
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

FACTOR = 2; print("start", flush=True); UNUSED = 1
LENGTHS = {}
for word in ("a", "bb"):
    LENGTHS[word] = len(word)


def work(word):
    return LENGTHS[word] * FACTOR


with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
    print(list(pool.map(work, LENGTHS)), flush=True)
print("end 0")
""",
    "an object that is sent": """\
from multiprocessing import get_context
import collections


class Job(collections.namedtuple("Job", "name")):
    text = \"\"\"of
  two lines\"\"\"

    def run(self):
        print(self.name, self.text, flush=True)


job = Job("a job")
context = get_context("spawn")

process = context.Process(target=job.run)
process.start(); process.join(); print("end", process.exitcode, flush=True)
""",
    "a main function": """\
import multiprocessing as mp


def work(total):
    total.value = 7


def main():
    context = mp.get_context("spawn")
    total = context.Value("i")
    process = context.Process(target=work, args=(total,))
    process.start()
    process.join()
    print("total", total.value)
    print("end", process.exitcode)


main()
""",
    "what is changed by other names and functions": """\
import copy
import sys
from multiprocessing import get_context

import helper


class Settings:
    size = 0
    parts = []


N = len(sys.argv) + 4
CFG = {"part": {}}
ROWS = [[], []]
TABLE = {}
LIMIT = 0
print("start", flush=True)


def fill(table):
    table["n"] = N


def prepare():
    global LIMIT
    LIMIT = N
    CFG["more"] = N


def double(n):
    return 2 * n


setattr(Settings, "size", double(N))
Settings.parts.append(double(N))
part = CFG["part"]
part["n"] = copy.copy(double(N))
for row in ROWS:
    row.append(double(N))
fill(TABLE)
prepare()
helper.OFFSET = double(N)


def values():
    return Settings.size, Settings.parts, CFG, ROWS, TABLE, LIMIT, helper.offset()


def work(expected):
    print(values() == expected, flush=True)


def run(function):
    process = get_context("spawn").Process(target=function, args=(values(),))
    process.start()
    process.join()
    print("end", process.exitcode)


run(work)
""",
    "what processes share": """\
from multiprocessing import get_context

context = get_context("spawn")
queue = context.Queue()


def work(queue):
    queue.put("from a child")


process = context.Process(target=work, args=(queue,))
process.start()
process.join()
if process.exitcode == 0:
    print(queue.get())
print("end", process.exitcode)
""",
}
SAID = {
    "a worker that reads the arguments": "start\nworker 3\nend 0\n",
    "a pool of an executor": "start\n[2, 4]\nend 0\n",
    "an object that is sent": "a job of\n  two lines\nend 0\n",
    "a main function": "total 7\nend 0\n",
    "what is changed by other names and functions": "start\nTrue\nend 0\n",
    "what processes share": "from a child\nend 0\n",
}


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )


@pytest.mark.parametrize("name", RUNS)
def test_what_failed_under_spawn_works_when_it_is_fixed(clean_world, name) -> None:
    script = clean_world / "s.py"
    script.write_text(RUNS[name])
    (script.parent / "helper.py").write_text("OFFSET = 0\n\n\ndef offset():\n    return OFFSET\n")
    before = run_script(script)
    assert "RuntimeError: " in before.stderr
    assert before.stdout != SAID[name]

    assert guard("fix", "--write", str(script)).returncode == 0
    after = run_script(script)

    assert (after.returncode, after.stdout, after.stderr) == (0, SAID[name], "")
