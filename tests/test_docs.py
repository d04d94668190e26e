"""What the documents say about the tests is so."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.kit import ROOT
from tests.kit.broken import table
from tests.kit.logs import known
from vllm_guard import facts

STATED = r'"(ok|note|warn|fail|skip|unknown) ([a-z0-9-]+): '  #: a finding in the data


def test_every_test_that_the_reliability_table_names_is_there() -> None:
    named = re.findall(r"`([a-z_0-9]+)\.\.\.`", (ROOT / "docs/reliability.md").read_text())
    files = (path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    tests = [name for text in files for name in re.findall(r"^def test_(\w+)", text, re.MULTILINE)]

    assert len(named) > 50
    assert [name for name in named if not any(test.startswith(name) for test in tests)] == []


def test_every_finding_of_the_described_machines_is_in_the_table_of_checks() -> None:
    table = (ROOT / "docs/checks.md").read_text()
    files = (ROOT / "tests/data/machines").glob("*.toml")
    lines = [line for file in files for line in re.findall(STATED, file.read_text())]
    rows = {id_: row for row in table.splitlines() for id_ in re.findall(r"`([a-z0-9-]+)`", row)}

    assert len({id_ for _, id_ in lines}) > 35
    assert [(status, id_) for status, id_ in lines if status not in rows.get(id_, "")] == []


def test_the_limits_of_stalls_are_those_of_the_table() -> None:
    text = (ROOT / "docs/stalls.md").read_text()
    rows = re.findall(r"^\| (`.*`) \| (\d+) s \| (\d+) s \|$", text, re.MULTILINE)
    told = {
        phase: {"quiet": int(quiet), "busy": int(busy)}
        for phases, quiet, busy in rows
        for phase in re.findall("`(.*?)`", phases)
    }

    assert told == facts.load("stalls")["limits"]


def test_the_table_of_launches_that_failed_is_that_of_the_tests() -> None:
    text = (ROOT / "docs/doctor.md").read_text()
    part = text.partition("real launches that failed")[2].partition("\n## ")[0]
    row = r"^\| (.+?) \| (\w+) `([a-z-]+)`.*? \| (.+) \| (\d+) \| \d+ \|$"
    rows = re.findall(row, part, re.MULTILINE)

    assert [(name, f"{status} {id_}", said, exit_) for name, status, id_, said, exit_ in rows] == [
        (x.name, x.told.partition(":")[0], x.said, str(x.exit)) for x in table()
    ]
    assert f"told before {len(rows)} real launches" in text


def test_the_page_of_signatures_is_what_the_data_say() -> None:
    done = subprocess.run(
        [sys.executable, "dev/signature_docs.py", "--check"], cwd=ROOT, check=False
    )

    assert done.returncode == 0, "run: python dev/signature_docs.py"


def test_every_signature_has_its_section() -> None:
    sections = re.findall(r"^### (.+)$", (ROOT / "docs/signatures.md").read_text(), re.MULTILINE)

    assert sorted(sections) == sorted(signature.id for signature in known())
