"""Which statements of a script its children run: one line after the other, without running anything."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path

import pytest

from vllm_guard.inside.mainguard.markers import misspelt
from vllm_guard.inside.mainguard.needs import explained, read
from vllm_guard.inside.mainguard.statements import Classified, classify

HEAD = """\
import os, sys, json, re, logging, random, torch, vllm, requests
from pathlib import Path
from vllm import LLM, ModelRegistry, SamplingParams
WORDS = ["a"]
TABLE = {}
TEXT = "a,b"
llm = LLM("m")
class Kept: pass
def kept(): pass
"""


def of(source: str) -> Classified:
    return classify(textwrap.dedent(source).encode(), "s.py")


def judged(line: str) -> tuple[str, str]:
    """Verdict and reason of statements that follow `HEAD`."""
    rows = [row for row in of(HEAD + line).statements if row.first > HEAD.count("\n")]
    assert len(rows) == 1
    return rows[0].verdict, rows[0].reason


CHILD = [
    '"""a text"""',
    "...",
    "pass",
    "import json as j",
    "from os import *",
    "x = 1",
    "x: int = 1",
    "x: int",
    "x = y = (1, -2, not None)",
    "a, (b, *c) = 1, (2, 3)",
    "x = [i * i for i in range(3) if i % 2]",
    "x = {**TABLE, 'b': WORDS[0]}",
    "x = f'{TEXT!r:>10}'",
    "x = TEXT.split(',')[0].upper()",
    "x = lambda y: llm.generate(y)",
    "x = (y := 3) + y",
    "x = 1 if TEXT else 2",
    "x = list(map(str.upper, filter(None, WORDS)))",
    "x = list(map(re.compile, WORDS))",
    "x = max(WORDS, key=len)",
    "x = sorted(WORDS, key=lambda w: w.lower())",
    "x = Path(__file__).resolve().parent / 'data'",
    "x = os.path.join(os.getcwd(), os.environ['HOME'])",
    "x = re.compile('a')",
    "x = logging.getLogger(__name__)",
    "x = SamplingParams(temperature=0)",
    "x = tuple(int(p) for p in torch.__version__.split('.')[:2])",
    "x = torch.float16",
    "x = sys.platform.startswith('linux')",
    "x = __name__",
    "WORDS += ['b']",
    "WORDS.append('b')",
    "TABLE['a'] = 1",
    "TABLE.update(b=2)",
    "del TEXT",
    "vllm.engine.step = kept",
    "torch.backends.cudnn.deterministic = True",
    "Kept.attribute = 1",
    "sys.modules['other'] = json",
    "ModelRegistry.register_model('Kept', Kept)",
    "torch.manual_seed(0)",
    "torch.set_default_dtype(torch.float16)",
    "random.seed(0)",
    "logging.basicConfig(level=logging.INFO)",
    "logging.getLogger('vllm').setLevel('INFO')",
    "def f(x: LLM = TEXT): return llm",
    "async def f(): await llm",
    "@json.loads\ndef f(): pass",
    "class A(Kept, metaclass=type):\n x = 1\n y = x\n def f(self): return llm",
    "if sys.version_info > (3, 8): x = 1\nelse: x = 2",
    "try: import fast\nexcept ImportError as error: fast, why = None, str(error)",
    "for i in range(2): TABLE[i] = 'x'",
    "global x",
]

MAIN = [
    ("print(1)", "calls print()"),
    ("x = LLM('m')", "calls LLM()"),
    ("x = llm.generate('a')", "uses 'llm', which line 7 sets in the main process only"),
    ("x = [llm]", "uses 'llm', which line 7 sets in the main process only"),
    ("x = json.load(open('f'))", "calls json.load()"),
    ("x = requests.get('u')", "calls requests.get()"),
    ("x = kept()", "calls kept()"),
    ("import os\nos.path.exists('f') and os.remove('f')", "calls os.remove()"),
    ("x = Kept()", "calls Kept()"),
    ("x = Kept.get()", "calls Kept.get()"),
    ("x = sorted(WORDS, key=kept)", "calls sorted()"),
    ("x = list(map(kept, WORDS))", "calls map()"),
    ("x = list(map(requests.get, WORDS))", "calls map()"),
    ("x = list(map(lambda w: print(w), WORDS))", "calls print()"),
    ("x = [print(w) for w in WORDS]", "calls print()"),
    ("x = (lambda: 1)()", "calls (...)()"),
    ("x = nowhere", "uses 'nowhere', which no statement here sets"),
    ("x: llm = 1", "uses 'llm', which line 7 sets in the main process only"),
    ("llm.size = 1", "uses 'llm', which line 7 sets in the main process only"),
    ("kept().x = 1", "changes what an expression gives"),
    (
        "ModelRegistry.register_model('m', kept())",
        "calls kept(): ModelRegistry.register_model() is not repeated in children",
    ),
    ("WORDS.append(kept())", "calls kept()"),
    ("nowhere += 1", "uses 'nowhere', which no statement here sets"),
    ("logging.basicConfig(filename='log')", "calls logging.basicConfig()"),
    ("import atexit\natexit.register(kept)", "calls atexit.register()"),
    (
        "@llm.route\ndef f(): pass",
        "its definition uses 'llm', which line 7 sets in the main process only",
    ),
    (
        "def f(x: llm): pass",
        "its definition uses 'llm', which line 7 sets in the main process only",
    ),
    (
        "class A(llm.B): pass",
        "its definition uses 'llm', which line 7 sets in the main process only",
    ),
    (
        "class A:\n x: int\n print(llm)",
        "its definition uses 'llm', which line 7 sets in the main process only",
    ),
    ("llm.t.update(a=1)", "uses 'llm', which line 7 sets in the main process only"),
    ("Kept[kept()] = 1", "calls kept()"),
    ("x = re.sub('a', kept, TEXT)", "calls re.sub()"),
    ("x = re.sub('a', lambda m: kept(), TEXT)", "calls kept()"),
    ("x = json.loads(TEXT, object_hook=kept)", "calls json.loads()"),
    ("x = json.dumps(TABLE, default=kept)", "calls json.dumps()"),
    ("x = sorted(WORDS, **{'key': kept})", "calls sorted()"),
    ("x = list(map(*[kept, WORDS]))", "calls map()"),
    ("WORDS.sort(key=kept)", "calls WORDS.sort()"),
    ("while False: pass", "a while loop"),
    ("assert TEXT", "an assertion"),
    ("raise SystemExit", "raises"),
    ("with open('f') as f: x = 1", "calls open()"),
    ("for w in WORDS: print(w)", "its body calls print()"),
    ("for w in llm: pass", "uses 'llm', which line 7 sets in the main process only"),
    ("if llm: x = 1", "uses 'llm', which line 7 sets in the main process only"),
    ("if TEXT: print(1)", "calls print()"),
    ("del TABLE['a']", "deletes TABLE[...]"),
    ("del TEXT, llm", "deletes TEXT, llm"),
    ("if __name__ == '__main__': kept()", "the main guard"),
    ("x = 1  # vllm-guard: main", "marked '# vllm-guard: main'"),
]

#: What a child is sent in the place of what it cannot compute: verdict, places, what it runs.
SENT = [
    ("Kept.size = kept()", "partly", ["Kept.size"], "Kept.size = {Kept.size}"),
    ("vllm.a.b += len(llm)", "partly", ["vllm.a.b"], "vllm.a.b = {vllm.a.b}"),
    ("setattr(Kept, 'size', llm)", "partly", ["Kept.size"], "Kept.size = {Kept.size}"),
    ("setattr(Kept, llm, 1)", "partly", ["Kept"], "held.assign('Kept', Kept)"),
    ("Kept.t['a'] = llm", "partly", ["Kept.t['a']"], "Kept.t['a'] = {Kept.t['a']}"),
    ("Kept.t[llm] = 1", "partly", ["Kept.t"], "held.refill('Kept.t', Kept.t)"),
    ("Kept.t[llm].x[0] = 1", "partly", ["Kept.t"], "held.refill('Kept.t', Kept.t)"),
    ("Path.t.append(kept())", "partly", ["Path.t"], "held.refill('Path.t', Path.t)"),
    ("Path.update(a=llm)", "partly", ["Path"], "held.refill('Path', Path)"),
    ("while llm: Kept.n = 1", "partly", ["Kept.n"], "Kept.n = {Kept.n}"),
    ("for x in llm: Kept.n, y = x", "partly", ["Kept.n"], "Kept.n = {Kept.n}"),
    ("def f(x, y=llm): pass", "child", ["f.__defaults__[0]"], "def f(x, y={f.__defaults__[0]}):"),
    (
        "async def f(*, y=llm): 1",
        "child",
        ["f.__kwdefaults__['y']"],
        "async def f(*, y={f.__kwdefaults__['y']}):",
    ),
    ("class A:\n x = llm", "child", ["A.__dict__['x']"], "class A:"),
    ("class A:\n class B:\n  x: int = kept()", "child", ["A.B.__dict__['x']"], "class A:"),
    ("class A:\n @staticmethod\n def f(x=llm): 1", "child", ["A.f.__defaults__[0]"], "class A:"),
    ("class A:\n a, b = 1, kept()", "child", ["A.__dict__['b']"], "class A:"),
    ("class A:\n a = 1\n b = a + 1\n __c = kept()", "child", [], "class A:"),
    ("@json.loads\ndef f(x=kept()): pass", "child", [], "@json.loads"),
]

INHERITED = [
    "os.environ['A'] = kept()",
    "os.environ.setdefault('A', '1')",
    "del os.environ['A']",
    "sys.path.insert(0, 'x')",
    "sys.path += ['x']",
    "os.chdir('/')",
    "for n in ('A', 'B'): os.environ[n] = '1'",
]

PARTLY = [
    ("if TEXT: import fast\nelse: print(1)", "calls print()", ()),
    ("try:\n import fast\n x = kept()\nexcept ImportError: x = None", "calls kept()", ("x",)),
    ("if __name__ == '__main__': role = 1\nelse: role = 2", "the main guard", ("role",)),
]


@pytest.mark.parametrize("line", CHILD)
def test_a_child_runs(line: str) -> None:
    verdict, reason = judged(line)

    assert verdict == "child", reason


@pytest.mark.parametrize(("line", "reason"), MAIN, ids=[line for line, _ in MAIN])
def test_a_child_does_not_run(line: str, reason: str) -> None:
    last = of(HEAD + line).statements[-1]

    assert (last.verdict, last.reason) == ("main", reason)


@pytest.mark.parametrize(("line", "verdict", "places", "runs"), SENT, ids=[row[0] for row in SENT])
def test_a_child_is_sent(line: str, verdict: str, places: list[str], runs: str) -> None:
    found = of(HEAD + line)
    code = ast.unparse(ast.fix_missing_locations(ast.Module(found.tree.body[-1:], [])))
    shown = re.sub(
        r"held for the script\[(['\"])(.*?)\1\](?=$|\)|:)", r"{\2}", code, flags=re.MULTILINE
    )

    assert found.statements[-1].verdict == verdict
    assert list(found.places) == places
    assert shown.replace("held for the script", "held").removeprefix("try:\n    ").startswith(runs)


@pytest.mark.parametrize("line", INHERITED)
def test_a_child_inherits(line: str) -> None:
    assert judged(line)[0] == "inherited"


@pytest.mark.parametrize(("line", "reason", "lost"), PARTLY, ids=[line for line, *_ in PARTLY])
def test_a_child_runs_a_part_of(line: str, reason: str, lost: tuple[str, ...]) -> None:
    last = of(HEAD + line).statements[-1]

    assert (last.verdict, last.reason, last.lost) == ("partly", reason, lost)


def kept(source: str) -> str:
    return ast.unparse(ast.fix_missing_locations(of(source).tree))


def test_of_a_block_the_child_runs_its_head_and_what_is_kept_of_its_bodies() -> None:
    source = """
        import sys
        if sys.version_info > (3, 8):
            import json
            print(1)
        else:
            print(2)
        try:
            import fast
        except ImportError:
            fast = None
            print(3)
        finally:
            print(4)
    """

    assert kept(source).splitlines() == [
        "import sys",
        "if sys.version_info > (3, 8):",
        "    import json",
        "try:",
        "    import fast",
        "except ImportError:",
        "    fast = None",
    ]


def test_after_a_try_of_which_a_part_is_kept_its_other_names_are_lost() -> None:
    found = of("try:\n  import a\n  x = open('f')\nexcept OSError:\n  y = 1\nelse:\n  z = 1\n")

    assert set(found.lost) == {"x", "y", "z"}
    assert found.available == {"a"}


DOUBTFUL = [
    ("random.shuffle(x)", {"x"}),
    ("f([0, x])", {"x"}),
    ("f(a=x)", {"x"}),
    ("x.reverse_all()", {"x"}),
    ("print(x, len(x), text)", set()),
    ("f(text)", set()),
    ("f(x.copy())", {"x"}),
    ("y = x\nf(y)", {"x", "y"}),
    ("y = [x]\nf(y)", {"x", "y"}),
    ("for y in x: f(y)", {"x", "y"}),
    ("exec('x = 1')", {"x", "text"}),
    ("globals()['x'] = f()", {"x", "text"}),
    ("vars(f)", set()),
    ("setattr(sys.modules[__name__], f(), 1)", {"x", "text"}),
    ("y = len(x)\nz = y\nf(x)", {"x", "y", "z"}),
    ("def g(): x.append(1)\ny = len(x)", {"y"}),
]


@pytest.mark.parametrize(("lines", "names"), DOUBTFUL, ids=[lines for lines, _ in DOUBTFUL])
def test_what_may_change_unseen_is_in_doubt(lines: str, names: set[str]) -> None:
    head = "import random, sys\nfrom a import f\nx, text = [1, [2]], 'a'\nx = [1]\ntext = 'a'\n"

    assert of(head + lines).environment == names


@pytest.mark.parametrize(
    "change",
    [
        "x = input()",
        "x.append(input())",
        "x[0] = input()",
        "del x[0], y[0]",
        "for x in open('f'): pass",
    ],
)
def test_what_the_main_process_changes_is_lost_even_where_a_child_could_set_it(change: str) -> None:
    found = of(f"x = [1]\n{change}\nz = len(x)\n")

    assert found.lost["x"][0] == 2
    assert found.statements[-1].verdict == "main"
    assert "x" not in of(f"x = [1]\n{change}\nx = [2]\n").available


def test_a_definition_after_a_value_of_the_same_name_is_a_definition() -> None:
    found = of("f = open('f')\ndef f(): pass\n")

    assert found.available == {"f"}
    assert found.lost == {}


def test_what_is_read_from_the_environment_is_known_and_so_is_what_it_leads_to() -> None:
    found = of("""
        import os, sys
        A = os.environ.get("A")
        B = len(sys.argv)
        C = [A]
        if os.path.exists("f"):
            D = 1
        E = 1
        F = []
        F.append(A)
    """)

    assert found.environment == {"A", "B", "C", "D", "F"}


def test_annotations_are_read_unless_they_are_postponed() -> None:
    source = "llm = open('f')\ndef f(x: llm): pass\n"

    assert of(source).statements[-1].verdict == "main"
    assert of("from __future__ import annotations\n" + source).statements[-1].verdict == "child"


STDLIB = sorted(Path(ast.__file__).parent.glob("*.py"))[::3]


@pytest.mark.parametrize("path", STDLIB, ids=lambda path: path.stem)
def test_what_is_kept_of_any_module_compiles_and_every_statement_has_its_verdict(
    path: Path,
) -> None:
    source = path.read_bytes()

    found = classify(source, str(path))

    for node in found.tree.body:
        compile(ast.Module([node], []), str(path), "exec", dont_inherit=True)
    assert len(found.statements) == len(found.whole.body)
    assert found.available.isdisjoint(found.lost)
    for row in found.statements:
        assert row.verdict in ("child", "main", "inherited", "partly")
        assert row.reason
        assert set(row.lost) == set() or row.verdict != "child"


MARKED = [
    "x = f()  # vllm-guard: child",
    "# vllm-guard: child\nx = f()",
    "# vllm-guard: child  (because)\n@f\n@g\ndef x(): pass",
    "x = f(  # vllm-guard: child\n  1)",
    "for x in f():  # vllm-guard: child\n  print(x)",
]


@pytest.mark.parametrize("source", MARKED)
def test_a_marker_is_on_the_statement_or_above_it(source: str) -> None:
    assert of(source).statements[-1].reason == "marked '# vllm-guard: child'"


NOT_MARKED = [
    "# vllm-guard: child\n\nx = f()",
    "y = 1  # vllm-guard: child\nx = f()",
    "x = f('# vllm-guard: child')",
    "for x in f():\n  # vllm-guard: child\n  print(x)",
]


@pytest.mark.parametrize("source", NOT_MARKED)
def test_a_marker_of_something_else_is_none(source: str) -> None:
    assert of(source).statements[-1].verdict == "main"


def test_of_each_value_that_is_sent_it_is_known_why() -> None:
    source = """
        import os
        size = os.cpu_count()
        llm = open("f")
        class Kept:
            size = 1
        Kept.size = llm
        def f(x=llm): return size, llm, nowhere, other
        other = 1
    """

    assert explained(read(textwrap.dedent(source).encode(), "s.py")) == [
        ("Kept.size", "line 7 sets or changes it in the main process only"),
        ("f.__defaults__[0]", "a definition has it"),
        ("llm", "functions read it; line 4 sets or changes it in the main process only"),
        ("nowhere", "functions read it; no statement that a child runs sets it"),
        ("size", "functions read it; it may be another in a child, or changes"),
    ]


MISSPELT = [
    ("x = 1  # vllm-guard: mian", "# vllm-guard: mian"),
    ("#vllm-guard:children", "#vllm-guard:children"),
    ("# vllm_guard: main", "# vllm_guard: main"),
    ("# VLLM-Guard: child", "# VLLM-Guard: child"),
    ("# vllm-guard main", "# vllm-guard main"),
    ("# vllm-guard:", "# vllm-guard:"),
]


@pytest.mark.parametrize(("source", "text"), MISSPELT, ids=[source for source, _ in MISSPELT])
def test_a_misspelt_marker_is_known(source: str, text: str) -> None:
    assert misspelt(f"y = 1\n{source}\n".encode()) == [(2, text)]


@pytest.mark.parametrize(
    "source",
    [
        "# vllm-guard: main, because",
        "# vllm-guard runs this",
        "'# vllm-guard: mian'",
        "# a guard: x",
    ],
)
def test_other_comments_are_no_misspelt_markers(source: str) -> None:
    assert misspelt(f"{source}\n".encode()) == []


def test_lines_are_those_of_the_file_with_decorators_and_blocks() -> None:
    found = of("@a\n@b\ndef f():\n  pass\nx = (1,\n  2)\n")

    assert [(row.first, row.last, row.binds) for row in found.statements] == [
        (1, 4, ("f",)),
        (5, 6, ("x",)),
    ]
