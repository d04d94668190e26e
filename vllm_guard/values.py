"""What the programs of the stack make of a variable's value. Pure.

A value is read by vLLM as its own source says (a row of `vllm_source.read_env_table`), by the others as the
facts say (a row of `data/vars`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from vllm_guard.model import Status

    #: How bad it is, and what is wrong.
    Problem = tuple[Status, str]

#: vLLM's styles of booleans: what they read as true, and what else people mean by them.
_TRUE_STYLES = {
    "one-true": ("0", "1", "true", "false"),
    "one": ("0", "1"),
    "true": ("true", "false"),
}  #: an empty value, too, is understood: it is how vLLM itself spells "not set"
_TRUE = {"one-true": ("1", "true"), "one": ("1",), "true": ("true",)}
_INTEGERS = ("int-bool", "int", "tristate")
_HF_TRUE = ("1", "ON", "YES", "TRUE")  #: huggingface_hub's own list
_HF_FALSE = ("", "0", "OFF", "NO", "FALSE")
_OFF = ("", "0", "false", "off", "no")
READ_AS_FALSE = "would be read as false"  #: the program starts all the same: no certain failure


def problem(
    value: str, fact: Mapping[str, Any] | None, read: Mapping[str, Any] | None
) -> Problem | None:
    """What is wrong with a value: it stops the program (`fail`), or means something else (`warn`).

    `fact` and `read` are the variable's rows of the facts and of vLLM's source; None where there is none.
    """
    found = _of_vllm(value, read) if read is not None else None
    if found is None and fact is not None and value:
        text = _of_fact(value, fact)
        if text:
            wrong = fact.get("wrong")
            found = ("fail" if wrong else "warn", f"{text}: {wrong}" if wrong else text)
    return found


def is_left_on(value: str, fact: Mapping[str, Any], read: Mapping[str, Any] | None) -> bool:
    """Is this the value, or one of the values, that the fact's `left_on` tells?"""
    wanted = fact.get("left_on", ())
    if wanted is True:
        return bool(value) if fact.get("type") == "nonempty" else value.lower() not in _OFF
    meaning = _meaning(value, fact, read)
    return any(meaning == _meaning(word, fact, read) for word in wanted)


def _meaning(value: str, fact: Mapping[str, Any], read: Mapping[str, Any] | None) -> object:
    """What the program reads: a truth, a number or a word."""
    style = read["style"] if read is not None else fact.get("type", "")
    if style in _TRUE:
        return value.lower() in _TRUE[style]
    if style == "hf-bool":
        return value.upper() in _HF_TRUE
    number = _integer(value)
    if number is None:
        return value.casefold()
    return bool(number) if style in ("flag", "int-bool", "tristate") else number


def _of_vllm(value: str, read: Mapping[str, Any]) -> Problem | None:
    style, choices = read["style"], read["choices"]
    if choices:
        fold = str.lower if read["ignore_case"] else str
        words = list(filter(None, map(str.strip, value.split(",")))) if read["many"] else [value]
        if not {fold(word) for word in words} <= {fold(choice) for choice in choices}:
            return "fail", f"{value!r} is none of {', '.join(choices)}"
    if style in _INTEGERS and not _is(int, value):
        return "fail", f"{value!r} is not an integer: vLLM would stop with ValueError"
    if style == "float" and not _is(float, value):
        return "fail", f"{value!r} is not a number: vLLM would stop with ValueError"
    accepted = _TRUE_STYLES.get(style)
    if accepted and value and value.lower() not in accepted:
        return "warn", f"{value!r} {READ_AS_FALSE}; it understands {' '.join(accepted)}"
    return None


def _of_fact(value: str, fact: Mapping[str, Any]) -> str:
    kind = fact.get("type", "text" if "values" not in fact else "choice")
    if kind == "flag":
        return "" if _integer(value) is not None else f"{value!r} is neither 0 nor 1"
    if kind == "int":
        return _number_problem(value, fact)
    if kind in ("choice", "choices", "algorithms"):
        unknown = [word for word in _words(value, kind, fact) if not _is_one_of(word, fact)]
        return f"{unknown[0]!r} is none of {', '.join(fact['values'])}" if unknown else ""
    if kind == "hf-bool" and value.upper() not in _HF_TRUE + _HF_FALSE:
        return f"{value!r} {READ_AS_FALSE}; it understands {' '.join(_HF_TRUE)}"
    if kind == "url" and "://" not in value:
        return f"{value!r} is not a URL"
    return ""


def _number_problem(value: str, fact: Mapping[str, Any]) -> str:
    number = _integer(value)
    if number is None:
        return f"{value!r} is not an integer"
    low, high = fact.get("min", number), fact.get("max", number)
    if low <= number <= high:
        return ""
    return f"{value} is out of range: {low} to {high}" if "max" in fact else f"{value} < {low}"


def _words(value: str, kind: str, fact: Mapping[str, Any]) -> Iterable[str]:
    """The single words of a value that may hold several."""
    if kind == "choice":
        return (value,)
    if kind == "algorithms":  # NCCL 2.24: `func:algo,algo;func:algo`; `^` negates
        value = ",".join(part.rpartition(":")[2] for part in value.split(";"))
    words = value.removeprefix("^").split(fact.get("separator", ","))
    return (word.strip().removeprefix("^") for word in words if word.strip())


def _is_one_of(word: str, fact: Mapping[str, Any]) -> bool:
    fold = str.lower if fact.get("ignore_case") else str
    return fold(word) in map(fold, fact["values"])


def _integer(value: str) -> int | None:
    """An integer as C's strtoll(3) reads it with base 0."""
    try:
        return int(value, 0)
    except ValueError:
        try:
            return int(value, 8)
        except ValueError:
            return None


def _is(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
