"""A child that only loads the script comes to a start of a process, and is cut off there."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, run, write
from tests.test_mainguard_values import ASK

END = "; mark it with '# vllm-guard: main', or put it under the main guard\n"

HELPER = """
def start(f):
    from multiprocessing import get_context
    process = get_context("spawn").Process(target=f)
    process.start()
    process.join()
"""
#: A package's module that starts a process when it is imported, and what each child says of it.
HELPS = {
    "pkg/__init__.py": "",
    "pkg/work.py": "def work():\n    print('worked', flush=True)\n",
    "pkg/helper.py": """
        from multiprocessing import get_context
        from . import work
        print("helper", flush=True)
        def early():
            return 1
        process = get_context("spawn").Process(target=work.work)
        process.start()
        process.join()
        """,
}
CUT_SHORT = (
    "vllm-guard: helper.py:7 starts a process while line 6 of s.py imports it: children have pkg.helper"
    " up to there; move that into a function\n"
)
CASES = (
    Case(
        "guard-and-a-hidden-start",
        """
        import helper
        def f():
            print("worked", flush=True)
        print("top", __name__, flush=True)
        helper.start(f)
        if __name__ == "__main__":
            print("guarded")
        """,
        "top __main__\ntop __mp_main__\nworked\nguarded\n",
        "vllm-guard: line 5 of s.py starts a process, which a child that only loads the script may not"
        + END,
        files={"helper.py": HELPER},
    ),
    Case(
        "cut-off-at-the-first-start",
        ASK
        + """
        print("top", flush=True)
        import os
        ready = [os.getppid()]
        def f():
            return len(ready), "late" in globals()
        print(ask(f))
        late = 1
        """,
        "top\ntop\n(1, False)\n",
        mode="cutoff",
    ),
    Case(
        "decorator-that-runs-what-it-decorates",
        """
        from multiprocessing import get_context
        def entry(f):
            if __name__ in ("__main__", "__mp_main__"):
                f()
            return f
        def work():
            print("worked", flush=True)
        @entry
        def main():
            process = get_context("spawn").Process(target=work)
            process.start()
            process.join()
        print("end")
        """,
        "worked\nend\n",
        "vllm-guard: line 9 of s.py starts a process, which a child that only loads the script may not;"
        " not available there: main" + END,
    ),
    Case(
        "helper-that-starts-when-it-is-imported",
        ASK
        + """
        import pkg.helper
        from pkg.helper import early
        def f():
            return early(), pkg.helper.early is early
        print(ask(pkg.helper.early), ask(f))
        """,
        "helper\nhelper\nworked\n" + "helper\n" * 2 + "1 (1, True)\n",
        3 * CUT_SHORT,
        files=HELPS,
    ),
    Case(
        "guarded-and-a-helper-that-starts-when-it-is-imported",
        ASK
        + """
        from pkg import helper
        def f():
            return helper.early()
        if __name__ == "__main__":
            print(ask(helper.early), ask(f))
        """,
        "helper\nhelper\nworked\n" + "helper\n" * 2 + "1 1\n",
        3 * CUT_SHORT,
        files=HELPS,
    ),
    Case(
        "start-that-the-script-catches",
        """
        import sys
        from helper import start
        def f():
            print("worked", flush=True)
        print("top", __name__, flush=True)
        try:
            start(f)
        except:
            sys.exit("caught")
        if __name__ == "__main__":
            print("guarded")
        """,
        "top __main__\ntop __mp_main__\nworked\nguarded\n",
        "vllm-guard: line 7 of s.py starts a process, which a child that only loads the script may not"
        + END,
        files={"helper.py": HELPER},
        words=("./s.py",),
    ),
    Case(
        "start-that-the-script-does-without",
        """
        from helper import start
        def f():
            print("worked", flush=True)
        try:
            start(f)
        except:
            print("none", __name__, flush=True)
        if __name__ == "__main__":
            print("guarded")
        """,
        "none __mp_main__\nworked\nguarded\n",
        files={"helper.py": HELPER},
    ),
)


@matrix(CASES)
def test_a_child_that_loads_the_script_starts_nothing(
    case: Case, python: str, tmp_path: Path
) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)
