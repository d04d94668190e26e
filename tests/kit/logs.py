"""The corpus of logs in tests/data/logs, and lines that every healthy server writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli

from tests.kit import ROOT
from vllm_guard import facts, signatures
from vllm_guard.diagnose import Diagnosis
from vllm_guard.model import Incident

NOT_RECOGNISED = "not recognised"  #: the `expect` of a failure that no signature may claim
CLEAN = ""  #: the `expect` of a log without a failure
FOLDER = ROOT / "tests/data/logs"

#: What every healthy server writes.
ROUTINE = (ROOT / "tests/data/routine.txt").read_text().splitlines()


def known() -> tuple[signatures.Signature, ...]:
    """Every signature of the package."""
    return signatures.parse(facts.signatures())


def corpus() -> list[dict[str, Any]]:
    """The logs: name, vllm, origin, expect, text."""
    return [log for path in sorted(FOLDER.glob("*.toml")) for log in _logs(path)]


def diagnosed(text: str | bytes) -> tuple[Incident, ...]:
    """The incidents of a log, read at once, without redaction."""
    diagnosis = Diagnosis(known(), str)
    diagnosis.feed(text if isinstance(text, bytes) else text.encode())
    return diagnosis.finish()


def first(incidents: tuple[Incident, ...]) -> str:
    """The answer as the corpus writes it."""
    if not incidents:
        return CLEAN
    return incidents[0].id or NOT_RECOGNISED


def _logs(path: Path) -> list[dict[str, Any]]:
    return list(tomli.loads(path.read_text())["log"])
