"""Small scripts run by several Pythons, bare and under the main guard's harness, and what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit import PATIENCE, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

HARNESS = str(ROOT / "vllm_guard" / "inside" / "harness.py")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
#: Of the pytest run, nothing may reach the scripts.
_STRIPPED = ("PYTHON", "COVERAGE", "PYTEST")


@dataclass(frozen=True)
class Case:
    """A script, and what it prints under the harness: `out` and `err` whole, but for common indents."""

    name: str
    script: str
    out: str = ""
    err: str = ""
    status: int = 0
    mode: str = "auto"
    words: tuple[str, ...] = ("s.py",)
    flags: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    since: tuple[int, int] = (3, 10)
    stdin: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Came:
    """What came of a run."""

    status: int
    out: str
    err: str


@cache
def pythons() -> dict[str, str]:
    """Version -> interpreter: the one that runs the tests, and those of `dev/environments.py guards`."""
    pairs = (pair.split("=", 1) for pair in os.environ.get("VGUARD_TEST_GUARDS", "").split())
    found = {version: str(Path(folder, "bin", "python")) for version, folder in pairs}
    return {OWN: sys.executable, **{v: p for v, p in found.items() if v in VERSIONS}}


def _marks(python: str) -> list[pytest.MarkDecorator]:
    """The oldest, the newest and our own always; the others under `soak`."""
    known = sorted(pythons())
    return [] if python in (OWN, known[0], known[-1]) else [pytest.mark.soak]


def on_every_python() -> pytest.MarkDecorator:
    """The test's argument `python`."""
    known = sorted(pythons())
    return pytest.mark.parametrize("python", [pytest.param(p, marks=_marks(p)) for p in known])


def matrix(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """The test's arguments `case` and `python`: every case on every Python that understands it."""
    return pytest.mark.parametrize(
        ("case", "python"),
        [
            pytest.param(case, python, id=f"{case}-{python}", marks=_marks(python))
            for case in cases
            for python in sorted(pythons())
            if (3, int(python[2:])) >= case.since
        ],
    )


def write(case: Case, folder: Path) -> None:
    """The case's files, the script as `s.py`."""
    for name, text in {"s.py": case.script, **case.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))


def run(case: Case, folder: Path, python: str, *, bare: bool = False, program: str = "") -> Came:
    """Run the case in `folder`, where its files are."""
    harness = (
        () if bare else (HARNESS, *(("--main-guard", case.mode) if case.mode != "auto" else ()))
    )
    env = {n: v for n, v in os.environ.items() if not n.startswith(_STRIPPED)}
    done = subprocess.run(
        [program or pythons()[python], *case.flags, *harness, *case.words],
        cwd=folder,
        env=env,
        input=case.stdin,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    return Came(done.returncode, _shown(done.stdout, folder), _shown(done.stderr, folder))


def expected(case: Case) -> Came:
    """What the case says."""
    return Came(case.status, *(textwrap.dedent(text).lstrip("\n") for text in (case.out, case.err)))


def _shown(text: str, folder: Path) -> str:
    return text.replace(str(folder.resolve()), "DIR")
