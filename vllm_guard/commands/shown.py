"""A profile as it is shown: in lines, its secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_guard import facts
from vllm_guard.frozen import replace
from vllm_guard.redact import MASK, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vllm_guard.model import Part, Profile, Setting

_REMOVED = {
    "debugging": "every debugging variable that is set",
    "service-links": "the variables that Kubernetes sets for a Service called vllm",
}


def masked(item: Profile) -> Profile:
    """The profile as it may be shown: a value, not the hint of a `required` one, may be a secret.

    Of what a repository says only values with the name of a secret are masked: who is asked to allow it must
    see it, and a file can be called like a token.
    """
    mask = Redactor(facts.load("redact"))
    parts = tuple(_masked(part, mask, by_shape=not part.doubted) for part in item.parts)
    return replace(item, parts=parts)  # type: ignore[no-any-return]


def secrets(item: Profile) -> list[str]:
    """The variables and engine options of a profile that hold secrets."""
    mask = Redactor(facts.load("redact"))
    names: dict[str, None] = {}
    for part in item.parts:
        other = _masked(part, mask, by_shape=True)
        for own, theirs in zip(part.settings, other.settings, strict=True):
            names |= {own.name: None} if own != theirs else {}
        for option, hidden in zip(part.engine, other.engine, strict=True):
            names |= {option[0]: None} if option != hidden else {}
    return list(names)


def text(text: str) -> str:
    """Text with what looks like a secret masked."""
    return Redactor(facts.load("redact")).text(text)


def part_lines(part: Part) -> Iterator[str]:
    """One line for each thing that a part says."""
    if part.vllm:
        yield f"when vLLM {part.vllm}:"
    indent = "    " if part.vllm else "  "
    yield from (f"{indent}[remove] {_REMOVED[what]}" for what in part.remove)
    for setting in part.settings:
        why = f"   # {setting.why}" if setting.why else ""
        yield f"{indent}{_setting_words(setting)}{why}"
    for name, value in part.engine:
        yield f"{indent}[engine] {name} = {value!r}"
    for probe in part.probes:
        yield f"{indent}[preflight] {probe}"


def words_of(name: str, part: Part) -> Iterator[str]:
    """What a part says about the variable, option, probe or removal of that name."""
    yield from (_setting_words(setting) for setting in part.settings if setting.name == name)
    yield from (f"[engine] {name} = {value!r}" for option, value in part.engine if option == name)
    yield from (f"[preflight] {probe}" for probe in part.probes if probe == name)
    yield from (f"[remove] {_REMOVED[what]}" for what in part.remove if what == name)


def _setting_words(setting: Setting) -> str:
    return {
        "set": f"{setting.name}={setting.value}",
        "default": f"{setting.name}={setting.value} (only if unset)",
        "required": f"{setting.name} must be set: {setting.value}",
        "unset": f"unset {setting.name}",
    }[setting.kind]


def _masked(part: Part, mask: Redactor, by_shape: bool) -> Part:
    def value(name: str, text: str) -> str:
        return mask.value(name, text) if by_shape or mask.is_secret(name) else text

    def option(name: str, given: Any) -> Any:
        """What is below the name of a secret is one."""
        if isinstance(given, dict):
            return {
                key: option(name if mask.is_secret(name) else key, one)
                for key, one in given.items()
            }
        if isinstance(given, list):
            return [option(name, one) for one in given]
        if isinstance(given, str):
            return value(name, given)
        return MASK if mask.is_secret(name) and not isinstance(given, bool) else given

    settings = tuple(
        replace(s, value=value(s.name, s.value)) if s.kind in ("set", "default") else s
        for s in part.settings
    )
    engine = tuple((name, option(name, given)) for name, given in part.engine)
    return replace(part, settings=settings, engine=engine)  # type: ignore[no-any-return]
