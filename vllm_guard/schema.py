"""What data that came from TOML may be: known keys, text on one line, lists of it. Pure.

Every function raises GuardError with one line that names the place, and a hint.
"""

from __future__ import annotations

from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_LONGEST = 200  #: characters of a version specifier


def only(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that the schema does not have."""
    for key in (key for key in table if key not in known):
        import difflib

        near = difflib.get_close_matches(key, list(known), 1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        raise GuardError(f"unknown key {where + key!r}", hint)


def words(value: Any, place: str) -> tuple[str, ...]:
    """A list of lines."""
    if not isinstance(value, list):
        raise GuardError(f"{place} is {kind(value)}, not a list", f'write {place} = ["..."]')
    return tuple(line(word, place) for word in value)


def line(value: Any, place: str) -> str:
    """Text that is printed as it stands: one line, nothing that could drive a terminal."""
    if not isinstance(value, str):
        raise GuardError(f"{place} is {kind(value)}, not text")
    if not value.isprintable():
        raise GuardError(f"{place} has a line break or a control character", "write it on one line")
    return value


def check_specifier(specifier: str, place: str) -> None:
    """Refuse what is no PEP 440 version specifier; empty is one."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if len(specifier) > _LONGEST:  # Python reads no number of more than 4300 digits
        raise GuardError(f"{place}: a version specifier of more than {_LONGEST} characters")
    try:
        SpecifierSet(specifier)
    except InvalidSpecifier:
        raise GuardError(
            f"{place}: {specifier!r} is no version specifier", 'for example vllm = ">=0.10.2"'
        ) from None


def kind(value: Any) -> str:
    """What TOML calls it, for a message."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, dict) else "a date or time")
