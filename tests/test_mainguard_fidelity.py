"""A script cannot tell the harness from plain Python: run both ways, everything that comes is compared."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, matrix, on_every_python, run, write

SHOW = """
        import sys
        for name, value in list(globals().items()):
            print(name, "" if name in ("__loader__", "__builtins__", "__spec__") else value)
        print(__spec__ and (__spec__.name, __spec__.origin, __spec__.cached, __spec__.parent))
        print(type(__loader__), getattr(__loader__, "name", ""), getattr(__loader__, "path", ""))
        print(__builtins__, sys.argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions)
        print(sys.modules["__main__"].__dict__ is globals(), sys.dont_write_bytecode)
"""
FAIL = """
        def inner():
            raise ValueError("no")
        def outer():
            try:
                inner()
            except ValueError as error:
                raise KeyError("outer") from error
        outer()
"""
CHILD_FAILS = """
        from multiprocessing import get_context
        def inner(x):
            return 1 / x
        def f(x):
            assert x
            return inner(x - 1)
        if __name__ == "__main__":
            process = get_context("spawn").Process(target=f, args=(1,))
            process.start()
            process.join()
            print(process.exitcode)
"""

CASES = (
    Case("names", SHOW, words=("s.py", "a", "--b", "-c")),
    Case("dotted-path", SHOW, words=("./s.py",)),
    Case("path-with-dots", SHOW, words=("sub/../sub/x.py",), files={"sub/x.py": SHOW}),
    Case("no-suffix", SHOW, words=("sub/x",), files={"sub/x": SHOW}),
    Case("as-module", SHOW, words=("-m", "s", "a")),
    Case("isolated", SHOW, flags=("-I",)),
    Case("safe-path", SHOW, flags=("-P",), since=(3, 11)),
    Case("flags", SHOW, flags=("-B", "-E", "-s", "-b", "-W", "error::UserWarning", "-X", "dev")),
    Case(
        "optimised", SHOW + "        '''not a docstring'''\n        assert False\n", flags=("-O",)
    ),
    Case("docstring", '        """Doc."""\n' + SHOW),
    Case("no-docstring", '        """Doc."""\n' + SHOW, flags=("-OO",)),
    Case("traceback", "        def f():\n            raise ValueError('no')\n        f()\n"),
    Case("traceback-of-a-module", FAIL, words=("-m", "s")),
    Case("chained", FAIL),
    Case(
        "exception-group", "        raise ExceptionGroup('two', [ValueError(1)])\n", since=(3, 11)
    ),
    Case("syntax-error", "        x = 1\n        def f(:\n            pass\n"),
    Case("syntax-error-in-a-module", "        def f(:\n            pass\n", words=("-m", "s")),
    Case("syntax-error-in-an-import", "        import bad\n", files={"bad.py": "def f(:\n"}),
    Case("child-fails", CHILD_FAILS),
    Case("child-fails-with-definitions", CHILD_FAILS, mode="definitions"),
    Case("child-fails-with-cutoff", CHILD_FAILS, mode="cutoff"),
    *(
        Case(
            f"flags-of-children-{mode}",
            """
            import sys
            from multiprocessing import get_context
            def f():
                \'\'\'Doc.\'\'\'
                assert False, "asserted"
            def g():
                print(sys.flags, sys.warnoptions, sys._xoptions, f.__doc__, __debug__)
                f()
            if __name__ == "__main__":
                process = get_context("spawn").Process(target=g)
                process.start()
                process.join()
            """,
            flags=("-OO", "-B", "-W", "error::UserWarning", "-X", "dev", "-s"),
            mode=mode,
        )
        for mode in ("auto", "definitions")
    ),
    *(
        Case(
            f"names-in-children-{mode}-{words[0]}",
            """
            '''Doc.'''
            import sys
            from multiprocessing import get_context, parent_process
            def noted(cls):
                cls.imported = sys.argv[0], sys.modules["__main__"].__name__, parent_process()
                return cls
            @noted
            class At:
                pass
            class A:
                pass
            def f():
                names = sorted(n for n in globals() if n.startswith("__") and n != "__getattr__")
                print(names, __name__, __doc__, __file__, __package__, __cached__)
                print(__spec__ and __spec__.name, __loader__ and __loader__.name, sys.argv)
                print(At.imported, isinstance(__builtins__, dict))
                main = sys.modules["__main__"]
                print(main.__name__, main is sys.modules["__mp_main__"], A.__module__, main.A is A)
            if __name__ == "__main__":
                process = get_context("spawn").Process(target=f)
                process.start()
                process.join()
            """,
            mode=mode,
            words=words,
        )
        for mode in ("auto", "definitions", "cutoff")
        for words in (("s.py", "a"), ("-m", "s", "a"))
    ),
    Case(
        "source",
        """
        import inspect
        def f():
            return 1  # here
        class A:
            x = 1
        print(inspect.getsource(f), inspect.getsource(A), inspect.getfile(A), inspect.stack()[0].lineno)
        """,
    ),
    Case("exit-number", "        raise SystemExit(3)\n"),
    Case("exit-text", "        import sys\n        sys.exit('ended')\n"),
    Case("exit-none", "        import sys\n        print(1)\n        sys.exit()\n"),
    Case("exit-at-once", "        import os\n        os._exit(4)\n"),
    Case(
        "interrupted",
        """
        import os, signal
        def f():
            os.kill(os.getpid(), signal.SIGINT)
            while True:
                pass
        f()
        """,
    ),
    Case("terminated", "        import os, signal\n        os.kill(os.getpid(), signal.SIGTERM)\n"),
    Case(
        "own-excepthook",
        """
        import sys, traceback
        def hook(kind, value, trace):
            print(kind, value, len(traceback.extract_tb(trace)), value.__traceback__ is trace)
        sys.excepthook = hook
        def f():
            raise ValueError("no")
        f()
        """,
    ),
    Case(
        "last-traceback",
        """
        import atexit, sys, traceback
        atexit.register(lambda: print(len(traceback.extract_tb(sys.last_traceback)), sys.last_value))
        raise ValueError("no")
        """,
    ),
    Case(
        "at-exit-and-threads",
        """
        import atexit, threading
        atexit.register(print, "exit")
        def f():
            raise ValueError("in a thread")
        thread = threading.Thread(target=f, name="T")
        thread.start()
        thread.join()
        print("end")
        """,
    ),
    Case(
        "pickles-by-name",
        """
        import pickle
        class A:
            pass
        print(pickle.loads(pickle.dumps(A)) is A, A.__module__, pickle.dumps(A, 0))
        """,
    ),
    Case("no-excepthook", "        import sys\n        del sys.excepthook\n        1 / 0\n"),
    Case(
        "loaders-of-what-is-watched",
        """
        import ast, inspect, sys
        from importlib.util import find_spec
        spec = find_spec("multiprocessing.spawn")
        print(type(spec.loader), spec.loader.get_code(spec.name).co_names, spec.loader.is_package(spec.name))
        print(sorted(vars(spec.loader).keys() - {"exec_module"}))
        import multiprocessing.spawn
        spec = multiprocessing.spawn.__spec__
        print(type(spec.loader), vars(spec.loader), multiprocessing.spawn.__loader__ is spec.loader)
        print(len(inspect.getsource(multiprocessing.spawn)))
        """,
    ),
    Case("reads-its-input", "        print(input(), input())\n", stdin="a\nb\n"),
    Case("a-folder", "", words=("sub", "a"), files={"sub/__main__.py": SHOW, "sub/x.py": ""}),
)


@matrix(CASES)
def test_nothing_differs_from_plain_python(case: Case, python: str, tmp_path: Path) -> None:
    write(case, tmp_path)

    bare = run(case, tmp_path, python, bare=True)
    came = run(case, tmp_path, python)

    assert bare.out or bare.err or bare.status
    assert came == bare


WARNED = Case(
    "warned",
    """
    from multiprocessing import get_context
    def f():
        return 1 is 1
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(f))
    """,
    flags=("-W", "default"),
)


@on_every_python()
def test_a_warning_about_syntax_comes_once(python: str, tmp_path: Path) -> None:
    write(WARNED, tmp_path)

    came = run(WARNED, tmp_path, python)

    assert came.out == "True\n"
    assert came.err.count("SyntaxWarning") == came.err.count("DIR/s.py:3:") == 1


TRACED = Case(
    "traced",
    """
    from multiprocessing import get_context
    print("top", flush=True)
    size = int(input())
    def f(x):
        y = x + size
        return y
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(f, (1,)))
    """,
    stdin="2\n",
)


@on_every_python()
def test_the_debugger_stops_in_the_script(python: str, tmp_path: Path) -> None:
    commands = f"b {tmp_path}/s.py:2\nc\np x\nc\nc\np x + 1\nq\n"
    script = Case(
        "debugged",
        """
        def f(x):
            return x + 2
        print("result", f(1))
        """,
        stdin=commands,
        flags=("-m", "pdb"),
    )
    write(script, tmp_path)

    came = run(script, tmp_path, python)

    assert came.out.count("DIR/s.py(2)f()") == 2, "it stops there again when it is run again"
    assert came.out.count("(Pdb) result 3\n") == 1
    assert "(Pdb) 1\n" in came.out
    assert "(Pdb) 2\n" in came.out


@on_every_python()
def test_the_profiler_counts_what_the_script_calls(python: str, tmp_path: Path) -> None:
    write(TRACED, tmp_path)
    profiled = Case("profiled", "", stdin=TRACED.stdin, flags=("-m", "cProfile"))

    came = run(profiled, tmp_path, python)

    assert came.out.startswith("top\n3\n")
    assert "s.py:1(<module>)" in came.out
    assert came.err == ""
