"""Where scripts start processes: a table of snippets, and that no source is too strange."""

from __future__ import annotations

import ast
import contextlib
import sys
import sysconfig
import warnings
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT
from vllm_guard.inside.mainguard import guards, starts

TABLE = tomli.loads((ROOT / "tests/data/starts.toml").read_text())


def words(start: starts.Start) -> str:
    """A start as the table writes it."""
    confidence = "" if start.confidence == "certain" else f" {start.confidence}"
    calls = ", ".join(f"{name}:{line}" for name, line in start.via)
    via = f" via {calls}" if calls else ""
    return f"{start.line} {start.what}{confidence}{via}{' guarded' if start.guarded else ''}"


def found(code: str) -> list[str]:
    return [words(start) for start in starts.find(ast.parse(code))]


@pytest.mark.parametrize("name", TABLE)
def test_a_snippet_starts_what_the_table_says(name) -> None:
    row = TABLE[name]

    assert found(row["code"]) == row["starts"]


def test_the_table_has_hits_and_near_misses() -> None:
    hits = sum(bool(row["starts"]) for row in TABLE.values())

    assert len(TABLE) >= 60
    assert min(hits, len(TABLE) - hits) >= 15


@pytest.mark.parametrize(
    ("test", "is_guard"),
    [
        ("__name__ == '__main__'", True),
        ("'__main__' == __name__", True),
        ("__name__ == '__main__' and x", True),
        ("__name__ == '__main__' or x", False),
        ("__name__ != '__main__'", False),
        ("'__main__' != __name__", False),
        ("__name__ in ('__main__', '__mp_main__')", False),
        ("__name__ == '__mp_main__'", False),
        ("name == '__main__'", False),
        ("__name__", False),
        ("'a' == __name__ == '__main__'", False),
        ("__name__ in ('__main__',)", True),
        ("__name__ in '__main__'", True),
        ("not __name__ == '__mp_main__'", True),
        ("__name__ not in ['__mp_main__', 'x']", True),
        ("x and (__name__ != '__mp_main__')", True),
        ("not (__name__ != '__main__' or x)", True),
        ("True if __name__ == '__main__' else False", True),
        ("__name__ is not None", False),
        ("1 in 2 and __name__ in 3", False),
        ("__name__ < '__main__'", False),
        ("__name__.upper() == '__MAIN__'", False),
    ],
)
def test_a_guard_lets_the_main_process_in_and_no_child(test, is_guard) -> None:
    tree = ast.parse(f"if {test}:\n    pass")

    assert starts.guard_test(tree.body[0]) is is_guard
    assert starts.read(tree).has_guard is is_guard


_OPERANDS = st.sampled_from(
    [
        "__name__",
        "x",
        "'__main__'",
        "'__mp_main__'",
        "('__main__', '')",
        "{'__main__', x}",
        "[x]",
        "None",
        "''",
        "1",
    ]
)
_OPERATORS = st.sampled_from(["==", "!=", "in", "not in", "is", "is not", "<"])


def _tests(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, _OPERATORS, inner).map(lambda p: "({} {} {})".format(*p)),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda p: "({} {} {})".format(*p)
        ),
        inner.map("(not {})".format),
        st.tuples(inner, inner, inner).map(lambda p: "({} if {} else {})".format(*p)),
    )


@given(st.recursive(_OPERANDS, _tests, max_leaves=8))
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_what_is_known_of_a_test_is_what_python_says(test) -> None:
    node = ast.parse(test, mode="eval").body

    known = {"__name__": guards.NAMES}
    truth = guards.truth(node, lambda part: known.get(part.id, guards.NOT_KNOWN))

    for name, holds in zip(guards.NAMES, truth, strict=True):
        for x in ("", "__main__", "y", 1):
            with contextlib.suppress(TypeError):  # then nothing after the test runs
                assert holds in (None, bool(eval(test, {"__name__": name, "x": x})))


def test_a_guard_inside_a_function_is_not_the_modules() -> None:
    tree = ast.parse("def f():\n    if __name__ == '__main__':\n        pass")

    assert not starts.read(tree).has_guard


# ---- CUDA

ENGINE = "\nfrom vllm import LLM\nLLM('m')\n"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import torch; torch.cuda.set_device(0)", "torch.cuda.set_device()"),
        ("from torch import cuda; cuda.synchronize()", "torch.cuda.synchronize()"),
        ("import torch.cuda as c; print(c.get_device_name(0))", "torch.cuda.get_device_name()"),
        ("import torch; x = torch.zeros(1).cuda()", ".cuda()"),
        ("import torch; x = torch.zeros(1, device='cuda')", 'device="cuda"'),
        ("import torch; x = torch.zeros(1, device=torch.device('cuda:1'))", 'device="cuda"'),
        ("model.to('cuda')", ".to()"),
        ("model.to(device=f'cuda:{rank}')", ".to()"),
        ("d = 'cuda' if ok else 'cpu'\nmodel.to(d)", ".to()"),
    ],
)
def test_cuda_that_is_touched_before_the_engine_is_found(code, what) -> None:
    read = starts.read(ast.parse(code + ENGINE))

    assert [touch.what for touch in read.cuda] == [f"{what} initialises CUDA"]


@pytest.mark.parametrize(
    "code",
    [
        "import torch; torch.cuda.is_available() and torch.cuda.device_count()",
        "import torch; torch.cuda.manual_seed(1)",
        "import torch; torch.cuda.empty_cache()",
        "model.to('cpu')",
        "model.to(torch.float16)",
        "x = foo.cuda",
        "def f():\n    model.cuda()",
    ],
)
def test_what_does_not_initialise_cuda_is_no_touch(code) -> None:
    assert starts.read(ast.parse(code + ENGINE)).cuda == ()


def test_cuda_counts_only_before_an_unguarded_engine() -> None:
    touch = "import torch\ntorch.cuda.init()\n"
    guarded = "from vllm import LLM\nif __name__ == '__main__':\n    LLM('m')\n"

    assert starts.read(ast.parse(touch)).cuda == ()
    assert starts.read(ast.parse(ENGINE + touch)).cuda == ()
    assert starts.read(ast.parse(touch + guarded)).cuda == ()


# ---- any source

NAMES = st.sampled_from(["LLM", "mp", "f", "g", "C", "x", "self", "vllm", "torch"])
ATOMS = st.one_of(
    NAMES, st.sampled_from(["'cuda'", "1", "None", "...", "b''", "f'{x}'", "lambda: f()"])
)


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    shapes = [
        "{}({})",
        "{}.{{}}({})",
        "({}, *{})",
        "[{} for x in {}]",
        "{{x: {} for x in {}}}",
        "({} or {})",
        "{}[{}]",
        "({} if x else {})",
        "(y := {}, {})",
        "{}(**{})",
        "{}(target={})",
        "f'{{{}}}{{{}}}'",
    ]
    plain = [shape.replace(".{{}}", ".start") for shape in shapes]
    return st.one_of(*(pair.map(lambda two, s=shape: s.format(*two)) for shape in plain))


EXPRESSIONS = st.recursive(ATOMS, _expressions, max_leaves=6)
SIMPLE = st.one_of(
    EXPRESSIONS,
    st.tuples(NAMES, EXPRESSIONS).map(lambda two: "{} = {}".format(*two)),
    st.tuples(NAMES, EXPRESSIONS).map(lambda two: "{}.a, *b = {}".format(*two)),
    st.sampled_from(
        [
            "import vllm",
            "from vllm import *",
            "import torch.multiprocessing as mp",
            "from .x import y",
            "global f",
            "del x",
            "raise",
            "assert f()",
            "return f",
            "x: int",
            "x += f()",
            "yield f()",
            "await f()",
            "pass",
            "f = f",
            "self.f = f",
            "f(f)",
            "C.f(C)",
            "C().g()",
            "super().g()",
        ]
    ),
)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    heads = [
        "def f(x=1, *a, y=2, **k):", "async def g(self):", "class C(LLM):", "class C(C):", "if f():",
        "if __name__ == '__main__':", "for x in g():", "while x:", "with f() as x:",
        "try:\n    f()\nexcept E as x:", "@f\ndef g(f):", "@property\ndef f(self):", "@C\nclass C:",
    ]  # fmt: skip

    def block(parts: tuple[str, list[str]]) -> str:
        head, body = parts
        lines = "\n".join(body).split("\n")
        return head + "\n" + "\n".join(f"    {line}" for line in lines)

    return st.tuples(st.sampled_from(heads), st.lists(inner, min_size=1, max_size=4)).map(block)


STATEMENTS = st.recursive(SIMPLE, _blocks, max_leaves=12)


@given(st.lists(STATEMENTS, max_size=12))
def test_no_source_that_parses_is_too_strange(statements) -> None:
    source = "\n".join(statements)
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    lines = source.count("\n") + 1

    read = starts.read(tree)

    assert all(1 <= start.line <= lines for start in (*read.starts, *read.cuda))
    assert starts.read(tree) == read


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "+".join(["f()"] * 800),
        "x" + ".a" * 900 + "()",
        "x" + "()" * 900,
        "if x:\n    f()\n" + "elif x:\n    f()\n" * 700,
        "def f(g):\n    g(lambda: f(g))\n    f(f)\nf(f)",
        "".join(f"def f{n}(x):\n    f{n + 1}(x); f{n + 1}([x])\n" for n in range(60)) + "f0(1)",
        "class A(A): pass\nA().b()",
        "class A:\n    def __getattr__(self, n):\n        return A().x\nA().y.z()",
    ],
    ids=["sum", "attributes", "calls", "elif", "self", "doubling", "own-base", "getattr"],
)
def test_deep_and_circular_sources_are_read_to_the_end(source) -> None:
    code = source + "\nfrom vllm import LLM\nLLM('m')\n"

    assert found(code)[-1].endswith("vllm.LLM is constructed")


@pytest.mark.soak
def test_the_standard_library_of_this_python_is_read() -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    read = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            try:
                tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError, RecursionError):
                continue
            starts.read(tree)
            read += 1

    assert read > 500, sys.version
