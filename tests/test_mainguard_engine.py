"""A profile's engine options as defaults of vLLM's classes, in a script and in its children."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.kit import guard
from tests.kit.scripts import HARNESS, Case, expected, matrix, run, write

#: As vLLM 0.32 has them: dataclasses, and a class with a decorated `__init__` that names many of the same.
VLLM = {
    "vllm/__init__.py": "",
    "vllm/engine/__init__.py": "",
    "vllm/entrypoints/__init__.py": "",
    "vllm/engine/arg_utils.py": """
        from dataclasses import dataclass, field
        @dataclass
        class EngineArgs:
            model: str = "m"
            enforce_eager: bool = False
            dtype: str = "auto"
            max_num_seqs: int = 8
            config: dict = field(default_factory=dict)
        @dataclass
        class AsyncEngineArgs(EngineArgs):
            log: bool = False
        """,
    "vllm/entrypoints/llm.py": """
        from functools import wraps
        from vllm.engine.arg_utils import EngineArgs
        def deprecated(function):
            @wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper
        class LLM:
            @deprecated
            def __init__(self, model, *, dtype="auto", enforce_eager=False, **kwargs):
                self.args = EngineArgs(model, dtype=dtype, enforce_eager=enforce_eager, **kwargs)
        """,
}
EAGER = ("--engine", '{"enforce_eager": true, "config": {"a": 1}}', "s.py")
TOLD = "vllm-guard: vLLM's defaults in this script: enforce_eager=True, config={'a': 1}\n"

CASES = (
    Case(
        "defaults",
        """
        from vllm.entrypoints.llm import LLM
        from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
        print(LLM("x").args)
        print(EngineArgs("x"), AsyncEngineArgs(model="x").enforce_eager)
        """,
        """
        EngineArgs(model='x', enforce_eager=True, dtype='auto', max_num_seqs=8, config={'a': 1})
        EngineArgs(model='x', enforce_eager=True, dtype='auto', max_num_seqs=8, config={'a': 1}) True
        """,
        TOLD,
        words=EAGER,
        files=VLLM,
    ),
    Case(
        "what-the-script-passes-wins",
        """
        from vllm.entrypoints.llm import LLM
        from vllm.engine.arg_utils import EngineArgs
        class Own(LLM):
            def __init__(self):
                super().__init__("x", enforce_eager=False)
        print(Own().args.enforce_eager, LLM("x", enforce_eager=False).args.enforce_eager)
        print(EngineArgs("x", False).enforce_eager, EngineArgs(enforce_eager=False).enforce_eager)
        """,
        "False False\nFalse False\n",
        TOLD,
        words=EAGER,
        files=VLLM,
    ),
    Case(
        "a-child-has-them-too",
        """
        import multiprocessing
        def f():
            from vllm.entrypoints.llm import LLM
            return LLM("x").args.enforce_eager
        for method in "spawn", "forkserver", "fork":
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(method, pool.apply(f))
        """,
        "spawn True\nforkserver True\nfork True\n",
        TOLD,
        words=EAGER,
        flags=("-W", "ignore"),
        files=VLLM,
    ),
    Case(
        "and-the-child-of-a-guarded-script",
        """
        import multiprocessing
        def f():
            from vllm.entrypoints.llm import LLM
            return LLM("x").args.enforce_eager
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(f))
        """,
        "True\n",
        words=EAGER,
        files=VLLM,
    ),
    Case(
        "of-a-module",
        """
        from vllm.entrypoints.llm import LLM
        print(LLM("x").args.enforce_eager)
        """,
        "True\n",
        TOLD,
        words=(*EAGER[:2], "-m", "s"),
        files=VLLM,
    ),
    Case(
        "without-the-main-guard",
        """
        from vllm.entrypoints.llm import LLM
        print(LLM("x").args.enforce_eager)
        """,
        "True\n",
        TOLD,
        mode="off",
        words=EAGER,
        files=VLLM,
    ),
    Case(
        "one-that-this-vllm-has-not",
        "import vllm.engine.arg_utils\n",
        "",
        "vllm-guard: this vLLM has no engine option nope: it has no effect\n",
        words=("--engine", '{"nope": 1}', "s.py"),
        files=VLLM,
    ),
    Case(
        "a-vllm-whose-classes-are-its-own",
        """
        from vllm import LLM
        print(LLM("x").eager)
        """,
        "True\n",
        "vllm-guard: vLLM's defaults in this script: enforce_eager=True\n"
        "vllm-guard: this vLLM has no engine option config: it has no effect\n",
        words=EAGER,
        files={
            "vllm/__init__.py": """
        class LLM:
            def __init__(self, model, enforce_eager=False):
                self.eager = enforce_eager
        """
        },
    ),
    Case(
        "a-vllm-that-imports-its-classes",
        """
        from vllm import LLM
        print(LLM("x").args.enforce_eager)
        """,
        "True\n",
        TOLD,
        words=EAGER,
        files={**VLLM, "vllm/__init__.py": "from vllm.entrypoints.llm import LLM\n"},
    ),
    Case(
        "a-vllm-with-a-class-without-options",
        "import vllm\nprint(vllm.LLM() is not None)\n",
        "True\n",
        "vllm-guard: this vLLM has no engine option enforce_eager: it has no effect\n"
        "vllm-guard: this vLLM has no engine option config: it has no effect\n",
        words=EAGER,
        files={"vllm/__init__.py": "class LLM:\n    pass\n"},
    ),
    Case("a-script-without-vllm", "print(1)\n", "1\n", words=EAGER, files=VLLM),
    Case(
        "a-vllm-without-these-classes",
        "import vllm.entrypoints.llm, vllm.engine.arg_utils\nprint(1)\n",
        "1\n",
        "vllm-guard: this vLLM has no engine option enforce_eager: it has no effect\n"
        "vllm-guard: this vLLM has no engine option config: it has no effect\n",
        words=EAGER,
        files={**VLLM, "vllm/engine/arg_utils.py": "", "vllm/entrypoints/llm.py": ""},
    ),
)


@matrix(CASES)
def test_engine_options_are_defaults(case: Case, python: str, tmp_path: Path) -> None:
    write(case, tmp_path)

    assert run(case, tmp_path, python) == expected(case)


def test_a_profile_reaches_a_script(tmp_path: Path) -> None:
    write(CASES[0], tmp_path)
    words = ["-v", "-p", "eager", "--preflight", "off", "--", sys.executable, "s.py"]

    ran = guard(*words, cwd=tmp_path)

    assert ran.stdout.count(b"enforce_eager=True") == 2
    assert b"vllm-guard: vLLM's defaults in this script: enforce_eager=True\n" in ran.stderr


def test_the_plan_shows_it(tmp_path: Path) -> None:
    write(CASES[0], tmp_path)

    ran = guard("-n", "-p", "eager", "--", sys.executable, "s.py", cwd=tmp_path)
    off = guard("-n", "--main-guard", "off", "--", sys.executable, "s.py", cwd=tmp_path)

    said = ran.stderr.decode()
    assert "note engine-option-default: profile eager: enforce_eager=True where the script" in said
    assert f"{HARNESS} --engine '{json.dumps({'enforce_eager': True})}' s.py" in said
    assert HARNESS not in off.stderr.decode()
