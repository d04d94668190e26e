"""Parts of what a script defines or imports whose values are sent: `Settings.tp`, `f.__defaults__[0]`.

A place is an expression of names, attributes and items, as text. Reading it is harmless: no call is in it.
"""

import os
import re

from .errors import say
from .received import refill

#: What of a place is sent: its value, if it is a container its contents, if it is a class its attributes.
VALUE, CONTENTS, ATTRIBUTES = "value", "contents", "attributes"
_DOTTED = re.compile(r"(\w+(\.\w+)*)?")
_WAY_OUT = "'# vllm-guard: child' on it and on what it needs repeats it"
GONE = "gone"  #: of an attribute: whether it is there
#: The name of the values of places where a child runs a statement that asks for them; no script can use it.
HELD = "held for the script"


class Held(dict):  # type: ignore[type-arg]
    """Place -> value, of those that were sent; made when they are asked for, after their classes."""

    def __init__(self, values_of):
        super().__init__()
        self._values_of = values_of

    def __contains__(self, place):
        self.update(self._values_of([place]))
        return super().__contains__(place)

    def __missing__(self, place):
        return self._values_of([place])[place]

    def refill(self, place, target):
        """Give a container what it has in the main process; whoever holds it sees that."""
        if target is not self[place]:
            refill(target, self[place])

    def assign(self, place, target):
        """Give a class the attributes that it has in the main process."""
        for name, value in self[place].items():
            setattr(target, name, value)


def read(places, namespace):
    """(place -> value, place -> why there is none to be sent); `places` as in `analysis.order`."""
    found, refused = {}, {}
    for place, (_, kind) in places.items():
        try:
            if any(_runs_code(*part, namespace) for part in _attributes(place)):
                refused[place] = "it is computed when it is read"
                continue
            value = _evaluated(place, namespace)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: S112  (it is not there)
            continue
        if kind == ATTRIBUTES and isinstance(value, type):
            found[place] = {n: v for n, v in vars(value).items() if _is_data(n, v)}
        elif kind == VALUE or (kind == CONTENTS and isinstance(value, (dict, list, set))):
            found[place] = value
    return found, refused


def _evaluated(place, namespace):
    return eval(place, {"__builtins__": {}}, namespace)  # noqa: S307  (ours)


def _attributes(place):
    """(owner, attribute) of the attributes that a place begins with: (`a`, `b`) of `a.b[0]`."""
    names = _DOTTED.match(place).group().split(".")
    return [(".".join(names[:i]), names[i]) for i in range(1, len(names))]


def _runs_code(owner, name, namespace):
    """Does reading the attribute run code of a class: a property's, `__getattr__`?"""
    value = _evaluated(owner, namespace)
    own = next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), None)
    if own is None:
        return hasattr(type(value), "__getattr__") and name not in vars(value)
    kind = type(own)
    if kind is not property and (kind.__module__ == "builtins" or not hasattr(kind, "__get__")):
        return False
    return hasattr(kind, "__set__") or name not in vars(value)


def _is_data(name, value):
    """Is the attribute of a class none of its methods, properties and the like?"""
    return not (name.startswith("__") or callable(value) or hasattr(type(value), "__get__"))


def tell(order, sent, told):
    """One line for each assignment that children do not repeat; `sent`: place -> value or why not (text)."""
    script = os.path.basename(order["path"])
    for place, (line, _) in order["places"].items():
        why = sent.get(place)
        if line and isinstance(why, str) and place not in told:
            told.add(place)
            where = f"line {line} of {script} is not repeated in child processes"
            say(f"{where}: {place} is not sent, {why}; {_WAY_OUT}")
