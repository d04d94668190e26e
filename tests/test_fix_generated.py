"""`fix` on generated scripts: the same program, and a child that does nothing and has nothing stale."""

from __future__ import annotations

import ast
import contextlib
import io

from hypothesis import event, given
from hypothesis import strategies as st

from vllm_guard.guarding import mend
from vllm_guard.inside.mainguard import starts

HEAD = '''"""What it does."""
from __future__ import annotations
import contextlib, sys  # both
from multiprocessing import Process

def tell(value):
    print("told", value)
    return value

def keep(function):
    return function

def fill(value):
    if isinstance(value, list):
        value.append("filled")

a = 1
b = [2]
c = "x"
'''
NEEDS_A_GUARD = """if len(sys.argv) > 999:
    Process().start()
"""

NAMES = st.sampled_from(["a", "b", "c"])
CONSTANTS = st.sampled_from(
    ["1", '"y"', "[3, 4]", "(5,\n\n    6)", '"""q\n  r\n"""', "7 + \\\n  8", 'f"""{a}\n  {b}"""']
)
#: Of a block's body; {n} and {m} are names, {k} a constant, {f} a new name of a function.
SIMPLE = [
    "{n} = {k}",
    "{n} = tell({m})",
    "{n} = str({m})",
    "{n}: object = {k}",
    "print({m})",
    "print({k})  # say it",
    "{n} = {k}; print({m}); {m} = {n}",
    "tell({n}); tell({m})",
    "fill({n})",
    'globals()["{n}"] = tell({m})',
    "globals().update({n}=tell({m}))",
    "b = [*b, {m}] if isinstance(b, list) else [{m}]",
    "if (w := {m}): print(w)",
    "import json, os",
    "from json import dumps as c",
    "pass",
]
BLOCKS = [
    "def {f}():\n    return {n}, {m}",
    "def {f}(given={k}):\n    '''Doc.\n\n    More.\n    '''\n    return given, {m}",
    "@keep\ndef {f}():  # decorated\n\n    return {n}",
    "def {f}(given={n}):\n    return given",
    "class {f}:\n    value = {k}\n\n    def __new__(cls):\n        return [{n}, cls.value]",
    "for i in range(2):\n    {s}",
    "for i in range(2): {n} = i",
    "if isinstance({n}, list):\n    other = {n}\n    other.append(tell({k}))",
    "for row in [{n}, {m}]:\n    fill(row)",
    "class Holder:\n    held = {n}\n\nfill(Holder.held)",
    "rows = []\nrows.append({n})\nfill(rows[0])",
    "while False:\n    {s}\nelse:\n    {t}",
    "if sys.argv:\n    {s}\n\n    # why\n    {t}\nelif {m}:\n    {s}\nelse:\n    {t}",
    "if True: {n} = {m}; print({n})",
    "if {n}:\n  {s}\n  if True:\n\n        {t}\n  print({m})",
    "try:\n    {s}\nexcept ValueError:\n    {t}\nelse:\n    {s}\nfinally:\n    {t}",
    "try:\n    import json as c\n    {s}\nexcept ImportError: {n} = None; print({n})",
    "with contextlib.suppress(ImportError):\n    {s}\n    {t}",
    "with contextlib.nullcontext({m}) as {n}:\n    {s}",
    'if __name__ == "__main__":\n    print({n})\n    tell({m})',  # what it sets is the author's affair
    'if __name__ == "__main__":\n    print({n})\nelse:\n    other = 1',
    "# a comment\n\n",
    "\n\n\n# %% a cell",
    "async def unused(): return {n}",
]


@st.composite
def scripts(draw) -> str:
    """A script that runs without an error."""
    lines = [HEAD]
    kinds = draw(st.lists(st.sampled_from([*SIMPLE, *BLOCKS]), min_size=1, max_size=9))
    place = draw(st.integers(0, len(kinds)))
    kinds.insert(place, NEEDS_A_GUARD)
    for count, kind in enumerate(kinds, 1):
        parts = {"n": draw(NAMES), "m": draw(NAMES), "k": draw(CONSTANTS), "f": f"f{count}"}
        inner = st.sampled_from(SIMPLE)
        parts["s"], parts["t"] = (draw(inner).format(**parts) for _ in "st")
        lines.append(kind.format(**parts))
    lines += draw(st.sampled_from([[], ["def f0(): return a, b, c"]]))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n# end\n"]))


def run(source: bytes, name: str) -> tuple[str, dict[str, object]]:
    """What running it as that module prints, and its names."""
    names: dict[str, object] = {"__name__": name}
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source, "script.py", "exec"), names)
    return output.getvalue(), names


def called(names: dict[str, object]) -> dict[str, str]:
    """What the generated functions return; nothing for those that lack a name."""
    found = {}
    for name, value in names.items():
        if name[:1] == "f" and name[1:].isdigit():
            with contextlib.suppress(NameError):
                found[name] = repr(value())  # type: ignore[operator]
    return found


@given(scripts())
def test_a_generated_script_stays_the_same_program(text) -> None:
    before = text.encode()
    after = mend(before, "script.py").source

    assert after != before
    assert mend(after, "script.py").source == after
    found = starts.find(ast.parse(after))
    assert [start for start in found if not start.guarded] == []
    said, names = run(before, "__main__")
    said_after, names_after = run(after, "__main__")
    assert (said_after, called(names_after)) == (said, called(names)), after.decode()


@given(scripts())
def test_a_child_of_a_generated_script_does_nothing_and_has_nothing_stale(text) -> None:
    after = mend(text.encode(), "script.py").source

    _, names = run(after, "__main__")
    said, names_of_child = run(after, "__mp_main__")

    assert said == "", after.decode()
    here, there = called(names), called(names_of_child)
    assert there.items() <= here.items(), after.decode()
    event(f"functions that a child can call: {len(there)} of {len(here)}")
