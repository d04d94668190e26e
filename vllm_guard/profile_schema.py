"""What a profile file may say (design, section 5). Pure: bytes come in, plain rows go out.

Everything is refused that is not in the schema: a misspelt key would otherwise be a setting that silently is
not made. The rows are such as `marshal` keeps, so a profile is parsed once for each version of its bytes.
"""

from __future__ import annotations

import re

from vllm_guard import schema
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    #: name, kind (`set default required unset`), value, why
    SettingRow = tuple[str, str, str, str]
    #: version specifier, settings, engine options, probes, what is removed
    PartRow = tuple[
        str,
        tuple[SettingRow, ...],
        tuple[tuple[str, Any], ...],
        tuple[str, ...],
        tuple[str, ...],
    ]

SCHEMA = 1
LIMIT = 32 << 10  #: bytes of a file; with that, no TOML keeps tomli 2.5 busy for longer than 20 ms
_LINE_LIMIT = 4096
_DEEPEST = 16  #: brackets open at once
_INTEGERS = range(-(1 << 63), 1 << 63)  #: TOML's own; Python cannot even print much longer ones
_INFINITE = float("inf")
_MOST_BASES = 4  #: a profile's own; theirs come on top

_TEXTS = ("summary", "cost", "uri", "vllm")
_TABLES = ("env", "engine", "preflight")
_KEYS = ("schema", *_TEXTS, "extends", "remove", *_TABLES, "when")
_WHEN_KEYS = ("vllm", *_TABLES)
_SETTING_KEYS = ("value", "default", "required", "why")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_PROBE = re.compile(r"[a-z][a-z0-9-]*")
_OWN = "VGUARD_"
_REMOVALS = ("debugging", "service-links")


def parse(content: bytes) -> dict[str, Any]:
    """The rows of one file: `summary`, `cost`, `uri`, `vllm`, `extends` and `parts`.

    Raises GuardError, with one line and a hint, for everything that the schema does not have.
    """
    data = toml(content)
    schema.only(data, _KEYS, "")
    if data.get("schema") != SCHEMA or isinstance(data.get("schema"), bool):
        raise GuardError("`schema` is missing or not 1", f"begin the file with `schema = {SCHEMA}`")
    if not data.get("summary"):
        raise GuardError("`summary` is missing", "say in one line what the profile is for")
    texts = {key: schema.line(data.get(key, ""), key) for key in _TEXTS}
    if texts["uri"] and not texts["uri"].startswith(("https://", "http://")):
        raise GuardError("`uri` is no web address", 'write uri = "https://..."')
    schema.check_specifier(texts["vllm"], "vllm")
    whens = data.get("when", [])
    if not isinstance(whens, list) or not all(isinstance(when, dict) for when in whens):
        raise GuardError("`when` is not a list of tables", "write [[when]], with two brackets")
    parts = (_part("", data, ""), *(_when(when) for when in whens))
    extends = schema.words(data.get("extends", []), "extends")
    if len(extends) > _MOST_BASES:
        raise GuardError(f"`extends` names {len(extends)} profiles; at most {_MOST_BASES}")
    return {**texts, "extends": extends, "parts": parts}


def toml(content: bytes) -> dict[str, Any]:
    """The tables of a file that may be anybody's. Raises GuardError, within the limits above."""
    import tomli

    try:
        return tomli.loads(_text(content))
    except RecursionError:
        raise GuardError("nested too deeply", "a profile has tables of two levels") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise GuardError(f"not valid TOML: {reason}") from None


def _text(content: bytes) -> str:
    """The file as text, within the limits that hold before anything is parsed."""
    if len(content) > LIMIT:
        raise GuardError(f"longer than {LIMIT} bytes", "a profile is a short list of settings")
    if b"\0" in content:
        raise GuardError("holds a NUL byte", "save it as UTF-8 text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GuardError(f"not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE_LIMIT:
            raise GuardError(f"line {number} is longer than {_LINE_LIMIT} characters")
    if _depth(text) > _DEEPEST:
        raise GuardError(f"more than {_DEEPEST} brackets are open at once")
    return text


def _depth(text: str) -> int:
    """The most brackets open at once, those inside strings and comments included."""
    deepest = depth = 0
    for char in text:
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth = max(0, depth - 1)
    return deepest


def _when(table: Mapping[str, Any]) -> PartRow:
    schema.only(table, _WHEN_KEYS, "when.")
    specifier = schema.line(table.get("vllm", ""), "when.vllm")
    if not specifier:
        raise GuardError("[[when]] names no versions", 'add vllm = ">=0.10.2"')
    schema.check_specifier(specifier, "when.vllm")
    return _part(specifier, table, "when.")


def _part(specifier: str, table: Mapping[str, Any], where: str) -> PartRow:
    env, options, preflight = (_table(table, key, where) for key in _TABLES)
    settings = tuple(_setting(name, value, where) for name, value in env.items())
    engine = tuple(_option(name, value, where) for name, value in options.items())
    schema.only(preflight, ("probes",), f"{where}preflight.")
    probes = schema.words(preflight.get("probes", []), f"{where}preflight.probes")
    for probe in probes:
        if not _PROBE.fullmatch(probe):
            raise GuardError(f"{probe!r} is no name of a probe")
    return specifier, settings, engine, probes, _removals(table)


def _removals(table: Mapping[str, Any]) -> tuple[str, ...]:
    names = schema.words(table.get("remove", []), "remove")
    for name in names:
        if name not in _REMOVALS:
            raise GuardError(f"remove: {name!r} is unknown", f"known are {', '.join(_REMOVALS)}")
    return names


def _setting(name: str, value: Any, where: str) -> SettingRow:
    if not _VARIABLE.fullmatch(name):
        raise GuardError(
            f"{where}env: {name!r} is not a variable name", "letters, digits and underscores"
        )
    if name.startswith(_OWN):
        raise GuardError(f"{where}env.{name}: {_OWN}* are vllm-guard's own", "leave it out")
    place = f"{where}env.{name}"
    if not isinstance(value, dict):
        return (name, *_set_or_unset(value, place), "")
    schema.only(value, _SETTING_KEYS, f"{place}.")
    kinds = [key for key in ("value", "default", "required") if key in value]
    if len(kinds) != 1:
        raise GuardError(
            f"{place} needs one of value, default, required; it has {' and '.join(kinds) or 'none'}"
        )
    why = schema.line(value.get("why", ""), f"{place}.why")
    kind = kinds[0]
    if kind == "value":
        return (name, *_set_or_unset(value[kind], place), why)
    text = value[kind]
    if kind == "required":
        return name, kind, schema.line(text, f"{place}.required"), why
    return name, kind, _value(text, f"{place}.default"), why


def _set_or_unset(value: Any, place: str) -> tuple[str, str]:
    return ("unset", "") if value is False else ("set", _value(value, place))


def _value(value: Any, place: str) -> str:
    """A variable's value: text. The environment has no other type, and 1 could mean `1` or `1.0`."""
    if isinstance(value, str):
        if "\0" in value:
            raise GuardError(f"{place} holds a NUL character: the environment cannot")
        return value
    if isinstance(value, bool):
        word, text = ("true", "1") if value else ("false", "0")
        raise GuardError(f"{place} is {word}, which is not text", f'vLLM reads "{text}" as {word}')
    hint = "false unsets it"
    if isinstance(value, (int, float)):
        hint = f'write it in quotes: "{value}"' if _plain(value) else "write it in quotes"
    raise GuardError(f"{place} is {schema.kind(value)}, not text", hint)


def _option(name: str, value: Any, where: str) -> tuple[str, Any]:
    if not _OPTION.fullmatch(name):
        hint = f"write {name.replace('-', '_').strip('_')}" if "-" in name else ""
        raise GuardError(f"{where}engine: {name!r} is not a Python name", hint)
    if not _plain(value):
        raise GuardError(f"{where}engine.{name} is {schema.kind(value)}", "no flag takes that")
    return name, value


def _plain(value: Any) -> bool:
    """Can it be a flag's value? Text, numbers, booleans, lists of those, and tables for JSON."""
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int):
        return value in _INTEGERS
    return isinstance(value, float) and -_INFINITE < value < _INFINITE


def _table(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    table = data.get(key, {})
    if not isinstance(table, dict):
        raise GuardError(
            f"{where}{key} is {schema.kind(table)}, not a table", f"write [{where}{key}]"
        )
    return table
