"""A profile's `[engine]` table as arguments of `vllm serve`. Pure.

What the user wrote explicitly always wins, on the command line or in the file of `--config`.
"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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
    config: str = "",
) -> tuple[tuple[str, ...], list[Finding]]:
    """The command line with the options that the user did not give, and what was added or left.

    `known` is `vllm_source.read_engine_args`: argument -> {"options": its spellings}. `config` is the
    text of the file given with `--config`: its top-level keys count as given.
    """
    added: list[str] = []
    findings = []
    own = [*argv[args_at:], *_config_words(config)]
    for name, (value, origin) in wanted.items():
        spellings = known.get(name, {}).get("options") or ["--" + name.replace("_", "-")]
        given = _given(own, spellings, isinstance(value, bool))
        if given:
            findings.append(
                Finding("engine-option-kept", "note", given, f"yours wins over {origin}'s {name}")
            )
            continue
        words = flag_words(spellings[0], value)
        added += words
        findings.append(Finding("engine-option-added", "note", origin, " ".join(words)))
    at = argv.index("--", args_at) if "--" in argv[args_at:] else len(argv)
    return (*argv[:at], *added, *argv[at:]), findings


def not_applied(wanted: Mapping[str, tuple[Any, str]]) -> Finding:
    """The command takes no engine options on its command line."""
    origin = next(iter(wanted.values()))[1]
    return Finding(
        "engine-options-not-applied",
        "warn",
        origin,
        f"{', '.join(wanted)}: the command is not `vllm serve`",
        fix="pass them to LLM(...) in the script",
    )


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


def _config_words(config: str) -> list[str]:
    """`--key` for each top-level `key: value` of a YAML file; vLLM reads them as options."""
    keys = (line.partition(":")[0] for line in config.splitlines() if ":" in line)
    return ["--" + key for key in keys if key and not key.startswith((" ", "\t", "#", "-"))]


def _given(words: Sequence[str], spellings: Iterable[str], is_flag: bool) -> str:
    """The user's word for this option, if there is one: any spelling, `_` for `-`, `--no-` for flags."""
    names = set(spellings)
    if is_flag:
        names |= {"--no-" + name[2:] for name in spellings if name.startswith("--")}
    for word in words:
        option = word.partition("=")[0]
        normal = "--" + option[2:].replace("_", "-") if option.startswith("--") else option
        if normal in names:
            return word
    return ""
