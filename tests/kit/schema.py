"""A validator for the part of JSON Schema that ours uses; any other keyword is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.kit import ROOT

FILE = ROOT / "vllm_guard/data/schema/findings.json"
TYPES = {"object": dict, "array": list, "string": str, "number": (int, float)}
WORDS = {"title", "description", "$schema", "$defs"}


def problems(document: Any) -> list[str]:
    """What of the document is not as the published schema says."""
    schema = json.loads(FILE.read_text())
    return list(_check(document, schema, schema, "$"))


def _check(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for key, wanted in schema.items():
        if key == "$ref":
            found = root
            for name in wanted.removeprefix("#/").split("/"):
                found = found[name]
            yield from _check(value, found, root, at)
        elif key == "properties":
            for name, inner in wanted.items():
                if name in value:
                    yield from _check(value[name], inner, root, f"{at}.{name}")
        elif key == "items":
            for index, item in enumerate(value):
                yield from _check(item, wanted, root, f"{at}[{index}]")
        elif key not in WORDS and not _holds(key, wanted, value, schema):
            yield f"{at}: {key} {wanted!r}: {value!r}"


def _holds(key: str, wanted: Any, value: Any, schema: dict[str, Any]) -> bool:
    return {
        "type": lambda: isinstance(value, TYPES[wanted]) and not isinstance(value, bool),
        "const": lambda: value == wanted,
        "enum": lambda: value in wanted,
        "pattern": lambda: re.search(wanted, value) is not None,
        "minimum": lambda: value >= wanted,
        "required": lambda: set(wanted) <= set(value),
        "additionalProperties": lambda: wanted or set(value) <= set(schema["properties"]),
    }[key]()
