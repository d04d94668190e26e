"""What a profile asks for against what the installed vLLM knows. Pure: tables come in, findings go out.

The tables come from the installed source (`vllm_source`), never from a version number.
"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from vllm_guard.model import Part, Setting, Status

_TRUE_STYLES = {
    "one-true": ("0", "1", "true", "false"),
    "one": ("0", "1"),
    "true": ("true", "false"),
}  #: an empty value, too, is understood: it is how vLLM itself spells "not set"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
}
READ_AS_FALSE = "would be read as false"  #: vLLM starts all the same: no certain failure
_URI = "https://docs.vllm.ai/en/latest/configuration/env_vars/"


def check_parts(
    parts: Iterable[tuple[str, Part]],
    variables: Mapping[str, Any] | None,
    engine: Mapping[str, Any] | None,
    removed: Iterable[Mapping[str, str]] = (),
) -> Iterator[Finding]:
    """Findings for every variable and engine option that this vLLM does not know or would refuse.

    `variables` and `engine` are the tables of `vllm_source`; None where they could not be read.
    """
    gone = {row["name"]: row for row in removed}
    for origin, part in parts:
        if variables is not None:
            for setting in part.settings:
                yield from _variable(setting, origin, variables, gone)
        if engine is not None:
            for name, value in part.engine:
                yield from _option(name, value, origin, engine)


def _variable(
    setting: Setting,
    origin: str,
    variables: Mapping[str, Any],
    gone: Mapping[str, Mapping[str, str]],
) -> Iterator[Finding]:
    if setting.kind not in ("set", "default"):
        return
    subject = f"{origin}: {setting.name}"
    if setting.name in variables:
        problem = value_problem(setting.value, variables[setting.name])
        if problem:
            status: Status = "warn" if READ_AS_FALSE in problem else "fail"
            yield Finding("variable-value", status, subject, problem, uri=_URI)
    elif setting.name in gone:
        row = gone[setting.name]
        instead = row.get("instead", "")
        yield Finding(
            "variable-removed",
            "warn",
            subject,
            f"vLLM reads it no more: last in {row['last']}, gone in {row['absent']}",
            fix=f"use {instead}" if instead else "leave it out",
            uri=_URI,
        )
    elif setting.name.startswith("VLLM_"):
        yield Finding(
            "variable-unknown",
            "warn",
            subject,
            "this vLLM does not read it",
            fix=_did_you_mean(setting.name, variables),
            uri=_URI,
        )


def value_problem(value: str, row: Mapping[str, Any]) -> str:
    """Why vLLM would crash on this value, or silently read it as false; empty when it would not."""
    style, choices = row["style"], row["choices"]
    if choices:
        fold = str.lower if row["ignore_case"] else str
        words = list(filter(None, map(str.strip, value.split(",")))) if row["many"] else [value]
        if not {fold(word) for word in words} <= {fold(choice) for choice in choices}:
            return f"{value!r} is none of {', '.join(choices)}"
    if style in ("int-bool", "int", "tristate") and not _is(int, value):
        return f"{value!r} is not an integer: vLLM would stop with ValueError"
    if style == "float" and not _is(float, value):
        return f"{value!r} is not a number: vLLM would stop with ValueError"
    accepted = _TRUE_STYLES.get(style)
    if accepted and value and value.lower() not in accepted:
        return f"{value!r} {READ_AS_FALSE}; it understands {' '.join(accepted)}"
    return ""


def _option(name: str, value: Any, origin: str, engine: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"{origin}: [engine] {name}"
    if name not in engine:
        yield Finding(
            "engine-option-unknown",
            "fail",
            subject,
            "this vLLM has no such engine argument",
            fix=_did_you_mean(name, engine),
        )
        return
    problem = _type_problem(value, engine[name]["annotation"])
    if problem:
        yield Finding("engine-option-type", "fail", subject, problem)


def _type_problem(value: Any, annotation: str) -> str:
    """Only what the annotation makes certain: a flag is no flag, a number is no number."""
    plain = annotation.replace("Optional[", "").replace(" | None", "").rstrip("]")
    wanted = _TYPES.get(plain)
    if wanted is None or (
        isinstance(value, wanted) and isinstance(value, bool) == (plain == "bool")
    ):
        return ""
    return f"{value!r} is not of type {plain}"


def _is(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else "leave it out"
