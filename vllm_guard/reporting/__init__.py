"""A run as a report: gathered once, then written as markdown, as a page, or as JSON."""

from __future__ import annotations

from vllm_guard import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

#: Variables of installers and of certificates, which say nothing about a start.
_NOISE = ("PIP_", "UV_", "CONDA_", "LS_COLORS", "SSL_CERT_", "CURL_CA_", "REQUESTS_CA_")


@dataclass(frozen=True)
class Excerpt:
    """Some lines of the log, as they may be shown."""

    title: str  #: our own words
    first: int  #: the number of its first line in the log, from 1
    lines: tuple[str, ...]
    marked: int = 0  #: the number of the line that it is about; 0 for none


@dataclass(frozen=True)
class Sample:
    """What the run's processes used at one moment."""

    at: float  #: seconds since the start
    phase: str
    rss: int  #: bytes
    gpu: tuple[int, ...]  #: bytes in use on each GPU


@dataclass(frozen=True)
class Report:
    """All that a report tells. Every text is masked; none is screened: who writes it out knows for what."""

    run: Mapping[str, Any]  #: `run.json`, and its command as one line for a shell
    outcome: str  #: in words
    machine: tuple[tuple[str, str], ...]  #: label and text; as it is now, not as it was
    samples: tuple[Sample, ...]
    excerpts: tuple[Excerpt, ...]
    masked: Mapping[str, int]  #: secrets: how many, by what they were known by

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """Name and value of each variable that the command got and that may matter to it."""
        rows = [(str(name), str(value)) for name, value in self.run.get("environment", ())]
        return tuple(row for row in rows if not row[0].startswith(_NOISE))

    @property
    def left_out(self) -> str:
        """How many variables `environment` leaves out, in words; empty for none."""
        number = len(self.run.get("environment", ())) - len(self.environment)
        return f"and {report.count(number, 'variable')} of pip, uv, conda and certificates" * bool(
            number
        )

    @property
    def findings(self) -> list[Mapping[str, Any]]:
        """Before and after the run, the worst first; what was in order is not among them."""
        from vllm_guard.model import SEVERITY

        found = [*self.run["findings"], *self.run["leftovers"]]
        told = [f for f in found if f["status"] not in ("ok", "skip")]
        return sorted(told, key=lambda finding: SEVERITY.index(finding["status"]))


def incident_rows(incident: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and text of all that is said of an incident, but for its title and its lines."""
    labels = {"why": "cause", "fix": "fix", "see": "uri"}
    several = {"confirmed by": "confirm", "refuted by": "refute", "next": "next"}
    rows = [(label, [incident.get(key)]) for label, key in labels.items()]
    rows[2:2] = [(label, incident[key]) for label, key in several.items()]
    yield from ((label, text) for label, texts in rows for text in texts if text)


def value_words(value: str | None) -> str:
    """The value of a variable; unset is not the same as empty."""
    return "unset" if value is None else value or "empty"
