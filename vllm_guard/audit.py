"""An environment, or what a profile asks for, against what the stack knows. Pure: tables in, findings out.

vLLM's table comes from the installed source (`vllm_source`), never from a version number; what else is known
of a variable comes from the facts.
"""

from __future__ import annotations

from vllm_guard import values
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from vllm_guard.facts import Variables
    from vllm_guard.model import Part

    #: vLLM's variables, or engine arguments, as its source has them; None where it could not be read.
    Table = Mapping[str, Any] | None

_TYPES: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
}
_URI = "https://docs.vllm.ai/en/latest/configuration/env_vars/"
_SERVICE_URI = "https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables"
_NEAR = 0.88  #: how like a known name an unknown one of another family than vLLM's must be
_ALIKE = 0.6  #: and how like each of its words


def check_environment(
    env: Mapping[str, str], known: Variables, vllm: Table, names: Iterable[str] = ()
) -> Iterator[Finding]:
    """What is wrong, left over or without effect in an environment; only `names` of it, if given."""
    chosen = list(names) or list(env)
    links = service_links(env)
    if links:
        yield _service_finding(env, links)
    for name in chosen:
        if name in env and name not in links:
            yield from _check_variable(name, env, known, vllm)


def check_parts(
    parts: Iterable[tuple[str, Part]], vllm: Table, engine: Table, known: Variables
) -> Iterator[Finding]:
    """Findings for every variable and engine option that this vLLM does not know or would refuse."""
    for origin, part in parts:
        for setting in part.settings:
            if setting.kind in ("set", "default"):
                subject = f"{origin}: {setting.name}"
                yield from _name_and_value(setting.name, setting.value, subject, known, vllm)
        if engine is not None:
            for name, value in part.engine:
                yield from _option(name, value, origin, engine)


def debugging(name: str, known: Variables) -> bool:
    """Is it a variable for debugging, which has no business in an environment that is to stay?"""
    fact = known["rows"].get(name, {})
    return (
        ("left_on" in fact and fact.get("status") != "note")
        or fact.get("group") == "debugging"
        or bool(fact.get("debugging", False))
    )


def service_links(env: Mapping[str, str]) -> list[str]:
    """The names that Kubernetes made of a Service called `vllm`, or `vllm-...`; empty without one."""
    return [
        name
        for name, value in env.items()
        if name.startswith("VLLM_") and _is_link(name, value, env)
    ]


def _is_link(name: str, value: str, env: Mapping[str, str]) -> bool:
    """`X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]`, `X_PORT=tcp://...`, `X_PORT_80_TCP[_ADDR|_PORT|_PROTO]`."""
    if name.endswith("_SERVICE_HOST"):
        return True
    if "_SERVICE_PORT" in name:
        return f"{name.partition('_SERVICE_PORT')[0]}_SERVICE_HOST" in env
    return "_PORT" in name and (
        value.startswith(("tcp://", "udp://", "sctp://"))
        or name.partition("_PORT_")[2].partition("_")[0].isdigit()
    )


def _service_finding(env: Mapping[str, str], links: list[str]) -> Finding:
    unset = " ".join(f"--unset {name}" for name in links)
    fatal = "VLLM_PORT" in links
    subject = f"VLLM_PORT={env['VLLM_PORT']}" if fatal else links[0]
    effect = "vLLM would stop with ValueError" if fatal else "vLLM reads none of them"
    return Finding(
        "service-link",
        "fail" if fatal else "note",
        subject,
        f"set by Kubernetes for a Service whose name begins with `vllm`, with {len(links)} in all: {effect}",
        fix=f"`enableServiceLinks: false` in the pod's spec, or another name; here: {unset}",
        uri=_SERVICE_URI,
    )


def _check_variable(
    name: str, env: Mapping[str, str], known: Variables, vllm: Table
) -> Iterator[Finding]:
    value = env[name]
    subject = f"{name}={value}"
    yield from _name_and_value(name, value, subject, known, vllm)
    fact = known["rows"].get(name)
    if fact is None or not value:
        return
    read = (vllm or {}).get(name)
    uri = fact["source"]
    if values.is_left_on(value, fact, read):
        status, fix = fact.get("status", "warn"), f"unset {name}"
        yield Finding("debug-left-on", status, subject, fact["cost"], fix=fix, uri=uri)
    elif (
        fact.get("group") == "debugging" and value != fact.get("default") and "removed" not in fact
    ):
        text = "NCCL's manual: for debugging, not to be retained in scripts"
        yield Finding("debug-left-on", "note", subject, text, fix=f"unset {name}", uri=uri)
    reason = _inert(fact, env)
    if reason:
        yield Finding("variable-inert", "note", subject, reason, fix="leave it out", uri=uri)


def _inert(fact: Mapping[str, Any], env: Mapping[str, str]) -> str:
    """Why a variable has no effect; empty where it has."""
    needs = fact.get("needs", "")
    if needs and not env.get(needs):
        return f"no effect without {needs}"
    if "overwritten" in fact:
        return f"no effect: {fact['overwritten']}"
    return f"no effect: {fact['inert']}" if "inert" in fact else ""


def _name_and_value(
    name: str, value: str, subject: str, known: Variables, vllm: Table
) -> Iterator[Finding]:
    """Is the name one that is read, and the value one that is understood?"""
    fact, read = known["rows"].get(name), (vllm or {}).get(name)
    if fact is not None and fact.get("internal"):
        return
    if read is not None or (fact is not None and not _is_vllms(name, vllm)):
        yield from _dated(name, subject, fact or {})
        wrong = values.problem(value, fact, read)
        if wrong:
            uri = fact["source"] if fact else _URI
            fix = _other_value(name, values.nearest(value, fact, read), fact or {})
            yield Finding("variable-value", wrong[0], subject, wrong[1], fix=fix, uri=uri)
    elif name in known["removed"] and (vllm is not None or fact is None):
        yield _removed(subject, known["removed"][name])
    elif _is_vllms(name, vllm):
        assert vllm is not None
        text, fix = "this vLLM does not read it", did_you_mean(name, vllm)
        yield Finding("variable-unknown", "warn", subject, text, fix=fix, uri=_URI)
    elif fact is None:
        yield from _misspelt(name, subject, known)


def _other_value(name: str, near: str, fact: Mapping[str, Any]) -> str:
    if not near:
        return f"unset {name}"
    unit = f" It is a whole number of {fact['unit']}" if "unit" in fact else ""
    return f"did you mean {near}?{unit}"


def _is_vllms(name: str, vllm: Table) -> bool:
    """Can vLLM's source tell whether there is such a name?"""
    return vllm is not None and name.startswith("VLLM_")


def _dated(name: str, subject: str, fact: Mapping[str, Any]) -> Iterator[Finding]:
    instead = f"use {fact['instead']}" if "instead" in fact else f"unset {name}"
    for key, status, text in (
        ("removed", "warn", "not read any more since"),
        ("deprecated", "note", "deprecated since"),
    ):
        if key in fact:
            words = f"{text} {fact['family']} {fact[key]}"
            uri = fact["source"]
            yield Finding(f"variable-{key}", status, subject, words, fix=instead, uri=uri)  # type: ignore[arg-type]


def _removed(subject: str, row: Mapping[str, str]) -> Finding:
    if "instead" in row:
        fix = f"use {row['instead']}"
    else:
        fix = f"leave it out: {row.get('reason', 'there is no replacement')}"
    return Finding(
        "variable-removed",
        "warn",
        subject,
        f"vLLM reads it no more: last in {row['last']}, gone in {row['absent']}",
        fix=fix,
        uri=_URI,
    )


def _misspelt(name: str, subject: str, known: Variables) -> Iterator[Finding]:
    """A name of a known family that is nearly, but not quite, one that is known."""
    family = next((f for f, prefixes, _ in known["families"] if name.startswith(prefixes)), "")
    if not family or family in ("vllm", "vllm-guard"):
        return
    rows = known["rows"].items()
    names = [o for o, row in rows if row["family"] == family and _may_be_near(name, o)]
    if not names:
        return
    import difflib

    near = difflib.get_close_matches(name, names, 1, _NEAR)
    if near and _is_typo(name, near[0]):
        text, fix = "not a documented name", f"did you mean {near[0]}?"
        uri = known["rows"][near[0]]["source"]
        yield Finding("variable-unknown", "warn", subject, text, fix=fix, uri=uri)


def _may_be_near(name: str, other: str) -> bool:
    """True of all that difflib would find, and cheap: its import costs more than the rest of an audit."""
    limit = (1 - _NEAR) * (len(name) + len(other))
    if abs(len(name) - len(other)) > limit:
        return False
    return sum(abs(name.count(char) - other.count(char)) for char in {*name, *other}) <= limit


def _is_typo(name: str, known: str) -> bool:
    """The same words but for a few letters: a word more, less or different makes another variable."""
    from difflib import SequenceMatcher

    ours, theirs = name.split("_"), known.split("_")
    pairs = zip(ours, theirs, strict=False)
    alike = all(SequenceMatcher(None, *pair).ratio() >= _ALIKE for pair in pairs)
    same_words = len(ours) == len(theirs) and ours[0] == theirs[0] and alike
    return same_words or "".join(ours) == "".join(theirs)


def _option(name: str, value: Any, origin: str, engine: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"{origin}: [engine] {name}"
    if name not in engine:
        yield Finding(
            "engine-option-unknown",
            "fail",
            subject,
            "this vLLM has no such engine argument",
            fix=did_you_mean(name, engine),
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name."""
    import difflib

    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else "leave it out"
