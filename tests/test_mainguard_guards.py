"""Guards in every shape, the modes, and every way to name a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.scripts import Came, Case, expected, matrix, on_every_python, pythons, run, write
from tests.test_mainguard_values import ASK

#: As under plain Python, to the byte.
AS_BARE = (
    Case(
        "guarded",
        """
        import time, multiprocessing as mp
        print("top", __name__, flush=True)
        STARTED = time.time()
        def f():
            print("child", STARTED > 0)
        if __name__ == "__main__":
            mp.set_start_method("spawn")
            process = mp.Process(target=f)
            process.start()
            process.join()
        """,
    ),
    Case(
        "guarded-forkserver",
        """
        from multiprocessing import get_context
        print("top", __name__, flush=True)
        def f():
            return __name__
        if "__main__" == __name__:
            with get_context("forkserver").Pool(1) as pool:
                print(pool.apply(f))
        """,
    ),
    Case(
        "guarded-with-else",
        """
        from multiprocessing import get_context
        if __name__ == "__main__":
            role = "main"
        else:
            role = "child"
        def f():
            return role
        if __name__ == "__main__":
            with get_context("spawn").Pool(1) as pool:
                print(role, pool.apply(f))
        """,
    ),
    Case(
        "guarded-and-a-child-that-fails",
        """
        from multiprocessing import get_context
        def f():
            raise ValueError("in the child")
        if __name__ == "__main__":
            process = get_context("spawn").Process(target=f)
            process.start()
            process.join()
            raise SystemExit(process.exitcode + 2)
        """,
    ),
    Case(
        "guarded-and-what-is-not-needed-is-not-touched",
        """
        from multiprocessing import get_context
        class Loud:
            @property
            def __dict__(self):
                raise SystemExit("looked at")
        loud = Loud()
        def f():
            return type(loud).__name__
        if __name__ == "__main__":
            with get_context("spawn").Pool(1) as pool:
                print(pool.apply(f))
        """,
    ),
    Case(
        "guarded-main-that-lacks-a-name-in-children",
        """
        from multiprocessing import get_context
        def f():
            return size
        if __name__ == "__main__":
            size = 3
            with get_context("spawn").Pool(1) as pool:
                try:
                    pool.apply(f)
                except NameError as error:
                    print(error)
        """,
    ),
    Case(
        "fork-unguarded",
        """
        import multiprocessing as mp
        mp.set_start_method("fork")
        print("top", flush=True)
        size = [3]
        def f(x):
            return size, x, __name__
        with mp.Pool(1) as pool:
            print(pool.apply(f, (1,)))
        """,
    ),
    Case(
        "starts-nothing",
        """
        import multiprocessing
        print(multiprocessing.get_start_method())
        """,
    ),
    Case(
        "package-with-main",
        "",
        words=("-m", "pkg", "word"),
        files={
            "pkg/__init__.py": "",
            "pkg/__main__.py": """
        import sys
        from multiprocessing import get_context
        from os.path import basename
        from . import work
        print("top", __name__, __package__, __spec__.name, sys.argv[1:], flush=True)
        with get_context("spawn").Pool(1) as pool:
            print(pool.map(work.f, [1]))
        """,
            "pkg/work.py": "def f(x):\n    return x + 1\n",
        },
    ),
    Case("missing-module", "", words=("-m", "nowhere")),
    Case("missing-script", "", words=("nowhere.py",)),
)

CASES = (
    Case(
        "guard-and-a-start-outside-it",
        ASK
        + """
        print("top", flush=True)
        def f():
            return "worked"
        print(ask(f))
        if __name__ == "__main__":
            print("guarded")
        """,
        "top\nworked\nguarded\n",
    ),
    Case(
        "nested-deeply",
        "from multiprocessing import get_context\n"
        "def f():\n    print('worked')\n"
        "if __name__ == '__main__':\n"
        f"    assert {' + '.join(['1'] * 1500)} == 1500\n"
        "    process = get_context('spawn').Process(target=f)\n"
        "    process.start()\n"
        "    process.join()\n",
        "worked\n",
    ),
    Case(
        "definitions-of-a-guarded-script",
        """
        from multiprocessing import get_context
        print("top", flush=True)
        def f():
            return size
        if __name__ == "__main__":
            size = 3
            with get_context("spawn").Pool(1) as pool:
                print(pool.apply(f))
        """,
        "top\n3\n",
        mode="definitions",
    ),
    Case(
        "asyncio",
        """
        import asyncio
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        def f(x):
            return x + 1
        async def main():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                return await asyncio.get_running_loop().run_in_executor(pool, f, 1)
        print(asyncio.run(main()))
        """,
        "2\n",
    ),
    Case(
        "module",
        "",
        "top pkg pkg.mod mod.py ['word'] True\n('helped', 'pkg', '__mp_main__')\n",
        words=("-m", "pkg.mod", "word"),
        files={
            "pkg/__init__.py": "",
            "pkg/helper.py": "def helped():\n    return 'helped'\n",
            "pkg/mod.py": """
        import os, sys
        from multiprocessing import get_context
        from .helper import helped
        print("top", __package__, __spec__.name, os.path.basename(sys.argv[0]), sys.argv[1:],
              sys.path[0] == os.getcwd(), flush=True)
        def f():
            return helped(), __package__, __name__
        with get_context("spawn").Pool(1) as pool:
            print(pool.apply(f))
        """,
        },
    ),
    Case(
        "standard-input",
        "",
        "top <stdin> - ''\n4\n",
        words=("-",),
        stdin="""
from multiprocessing import get_context
import sys
print("top", __file__, sys.argv[0], repr(sys.path[0]), flush=True)
def f(x):
    return 2 * x
with get_context("spawn").Pool(1) as pool:
    print(pool.apply(f, (2,)))
""",
    ),
    Case(
        "script-edited-meanwhile",
        ASK
        + """
        with open(__file__, "w") as file:
            file.write("raise SystemExit('edited')")
        import inspect
        def f():
            return inspect.getsource(f)
        print(ask(f), end="")
        """,
        "def f():\n    return inspect.getsource(f)\n",
    ),
    Case(
        "file-set-by-the-script",
        ASK
        + """
        import os, pathlib
        __file__ = pathlib.Path(__file__).resolve()
        print("top", flush=True)
        def f():
            return __file__.name, f.__code__.co_filename == str(__file__)
        print(ask(f))
        """,
        "top\n('s.py', True)\n",
    ),
    Case(
        "script-deleted-meanwhile",
        ASK
        + """
        import os
        os.unlink(__file__)
        def f():
            return os.path.basename(__file__)
        print(ask(f))
        """,
        "s.py\n",
    ),
)


@matrix(AS_BARE)
def test_what_is_guarded_or_starts_nothing_is_as_under_plain_python(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)

    bare = run(case, tmp_path, python, bare=True)
    came = run(case, tmp_path, python)

    assert bare.out or bare.err
    assert came == bare


@matrix(CASES)
def test_a_script_runs_whatever_its_guard_and_however_it_is_named(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)


ENCODED = {
    "latin-1": '# coding: latin-1\nNAME = "caf\u00e9"\n'.encode("latin-1"),
    "byte-order-mark": b'\xef\xbb\xbfNAME = "caf\xc3\xa9"\n',
    "carriage-returns": b'NAME = "caf\xc3\xa9"\r\n',
}


@on_every_python()
@pytest.mark.parametrize("encoding", ENCODED)
def test_a_script_runs_whatever_its_encoding(encoding: str, python: str, tmp_path: Path) -> None:
    rest = """
from multiprocessing import get_context
print("top", flush=True)
def f():
    import inspect
    return ascii(NAME), inspect.getsource(f).splitlines()[0]
with get_context("spawn").Pool(1) as pool:
    print(pool.apply(f))
"""
    end = "\r\n" if encoding == "carriage-returns" else "\n"
    (tmp_path / "s.py").write_bytes(ENCODED[encoding] + rest.replace("\n", end).encode())

    came = run(Case(encoding, ""), tmp_path, python)

    assert came == Came(0, "top\n(\"'caf\\\\xe9'\", 'def f():')\n", "")


UNREADABLE = {
    "no-encoding": b'x = "caf\xe9"\n',
    "no-encoding-of-a-comment": b"# caf\xe9\nprint(1)\n",
    "unknown-encoding": b"# coding: nope\n",
    "wrong-encoding": b"#!/x\n# coding: ascii\n# caf\xc3\xa9\n",
    "zero-byte": b"print(1)\n\0x = 1\n",
    "none": None,
}


@on_every_python()
@pytest.mark.parametrize("kind", UNREADABLE)
def test_python_itself_says_that_it_cannot_read_a_script(
    kind: str, python: str, tmp_path: Path
) -> None:
    text = UNREADABLE[kind]
    if text is not None:
        (tmp_path / "s.py").write_bytes(text)
    case = Case(kind, "", flags=("-X", "dev"), mode="definitions")

    bare = run(case, tmp_path, python, bare=True)

    assert bare.err or python == "3.10", "it reads up to a zero byte"
    assert run(case, tmp_path, python) == bare


@on_every_python()
def test_a_script_that_starts_nothing_loads_nothing_more(python: str, tmp_path: Path) -> None:
    case = Case("modules", "import sys\nprint(*sorted(sys.modules))\n")
    write(case, tmp_path)

    bare = run(case, tmp_path, python, bare=True)
    came = run(case, tmp_path, python)

    more = set(came.out.split()) - set(bare.out.split())
    assert more == {f"_vllm_guard_main{name}" for name in ("", ".parent", ".imports")}


AT_THE_END = """
import shutil, tempfile
class Folder:
    def __init__(self):
        self.path = tempfile.mkdtemp()
    def __del__(self):
        shutil.rmtree(self.path)
        print("removed")
folder = Folder()
"""


@on_every_python()
def test_what_a_global_does_at_the_end_it_still_can(python: str, tmp_path: Path) -> None:
    """Python 3.10 and 3.11 clear a main module that somebody holds after the modules that it uses."""
    case = Case("at-the-end", AT_THE_END)
    write(case, tmp_path)

    assert run(case, tmp_path, python, bare=True) == Came(0, "removed\n", "")
    assert run(case, tmp_path, python) == Came(0, "removed\n", "")


@pytest.mark.skipif(len(pythons()) < 2, reason="there is one Python only")
def test_a_child_of_another_python_says_so(tmp_path: Path) -> None:
    one, *_, other = sorted(pythons())
    case = Case(
        "another-python",
        f"""
        import multiprocessing as mp
        mp.set_start_method("spawn")
        process = mp.Process(target=print)
        mp.set_executable({pythons()[other]!r})
        process.start()
        process.join()
        print(process.exitcode)
        """,
    )
    write(case, tmp_path)

    came = run(case, tmp_path, one)

    assert came.out == "1\n"
    assert f"vllm-guard: this child process is Python {other}." in came.err
    assert f"its parent {one}." in came.err
