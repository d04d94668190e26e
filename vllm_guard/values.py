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
#: What the facts' types of booleans read as true and as false, in any case: by huggingface_hub/constants.py,
#: by torch's c10d/Utils.hpp, by what Triton's `getenv_bool` answers.
_WORDS = {
    "hf-bool": (("1", "on", "yes", "true"), ("0", "off", "no", "false")),
    "torch-bool": (("1", "y", "yes", "t", "true"), ("0", "n", "no", "f", "false")),
    "triton-bool": (("1", "y", "yes", "on", "true"), ("0", "n", "no", "off", "false")),
}
_LISTS = ("choices", "algorithms")  #: a fact's types of values that hold several words
#: What turns off, in words; of some types it is only that.
_ONLY_OFF = {"nonempty": ("",), "python-flag": ("", "0")}
_OFF = ("", "0", "false", "off", "no")
#: What people write for a yes and for a no.
_YES, _NO = ("1", "true", "yes", "on", "y", "t"), ("0", "false", "no", "off", "n", "f")
READ_AS_FALSE = "would be read as false"  #: the program starts all the same: no certain failure


def problem(
    value: str, fact: Mapping[str, Any] | None, read: Mapping[str, Any] | None
) -> Problem | None:
    """What is wrong with a value: it stops the program (`fail`), or means something else (`warn`).

    `fact` and `read` are the variable's rows of the facts and of vLLM's source; None where there is none.
    """
    found = _of_vllm(value, read) if read is not None else None
    if found is not None and fact is not None and "spared" in fact:
        found = ("warn", f"{found[1]}; not where {fact['spared']}")
    if found is None and fact is not None and value:
        text = _of_fact(value, fact)
        if text:
            wrong = fact.get("wrong")
            found = ("fail" if wrong else "warn", f"{text}: {wrong}" if wrong else text)
    return found


def nearest(value: str, fact: Mapping[str, Any] | None, read: Mapping[str, Any] | None) -> str:
    """The value that was probably meant by one that is not understood; empty where that is not to be told."""
    row = fact or {}
    style = read["style"] if read is not None else row.get("type", "")
    choices = list((read or {}).get("choices") or row.get("values", ()))
    if choices:
        words = [word.strip() for word in value.split(",")]
        unknown = next((word for word in words if word not in choices), "")
        return _nearest_word(unknown, choices)
    if style in _TRUE_STYLES or style in ("int-bool", "flag", *_WORDS):
        word = value.strip().lower()
        true, false = ("true", "false") if style == "true" else ("1", "0")
        return true if word in _YES else false if word in _NO else ""
    digits = value.strip()[: len(value.strip()) - len(value.strip().lstrip("0123456789"))]
    return digits if style == "int" else ""


def _nearest_word(word: str, known: list[str]) -> str:
    from difflib import get_close_matches

    folded = {one.lower(): one for one in known}
    near = get_close_matches(word.lower(), folded, 1)
    return folded[near[0]] if near else ""


def is_left_on(value: str, fact: Mapping[str, Any], read: Mapping[str, Any] | None) -> bool:
    """Does it say what the fact's `left_on` tells, and this release does not do anyway?"""
    wanted = fact.get("left_on", ())
    kind = fact.get("type", "")
    if wanted is True:
        return value.lower() not in _ONLY_OFF.get(kind, _OFF)
    meanings = {_meaning(word, fact, read) for word in wanted}
    default = read["default"] if read is not None else None
    if isinstance(default, str):
        meanings.discard(_meaning(default, fact, read))
    given = _words(value, kind, fact) if kind in _LISTS and "^" not in value else (value,)
    return any(_meaning(word, fact, read) in meanings for word in given)


def _meaning(value: str, fact: Mapping[str, Any], read: Mapping[str, Any] | None) -> object:
    """What the program reads: a truth, a number or a word."""
    style = read["style"] if read is not None else fact.get("type", "")
    if style in _TRUE:
        return value.lower() in _TRUE[style]
    if style in _WORDS:
        return value.lower() in _WORDS[style][0]
    number = _integer(value) if read is None else int(value) if _is(int, value) else None
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
    if kind == "number" and not _is_number(value, fact["min"]):
        return f"{value!r} is not a number of {fact['min']} or more"
    if kind == "choice" or kind in _LISTS:
        unknown = [word for word in _words(value, kind, fact) if not _is_one_of(word, fact)]
        return f"{unknown[0]!r} is none of {', '.join(fact['values'])}" if unknown else ""
    if kind in _WORDS and value.lower() not in sum(_WORDS[kind], ()):
        means = "is neither" if "wrong" in fact else f"{READ_AS_FALSE}; it understands"
        true, false = map(" ".join, _WORDS[kind])
        return f"{value!r} {means} {true} {'nor' if 'wrong' in fact else 'and'} {false}"
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
    """An integer as C's strtoll(3) reads it with base 0: no `1_000`, no `0b1`, and `010` is 8."""
    digits = value.strip().lower().lstrip("+-")
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    try:
        return int(value, base) if value.isascii() and not set("_o") & set(digits) else None
    except ValueError:
        return None


def _is_number(value: str, low: float) -> bool:
    return _is(float, value) and low <= float(value) < float("inf")


def _is(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
