"""Findings in files as SARIF 2.1.0 (OASIS), which code scanning services read. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_guard.model import Finding
    from vllm_guard.unguarded import Placed

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"fail": "error", "warn": "warning", "unknown": "error"}


def log(placed: Sequence[Placed], version: str) -> dict[str, Any]:
    """The log file of one run, by `version` of vllm-guard."""
    rules = {item.finding.id: item.finding for item in reversed(placed)}
    ids = list(rules)
    driver = {"name": "vllm-guard", "version": version, "rules": list(map(_rule, rules.values()))}
    results = [_result(item, ids.index(item.finding.id)) for item in placed]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(finding: Finding) -> dict[str, Any]:
    """Of the first finding by this rule."""
    rule: dict[str, Any] = {
        "id": finding.id,
        "shortDescription": {"text": finding.id.replace("-", " ")},
    }
    if finding.why:
        rule["help"] = {"text": finding.why}
    if finding.uri:
        rule["helpUri"] = finding.uri
    return rule


def _result(item: Placed, rule: int) -> dict[str, Any]:
    finding = item.finding
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(item.file or "stdin")}}
    location: dict[str, Any] = {"physicalLocation": place}
    if item.cell:
        location["logicalLocations"] = [{"name": f"cell {item.cell} line {item.line}"}]
    elif item.line:
        place["region"] = {"startLine": item.line}
        if item.column:
            place["region"]["startColumn"] = item.column
    return {
        "ruleId": finding.id,
        "ruleIndex": rule,
        "level": _LEVELS.get(finding.status, "note"),
        "message": {"text": item.message},
        "locations": [location],
    }


def _uri(path: str) -> str:
    """A relative path stays one: it is looked for in the checkout."""
    return f"{'file://' if path.startswith('/') else ''}{quote(path.encode('utf-8', 'surrogateescape'))}"
