"""Which definitions a child has, what it says of those that it lacks, and the markers."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, run, write
from tests.test_mainguard_values import ASK, WAY_OUT

BOTH = WAY_OUT.replace("line with", "line and those that it needs with").replace(
    "run it", "run them"
)

CASES = (
    Case(
        "registry-of-decorators",
        ASK
        + """
        KNOWN = {}
        def known(f):
            KNOWN[f.__name__] = f
            return f
        @known
        def one():
            return 1
        @known
        def two():
            return 2
        def f():
            return sorted((name, g()) for name, g in KNOWN.items())
        print(ask(f))
        """,
        "[('one', 1), ('two', 2)]\n",
    ),
    Case(
        "routes-of-an-application-that-children-do-not-need",
        ASK
        + """
        import web
        app = web.App()
        @app.get("/")
        def index():
            return work()
        def work():
            return "worked"
        print(ask(work), app.routes)
        """,
        "made\nworked ['/']\n",
        files={
            "web.py": """
        class App:
            def __init__(self):
                self.routes = []
                print("made", flush=True)
            def get(self, path):
                self.routes.append(path)
                return lambda f: f
        """
        },
    ),
    Case(
        "route-that-a-child-needs",
        """
        import web
        from multiprocessing import get_context
        app = web.App()
        @app.get
        def index():
            return 1
        process = get_context("spawn").Process(target=index)
        process.start()
        process.join()
        print(process.exitcode)
        """,
        "1\n",
        "NameError: name 'index' is not defined in this child process: vllm-guard ran line 5 of s.py in the"
        " main process only (its definition uses 'app', which line 3 sets in the main process only). "
        + BOTH,
        files={"web.py": "class App:\n    def get(self, f):\n        return f\n"},
    ),
    Case(
        "class-body-that-needs-what-was-skipped",
        ASK
        + """
        size = open("s.py")
        class Sized:
            size = size
        def f():
            return Sized.size
        try:
            ask(f)
        except NameError as error:
            print(error)
        """,
        "name 'Sized' is not defined in this child process: vllm-guard ran line 7 of s.py in the main process"
        " only (its definition uses 'size', which line 6 sets in the main process only). Its value was not"
        " sent: it is an _io.TextIOWrapper, not plain data. " + BOTH,
        flags=("-W", "ignore"),
    ),
    Case(
        "future-and-type-checking",
        "        from __future__ import annotations\n"
        + ASK
        + """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Nothing
        def f(x: Nothing = 1) -> Nothing:
            return x, f.__annotations__
        print(ask(f))
        """,
        "(1, {'x': 'Nothing', 'return': 'Nothing'})\n",
    ),
    Case(
        "import-that-may-fail",
        ASK
        + """
        try:
            import nowhere
            HAS = True
        except ImportError:
            nowhere = None
            HAS = False
            print("without", flush=True)
        def f():
            return nowhere, HAS
        print(ask(f))
        """,
        "without\n(None, False)\n",
    ),
    Case(
        "block-of-which-a-child-runs-a-part",
        ASK
        + """
        try:
            import json
            size = int(input())
        except ValueError:
            size = 0
        else:
            sure = True
        if json:
            def double(x):
                return 2 * x
            print("top", flush=True)
        def f():
            return json.dumps(double(size)), sure
        print(ask(f))
        """,
        "top\n('8', True)\n",
        stdin="4\n",
    ),
    Case(
        "star-import",
        ASK
        + """
        from helper import *
        def f():
            return helped(SIZE)
        print(ask(f))
        """,
        "[2]\n",
        files={"helper.py": "SIZE = 2\ndef helped(x):\n    return [x]\n"},
    ),
    Case(
        "blocks-and-walrus",
        ASK
        + """
        import contextlib, sys
        if sys.version_info >= (3, 0):
            MODE = "new"
        else:
            MODE = "old"
        with contextlib.suppress(ImportError):
            import nowhere
        squares = {}
        for i in range(3):
            squares[i] = i * i
        total = (half := 5) * 2
        if (answer := input()) == "yes":
            print("answered", flush=True)
        def f():
            return MODE, squares, total, half, answer
        print(ask(f))
        """,
        "answered\n('new', {0: 0, 1: 1, 2: 4}, 10, 5, 'yes')\n",
        stdin="yes\n",
    ),
    Case(
        "match",
        ASK
        + """
        match input().split():
            case [first, *rest]:
                print("matched", flush=True)
        def f():
            return first, rest
        print(ask(f))
        """,
        "matched\n('a', ['b', 'c'])\n",
        stdin="a b c\n",
    ),
    Case(
        "except-star",
        ASK
        + """
        try:
            LIMIT = 1
        except* ValueError:
            LIMIT = 2
        def f():
            return LIMIT
        print("top", flush=True)
        print(ask(f))
        """,
        "top\n1\n",
        since=(3, 11),
    ),
    Case(
        "type-alias-and-parameters",
        ASK
        + """
        type Pairs[T] = list[tuple[T, T]]
        class Box[T]:
            value: T
        def f[T](x: T = 1) -> Pairs[T]:
            return Pairs.__name__, Box.__name__, x
        print(ask(f))
        """,
        "('Pairs', 'Box', 1)\n",
        since=(3, 12),
    ),
    Case(
        "definitions-after-the-start",
        ASK
        + """
        def f():
            return later(SIZE)
        print(ask(f) if "later" in globals() else "not yet")
        def later(x):
            return x + 1
        SIZE = 1
        print(ask(f))
        """,
        "not yet\n2\n",
    ),
    Case(
        "markers",
        ASK
        + """
        import helper
        helper.setup()  # vllm-guard: child
        # vllm-guard: main
        KIND = "constant"
        def f():
            return helper.ready, KIND
        print(ask(f))
        """,
        "setup __main__\nsetup __mp_main__\n(True, 'constant')\n",
        files={
            "helper.py": """
        import sys
        ready = False
        def setup():
            global ready
            ready = True
            print("setup", sys._getframe(1).f_globals["__name__"], flush=True)
        """
        },
    ),
    Case(
        "misspelt-marker",
        ASK
        + """
        # vllm-guard: mian
        KIND = "constant"
        def f():
            return KIND
        print(ask(f))
        """,
        "constant\n",
        "vllm-guard: line 6 of s.py has no effect: '# vllm-guard: mian' is not 'child', 'main' or 'ignore'\n",
    ),
    Case(
        "import-that-fails-in-a-child",
        ASK
        + """
        import other
        def f():
            return "done"
        def g():
            return other
        print(ask(f))
        try:
            ask(g)
        except NameError as error:
            print(error)
        """,
        "done\nname 'other' is not defined in this child process: vllm-guard ran line 6 of s.py in the main"
        " process only (failed in this child: ImportError). Let that line work in children, too, or move"
        " it into the function that uses it.\n",
        "vllm-guard: line 6 of s.py failed in a child process (ImportError: only once); not available there:"
        " other\n" * 2,
        files={
            "other.py": """
        import os
        if os.path.exists("imported"):
            raise ImportError("only once")
        open("imported", "w").close()
        """
        },
    ),
    Case(
        "getattr-of-the-module",
        ASK
        + """
        import sys
        def __getattr__(name):
            if name == "lazy":
                return "made"
            raise AttributeError(name)
        handle = open("s.py")
        def f():
            main = sys.modules["__main__"]
            return main.lazy, hasattr(main, "nothing")
        print(ask(f))
        """,
        "('made', False)\n",
        flags=("-W", "ignore"),
    ),
    Case(
        "attribute-of-the-module-that-a-child-lacks",
        ASK
        + """
        import sys
        handle = open("s.py")
        def f():
            return hasattr(sys.modules["__main__"], "handle")
        print(ask(f))
        """,
        "False\n",
        "vllm-guard: name 'handle' is not defined in this child process: vllm-guard ran line 7 of s.py in the"
        " main process only (calls open()). " + WAY_OUT,
        flags=("-W", "ignore"),
    ),
)


@matrix(CASES)
def test_a_child_has_the_definitions_or_an_error_that_names_the_line(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)
    wanted = expected(case)

    came = run(case, tmp_path, python)

    if "Traceback" in came.err:
        came = type(came)(came.status, came.out, came.err.splitlines(keepends=True)[-1])
    assert came == wanted
