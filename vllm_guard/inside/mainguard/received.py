"""What a child was sent: name or place -> value, unpickled when it is asked for."""

import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque

FAILED = object()
_SMALL = 64 << 10  #: bytes; a larger value is unpickled when it is first read
#: The method that adds contents to an empty one.
_ADDS = {
    **dict.fromkeys((list, deque, bytearray), "extend"),
    **dict.fromkeys((dict, OrderedDict, defaultdict, Counter, set), "update"),
}


class Received:
    """The values, and the objects of those that the child makes by itself first.

    A name that the child sets by itself, but the main process perhaps to another value, or changes later, has
    the child's own value until the last statement has run: decorators and the like do to it what they did
    in the main process. Then it gets what was sent. Where that is a container or the like, it is the object
    that was sent from the name's last statement on, which other values share, with the child's own contents.
    """

    def __init__(self, sent):
        self.pickled = {n: value for n, value in sent.items() if isinstance(value, bytes)}
        self.refused = {n: value for n, value in sent.items() if isinstance(value, str)}
        self._values = {}  # unpickled
        self._settled = False
        self._contents = {}  # id of an object that statements of the child may change: its contents at last

    def small(self):
        """The names of those that cost little to unpickle."""
        return [name for name, pickled in self.pickled.items() if len(pickled) <= _SMALL]

    def of(self, names):
        """Name or place -> value, of those that were sent."""
        found = {name: self.value(name) for name in names if name in self.pickled}
        return {name: value for name, value in found.items() if value is not FAILED}

    def value(self, name):
        """The value, unpickled with all that shares an object with it; FAILED, and it is refused."""
        if name in self._values:
            return self._values[name]
        try:
            loaded = self._loaded(name)
        except Exception as error:
            self.refused[name] = f"unpickling it failed ({type(error).__name__}: {error})"
            return FAILED
        self._values.update(loaded)
        if not self._settled:
            refillable = filter(_is_refillable, loaded.values())
            self._contents.update((id(value), _contents(value)) for value in refillable)
        return loaded[name]

    def _loaded(self, name):
        """What was pickled with it; our parent's `__main__` is still another module here while we load."""
        main, sys.modules["__main__"] = sys.modules["__main__"], sys.modules["__mp_main__"]
        try:
            return pickle.loads(self.pickled[name])  # noqa: S301  (our parent's)
        finally:
            sys.modules["__main__"] = main

    def lend(self, name, namespace):
        """From now on the name is the object that was sent, with the contents of the child's own."""
        value, own = self.of([name]).get(name, FAILED), namespace[name]
        if type(value) is not type(own) or value is own or not _is_refillable(value):
            return
        refill(value, _contents(own))
        namespace[name] = value

    def settle(self, names, namespace):
        """After the last statement: the names have what was sent."""
        namespace.update(self.of(names))
        objects = {id(value): value for value in self._values.values()}
        for key, contents in self._contents.items():
            refill(objects[key], contents)
        self._contents.clear()
        self._settled = True


def _is_refillable(value):
    """A container, or an object whose state is its attributes."""
    kind = type(value)
    return kind in _ADDS or (
        isinstance(getattr(value, "__dict__", None), dict)
        and not hasattr(kind, "_member_map_")  # an enum's members are the same for all
        and not issubclass(kind, (*_ADDS, tuple, frozenset, str, bytes, int, float))
        and not any(vars(base).get("__slots__") for base in kind.__mro__)
    )


def _contents(value):
    return value.copy() if type(value) in _ADDS else vars(value).copy()


def refill(target, contents):
    """Give a container, or an object, these contents; whoever holds it sees that."""
    adds = _ADDS.get(type(target))
    held = target if adds else vars(target)
    held.clear()
    getattr(held, adds or "update")(contents)
