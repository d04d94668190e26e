"""The command's words as they will be executed: with engine options, and with a script run by the harness."""

from __future__ import annotations

import os

from vllm_guard.host import Host
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_guard.model import Part
    from vllm_guard.options import RunOptions
    from vllm_guard.target import Target

    Words = tuple[str, ...]

HARNESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside", "harness.py")


def complete(
    options: RunOptions, parts: Sequence[tuple[str, Part]], found: Target | None
) -> tuple[Words, list[Finding]]:
    """The words, and what was added to them or could not be."""
    wants_engine = any(part.engine for _, part in parts)
    if found is not None and found.script is not None:
        if not wants_engine:
            return _by_harness(options, found, ()), []
        from vllm_guard import engine

        defaults, findings = engine.as_defaults(engine.wanted_options(parts))
        return _by_harness(options, found, ("--engine", defaults)), findings
    words, findings = _with_flags(options, parts, found) if wants_engine else (options.command, [])
    if options.main_guard not in ("auto", "off"):
        fact = "the command runs no script that its child processes would import"
        mode = f"--main-guard {options.main_guard}"
        findings = [*findings, Finding("main-guard-not-applied", "warn", mode, fact)]
    return words, findings


def shutdown_timeout(argv: Sequence[str]) -> float:
    """Seconds that `vllm serve --shutdown-timeout` was given."""
    text = value_of(argv, "--shutdown-timeout")
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def value_of(words: Sequence[str], option: str) -> str:
    """The first value that the words give to this option; empty for none."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else "".join(words[index + 1 : index + 2])
    return ""


def _by_harness(options: RunOptions, found: Target, engine: Words) -> Words:
    """The command with its script run by the harness of the main guard, if there is anything to do for it."""
    assert found.script is not None
    mode = options.main_guard
    if mode == "off" and not engine:
        return options.command
    given = () if mode == "auto" else ("--main-guard", mode)
    stacks = ("--stacks", "yes") if found.vllm or options.watched else ()  # where `watch` may ask
    return found.script.run_by((HARNESS, *engine, *given, *stacks))


def _with_flags(
    options: RunOptions, parts: Sequence[tuple[str, Part]], found: Target | None
) -> tuple[Words, list[Finding]]:
    from vllm_guard import engine

    wanted = engine.wanted_options(parts)
    if found is None or found.args_at is None:
        return options.command, [engine.not_applied(wanted)]
    from vllm_guard.target import install

    known = install.engine_args(found.vllm) if found.vllm else None
    config = _config_words(options.command[found.args_at :])
    return engine.add_flags(options.command, found.args_at, wanted, known or {}, config)


def _config_words(words: Sequence[str]) -> Words:
    """What the file named by `--config` stands for; nothing where vLLM cannot read it either."""
    from vllm_guard import config_file

    path = config_file.named(words)
    try:
        return config_file.options(path, Host().text(path)) if path else ()
    except (ValueError, config_file.Unread):
        return ()
