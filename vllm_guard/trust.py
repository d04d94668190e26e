"""May a repository's profile be used? By what it changes, and by what the user decided about its bytes.

Decisions lie in the guard's state folder, one file each:
<state>/trust/<key>.allow                    of exactly these bytes at this path, with all that they extend
<state>/trust/<sha256 of the path>.deny      of the file, whatever is in it; wins

Nothing that lies in a repository grants trust, and neither does the environment: a state folder that a
variable moves into a repository, or below the current folder, is not believed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard import facts, paths, repository, screen, values
from vllm_guard.errors import GuardError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Any, Literal

    from vllm_guard.facts import Variables
    from vllm_guard.model import Part, Profile, Setting

    State = Literal["denied", "allowed", "given", "safe", "blocked"]

PREFIX = "sha256:"  #: of the words of `--trust`
_SCHEMA = 1  #: of what a key is made from
_LIMIT = 8192  #: bytes of a decision: a path
_MOST_NAMED = 12  #: reasons in one message
_RISKS = {
    "exec": "can execute code",
    "network": "can open or redirect the network",
    "secret": "holds or moves a token",
    "privacy": "can send or store what is private",
    "perf": "changes how vLLM works",
}
_WORST_FIRST = ("exec", "unknown", "network", "secret", "privacy", "value", "perf")


@dataclass(frozen=True)
class Doubt:
    """One change that is not known to be safe."""

    risk: str  #: of `_WORST_FIRST`
    name: str  #: of the variable, engine option, probe or removal
    phrase: str


def key(profile: Profile) -> str:
    """sha256 (hex) over schema version, real path and bytes of the profile and of all that it extends.

    Built-in profiles are left out: they come with the program that reads them.
    """
    from hashlib import sha256

    whole = sha256(f"vllm-guard profile {_SCHEMA}\n".encode())
    for source in profile.sources:
        if source.origin != "builtin":
            whole.update(os.fsencode(source.path) + b"\0" + source.digest.encode() + b"\n")
    return whole.hexdigest()


def state(profile: Profile, env: Mapping[str, str], given: Collection[str] = ()) -> State:
    """What is decided about a profile that `is_doubted`. `given`: the words of `--trust`."""
    if _denied(profile, env):
        return "denied"
    own = key(profile)
    if PREFIX + own in given:
        return "given"
    if _is_kept(_allow_file(own, env)) and not _is_planted(env):
        return "allowed"
    return "blocked" if doubts(profile) else "safe"


def refusal(
    profile: Profile, env: Mapping[str, str], given: Collection[str] = ()
) -> GuardError | None:
    """Why it may not be used, with the command that lets it; None where it may."""
    if not profile.is_doubted:
        return None
    found = state(profile, env, given)
    if found == "denied":
        path = _denied(profile, env)
        hint = f"to undo that: vllm-guard profile allow {quoted(path)}"
        return GuardError(f"profile {screen.shortened(path, 200)} is denied", hint)
    if found != "blocked":
        return None
    allow = f"vllm-guard profile allow {quoted(profile.path)}"
    shown = screen.shortened(profile.path, 200)
    named = reasons(profile)
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    why = "; ".join(named[:_MOST_NAMED])
    hint = f"read it (vllm-guard profile show {quoted(profile.path)}), then: {allow}"
    return GuardError(f"profile {shown} is not allowed: {why}{more}", hint)


def reasons(profile: Profile) -> list[str]:
    """What a repository's profile would change that is not known to be safe, in phrases, the worst first."""
    return list(dict.fromkeys(doubt.phrase for doubt in doubts(profile)))


def doubts(profile: Profile) -> list[Doubt]:
    """The same, with what each is about."""
    doubted = [part for part in profile.parts if part.doubted]
    if not doubted:
        return []
    found = _doubts(doubted, facts.variables(), facts.load("engine_risks"))
    return sorted(dict.fromkeys(found), key=lambda doubt: _WORST_FIRST.index(doubt.risk))


def allow(profile: Profile, env: Mapping[str, str]) -> None:
    """Remember that these bytes at this path may be used. Raises GuardError where that cannot be kept."""
    if _is_planted(env):
        folder = screen.printable(_folder(env))
        name = "XDG_STATE_HOME" if os.path.isabs(env.get("XDG_STATE_HOME", "")) else "HOME"
        fact = f"{folder} lies in a repository or below this folder: no decision is kept there"
        raise GuardError(fact, f"{name} put it there: unset that, or name another folder")
    _keep(_allow_file(key(profile), env), profile.path)
    _forget(_deny_file(profile.sources[-1].path, env))


def deny(profile_path: str, env: Mapping[str, str]) -> None:
    """Remember that the file is not to be used, whatever is in it."""
    real = os.path.realpath(profile_path)
    _keep(_deny_file(real, env), real)


def quoted(path: str) -> str:
    """The path as a word of a shell's line."""
    from shlex import quote

    return screen.printable(quote(path))


def _doubts(parts: Iterable[Part], known: Variables, engine: Mapping[str, Any]) -> Iterator[Doubt]:
    for part in parts:
        for setting in part.settings:
            if setting.kind != "required":  # that changes nothing
                yield from _about_setting(setting, known["rows"].get(setting.name))
        for name, value in part.engine:
            if not _is_safe_option(name, value, engine):
                phrase = f"engine option {name} is not known to be safe"
                yield Doubt("unknown", name, phrase)
        for probe in part.probes:
            phrase = f"it asks for the probe {probe}, which may run code of your environment"
            yield Doubt("unknown", probe, phrase)
        for what in part.remove:
            phrase = f'remove "{what}" unsets what your environment holds'
            yield Doubt("perf", what, phrase)


def _about_setting(setting: Setting, fact: Mapping[str, Any] | None) -> Iterator[Doubt]:
    verb = "unsets" if setting.kind == "unset" else "sets"
    name = setting.name
    if fact is None:
        yield Doubt("unknown", name, f"it {verb} {name}, which is not known")
    elif fact["risk"] != "safe":
        yield Doubt(fact["risk"], name, f"it {verb} {name}, which {_RISKS[fact['risk']]}")
    elif setting.kind != "unset":
        wrong = values.problem(setting.value, fact, None)
        if wrong or "/" in setting.value or not setting.value.isprintable():
            shown = screen.shortened(setting.value, 60)
            yield Doubt(
                "value", name, f"it sets {name} to '{shown}', which is not known to be safe"
            )


def _is_safe_option(name: str, value: Any, engine: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return value in engine["words"].get(name, ())
    return isinstance(value, (bool, int, float)) and name in engine["plain"]


def _denied(profile: Profile, env: Mapping[str, str]) -> str:
    """The file that is denied, of the profile and all that it extends; empty for none."""
    files = (source.path for source in profile.sources if source.origin == "repository")
    return next((path for path in files if os.path.lexists(_deny_file(path, env))), "")


def _is_planted(env: Mapping[str, str]) -> bool:
    return repository.is_planted("state", env)


def _folder(env: Mapping[str, str]) -> str:
    return os.path.join(paths.base_dir("state", env), "trust")


def _allow_file(own_key: str, env: Mapping[str, str]) -> str:
    return os.path.join(_folder(env), f"{own_key}.allow")


def _deny_file(real_path: str, env: Mapping[str, str]) -> str:
    from hashlib import sha256

    name = sha256(f"vllm-guard path {_SCHEMA}\n".encode() + os.fsencode(real_path)).hexdigest()
    return os.path.join(_folder(env), f"{name}.deny")


def _is_kept(path: str) -> bool:
    """A decision counts only as this user's own file."""
    try:
        return bool(paths.read_regular(path, _LIMIT, own=True))
    except GuardError:
        return False


def _keep(path: str, about: str) -> None:
    try:
        paths.make_private(os.path.dirname(path))
        paths.write_private(path, os.fsencode(os.path.realpath(about)) + b"\n")
    except OSError as error:
        raise GuardError(f"the decision cannot be kept: {error}") from None


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise GuardError(f"the decision cannot be kept: {error}") from None
