"""Are the numbers that flags get such as vLLM takes? By the bounds in its own source."""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vllm_guard.probes import Context

TITLE = "the numbers that flags get"

_ID = "flag-value"
_BOUNDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_WITHIN: Mapping[str, Callable[[float, float], bool]] = {
    "gt": lambda number, bound: number > bound,
    "ge": lambda number, bound: number >= bound,
    "lt": lambda number, bound: number < bound,
    "le": lambda number, bound: number <= bound,
}
_NONE = ("", "None")  #: "not given", where vLLM lets a flag be that


def _length(word: str) -> int:
    """`--max-model-len`, whose -1 and auto are found out by vLLM. Raises ValueError."""
    return -1 if word.strip().lower() == "auto" else _tokens(word)


def _tokens(word: str) -> int:
    """A whole number, or 8k and 8K. Raises ValueError."""
    tokens = _place.tokens(word)
    return int(word) if tokens is None else tokens


#: The names of a flag, where its field is, how its word is read, and what that takes.
_FLAGS: tuple[tuple[tuple[str, ...], str, Callable[[str], float], str], ...] = (
    (("--gpu-memory-utilization",), "cache", float, "a number"),
    (("--block-size",), "cache", int, "a whole number"),
    (("--tensor-parallel-size", "-tp"), "parallel", int, "a whole number"),
    (("--pipeline-parallel-size", "-pp"), "parallel", int, "a whole number"),
    (("--data-parallel-size", "-dp"), "parallel", int, "a whole number"),
    (("--max-num-seqs",), "scheduler", int, "a whole number"),
    (("--max-num-batched-tokens",), "scheduler", _tokens, "a whole number, 8k or 8K"),
    (("--max-model-len",), "model", _length, "a whole number, 8k, 8K or auto"),
)


def check(context: Context) -> Iterator[Finding]:
    install = _place.install(context)
    for names, file, read, kind in _FLAGS if install else ():
        word = context.flag(*names)
        if install is None or word is None or word in _NONE:
            continue
        field = names[0].removeprefix("--").replace("-", "_")
        bounds = models.bounds(install, f"config/{file}.py").get(field)
        if bounds:
            yield _judged(f"{names[0]} {word}", word, read, (kind, bounds))


def _judged(
    subject: str,
    word: str,
    read: Callable[[str], float],
    taken: tuple[str, Mapping[str, float]],
) -> Finding:
    kind, bounds = taken
    limits = " and ".join(f"{_BOUNDS[name]} {bound:g}" for name, bound in bounds.items())
    fix = f"{kind}, {limits}"
    try:
        number = read(word)
    except ValueError:
        return Finding(_ID, "fail", subject, f"is not {kind}", fix=kind)
    if all(_WITHIN[name](number, bound) for name, bound in bounds.items()):
        return Finding(_ID, "ok", subject, limits)
    return Finding(_ID, "fail", subject, f"must be {limits}", fix=fix)
