"""The full probes: they run code of the target (`vllm_guard/inside/`), each with a limit, on request only.

A probe is one file, with `TITLE`, `NEEDS` (what it cannot do without), `LIMIT` (seconds), `why_not(context)`,
which says why it does not apply (empty where it does), and `check(context, ask)`, which asks the target
and judges the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm_guard.frozen import replace
from vllm_guard.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Protocol

    from vllm_guard.model import Status
    from vllm_guard.probes import Context

    class Ask(Protocol):
        def __call__(
            self, step: str, asked: dict[str, Any], limit: float, profiles: Sequence[str] = ()
        ) -> Answer: ...

    class FullProbe(Protocol):
        TITLE: str
        NEEDS: str
        LIMIT: float

        def why_not(self, context: Context, /) -> str: ...

        def check(self, context: Context, ask: Ask, /) -> Iterable[Finding]: ...


NO_PYTHON = "no Python is known that could be asked"
NO_VLLM = "the command's Python has no vLLM"
NO_SERVER = "no `vllm serve` command is given"
_STACK_LINES = 12
_OUR_MAIN = "/vllm_guard/inside/main.py"


@dataclass(frozen=True)
class Answer:
    """What a step in the target's interpreter came to."""

    kind: str  #: of the outcome (`model.OutcomeKind`)
    code: int = 0
    signal: int = 0
    rows: tuple[Mapping[str, Any], ...] = ()  #: what it reported: who, part, state, fact
    said: tuple[str, ...] = ()  #: the line that tells the cause, and the last ones it wrote
    stacks: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: of whom -> lines
    left: tuple[str, ...] = ()  #: what could not be removed
    reason: str = ""  #: why it was not started

    def of(self, part: str) -> list[Mapping[str, Any]]:
        """The results of one part, of every rank."""
        return [row for row in self.rows if row["part"] == part and row["state"] != "begin"]

    def failed(self) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row["state"] == "fail"]

    def unfinished(self) -> list[Mapping[str, Any]]:
        """The parts that were begun and not ended: there it hung, or died."""
        ended = {(row["who"], row["part"]) for row in self.rows if row["state"] != "begin"}
        begun = (row for row in self.rows if row["state"] == "begin")
        return [row for row in begun if (row["who"], row["part"]) not in ended]

    @property
    def is_well(self) -> bool:
        states = {row["state"] for row in self.rows}
        ended = self.kind == "exited" and not self.code
        return ended and bool(states) and not states & {"fail", "unknown"}


def no_python(context: Context) -> str:
    """Why nothing of the target can be asked; empty where it can."""
    return NO_PYTHON if context.target is None or context.target.problem else ""


def no_vllm(context: Context) -> str:
    return no_python(context) or ("" if context.target and context.target.vllm else NO_VLLM)


def no_server(context: Context) -> str:
    return no_vllm(context) or ("" if context.is_server else NO_SERVER)


def judged(name: str, subject: str, answer: Answer, fix: str = "") -> Iterator[Finding]:
    """The findings of a step: what went well in one, each failure in one, and how it ended."""
    for rows in _alike(answer.failed()):
        row = rows[0]
        who = ", ".join(who_of(each) for each in rows if each["who"])
        fact = " ".join(row["fact"].split())
        if row["part"] == "import" and fact.endswith("No module named 'torch'"):
            yield Finding(f"{name}-import", "skip", subject, fact)
        else:
            what = _what(who or subject, row)
            yield Finding(f"{name}-{_id(row)}", "fail", what, fact, row.get("fix") or fix)
    yield from _end(name, subject, answer)
    well = [row for row in answer.rows if row["state"] == "ok"]
    if answer.is_well:
        facts = (f"{row['part']}: {row['fact']}" if row["fact"] else row["part"] for row in well)
        yield Finding(f"{name}-works", "ok", subject, "; ".join(facts))
    yield from remarks(name, subject, answer, ("note", "warn", "unknown"))


def remarks(name: str, subject: str, answer: Answer, states: Sequence[Status]) -> Iterator[Finding]:
    """What is said beside the results."""
    for row in answer.rows:
        if row["state"] in states:
            what, fix = _what(subject, row), row.get("fix", "")
            yield Finding(f"{name}-{_id(row)}", row["state"], what, row["fact"], fix)


def who_of(row: Mapping[str, Any]) -> str:
    """`rank 1`, and where it ran if there are several nodes."""
    who = str(row["who"])
    return f"{who} on {row['host']} (node {row['node']})" if "host" in row else who


def _end(name: str, subject: str, answer: Answer) -> Iterator[Finding]:
    """How it ended, where that was not as it should."""
    at = ", ".join(f"{row['who'] or 'it'} in {row['part']}" for row in answer.unfinished())
    where = f" ({at})" if at else ""
    if answer.kind == "deadline":
        fact = f"has not ended within its limit{where}"
        yield Finding(f"{name}-hangs", "fail", subject, fact, evidence=stack_lines(answer))
    elif answer.kind == "signalled":
        fact = f"killed by signal {answer.signal}{where}"
        yield Finding(f"{name}-crashed", "fail", subject, fact, evidence=answer.said)
    elif answer.kind != "exited":
        why = answer.reason or "; ".join(answer.said[-1:])
        yield Finding(f"{name}-not-run", "unknown", subject, f"could not be run: {why}")
    elif answer.code:
        fact = f"ended with status {answer.code}{where}"
        yield Finding(f"{name}-crashed", "fail", subject, fact, evidence=answer.said)
    elif not answer.rows:
        yield Finding(f"{name}-not-run", "unknown", subject, "gave no answer", evidence=answer.said)
    if answer.left:
        left = ", ".join(answer.left)
        yield Finding(f"{name}-left", "warn", subject, f"could not be removed: {left}")


def stack_lines(answer: Answer) -> tuple[str, ...]:
    """The Python stacks of everybody who was still there at the limit; the innermost frames."""
    lines: list[str] = []
    for who, stack in answer.stacks.items():
        lines += [f"{who.replace('-', ' ')}:", *shown_stack(stack)]
    return tuple(lines)


def shown_stack(stack: Sequence[str]) -> list[str]:
    """The innermost frames, without what called the step."""
    frames = [line for line in stack if not line.startswith("Timeout ") and _OUR_MAIN not in line]
    cut = [f"  ... {len(frames) - _STACK_LINES} more"] if len(frames) > _STACK_LINES else []
    return [*frames[:_STACK_LINES], *cut]


def with_words(finding: Finding, answer: Answer) -> Finding:
    """With the last lines that the step wrote, where it failed and has no other evidence."""
    if finding.status != "fail" or finding.evidence:
        return finding
    return replace(finding, evidence=answer.said)  # type: ignore[no-any-return]


def _id(row: Mapping[str, Any]) -> str:
    return str(row["part"]).partition(" ")[0]


def _what(subject: str, row: Mapping[str, Any]) -> str:
    """Of which the part is one of several: `torch matmul cuda:1`."""
    return f"{subject} {row['part']}" if " " in row["part"] else subject


def _alike(rows: Iterable[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """What several ranks say in the same words is one finding."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["who"])):
        found.setdefault((row["part"], row["fact"]), []).append(row)
    return found.values()
