"""The JSON schemas of the wheel, and what of a document is not as one of them says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.kit import ROOT

FILES = {path.stem: path for path in (ROOT / "vllm_guard/data/schema").glob("*.json")}


@cache
def schemas() -> dict[str, Any]:
    return {name: json.loads(path.read_text()) for name, path in FILES.items()}


@cache
def validator(name: str) -> Draft202012Validator:
    resources = ((f"{n}.json", Resource.from_contents(s)) for n, s in schemas().items())
    return Draft202012Validator(schemas()[name], registry=Registry().with_resources(resources))


def problems(name: str, document: Any) -> list[str]:
    """What of the document is not as that schema says."""
    return [
        f"{error.json_path}: {error.message[:300]}"
        for error in validator(name).iter_errors(document)
    ]
