"""Values that a child may be sent: plain data, pickled; those that share an object, together.

Nothing is imported for it: types that the script has not loaded are not among its values.
"""

import copyreg
import io
import pickle
import sys
from collections import defaultdict

MOST_ELEMENTS = 200_000
MOST_BYTES = 16 << 20
MOST_ARRAY_BYTES = 4 << 20

_ATOMS = frozenset(
    """
    builtins.NoneType builtins.bool builtins.int builtins.float builtins.complex builtins.str
    builtins.bytes builtins.bytearray builtins.range builtins.slice builtins.ellipsis
    builtins.NotImplementedType
    datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone
    decimal.Decimal fractions.Fraction uuid.UUID re.Pattern
    pathlib.PosixPath pathlib.PurePosixPath pathlib._local.PosixPath pathlib._local.PurePosixPath
    torch.dtype torch.device torch.Size array.array
    """.split()  # noqa: SIM905
)
_CONTAINERS = frozenset(
    """
    builtins.list builtins.tuple builtins.set builtins.frozenset builtins.dict
    collections.OrderedDict collections.deque collections.Counter collections.defaultdict
    """.split()  # noqa: SIM905
)
_NAMESPACES = frozenset(("argparse.Namespace", "types.SimpleNamespace"))
_EMPTY = ()  #: one object for all of Python
_TOO_LARGE = f"it is larger than {MOST_BYTES >> 20} MB"
#: Atoms that two names may share.
_MUTABLE = frozenset(("builtins.bytearray", "array.array"))
_CUSTOM = ("__getstate__", "__reduce__", "__reduce_ex__")
_MORE_CUSTOM = ("__setstate__", "__getnewargs__", "__getnewargs_ex__")


class NotPlainError(Exception):
    """The value is not sent; the message says what it is."""


def pack(found):
    """Name -> pickled value, or why it is not sent (text); `found`: name -> value.

    What is pickled is a table of names and values: one for all names that share an object, so that a child
    shares it too.
    """
    packed, groups, owners, kinds = {}, {}, {}, set()
    for name, value in found.items():
        try:
            check = _checked(value)
        except NotPlainError as error:
            packed[name] = str(error)
            continue
        groups[name] = [name]
        for other in dict.fromkeys(owners.setdefault(id(one), name) for one in check.objects):
            _join(groups, name, other)
        kinds |= check.kinds
    for names in {id(group): group for group in groups.values()}.values():
        packed.update(_pickled({name: found[name] for name in names}, kinds))
    return packed


def _join(groups, name, other):
    if groups[name] is not groups[other]:
        groups[other] += groups[name]
        groups.update(dict.fromkeys(groups[name], groups[other]))


def _checked(value):
    """The _Check of a value. Raises NotPlainError."""
    check = _Check()
    try:
        check.value(value)
    except (NotPlainError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a class of the script may do anything when it is looked at
        raise _failed(error) from None
    return check


def _pickled(values, kinds):
    """As `pack`, of one group; of each value alone where not all can be sent. `kinds`: its own classes."""
    try:
        pickled = _dumped(values, kinds)
        why = _TOO_LARGE if len(pickled) > MOST_BYTES * len(values) else ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = str(_failed(error))
    if why and len(values) > 1:
        alone = (_pickled({name: value}, kinds) for name, value in values.items())
        return {name: one for pair in alone for name, one in pair.items()}
    return dict.fromkeys(values, why or pickled)


def _dumped(values, kinds):
    if not kinds:
        return pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {**copyreg.dispatch_table, **dict.fromkeys(kinds, _reduced)}
    pickler.dump(values)
    pickled = file.getvalue()
    if any("__new__" in vars(base) for kind in kinds for base in kind.__mro__[:-1]):
        pickle.loads(pickled)  # noqa: S301  (a `__new__` may want more than that)
    return pickled


def _reduced(value):
    """For pickle, which would ask an empty instance for methods of its class: these may not stand that."""
    make, given, state, elements, items = value.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return make, given, (state, list(elements or ()), dict(items or ())), None, None, restore


def restore(value, parts):
    """Give an instance that was just unpickled what it holds, whatever its class does when that is set."""
    state, elements, items = parts
    if elements:
        list.extend(value, elements)
    if items:
        dict.update(value, items)
    if state is value:  # `self.__dict__ = self`
        value.__dict__ = value
        return
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        value.__dict__.update(attributes)
    for name, one in (slots or {}).items():
        object.__setattr__(value, name, one)


def _failed(error):
    return NotPlainError(f"looking at it failed ({type(error).__name__}: {error})")


def _named(kind):
    """`a sqlite3.Connection`, `an argparse.ArgumentParser`."""
    if issubclass(kind, type):
        return "a class"
    module = kind.__module__
    prefix = "" if module in ("builtins", "__main__", "__mp_main__") else f"{module}."
    name = prefix + kind.__qualname__
    return f"{'an' if name.lstrip('_')[0] in 'aeiou' else 'a'} {name}"


class _Check:
    """One look through a value and all that it holds."""

    def __init__(self):
        self._seen = {}  # by identity; the objects stay alive meanwhile
        self.objects = []  #: those of them that are not the same everywhere
        self.kinds = set()  #: classes of the script whose instances `restore` is to build
        self._left = MOST_ELEMENTS
        self._bytes_left = MOST_BYTES
        self._outer = None

    def value(self, value):
        """Return if it is plain data; raises NotPlainError."""
        pending = [value]
        self._outer = value
        while pending:
            one = pending.pop()
            if id(one) in self._seen:
                continue
            self._seen[id(one)] = one
            for part in self._parts(one):
                pending.append(part)
                self._left -= 1
                if self._left < 0:
                    raise NotPlainError(f"it has more than {MOST_ELEMENTS:,} elements")

    def _parts(self, value):
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, (str, bytes, bytearray)):
            self._count_bytes(len(value))
        if name in _MUTABLE or (name not in _ATOMS and value is not _EMPTY):
            self.objects.append(value)
        if name in _ATOMS or _is_enum(kind):
            return ()
        if name in _CONTAINERS:
            return _elements(value)
        if name in _NAMESPACES:
            return vars(value).values()
        if isinstance(value, tuple) and hasattr(kind, "_fields") and _is_plain_class(kind):
            return tuple(value)
        if kind.__module__ == "numpy":
            return self._array(value)
        if kind.__module__ in ("__main__", "__mp_main__") and _is_plain_class(kind):
            self.kinds.update(() if hasattr(kind, "__setstate__") else (kind,))
            return [*_elements(value), *_state(value)]
        raise self._refusal(value)

    def _count_bytes(self, number):
        self._bytes_left -= number
        if self._bytes_left < 0:
            raise NotPlainError(_TOO_LARGE)

    def _array(self, value):
        dtype = getattr(value, "dtype", None)
        if dtype is None or dtype.hasobject:
            raise self._refusal(value)
        if value.nbytes > MOST_ARRAY_BYTES:
            raise NotPlainError(f"it is an array of more than {MOST_ARRAY_BYTES >> 20} MB")
        owner = _owner(value)
        if owner is not None:
            raise NotPlainError(f"it is an array in the memory of {_named(type(owner))}")
        return ()

    def _refusal(self, value):
        what = _named(type(value))
        outer = "" if value is self._outer else f"{_named(type(self._outer))} with "
        return NotPlainError(f"it is {outer}{what}{' in it' if outer else ''}, not plain data")


def _owner(array):
    """Whose the array's memory is, where others may write there; None where it is only the array's."""
    owner = array
    while owner is not None and not isinstance(owner, (bytes, bytearray)):
        if type(owner).__module__ == "numpy":
            owner = owner.base
        elif isinstance(owner, memoryview):
            owner = owner.obj
        else:
            return owner
    return None


def _elements(value):
    if isinstance(value, dict):
        factory = value.default_factory if isinstance(value, defaultdict) else None
        inner = [] if factory is None or _is_builtin(factory) else [factory]
        return [*inner, *value.keys(), *value.values()]
    return (
        list(value) if isinstance(value, (list, tuple, set, frozenset)) or _is_deque(value) else ()
    )


def _is_builtin(value):
    return getattr(value, "__module__", "") == "builtins" and isinstance(value, type)


def _is_deque(value):
    return f"{type(value).__module__}.{type(value).__qualname__}" == "collections.deque"


def _is_enum(kind):
    enum = sys.modules.get("enum")
    return enum is not None and isinstance(kind, enum.EnumMeta)


def _is_plain_class(kind):
    """Does pickle find the class, and does it copy instances as it copies any object?"""
    found = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not kind:
        return False
    if hasattr(kind, "_fields"):  # a named tuple says by __getnewargs__ that it is a tuple
        return True
    own = [
        method
        for name in (*_CUSTOM, *_MORE_CUSTOM)
        if (method := getattr(kind, name, None)) != getattr(object, name, None)
    ]
    return all(map(_is_known, own))


def _is_known(method):
    """`__getnewargs__` of `str` and the like, or of what a frozen dataclass with slots has?"""
    if method.__name__ == "__getnewargs__":
        return getattr(method, "__objclass__", method).__module__ == "builtins"
    return getattr(method, "__module__", "") == "dataclasses"


def _state(value):
    slots = (s for base in type(value).__mro__ for s in _slots(base))
    held = [getattr(value, name) for name in slots if hasattr(value, name)]
    return [*getattr(value, "__dict__", {}).values(), *held]


def _slots(base):
    slots = base.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else slots
    return [name for name in names if name not in ("__dict__", "__weakref__")]
