"""Whoever starts a process sends along what a child needs of the script: in the parent and in children.

It travels in multiprocessing's own preparation data, as an object that unpickles by running `_BOOT`: no
command line, variable or file of the child is touched. coverage.py has come into children this way for years.
"""

import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER

from . import load, places, values
from .cut import CutOffError

STANDARD, DEFINITIONS, CUTOFF = "standard", "definitions", "cutoff"
PACKAGE = "_vllm_guard_main"
#: What a child needs of this package, in the order in which it is loaded.
_SHIPPED = (
    "values",
    "cut",
    "errors",
    "received",
    "places",
    "sending",
    "imports",
    "engine",
    "stacks",
    "child",
)
_KEY = "vllm_guard"

_BOOT = """
import marshal, sys
from _frozen_importlib_external import MAGIC_NUMBER
if MAGIC_NUMBER != magic:
    raise RuntimeError(
        "vllm-guard: this child process is Python %s, its parent %s: it cannot load the script"
        % (sys.version.split()[0], version)
    )
if package not in sys.modules:
    for name, file, code in marshal.loads(modules):
        module = type(sys)(name)
        module.__package__, module.__file__ = package, file
        if name == package:
            module.__path__ = []
        else:
            setattr(sys.modules[package], name.rpartition(".")[2], module)
        sys.modules[name] = module
        exec(code, vars(module))
sys.modules[package + ".child"].arrive(sys.modules[spawn], order, sent, modules)
"""


class Parcel:
    """What is the same for every child of a script."""

    def __init__(self, order, packed, modules):
        self.order = order  #: what `analysis.order` says
        self.packed = packed  #: the same, marshalled
        self.modules = modules  #: of this package, marshalled


class Sender:
    """What one process sends to those that it starts."""

    def __init__(self, is_main, parcel, kept):
        self._is_main = is_main  #: tells whether the script still is the main module
        self._parcel = (
            parcel  #: called at every start; returns a Parcel, or None for nothing to send
        )
        self._kept = kept  #: what this process itself was sent, as `values.pack` makes it
        self._told = set()  #: the places of which it has been said that they are not sent
        self.loading = False  #: is this process itself loading the script?
        self.cut = None  #: the last CutOffError that was raised meanwhile

    def added(self, data, spawn):
        """The preparation data of multiprocessing with ours; the main module is not imported by it."""
        if not self._is_main():
            return data
        parcel = self._parcel()
        if parcel is None:
            return data
        wanted = parcel.order["wanted"]
        if parcel.order["mode"] == STANDARD:
            wanted = ()  # the child makes them itself
        else:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        data[_KEY] = _Stowaway(
            magic=MAGIC_NUMBER,
            version=sys.version.split()[0],
            package=PACKAGE,
            modules=parcel.modules,
            spawn=spawn.__name__,
            order=parcel.packed,
            sent=self._sent(wanted, parcel.order),
        )
        return data

    def _sent(self, wanted, order):
        """As `values.pack`; what this process was sent and has not read yet is sent on."""
        namespace = vars(sys.modules["__main__"])
        found = {n: namespace[n] for n in wanted if n in namespace}
        parts, refused = {}, {}
        if order["mode"] != STANDARD:
            parts, refused = places.read(order["places"], namespace)
            found.update(parts)
        kept = {n: value for n, value in self._kept.items() if n not in found}
        sent = {**kept, **values.pack(found), **refused}
        if namespace["__name__"] == "__main__":
            places.tell(order, sent, self._told)
        return sent


class _Stowaway:
    """Unpickled, it runs `_BOOT` with these names."""

    def __init__(self, **names):
        self._names = names

    def __reduce__(self):
        return exec, (_BOOT, self._names)


def watch(spawn, sender):
    """From now on, what is started through this module gets what `sender` adds."""
    original = spawn.get_preparation_data

    def get_preparation_data(name):
        if sender.loading:
            sender.cut = CutOffError()
            raise sender.cut
        return sender.added(original(name), spawn)

    spawn.get_preparation_data = get_preparation_data


def pack(order):
    """The Parcel of an order; None of None."""
    return order and Parcel(order, marshal.dumps(order), _shipped())


def _shipped():
    """The modules that a child needs, marshalled: (name, file, code) of each."""
    modules = [sys.modules[PACKAGE], *map(load, _SHIPPED)]
    rows = [(m.__name__, m.__file__, m.__spec__.loader.get_code(m.__name__)) for m in modules]
    return marshal.dumps(rows)
