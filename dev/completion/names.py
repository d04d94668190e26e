"""The words that are known before anybody presses TAB: built-in profiles, and the ids."""

from __future__ import annotations

from pathlib import Path

from vllm_guard import facts, finding_ids, paths, probes


def named() -> dict[str, tuple[str, ...]]:
    """The words of each kind, sorted."""
    findings = finding_ids.rows()
    words = {
        "profile": {path.stem for path in Path(paths.shipped("profiles")).glob("*.toml")},
        "finding": {*findings},
        "check": probes.ids(),
        "log": {*findings, *facts.signatures()},
    }
    return {kind: tuple(sorted(found)) for kind, found in words.items()}
