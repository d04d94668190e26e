"""A run in words: what will change, what will be executed, how it ended. Text in, lines out."""

from __future__ import annotations

import os

from vllm_guard import screen
from vllm_guard.frozen import replace
from vllm_guard.model import OWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm_guard.model import Change, EnvPlan, Finding, Outcome, Part, Profile, Run
    from vllm_guard.redact import Redactor

_VALUE_WIDTH = 80


def count(number: int, noun: str, plural: str = "s") -> str:
    """`1 check`, `2 checks`."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def change_words(change: Change, redactor: Redactor, quote: bool = False) -> str:
    """`NAME=VALUE`, or `unset NAME`; secrets masked, nothing that could drive the terminal."""
    if change.after is None:
        return f"unset {screen.printable(change.name)}"
    value = redactor.value(change.name, change.after)
    shown = _quoted(value) if quote else screen.shortened(value, _VALUE_WIDTH)
    return f"{screen.printable(change.name)}={shown}"


def before_words(change: Change, redactor: Redactor) -> str:
    """What the variable was: `unset`, `empty` or its value."""
    if change.before is None:
        return "unset"
    return screen.shortened(redactor.value(change.name, change.before), _VALUE_WIDTH) or "empty"


def masked(change: Change, redactor: Redactor) -> Change:
    """The change as it may be stored."""
    before, after = (
        None if value is None else redactor.value(change.name, value)
        for value in (change.before, change.after)
    )
    return replace(change, before=before, after=after)  # type: ignore[no-any-return]


def masked_finding(finding: Finding, redactor: Redactor) -> Finding:
    """The finding as it may be shown and stored: it may quote a value or a word of the command."""
    return replace(  # type: ignore[no-any-return]
        finding,
        subject=redactor.text(finding.subject),
        fact=redactor.text(finding.fact),
        fix=redactor.text(finding.fix),
        evidence=tuple(map(redactor.text, finding.evidence)),
    )


def plan_lines(plan: EnvPlan, redactor: Redactor) -> Iterator[str]:
    """One line for each change, with what was there, why and from where."""
    for change in plan.changes:
        why = f"; {change.why}" if change.why else ""
        was = before_words(change, redactor)
        about = screen.printable(change.origin + why)
        yield f"{change_words(change, redactor)}   (was {was}; {about})"


def launch_lines(
    plan: EnvPlan,
    profiles: Sequence[Profile],
    redactor: Redactor,
    parts: Iterable[tuple[str, Part]] = (),
) -> Iterator[str]:
    """What a launch says first: each profile's changes in one line, and what it costs.

    Of a repository's, also the engine options that it asks for in `parts`.
    """
    parts = tuple(parts)
    for profile in profiles:
        origin = f"profile {profile.name}"
        changes = [c for c in plan.changes if c.origin == origin]
        words = [_with_before(c, redactor) for c in changes]
        name = screen.printable(origin)
        if profile.origin == "repository":
            name += f" ({screen.printable(profile.path)})"
            words += _engine_words(parts, origin, redactor)
        yield f"{name}, this run only: {', '.join(words) or 'no variable changes'}"
        if profile.cost:
            yield f"  cost: {screen.printable(profile.cost)}"


def command_line(argv: Sequence[str], redactor: Redactor) -> str:
    """The exact command, quoted for a shell."""
    return " ".join(_quoted(word) for word in redactor.argv(argv))


def outcome_words(outcome: Outcome) -> str:
    """`exited 0 after 12.3 s, ended by SIGTERM sent to vllm-guard`."""
    how = {
        "exited": f"exited {outcome.code}",
        "signalled": f"was killed by signal {outcome.signal}",
        "deadline": "was ended",
        "lost": "was lost",
        "not-started": "was not started",
    }[outcome.kind]
    core = ", core dumped" if outcome.core else ""
    ended = "" if outcome.kind == "deadline" else "ended "  # which `how` says already
    by = "" if outcome.ended_by in ("", "itself") else f", {ended}by {outcome.ended_by}"
    return f"{how} after {outcome.seconds:.1f} s{core}{by}"


def closing_lines(run: Run, lost_bytes: int) -> Iterator[str]:
    """The closing report of a run that was started, but for where its record is."""
    outcome = run.outcome
    assert outcome is not None
    yield f"{screen.shortened(run.command[0])} {outcome_words(outcome)}"
    if outcome.left_behind:
        yield f"{count(outcome.left_behind, 'process', 'es')} outlived it: ended"
    if outcome.freed:
        yield f"its shared memory, {outcome.freed >> 20} MiB, outlived it: removed"
    if lost_bytes:
        yield f"{lost_bytes} bytes of its output could not be written"
    if outcome.daemons:
        yield f"left running, as --allow-daemon says: {count(outcome.daemons, 'process', 'es')}"
    elif run.leftovers:
        yield f"left behind: {count(len(run.leftovers), 'thing')}, listed above"
    else:
        yield f"left behind: nothing; looked at: {', '.join(run.looked_at)}"
    asked = [change for change in run.plan.changes if change.origin != OWN]
    if asked:
        held = count(len(asked), "variable")
        yield f"environment: {held} changed for this run only; yours is as it was"


def _engine_words(
    parts: Iterable[tuple[str, Part]], origin: str, redactor: Redactor
) -> Iterator[str]:
    """`max_model_len=4096`, of each engine option that comes from there."""
    options = {name: value for by, part in parts if by == origin for name, value in part.engine}
    for name, value in options.items():
        yield f"{name}={screen.shortened(redactor.value(name, str(value)), _VALUE_WIDTH)}"


def _with_before(change: Change, redactor: Redactor) -> str:
    words = change_words(change, redactor)
    return words if change.before is None else f"{words} (was {before_words(change, redactor)})"


def _quoted(word: str) -> str:
    """Shell-quoted where needed; what cannot be printed in bash's $'...' form, byte by byte."""
    if word and all(c.isalnum() or c in "@%+=:,./-_" for c in word) and word.isascii():
        return word
    if word.isprintable():
        return "'" + word.replace("'", "'\"'\"'") + "'"
    inner = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if c.isprintable() else _escaped(c) for c in inner) + "'"


def _escaped(char: str) -> str:
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    return known or "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
