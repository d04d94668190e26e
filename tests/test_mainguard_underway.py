"""Guards that are seen when the first process starts, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

from tests.kit.scripts import Case, expected, matrix, run, write
from tests.test_mainguard_values import ASK

#: Of a library: what asks for the script.
HELPER = """
def run_main(name, main):
    if name == "__main__":
        main()
def is_main(name):
    return name == "__main__"
"""
#: What such a child needs is no plain data.
UNUSUAL = """
import helper, threading
from multiprocessing import current_process, get_context
print("top", __name__, flush=True)
handle = open(__file__)
def f():
    return handle.name == __file__
def main():
    with get_context("spawn").Pool(1) as pool:
        print(pool.apply(f))
"""
#: Guards that are not `if __name__ == "__main__":` at top level.
FORMS = (
    "IS_MAIN = __name__ == '__main__'\nif IS_MAIN:\n    main()",
    "if not __name__ == '__mp_main__':\n    main()",
    "try:\n    if __name__ == '__main__':\n        main()\nfinally:\n    pass",
    "helper.run_main(__name__, main)",
    "str(helper.run_main(__name__, main))",
    "if __name__ in ('__main__',):\n    main()",
    "match __name__:\n    case '__main__':\n        main()",
    "__name__ == '__main__' and main()",
    "main() if __name__ == '__main__' else None",
    "if helper.is_main(__name__):\n    main()",
    "def is_main():\n    return __name__ == '__main__'\nif is_main():\n    main()",
    "if current_process().name == 'MainProcess':\n    main()",
    "def run():\n    if __name__ == '__main__':\n        main()\nrun()",
    """
def run():
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
if __name__ != "__mp_main__":
    run()
""",
)

AS_BARE = (
    *(
        Case(
            f"guarded-in-another-form-{number}",
            UNUSUAL + form + "\n",
            flags=("-W", "ignore"),
            files={"helper.py": HELPER},
        )
        for number, form in enumerate(FORMS)
    ),
)
CASES = (
    *(
        Case(
            f"no-guard-though-it-names-itself-{number}",
            ASK
            + f"""
        import logging
        print("top", flush=True)
        size = int(input())
        def f():
            return size
        {line}
        """,
            "top\n1\n",
            stdin="1\n",
        )
        for number, line in enumerate(
            (
                "print(ask(f), *__name__[:0])",
                "logging.getLogger(__name__).debug(print(ask(f)))",
                "print(ask(f)) if __name__ in ('__main__', '__mp_main__') else None",
                "print(ask(f), end='\\n' if __name__ else '')",
            )
        )
    ),
)


@matrix(AS_BARE)
def test_a_guard_in_another_form_is_one(case: Case, python: str, tmp_path: Path) -> None:
    write(case, tmp_path)

    bare = run(case, tmp_path, python, bare=True)

    assert bare.out
    assert run(case, tmp_path, python) == bare


@matrix(CASES)
def test_what_names_its_module_is_no_guard(case: Case, python: str, tmp_path: Path) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)
