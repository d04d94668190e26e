"""Scripts under the main guard, beside bare Python with the last line guarded by hand."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

from tests.kit.scripts import Case, matrix, run, write

HEAD = """
        import os, sys
        from multiprocessing import get_context
        def load(n=7, *more):
            return n
        def run(f):
            process = get_context("spawn").Process(target=f)
            process.start()
            process.join()
"""


def beside(name: str, script: str, helper: str = "", since: tuple[int, int] = (3, 10)) -> Case:
    """A script that then has a child run its `f`; nothing in it does harm when children repeat it."""
    text = textwrap.dedent(HEAD) + textwrap.dedent(script) + "run(f)\n"
    return Case(name, text, files={"helper.py": textwrap.dedent(helper)}, since=since)


CASES = (
    beside(
        "containers-that-are-filled-later",
        """
        from collections import Counter, OrderedDict, defaultdict, deque
        from types import SimpleNamespace
        Q, C, D, O = deque(["a"], 3), Counter(["x"]), defaultdict(list), OrderedDict(a=1)
        S, B = SimpleNamespace(n=1, l=[]), bytearray(b"a")
        Q.append("b")
        C.update(["x"])
        D["k"].append(1)
        O["b"] = 2
        B.extend(b"b")
        S.n += 1
        S.l.append(S.n)
        def f():
            print(Q, C, D, O, S, B, flush=True)
        load(7, Q, C, D, O, S, B)
        Q.append(load())
        S.l.append(load())
        """,
    ),
    beside(
        "what-definitions-make-of-values-that-change-later",
        """
        import functools, helper
        STEPS, CFG, X = ["a"], {"a": 1}, os.environ.get("NOWHERE", "a")
        helper.Settings.n = len(STEPS)
        helper.register(len(STEPS))
        helper.LIMIT = X
        def tag(n):
            def apply(g):
                g.tag = n
                return g
            return apply
        @tag(len(STEPS))
        def g():
            pass
        def show(*given):
            print(*given, flush=True)
        h = lambda n=len(STEPS): n
        part = functools.partial(show, CFG, CFG["a"])
        def f():
            part()
            print(helper.Settings.n, helper.SEEN, helper.LIMIT, g.tag, h(), STEPS, CFG, X, flush=True)
        STEPS.append(load())
        CFG["a"] = load()
        X = X + "b"
        """,
        "SEEN = []\nregister = SEEN.append\nclass Settings:\n    n = 0\n",
    ),
    beside(
        "registries-of-decorators",
        """
        DOCS, NAMES = {}, []
        def task(g):
            if g.__name__ in DOCS:
                raise ValueError(g.__name__)
            DOCS[g.__name__], g.index = g.__doc__, len(NAMES)
            NAMES.append(g.__name__)
            return g
        @task
        def a():
            "does a"
        @task
        def b():
            "does b"
        def f():
            print(a.index, b.index, DOCS, NAMES, flush=True)
        load(7, DOCS, NAMES)
        """,
    ),
    beside(
        "one-object-by-many-names",
        """
        class Config:
            def __init__(self, **values):
                vars(self).update(values)
        Q = []
        CFG = Config(queue=Q, more={"queue": Q})
        held = []
        def keep(one):
            held.append(one)
            return lambda g: g
        @keep(Q)
        def g(given=Q):
            return given
        A = B = {}
        def f():
            print(CFG.queue, held[0], A, B, flush=True)
            print(Q is CFG.queue is CFG.more["queue"] is held[0] is g(), A is B, flush=True)
        Q.append(load())
        CFG.more["n"] = load()
        A["x"] = load()
        """,
    ),
    beside(
        "parts-that-are-set-and-changed-again",
        """
        import helper
        class Settings:
            tp, names = 1, []
        def f():
            print(Settings.tp, Settings.names, helper.LIMIT, flush=True)
        Settings.tp = load()
        Settings.tp += 1
        Settings.names = [load()]
        Settings.names.append(load(8))
        Settings.names += [9]
        helper.LIMIT = load()
        helper.LIMIT *= 2
        """,
        "LIMIT = 1\n",
    ),
    beside(
        "names-of-a-star-import",
        """
        from helper import *
        OPTS["n"] = load()
        OPTS.update(load({"m": 8}))
        Settings.tp = load()
        L.append(load())
        def f():
            print(OPTS, Settings.tp, L, flush=True)
        """,
        "class Settings:\n    tp = 1\nOPTS, L = {'n': 1}, [1]\n",
    ),
    beside(
        "what-calls-may-have-changed",
        """
        import helper
        from helper import cfg
        class Settings:
            tp = 1
            @classmethod
            def load(cls, n):
                cls.tp = n
        helper.configure(load())
        cfg.merge(load())
        Settings.load(load())
        N, M, TP, OWN = helper.N, helper.OPTS["n"], cfg.tp, Settings.tp
        from helper import N as late
        Row = helper.Row
        Row.size = load()
        def g(n=helper.N, tp=Settings.tp):
            return n, tp
        class K:
            n = helper.N
        def f():
            print(late, N, M, TP, OWN, g(), K.n, Row.size, Row is helper.Row, flush=True)
        """,
        """
        N, OPTS = 1, {"n": 1}
        def configure(n):
            global N
            N = OPTS["n"] = n
        class Row:
            size = 0
        class Node:
            tp = 1
            def merge(self, n):
                self.tp = n
        cfg = Node()
        """,
    ),
    beside(
        "what-is-deleted",
        """
        import helper
        class C:
            debug, kept = True, 1
        del C.debug
        del helper.N
        delattr(helper.S, "debug")
        del helper.OPTS["a"], helper.L[0]
        if load() < 7:
            del C.kept, helper.S.kept
        vars(helper)["M"] = load()
        def f():
            print(hasattr(C, "debug"), hasattr(helper, "N"), hasattr(helper.S, "debug"), flush=True)
            print(C.kept, helper.S.kept, helper.OPTS, helper.L, helper.M, flush=True)
        """,
        "class S:\n    debug, kept = True, 1\nN, M, OPTS, L = 1, 2, {'a': 1, 'b': 2}, [1, 2]\n",
    ),
    beside(
        "instances-of-unusual-classes",
        """
        import array
        from dataclasses import dataclass
        class Proxy:
            def __init__(self, data):
                self.data = data
            def __getattr__(self, name):
                return self.data[name]
        class Attributes(dict):
            def __init__(self, **values):
                super().__init__(values)
                self.__dict__ = self
        class Items(dict):
            __getattr__ = dict.__getitem__
            __setattr__ = dict.__setitem__
        class Twice(list):
            def append(self, one):
                super().append(2 * one)
            extend = None
        class More(dict):
            def __setitem__(self, key, one):
                super().__setitem__(key, one + self.more)
        t, m = Twice(), More()
        t.append(load())
        m.more = 1
        m["a"] = load()
        class Name(str):
            def __new__(cls, text, more=0):
                made = super().__new__(cls, text)
                made.more = more
                return made
        @dataclass(frozen=True, slots=True)
        class Frozen:
            a: object
        p, a, i, n, z = Proxy({"n": load()}), Attributes(n=load()), Items(n=load()), Name("n", 5), Frozen([1])
        a.m, i.m = [load()], 8
        numbers = array.array("i", [1])
        numbers.append(load())
        def f():
            a.tp = 4
            print(t, m, p.n, a, a.m, i, i.n, n, n.more, z, numbers, type(a), flush=True)
        """,
        since=(3, 11),  # before, pickle asks the instance for `__getstate__`
    ),
    beside(
        "environ-that-is-replaced",
        """
        os.environ = dict(os.environ, VGUARD_X="x")
        def f():
            print(os.environ["VGUARD_X"], type(os.environ), flush=True)
        """,
    ),
    beside(
        "stubs-of-modules",
        """
        import types
        stub = types.ModuleType("stub")  # vllm-guard: child
        stub.x = 5
        sys.modules["stub"] = stub  # vllm-guard: child
        import stub as made
        def f():
            print(made.x, flush=True)
        """,
    ),
    beside(
        "calls-that-children-repeat-with-arguments-that-they-lack",
        """
        import logging, random
        from argparse import Namespace
        args, level = load(Namespace(seed=8, sub=Namespace(level=15))), load(25)
        random.seed(args.seed)
        logging.getLogger("x").setLevel(args.sub.level)
        logging.getLogger("y").setLevel(level=level)
        def f():
            levels = logging.getLogger("x").level, logging.getLogger("y").level
            print(random.random(), levels, flush=True)
        """,
    ),
    beside(
        "defaults-of-classes-that-keep-them-elsewhere",
        """
        from dataclasses import dataclass, field
        from typing import NamedTuple
        args = [load(), load(8)]
        class Pair(NamedTuple):
            a: int = args[0]
            b: int = 1
        @dataclass(slots=True)
        class Row:
            a: int = args[0]
            b: int = field(default=args[1])
            class Inner:
                c = args[0]
        def f():
            print(Pair(), Row(), Row.Inner.c, flush=True)
        """,
    ),
    beside(
        "own-values-that-fail-in-the-child",
        """
        def f():
            print(X, flush=True)
        os.environ["VGUARD_X"] = "x"
        X = os.environ["VGUARD_X"]
        X += "y"
        del os.environ["VGUARD_X"]
        """,
    ),
)


@matrix(CASES)
def test_children_have_what_those_of_a_guarded_script_have(
    case: Case, python: str, tmp_path: Path
) -> None:
    guarded = case.script.removesuffix("run(f)\n") + "if __name__ == '__main__':\n    run(f)\n"
    write(replace(case, script=guarded), tmp_path)
    wanted = run(case, tmp_path, python, bare=True)
    write(case, tmp_path)

    came = run(case, tmp_path, python)

    assert came == wanted
    assert came.out
    assert not came.err
