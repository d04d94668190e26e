"""`@dataclass(frozen=True)` for the launch path.

`dataclasses` imports `inspect` and `re`: about 19 ms, as much again as starting Python, paid before
every launch. This stand-in gives the same frozen, comparable, printable classes for plain fields with
optional defaults; type checkers see the real decorator (see the imports of `model.py`), and
`tests/test_frozen.py` holds the two against each other.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def dataclass(*, frozen: bool) -> Callable[[type], type]:
    """Class decorator; only the frozen kind exists here."""
    assert frozen

    def decorate(cls: Any) -> Any:
        names = tuple(cls.__annotations__)
        defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}

        def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
            given = dict(zip(names, args, strict=False))
            unknown = [name for name in kwargs if name not in names or name in given]
            values = {**defaults, **given, **kwargs}
            if unknown or len(args) > len(names) or len(values) < len(names):
                raise TypeError(f"{cls.__name__} takes {names}; got {args!r} {kwargs!r}")
            self.__dict__.update({name: values[name] for name in names})

        cls.__init__ = initialise
        cls.__match_args__ = names  # type: ignore[misc]
        cls.__setattr__ = cls.__delattr__ = _refuse
        cls.__repr__ = _represent
        cls.__eq__ = _equal
        cls.__hash__ = _hash
        return cls

    return decorate


def replace(instance: Any, **changes: Any) -> Any:
    """A copy with some fields changed, as `dataclasses.replace`."""
    return type(instance)(**{**instance.__dict__, **changes})


def plain(value: Any) -> Any:
    """The value with every dataclass in it turned into a dict, ready for JSON."""
    if hasattr(type(value), "__match_args__") and hasattr(value, "__dict__"):
        return {name: plain(item) for name, item in value.__dict__.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _refuse(self: Any, name: str, *_value: Any) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: cannot change {name!r}")


def _represent(self: Any) -> str:
    fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
    return f"{type(self).__name__}({fields})"


def _equal(self: Any, other: object) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return self.__dict__ == other.__dict__


def _hash(self: Any) -> int:
    return hash((type(self), tuple(self.__dict__.values())))
