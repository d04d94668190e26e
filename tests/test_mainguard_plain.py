"""Which values are plain data, and may be sent to a child: judged in a main module that has their classes."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.kit import ROOT
from tests.kit.scripts import on_every_python, pythons

PACK = """
import argparse, array, collections, dataclasses, datetime, decimal, enum, fractions, functools, io, pathlib
import pickle, re, sys, threading, types, typing, uuid
sys.path.insert(0, sys.argv[1])
from vllm_guard.inside.mainguard import values
class Color(enum.Enum):
    RED = 1
Pair = collections.namedtuple("Pair", "a b")
class Typed(typing.NamedTuple):
    a: object
@dataclasses.dataclass
class Data:
    a: object = 1
class Plain:
    def __init__(self, a):
        self.a = a
class Slots:
    __slots__ = ("a", "__dict__")
    def __init__(self, a):
        self.a = a
class Words(list):
    pass
class Reduced:
    def __reduce__(self):
        return print, ("reduced",)
class Stateful:
    def __getstate__(self):
        return {}
class Restored:
    def __setstate__(self, state):
        pass
class Explosive:
    @property
    def __dict__(self):
        raise OSError("boom")
class Attributes(dict):
    def __init__(self, **values):
        super().__init__(values)
        self.__dict__ = self
class Name(str):
    def __new__(cls, text, more=0):
        made = super().__new__(cls, text)
        made.more = more
        return made
class Strict(str):
    def __new__(cls, text, more):
        return super().__new__(cls, text)
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: object
class Hidden:
    @property
    def __class__(self):
        raise SystemExit("gone")
class Fails(Exception):
    pass
def local():
    class Local:
        pass
    return Local()
class Outer:
    class Inner:
        pass
loop = []
loop.append(loop)
def function():
    pass
for value in sys.argv[2:]:
    packed = values.pack({"x": eval(value)})["x"]
    if isinstance(packed, bytes):
        pickle.loads(packed)["x"]
    print(packed if isinstance(packed, str) else "sent")
"""

SENT = [
    "None",
    "(True, 1, 1.5, 2j, 'a', b'b', bytearray(b'c'), range(3), slice(1), ..., NotImplemented)",
    "[datetime.date.today(), datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(1)]",
    "{decimal.Decimal(1), fractions.Fraction(1, 2), uuid.uuid4()}",
    "[pathlib.Path('a'), pathlib.PurePosixPath('b'), re.compile('c')]",
    "[Color.RED, Pair(1, 2), Typed(1), Data(), Plain(1), Slots(1), Words([1]), Outer.Inner()]",
    "[Attributes(a=1).__dict__, Attributes(a=[1])]",
    "[Name('a', 5).more, Name('a', 5)]",
    "Frozen([1])",
    "array.array('i', [1, 7])",
    "collections.deque([1], 3)",
    "collections.Counter('aab')",
    "collections.OrderedDict(a=1)",
    "collections.defaultdict(list, a=[1])",
    "argparse.Namespace(a=[1])",
    "types.SimpleNamespace(a=Data())",
    "loop",
    "'x' * (15 << 20)",
]

REFUSED = [
    ("io.StringIO()", "it is an _io.StringIO, not plain data"),
    ("threading.Lock()", "it is a _thread.lock, not plain data"),
    ("[io.StringIO()]", "it is a list with an _io.StringIO in it, not plain data"),
    ("{'a': [print]}", "it is a dict with a builtin_function_or_method in it, not plain data"),
    ("function", "it is a function, not plain data"),
    ("Data", "it is a class, not plain data"),
    ("sys", "it is a module, not plain data"),
    ("Data(io.StringIO())", "it is a Data with an _io.StringIO in it, not plain data"),
    ("Slots(print)", "it is a Slots with a builtin_function_or_method in it, not plain data"),
    ("Words([print])", "it is a Words with a builtin_function_or_method in it, not plain data"),
    ("Reduced()", "it is a Reduced, not plain data"),
    ("Stateful()", "it is a Stateful, not plain data"),
    ("Restored()", "it is a Restored, not plain data"),
    ("local()", "it is a local.<locals>.Local, not plain data"),
    (
        "Strict('a', 1)",
        "looking at it failed (TypeError: Strict.__new__() missing 1 required positional argument: 'more')",
    ),
    ("Hidden()", "looking at it failed (SystemExit: gone)"),
    ("Fails(1)", "it is a Fails, not plain data"),
    ("Explosive()", "looking at it failed (OSError: boom)"),
    (
        "collections.defaultdict(lambda: 1)",
        "it is a collections.defaultdict with a function in it, not plain data",
    ),
    ("functools.partial(print)", "it is a functools.partial, not plain data"),
    ("list(range(200_001))", "it has more than 200,000 elements"),
    ("'x' * (17 << 20)", "it is larger than 16 MB"),
    ("['x' * (9 << 20) + str(i) for i in range(2)]", "it is larger than 16 MB"),
    ("2 ** (8 * (17 << 20))", "it is larger than 16 MB"),
]


@cache
def answers(python: str) -> dict[str, str]:
    """What `pack` makes of every value."""
    given = [*SENT, *(value for value, _ in REFUSED)]
    with TemporaryDirectory() as folder:
        script = Path(folder, "s.py")
        script.write_text(PACK)
        told = subprocess.check_output([pythons()[python], script, ROOT, *given], text=True)
    return dict(zip(given, told.splitlines(), strict=True))


@on_every_python()
@pytest.mark.parametrize("value", SENT)
def test_plain_data_is_sent(value: str, python: str) -> None:
    assert answers(python)[value] == "sent"


@on_every_python()
@pytest.mark.parametrize(("value", "why"), REFUSED, ids=[value for value, _ in REFUSED])
def test_anything_else_is_refused(value: str, why: str, python: str) -> None:
    assert answers(python)[value] == why
