"""Unguarded scripts that start processes run under the harness: every way to start them, every pickle."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, run, write

CASES = (
    Case(
        "process",
        """
        import multiprocessing as mp
        mp.set_start_method("spawn")
        print("top", flush=True)
        def work(x):
            print("child", x, __name__)
        process = mp.Process(target=work, args=(3,))
        process.start()
        process.join()
        print(process.exitcode)
        """,
        "top\nchild 3 __mp_main__\n0\n",
    ),
    Case(
        "pool",
        """
        from multiprocessing import get_context
        def square(x):
            return x * x
        with get_context("spawn").Pool(2) as pool:
            print(pool.map(square, range(5)))
        """,
        "[0, 1, 4, 9, 16]\n",
    ),
    Case(
        "executor",
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def half(x):
            return x / 2
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            print(list(pool.map(half, range(3))))
        """,
        "[0.0, 0.5, 1.0]\n",
    ),
    Case(
        "manager",
        """
        from multiprocessing import get_context
        def fill(shared):
            shared["by"] = __name__
        context = get_context("spawn")
        with context.Manager() as manager:
            shared = manager.dict()
            process = context.Process(target=fill, args=(shared,))
            process.start()
            process.join()
            print(dict(shared))
        """,
        "{'by': '__mp_main__'}\n",
    ),
    Case(
        "locks-and-shared-memory",
        """
        from multiprocessing import get_context
        from multiprocessing.shared_memory import SharedMemory
        def add(lock, total, name):
            memory = SharedMemory(name)
            with lock:
                total.value += memory.buf[0]
            memory.close()
        context = get_context("spawn")
        lock, total = context.Lock(), context.Value("i", 0)
        memory = SharedMemory(create=True, size=1)
        memory.buf[0] = 7
        processes = [context.Process(target=add, args=(lock, total, memory.name)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        memory.close()
        memory.unlink()
        print(total.value)
        """,
        "14\n",
    ),
    Case(
        "threads-that-start",
        """
        import threading
        from multiprocessing import get_context
        context = get_context("spawn")
        results = context.Queue()
        def work(x):
            results.put(x)
        def start(queue, x):
            process = context.Process(target=put, args=(queue, x))
            process.start()
            process.join()
        def put(queue, x):
            queue.put(x)
        threads = [threading.Thread(target=start, args=(results, x)) for x in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sorted(results.get() for _ in threads))
        """,
        "[0, 1, 2]\n",
    ),
    Case(
        "fork-while-another-thread-starts-the-first",
        """
        import os, signal, sys, threading
        from multiprocessing import get_context
        analysis = sys.modules["_vllm_guard_main"].load("analysis")
        begun, order = threading.Event(), analysis.order
        def told(script):
            begun.set()
            return order(script)
        analysis.order = told
        def start():
            process = get_context("spawn").Process(target=print, args=("worked",))
            process.start()
            process.join()
        thread = threading.Thread(target=start)
        thread.start()
        begun.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            start()
            os._exit(0)
        thread.join()
        print(os.waitpid(child, 0)[1])
        """
        + "x = 1\n        " * 10_000,
        "worked\nworked\n0\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "forkserver",
        """
        import multiprocessing as mp
        print("top", flush=True)
        def work(x):
            return x, __name__
        with mp.get_context("forkserver").Pool(1) as pool:
            print(pool.apply(work, (1,)))
        """,
        "top\n(1, '__mp_main__')\n",
    ),
    Case(
        "nested",
        """
        from multiprocessing import get_context
        context = get_context("spawn")
        print("top", flush=True)
        number = int(input())
        def inner(queue):
            queue.put(("inner", number))
        def outer(queue):
            process = context.Process(target=inner, args=(queue,))
            process.start()
            process.join()
            queue.put(("outer", number))
        queue = context.Queue()
        process = context.Process(target=outer, args=(queue,))
        process.start()
        print(queue.get(), queue.get())
        process.join()
        """,
        "top\n('inner', 5) ('outer', 5)\n",
        stdin="5\n",
    ),
    Case(
        "executable-wrapper",
        """
        import multiprocessing as mp, os, stat, sys
        path = os.path.abspath("wrapper.sh")
        with open(path, "w") as file:
            file.write('#!/bin/sh\\necho wrapped\\nexec ' + sys.executable + ' "$@"\\n')
        os.chmod(path, 0o755)
        mp.set_start_method("spawn")
        mp.set_executable(path)
        def work():
            print("child")
        process = mp.Process(target=work)
        process.start()
        process.join()
        """,
        "wrapped\nwrapped\nchild\n",  # the resource tracker is the first
    ),
    Case(
        "classes-of-all-kinds",
        """
        import enum
        from collections import namedtuple
        from dataclasses import dataclass, field
        from multiprocessing import get_context
        from typing import NamedTuple
        class Color(enum.Enum):
            RED = 1
        @dataclass
        class Point:
            x: int
            tags: list = field(default_factory=list)
        class Outer:
            class Inner:
                __slots__ = ("a",)
                def __init__(self, a):
                    self.a = a
                def __eq__(self, other):
                    return self.a == other.a
        Pair = namedtuple("Pair", "a b")
        class Typed(NamedTuple):
            a: int
        def same(value):
            return value
        sent = [Color.RED, Point(1, ["t"]), Outer.Inner(2), Pair(1, 2), Typed(3)]
        with get_context("spawn").Pool(1) as pool:
            print(pool.map(same, sent) == sent)
        """,
        "True\n",
    ),
    Case(
        "lambda-that-a-function-uses",
        """
        from multiprocessing import get_context
        double = lambda x: 2 * x
        def work(x):
            return double(x)
        with get_context("spawn").Pool(1) as pool:
            print(pool.apply(work, (4,)))
        """,
        "8\n",
    ),
    Case(
        "generics-and-metaclass",
        """
        from multiprocessing import get_context
        from typing import Generic, TypeVar
        T = TypeVar("T")
        class Meta(type):
            def __new__(cls, name, bases, body):
                body["made_by"] = "Meta"
                return super().__new__(cls, name, bases, body)
        class Box(Generic[T]):
            def __init__(self, value: T) -> None:
                self.value = value
        class Made(metaclass=Meta):
            pass
        def work(box):
            return Box[int](box.value + 1), Made().made_by
        with get_context("spawn").Pool(1) as pool:
            box, made_by = pool.apply(work, (Box(1),))
        print(box.value, type(box) is Box, made_by)
        """,
        "2 True Meta\n",
    ),
    Case(
        "exception-class-comes-back",
        """
        from multiprocessing import get_context
        class Refused(Exception):
            pass
        def work():
            raise Refused("no")
        with get_context("spawn").Pool(1) as pool:
            try:
                pool.apply(work)
            except Refused as error:
                print("refused", error)
        """,
        "refused no\n",
    ),
    Case(
        "name-error-comes-back",
        """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        handle = open("s.py")
        def work():
            return handle.read()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                pool.submit(work).result()
            except NameError as error:
                print(type(error).__name__, error)
        handle.close()
        """,
        "NameError name 'handle' is not defined in this child process: vllm-guard ran line 3 of s.py in the"
        " main process only (calls open()). Its value was not sent: it is an _io.TextIOWrapper, not plain"
        " data. Open it in the function that uses it.\n",
    ),
)


@matrix(CASES)
def test_an_unguarded_script_runs_once_and_its_children_find_what_they_need(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)
