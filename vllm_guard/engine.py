"""A profile's `[engine]` table as arguments of `vllm serve`. Pure.

What the user wrote explicitly always wins, on the command line or in the file of `--config`.
"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from typing import Any

    from vllm_guard.model import Part


def wanted_options(parts: Iterable[tuple[str, Part]]) -> dict[str, tuple[Any, str]]:
    """Engine argument -> (value, origin); later parts win."""
    return {name: (value, origin) for origin, part in parts for name, value in part.engine}


def add_flags(
    argv: Sequence[str],
    args_at: int,
    wanted: Mapping[str, tuple[Any, str]],
    known: Mapping[str, Any],
    config: Sequence[str] = (),
) -> tuple[tuple[str, ...], list[Finding]]:
    """The command line with the options that the user did not give, and what was added or left.

    `known` is `vllm_source.read_engine_args`: argument -> {"options": its spellings}. `config` is what the
    file of `--config` stands for (`config_file.options`): it counts as given.
    """
    at = argv.index("--", args_at) if "--" in argv[args_at:] else len(argv)
    own = [*argv[args_at:at], *config]
    others = {option for row in known.values() for option in row["options"]}
    added: list[str] = []
    findings = []
    for name, (value, origin) in wanted.items():
        spellings = known.get(name, {}).get("options") or ["--" + name.replace("_", "-")]
        given = _given(own, spellings, others)
        if given:
            findings.append(
                Finding("engine-option-kept", "note", given, f"yours wins over {origin}'s {name}")
            )
            continue
        words = flag_words(spellings[0], value)
        added += words
        findings.append(Finding("engine-option-added", "note", origin, " ".join(words)))
    return (*argv[:at], *added, *argv[at:]), findings


def not_applied(wanted: Mapping[str, tuple[Any, str]]) -> Finding:
    """The command takes no engine options on its command line."""
    origin = next(iter(wanted.values()))[1]
    return Finding(
        "engine-options-not-applied",
        "warn",
        origin,
        f"{', '.join(wanted)}: no `vllm serve` whose vLLM was found, and no Python script",
        fix="pass them to LLM(...) there",
    )


def as_defaults(wanted: Mapping[str, tuple[Any, str]]) -> tuple[str, list[Finding]]:
    """What the harness is told (JSON: name -> value), and a finding for each."""
    findings = [
        Finding(
            "engine-option-default",
            "note",
            origin,
            f"{name}={value!r} where the script passes no {name} to LLM or EngineArgs",
        )
        for name, (value, origin) in wanted.items()
    ]
    import json

    return json.dumps({name: value for name, (value, _) in wanted.items()}), findings


def flag_words(option: str, value: Any) -> list[str]:
    """`["--enforce-eager"]`, `["--no-enforce-eager"]`, `["--load-format", "dummy"]`; tables as JSON."""
    if value is True:
        return [option]
    if value is False:
        return ["--no-" + option[2:]]
    if isinstance(value, dict):
        import json

        return [option, json.dumps(value, separators=(",", ":"))]
    if isinstance(value, list):
        return [option, *map(str, value)]
    return [option, str(value)]


def _given(words: Iterable[str], spellings: Sequence[str], others: Container[str]) -> str:
    """The user's option, without its value, if it is one of these spellings.

    As vLLM's parser reads it: `_` for `-`, `--no-` for a flag, `--table.key` for a table, the start of an
    option that is no other option, `-O3` for `--optimization-level 3`.
    """
    names = [*spellings, *("--no-" + name[2:] for name in spellings if name.startswith("--"))]
    letters = [name for name in names if len(name) == 2]
    if "--optimization-level" in names:
        letters.append("-O")
    for word in words:
        option = word.partition("=")[0]
        plain = option.partition(".")[0]
        if plain.startswith("--"):
            plain = "--" + plain[2:].replace("_", "-")
            starts = len(plain) > 2 and any(name.startswith(plain) for name in names)
            if plain in names or (starts and plain not in others):
                return option
        elif plain in names:
            return option
        elif plain[:2] in letters:
            return plain[:2]
    return ""
