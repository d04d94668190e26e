"""Libraries that start processes in their own ways, and tools that look at scripts while they run."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.kit.scripts import Case, expected, matrix, on_every_python, pythons, run, write
from tests.test_mainguard_values import ASK

VLLM = os.environ.get("VGUARD_TEST_VLLM", "")  #: has torch

JOBLIB = (
    Case(
        "joblib-loky",
        """
        from joblib import Parallel, delayed
        print("top", flush=True)
        size = int(input())
        def f(x):
            return x * size
        print(Parallel(2)(delayed(f)(x) for x in range(3)))
        """,
        "top\n[0, 3, 6]\n",
        stdin="3\n",
    ),
    Case(
        "joblib-multiprocessing",
        """
        import multiprocessing
        multiprocessing.set_start_method("spawn")
        from joblib import Parallel, delayed, parallel_config
        print("top", flush=True)
        size = int(input())
        def f(x):
            return x * size
        with parallel_config("multiprocessing"):
            print(Parallel(2)(delayed(f)(x) for x in range(3)))
        """,
        "top\n[0, 3, 6]\n",
        stdin="3\n",
    ),
)
MULTIPROCESS = (
    Case(
        "multiprocess",
        """
        import multiprocess as mp
        print("top", flush=True)
        size = int(input())
        def f(x):
            return x * size, __name__
        with mp.get_context("spawn").Pool(1) as pool:
            print(pool.map(f, [2]), pool.map(lambda x: x + size, [1]))
        """,
        "top\n[(6, '__mp_main__')] [4]\n",
        stdin="3\n",
    ),
)
CLOUDPICKLE = (
    Case(
        "cloudpickle",
        ASK
        + """
        import cloudpickle, functools
        handle = open("s.py")
        size = int(input())
        class Local:
            def __init__(self, x):
                self.x = x + size
        def load(data):
            return cloudpickle.loads(data)()
        data = cloudpickle.dumps(lambda: Local(1).x)
        print(ask(functools.partial(load, data)))
        """,
        "4\n",
        stdin="3\n",
        flags=("-W", "ignore"),
    ),
)


@cache
def has(python: str, module: str) -> bool:
    command = [pythons()[python], "-c", f"import {module}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def judged(case: Case, python: str, folder: Path, module: str) -> None:
    if not has(python, module):
        pytest.skip(f"Python {python} of these tests has no {module}")
    write(case, folder)

    assert run(case, folder, python) == expected(case)


@matrix(JOBLIB)
def test_joblib(case: Case, python: str, tmp_path: Path) -> None:
    judged(case, python, tmp_path, "joblib")


@matrix(MULTIPROCESS)
def test_multiprocess_of_dill(case: Case, python: str, tmp_path: Path) -> None:
    judged(case, python, tmp_path, "multiprocess")


@matrix(CLOUDPICKLE)
def test_cloudpickle(case: Case, python: str, tmp_path: Path) -> None:
    judged(case, python, tmp_path, "cloudpickle")


COVERED = Case(
    "covered",
    """
    from multiprocessing import get_context
    size = int(input())
    def f(x):
        y = x + size
        return y
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(f, (1,)))
        pool.close()
        pool.join()
    """,
    "3\n",
    flags=("-m", "coverage", "run"),
    files={
        ".coveragerc": "[run]\nconcurrency = multiprocessing\nparallel = true\nsigterm = true\n"
        "include = s.py\n"
    },
    stdin="2\n",
)


@on_every_python()
def test_coverage_sees_the_script_in_the_parent_and_in_the_child(
    python: str, tmp_path: Path
) -> None:
    judged(COVERED, python, tmp_path, "coverage")
    coverage = (pythons()[python], "-m", "coverage")
    subprocess.run([*coverage, "combine", "-q"], cwd=tmp_path, check=True)

    report = subprocess.run(
        [*coverage, "report", "--format=total"], cwd=tmp_path, capture_output=True, check=True
    )

    assert report.stdout == b"100\n"


TORCH = (
    Case(
        "torch-spawn",
        """
        import torch, torch.multiprocessing as mp
        print("top", flush=True)
        size, kind = int(input()), torch.float16
        def f(rank, queue):
            queue.put((rank, size, str(kind)))
        queue = mp.get_context("spawn").SimpleQueue()
        mp.spawn(f, args=(queue,), nprocs=2)
        print(sorted(queue.get() for _ in range(2)))
        """,
        "top\n[(0, 3, 'torch.float16'), (1, 3, 'torch.float16')]\n",
        stdin="3\n",
    ),
    Case(
        "torch-tensor-to-a-child",
        """
        import torch, torch.multiprocessing as mp
        mp.set_start_method("spawn")
        torch.set_num_threads(1)
        def f(tensor, queue):
            tensor += 1
            queue.put(torch.get_num_threads())
        tensor, queue = torch.zeros(2).share_memory_(), mp.SimpleQueue()
        process = mp.Process(target=f, args=(tensor, queue))
        process.start()
        process.join()
        print(tensor.tolist(), queue.get())
        """,
        "[1.0, 1.0] 1\n",
    ),
)
NUMPY = Case(
    "numpy-arrays",
    """
    import ctypes, mmap
    from multiprocessing import get_context
    import numpy
    alone = numpy.arange(int(input()))
    view, text = alone[1:], numpy.frombuffer(bytes(alone), "u1")
    mapped = numpy.memmap("array", "u1", "w+", shape=(4,))
    shared = numpy.frombuffer(memoryview(mmap.mmap(-1, 8)), "u1")
    held = [numpy.frombuffer((ctypes.c_int * 2)(), "i4")]
    def f(name):
        try:
            return repr(eval(name))
        except NameError as error:
            return str(error).partition("sent: ")[2].partition(". ")[0]
    def reads():
        return alone, view, text, mapped, shared, held
    with get_context("spawn").Pool(1) as pool:
        print(*pool.map(f, ["alone", "view", "len(text)", "mapped", "shared", "held"]), sep="\\n")
    """,
    """
    array([0, 1, 2])
    array([1, 2])
    24
    it is an array in the memory of a mmap.mmap
    it is an array in the memory of a mmap.mmap
    it is an array in the memory of a c_int_Array_2
    """,
    stdin="3\n",
)
COMPILED = Case(
    "torch-compile",
    """
    import torch, torch.multiprocessing as mp
    scale, sizes = float(input()), [1.0]
    sizes.append(scale)
    @torch.compile(backend="eager", fullgraph=True)
    def f(x):
        return x * scale + max(sizes)
    def work(queue):
        queue.put(f(torch.ones(2)).tolist())
    queue = mp.get_context("spawn").SimpleQueue()
    process = mp.get_context("spawn").Process(target=work, args=(queue,))
    process.start()
    process.join()
    print(process.exitcode or queue.get())
    """,
    "[6.0, 6.0]\n",
    stdin="3\n",
)
RANKS = Case(
    "ranks",
    """
    import os
    from multiprocessing import get_context
    def f(x):
        return x + 1
    with get_context("spawn").Pool(1) as pool:
        open("out" + os.environ["RANK"], "w").write(str(pool.apply(f, (1,))))
    """,
)


@pytest.mark.skipif(not VLLM, reason="VGUARD_TEST_VLLM names no environment with torch")
@pytest.mark.parametrize("case", [*TORCH, NUMPY, COMPILED], ids=str)
def test_torch_multiprocessing(case: Case, tmp_path: Path) -> None:
    write(case, tmp_path)

    came = run(case, tmp_path, "", program=f"{VLLM}/bin/python")

    assert came == expected(case)


@pytest.mark.skipif(not VLLM, reason="VGUARD_TEST_VLLM names no environment with torch")
def test_torchrun_starts_each_rank_under_the_harness(tmp_path: Path) -> None:
    write(RANKS, tmp_path)
    flags = (f"{VLLM}/bin/torchrun", "--standalone", "--nproc-per-node", "2")

    came = run(replace(RANKS, flags=flags), tmp_path, "", program=f"{VLLM}/bin/python")

    assert came.status == 0, came.err
    assert [(tmp_path / f"out{rank}").read_text() for rank in range(2)] == ["2", "2"]
