"""What profiles would change, for the commands that show or print it; nothing is started."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vllm_guard import engine, prepare, profiles, report, voice
from vllm_guard.commands import output
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import OWN, Finding
from vllm_guard.options import finish_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.model import Change
    from vllm_guard.prepare import Prepared
    from vllm_guard.shellcode import Pair

_SERVE = ("vllm", "serve")


def prepared_for(asked: Mapping[str, Any]) -> Prepared:
    """What a launch with these options would do (default: of `vllm serve`), but for its checks."""
    values = {
        **asked,
        "python": asked["python"] or "",
        "command": asked.get("command") or _SERVE,
        "preflight": "off",
    }
    prepared = prepare.prepare(finish_values(values))
    target = prepared.target
    if asked["python"] and target and target.problem:
        raise GuardError(f"--python: {target.problem}", "name a Python", exit_code=USAGE)
    return prepared


def version_of(prepared: Prepared) -> str:
    """The vLLM that was found; empty for none."""
    target = prepared.target
    return target.vllm.version if target and target.vllm else ""


def changes_of(prepared: Prepared) -> list[Change]:
    """What was asked for: not what a launch sets for itself."""
    return [change for change in prepared.plan.changes if change.origin != OWN]


def exported(prepared: Prepared) -> list[Pair]:
    """All that was asked for, also what is so here already: another environment is to hold it."""
    parts = profiles.settings_for(prepared.profiles, version_of(prepared) or None)
    settings = (setting for _, part in parts for setting in part.settings)
    names = [setting.name for setting in settings if setting.kind in ("set", "unset")]
    names += [change.name for change in changes_of(prepared)]
    return [(name, prepared.after.get(name)) for name in dict.fromkeys(names)]


def flags_of(prepared: Prepared) -> tuple[str, ...]:
    """The words that the profiles add to the command."""
    command, argv = prepared.options.command, prepared.argv
    if argv != command:
        both = zip(argv, (*command, None), strict=False)
        at = next(index for index, (word, own) in enumerate(both) if word != own)
        return argv[at : at + len(argv) - len(command)]
    if prepared.target is not None or command[:2] != _SERVE:
        return ()
    # Where there is no vLLM yet, its parser's other spellings are not known, but the usual one is.
    words = (
        engine.flag_words("--" + name.replace("_", "-"), value)
        for name, (value, _) in _engine_options(prepared).items()
    )
    return tuple(word for option in words for word in option)


def findings_of(prepared: Prepared) -> list[Finding]:
    """The plan's findings, and what could not be planned."""
    options = _engine_options(prepared)
    found = [*prepared.findings, *left_out(prepared)]
    if options and not flags_of(prepared) and not _takes_flags(prepared):
        found.append(engine.not_applied(options))
    return found


def flags_apart(prepared: Prepared) -> Iterator[Finding]:
    """What is said where only variables can be given."""
    flags = flags_of(prepared)
    if flags:
        words = report.command_line(flags, prepared.redactor)
        fact = "no variable can say that: add it to the command, or launch it with vllm-guard -p"
        yield Finding("engine-options-apart", "note", words, fact)


def emit(text: bytes, findings: Sequence[Finding]) -> int:
    """Print the text, and nothing else, on stdout; nothing at all where a finding fails."""
    voice.say_findings(findings, verbose=False)
    status = output.verdict(findings, strict=False)
    if not status:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    return status


def _engine_options(prepared: Prepared) -> dict[str, tuple[Any, str]]:
    version = version_of(prepared) or None
    return engine.wanted_options(profiles.settings_for(prepared.profiles, version))


def _takes_flags(prepared: Prepared) -> bool:
    return prepared.target is not None and prepared.target.args_at is not None


def left_out(prepared: Prepared) -> Iterator[Finding]:
    """Which profiles have parts for some versions of vLLM only, where no vLLM was found."""
    for item in prepared.profiles:
        specifiers = list(dict.fromkeys(part.vllm for part in item.parts if part.vllm))
        if specifiers and not version_of(prepared):
            fact = f"no vLLM found: left out is what it sets for vLLM {' or '.join(specifiers)}"
            fix = "name its interpreter with --python"
            yield Finding("vllm-not-found", "skip", f"profile {item.name}", fact, fix=fix)
