"""Parts of what a script defines or imports whose values are sent: `Settings.tp`, `f.__defaults__[0]`.

A place is an expression of names, attributes and items, as text. Reading it is harmless: no call is in it.
"""

import os

from .errors import say
from .received import refill

#: What of a place is sent: its value, if it is a container its contents, if it is a class its attributes.
VALUE, CONTENTS, ATTRIBUTES = "value", "contents", "attributes"
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
    """Place -> value, where there is one now; `places` as in `analysis.order`."""
    found = {}
    for place, (_, kind) in places.items():
        try:
            value = eval(place, {"__builtins__": {}}, namespace)  # noqa: S307  (ours)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: S112  (nothing is there: that branch of the script was not taken)
            continue
        if kind == ATTRIBUTES and isinstance(value, type):
            found[place] = {n: v for n, v in vars(value).items() if _is_data(n, v)}
        elif kind == VALUE or (kind == CONTENTS and isinstance(value, (dict, list, set))):
            found[place] = value
    return found


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
            say(f"{where}: {place} is not sent, {why}")
