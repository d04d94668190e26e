"""Guards in other words than `if __name__ == "__main__":`: children import such scripts as always."""

from __future__ import annotations

import textwrap

import pytest

from tests.kit.scripts import Came, Case, on_every_python, run, write

HEAD = """
import sys
from multiprocessing import get_context
print("top", __name__, flush=True)
def f():
    return __name__
def main():
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(f))
"""

FORMS = {
    "name": """
        IS_MAIN = __name__ == "__main__"
        if IS_MAIN:
            main()
        """,
    "not-a-child": """
        if not __name__ == "__mp_main__":
            main()
        """,
    "among": """
        if __name__ in ("__main__",):
            main()
        """,
    "and": """
        if __name__ == "__main__" and len(sys.argv) == 1:
            main()
        """,
    "try": """
        try:
            if __name__ == "__main__":
                main()
        finally:
            pass
        """,
    "with": """
        import contextlib
        with contextlib.suppress(KeyError):
            if __name__ == "__main__":
                main()
        """,
    "match": """
        match __name__:
            case "__main__":
                main()
        """,
    "else": """
        if __name__ != "__main__":
            pass
        else:
            main()
        """,
    "short-circuit": '__name__ == "__main__" and main()',
    "ternary": 'main() if __name__ == "__main__" else None',
    "argument": """
        def run_main(name):
            if name == "__main__":
                main()
        run_main(__name__)
        """,
    "early-return": """
        def run_main(name):
            if name != "__main__":
                return
            main()
        run_main(__name__)
        """,
    "process": """
        import multiprocessing
        if multiprocessing.current_process().name == "MainProcess":
            main()
        """,
    "function": """
        def is_main():
            return __name__ == "__main__"
        if is_main():
            main()
        """,
}


def _case(form: str) -> Case:
    return Case("form", HEAD + textwrap.dedent(form))


@pytest.mark.parametrize("form", FORMS)
@on_every_python()
def test_a_script_with_such_a_guard_is_as_under_plain_python(form, python, tmp_path) -> None:
    case = _case(FORMS[form])
    write(case, tmp_path)

    came = run(case, tmp_path, python)

    assert came == Came(0, "top __main__\ntop __mp_main__\n__mp_main__\n", "")
    assert came == run(case, tmp_path, python, bare=True)


@pytest.mark.parametrize(
    "form",
    [
        'if __name__ != "__main__":\n    sys.exit()\nmain()',
        'if __name__ != "__main__":\n    raise ImportError("a script")\nmain()',
        'if __name__ == "__main__":\n    main()\nsys.exit()',
    ],
)
@on_every_python()
def test_what_would_end_a_child_that_imports_the_script_does_not(form, python, tmp_path) -> None:
    case = _case(form)
    write(case, tmp_path)

    assert run(case, tmp_path, python) == Came(0, "top __main__\n__mp_main__\n", "")
