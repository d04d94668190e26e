"""Findings in files as SARIF 2.1.0 (OASIS), which code scanning services read. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_guard.unguarded import Placed

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"fail": "error", "warn": "warning", "unknown": "warning"}


def log(placed: Sequence[Placed], version: str) -> dict[str, Any]:
    """The log file of one run, by `version` of vllm-guard."""
    rules = list(dict.fromkeys(item.finding.id for item in placed))
    driver = {"name": "vllm-guard", "version": version, "rules": [_rule(id_) for id_ in rules]}
    results = [_result(item, rules.index(item.finding.id)) for item in placed]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(id_: str) -> dict[str, Any]:
    return {"id": id_, "shortDescription": {"text": id_.replace("-", " ")}}


def _result(item: Placed, rule: int) -> dict[str, Any]:
    finding = item.finding
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(item.file)}}
    if item.line:
        place["region"] = {"startLine": item.line}
        if item.column:
            place["region"]["startColumn"] = item.column
    return {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": _LEVELS.get(finding.status, "note"),
        "message": {"text": item.message},
        "locations": [{"physicalLocation": place}],
    }


def _uri(path: str) -> str:
    """A relative path stays one: it is looked for in the checkout."""
    return f"{'file://' if path.startswith('/') else ''}{quote(path.encode('utf-8', 'surrogateescape'))}"
