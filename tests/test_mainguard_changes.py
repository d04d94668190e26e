"""What the main process changes after it was defined is no other thing in a child."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, run, write
from tests.test_mainguard_values import ASK, WAY_OUT

REPEATS = "; '# vllm-guard: child' on it and on what it needs repeats it"
HELPER = {"helper.py": "OFFSET = 1\nOPTIONS = {'a': 1}\nclass Model:\n    table = None\n"}

#: Longer than Python's recursion limit lets a program look at it in the plain way.
SUM = " + ".join(["1"] * 900)
CHAIN = "".join(f"        elif size == {n}:\n            kind = {n}\n" for n in range(400))

CASES = (
    Case(
        "branches-of-what-has-changed-since",
        ASK
        + """
        import os
        if "VGUARD_X" not in os.environ:
            os.environ["VGUARD_X"] = "1"
            def first():
                return "first"
        else:
            import nowhere
            again = 1
        if os.path.exists("made"):
            def old():
                pass
        elif "VGUARD_X" in os.environ:
            def new():
                return "new"
        open("made", "w").close()
        def f():
            return first(), new(), "old" in globals()
        print(ask(f))
        """,
        "('first', 'new', False)\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "deeply-nested-code",
        ASK
        + f"""
        size = int(input())
        total = {SUM}
        if total == 0:
            kind = "none"
{CHAIN}
        def f():
            return size, total, kind
        print(ask(f))
        """,
        "(7, 900, 7)\n",
        stdin="7\n",
    ),
    Case(
        "attributes-of-own-classes-and-of-modules",
        ASK
        + """
        import helper
        from helper import OPTIONS, Model
        class Settings:
            size, names, deep = 1, [], {"a": [1]}
        n = int(input())
        Settings.size = n
        helper.OFFSET += n
        setattr(Settings, "other", n)
        Model.table = [n] * 2
        Settings.deep["a"][0] = n
        Settings.names.append(str(n))
        OPTIONS.update(b=n)
        def f():
            mine = Settings.size, Settings.other, Settings.deep, Settings.names
            return mine, helper.OFFSET, Model.table, helper.OPTIONS
        print(ask(f))
        """,
        "((7, 7, {'a': [7]}, ['7']), 8, [7, 7], {'a': 1, 'b': 7})\n",
        stdin="7\n",
        files=HELPER,
    ),
    Case(
        "attributes-that-blocks-set",
        ASK
        + """
        import helper
        class Settings:
            debug, table, seen = False, {}, []
        for word in input().split():
            Settings.table[word] = len(word)
            helper.OPTIONS[word] = 0
            if len(word) > 1:
                Settings.debug = True
        try:
            Settings.seen.extend(Settings.table)
            helper.OFFSET = int("x")
        except ValueError:
            helper.OFFSET = len(Settings.seen)
        def f():
            return Settings.debug, Settings.table, Settings.seen, helper.OPTIONS, helper.OFFSET
        print(ask(f))
        """,
        "(True, {'ab': 2, 'c': 1}, ['ab', 'c'], {'a': 1, 'ab': 0, 'c': 0}, 2)\n",
        stdin="ab c\n",
        files=HELPER,
    ),
    Case(
        "classes-that-are-made-otherwise",
        ASK
        + """
        import enum, functools
        from abc import ABC
        from dataclasses import dataclass
        from typing import NamedTuple
        size = int(input())
        def count():
            return 4
        class Color(enum.Enum):
            RED = count()
        class Pair(NamedTuple):
            a: int = len([count])
        class Base(ABC):
            size = size
        class Meta(type):
            def __new__(mcs, name, bases, names):
                names["doubled"] = 2 * names.get("half", 0)
                return super().__new__(mcs, name, bases, names)
        class Made(metaclass=Meta):
            half = size
        @dataclass(frozen=True)
        class Row:
            size: int = size
        def wrapped(f):
            @functools.wraps(f)
            def inner(x=1):
                return f(x)
            return inner
        @wrapped
        def twice(x=count):
            return 2 * x
        def f():
            return Pair(), Base.size, Made.doubled, Row(), twice(), Color.RED.value
        print(ask(f))
        """,
        "(Pair(a=1), 3, 6, Row(size=3), 2, 4)\n",
        stdin="3\n",
    ),
    Case(
        "instances-of-own-classes",
        ASK
        + """
        class Config:
            def __init__(self, size):
                self.size = size
        class Settings:
            config = None
            mine = Config(int(input()))
        Settings.config = Config(Settings.mine.size + 1)
        CONFIGS = []
        CONFIGS.append(Settings.config)
        def f(x=Settings.mine):
            sizes = [one.size for one in CONFIGS], Settings.config.size, Settings.mine.size
            return sizes, type(x) is Config, x is Settings.mine
        print(ask(f))
        """,
        "(([4], 4, 3), True, True)\n",
        stdin="3\n",
    ),
    Case(
        "values-of-grandchildren",
        """
        from multiprocessing import get_context
        import helper
        class Settings:
            size, lost = 1, None
        size = int(input())
        Settings.size, helper.OFFSET = size, size
        Settings.lost = open("s.py")
        def run(f):
            process = get_context("spawn").Process(target=f)
            process.start()
            process.join()
        def child():
            Settings.size += 1
            run(grandchild)
        def grandchild(x=size):
            print(Settings.size, helper.OFFSET, Settings.lost, x)
        run(child)
        """,
        "4 3 None 3\n",
        "vllm-guard: line 7 of s.py is not repeated in child processes: Settings.lost is not sent, it is an"
        f" _io.TextIOWrapper, not plain data{REPEATS}\n",
        stdin="3\n",
        files=HELPER,
        flags=("-W", "ignore"),
    ),
    Case(
        "attributes-with-computed-names",
        ASK
        + """
        class Settings:
            size, name = 1, "a"
            def method(self):
                return self.size
        for word in input().split():
            setattr(Settings, word, len(word))
        def f():
            return Settings.size, Settings.name, Settings.more, Settings().method()
        print(ask(f))
        """,
        "(4, 'a', 4, 4)\n",
        stdin="size more\n",
    ),
    Case(
        "property-that-is-set",
        ASK
        + """
        import helper
        helper.cfg.value = input()
        def f():
            return helper.cfg.kept
        print(ask(f))
        """,
        "7\n",
        "vllm-guard: line 7 of s.py is not repeated in child processes: helper.cfg.value is not sent, it is"
        f" computed when it is read{REPEATS}\n",
        stdin="8\n",
        files={
            "helper.py": """
            class Config:
                kept = 7
                @property
                def value(self):
                    print("read", flush=True)
                @value.setter
                def value(self, value):
                    pass
            cfg = Config()
            """
        },
    ),
    Case(
        "stub-of-a-module",
        ASK
        + """
        import sys, types
        stub = types.ModuleType("stub")
        sys.modules["stub"] = stub
        import stub as made
        def f():
            try:
                return made
            except NameError as error:
                return str(error)
        print(ask(f))
        """,
        "name 'made' is not defined in this child process: vllm-guard ran line 9 of s.py in the main process"
        " only (failed in this child: ModuleNotFoundError). Mark what makes that module with '# vllm-guard:"
        " child'.\n",
        "vllm-guard: line 8 of s.py is not repeated in child processes: sys.modules['stub'] is not sent, it"
        f" is a module, not plain data{REPEATS}\nvllm-guard: line 9 of s.py failed in a child process"
        " (ModuleNotFoundError: No module named 'stub'); not available there: made\n",
    ),
    Case(
        "attribute-that-is-no-plain-data",
        ASK
        + """
        import helper
        helper.Model.table = open("s.py")
        helper.OPTIONS.update(file=helper.Model.table)
        def f():
            return helper.Model.table, helper.OPTIONS
        print(ask(f), ask(f))
        """,
        "(None, {'a': 1}) (None, {'a': 1})\n",
        "vllm-guard: line 7 of s.py is not repeated in child processes: helper.Model.table is not sent, it"
        f" is an _io.TextIOWrapper, not plain data{REPEATS}\nvllm-guard: line 8 of s.py is not repeated in"
        " child processes: helper.OPTIONS is not sent, it is a dict with an _io.TextIOWrapper in it, not"
        f" plain data{REPEATS}\n",
        files=HELPER,
        flags=("-W", "ignore"),
    ),
    Case(
        "values-in-definitions",
        ASK
        + """
        import uuid
        from dataclasses import dataclass, field
        size = int(input())
        class Run:
            id = uuid.uuid4()
            half = size // 2
            class Inner:
                size = size + 1
            def method(self, x=size, *, y=uuid.uuid4()):
                return x, y
            @staticmethod
            def static(x=[size]):
                return x
        @dataclass
        class Config:
            size: int = size
            rate: float = field(default=size / 2, repr=False)
            names: list = field(default_factory=list)
        def f(x=uuid.uuid4(), *, y=size):
            inner = Run.Inner.size, Run().method(), Run.static(), Config(), Config().rate
            return Run.id, Run.half, inner, x, y
        print(ask(f) == f(), ask(f)[1])
        """,
        "True 4\n",
        stdin="8\n",
    ),
    Case(
        "definition-with-a-value-that-is-no-plain-data",
        ASK
        + """
        import threading
        file = open("s.py")
        class Kept:
            lock, event = threading.Lock(), threading.Event()
            local = threading.local()
            barrier = threading.Barrier(2)
        class Lost:
            file = file
        class Heir(Lost):
            pass
        def f():
            return Kept.barrier.parties
        def g():
            return Heir
        print(ask(f))
        try:
            ask(g)
        except NameError as error:
            print(error)
        """,
        "2\nname 'Heir' is not defined in this child process: vllm-guard ran line 14 of s.py in the main"
        " process only (uses 'Lost', which line 12 sets in the main process only). Its value was not sent: it"
        " is an _io.TextIOWrapper, not plain data. "
        + WAY_OUT.replace("line with", "line and those that it needs with").replace(
            "run it", "run them"
        ),
        flags=("-W", "ignore"),
    ),
    Case(
        "containers-that-calls-change",
        ASK
        + """
        import argparse, heapq, random
        from types import SimpleNamespace
        def fill(table):
            table["filled"] = 1
        TABLE, HEAP, ORDER = {}, [3, 1], list(range(50))
        FIRST = ORDER[0]
        class Sizes:
            first, table = ORDER[0], TABLE
        fill(TABLE)
        heapq.heapify(HEAP)
        random.shuffle(ORDER)
        SIZE = len(TABLE)
        options = SimpleNamespace(size=1)
        argparse.ArgumentParser().parse_args(["x"][1:], namespace=options)
        options_too = options
        setattr(options_too, "size", 5)
        def f():
            own = Sizes.first, Sizes.table, Sizes.table is TABLE
            return TABLE, HEAP, ORDER, FIRST, own, SIZE, options.size
        print(ask(f) == f(), ask(f)[-3:])
        """,
        "True ((0, {'filled': 1}, True), 1, 5)\n",
    ),
    Case(
        "other-names-of-what-is-changed",
        ASK
        + """
        CONFIG = {"inner": {}, "list": []}
        same = CONFIG
        inner = CONFIG["inner"]
        ROWS = [{}, {}]
        PAIR = (CONFIG, 1)
        same["n"] = int(input())
        inner["n"] = same["n"]
        CONFIG.setdefault("list", []).append(same["n"])
        for row in ROWS:
            row["n"] = same["n"]
        def f():
            return CONFIG, same, inner, ROWS, PAIR, same is CONFIG is PAIR[0], inner is CONFIG["inner"]
        print(ask(f) == f(), ask(f)[3:])
        """,
        "True ([{'n': 3}, {'n': 3}], ({'inner': {'n': 3}, 'list': [3], 'n': 3}, 1), True, True)\n",
        stdin="3\n",
    ),
    Case(
        "names-that-exec-and-globals-change",
        ASK
        + """
        A, B, C = 1, 1, 1
        exec("A = 2")
        globals().update(B=2)
        globals()["C"] = 2
        D = A
        def f():
            return A, B, C, D
        print(ask(f))
        """,
        "(2, 2, 2, 2)\n",
    ),
    Case(
        "what-functions-change-and-what-comes-of-it",
        ASK
        + """
        WORDS, count = [], 0
        def fill():
            global count
            WORDS.append("x")
            count += 1
        fill()
        SIZE, NEXT = len(WORDS), count + 1
        def f():
            return WORDS, count, SIZE, NEXT
        print(ask(f))
        """,
        "([], 0, 1, 2)\n",
    ),
    Case(
        "containers-that-decorators-fill-and-calls-see",
        ASK
        + """
        import os
        NAMES, FLAGS = [], [os.environ.get("HOME")]
        FLAGS.append(1)
        def named(f):
            NAMES.append(f.__name__)
            return f
        @named
        def one():
            pass
        open("seen", "w").write(repr(sorted(NAMES)))
        str.join.__call__(",", NAMES)
        def f():
            return NAMES, len(FLAGS)
        print(ask(f))
        """,
        "(['one'], 2)\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "constants-that-would-run-code-of-the-script",
        ASK
        + """
        import json, re
        from collections import defaultdict
        def told(*words):
            print("called", flush=True)
            return "x"
        class Meta(type):
            def __getitem__(cls, key):
                return told()
            def __len__(cls):
                return len(told())
        class Marked(metaclass=Meta):
            pass
        class Item:
            def __class_getitem__(cls, key):
                return told()
        TABLE = defaultdict(told)
        A = re.sub("a", told, "a")
        B = TABLE["b"]
        C = json.loads("{}", object_hook=told)
        D = sorted(["a"], **{"key": told})
        E = Marked["x"]
        F = Item["x"]
        G = len(Marked)
        print("top", flush=True)
        def f():
            return A, B, C, D, E, F, G
        print(ask(f))
        """,
        "called\n" * 7 + "top\n('x', 'x', 'x', ['a'], 'x', 'x', 1)\n",
    ),
)


@matrix(CASES)
def test_a_child_has_what_the_main_process_has(case: Case, python: str, tmp_path: Path) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)
