"""Profiles: found by name, read once, parsed from the very bytes that were hashed.

Later wins: built in, the user's own, a file named on the command line. A repository's profiles are used
only when their file is named.
"""

from __future__ import annotations

import os

from vllm_guard import cache, paths, screen
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Part, Profile, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any, Literal

    Origin = Literal["builtin", "user", "path"]
else:
    from vllm_guard.frozen import dataclass

SUFFIX = ".toml"
_LIMIT = 32 << 10  #: bytes; as in `profile_schema`, which the launch path does not load
_DEEPEST = 4  #: files that extend each other in a row
_ROWS = 2  #: the shape of the rows that are kept between runs
_SHOWN = 200  #: characters of a message that quotes the file
_IN_REPOSITORY = ("profiles", ".vllm-guard")


@dataclass(frozen=True)
class Found:
    """A profile that can be named with `-p`."""

    name: str
    origin: Origin
    path: str
    shadowed: bool = False  #: another one of that name wins


def load_profile(name: str, env: Mapping[str, str]) -> Profile:
    """The profile of that name, or in that file, on top of what it extends.

    Raises GuardError: status 2 when there is none, 125 when it cannot be used.
    """
    return load_found(_find(name, env), env)


def load_found(found: Found, env: Mapping[str, str]) -> Profile:
    """A profile that `list_profiles` named. Raises GuardError (125) when it cannot be used."""
    return _load(found, env, ())


def list_profiles(env: Mapping[str, str]) -> list[Found]:
    """What can be named with `-p`, by name; a user's profile hides a built-in one."""
    found: dict[str, list[Found]] = {}
    for origin, folder in _folders(env):
        for name in _stems(folder):
            found.setdefault(name, []).append(Found(name, origin, _file(folder, name)))
    rows = []
    for name in sorted(found):
        *hidden, winner = found[name]
        rows += [Found(row.name, row.origin, row.path, shadowed=True) for row in hidden]
        rows.append(winner)
    return rows


def settings_for(profiles: Iterable[Profile], version: str | None) -> list[tuple[str, Part]]:
    """(origin, part) of all that applies to this vLLM, the strongest last.

    Without a known version, only what applies to every one.
    """
    return [
        (f"profile {profile.name}", part)
        for profile in profiles
        for part in profile.parts
        if not part.vllm or (version is not None and _matches(part.vllm, version))
    ]


def meant_for(profile: Profile, version: str) -> bool:
    """Is this vLLM among the versions that the profile is written for?"""
    return not profile.vllm or _matches(profile.vllm, version)


def _folders(env: Mapping[str, str]) -> tuple[tuple[Origin, str], ...]:
    user = os.path.join(paths.base_dir("config", env), "profiles")
    return (("builtin", paths.shipped("profiles")), ("user", user))


def _find(name: str, env: Mapping[str, str], beside: str = "") -> Found:
    """`beside` is the folder that a path is relative to, the current one by default."""
    if "/" in name or name.endswith(SUFFIX):
        path = os.path.join(beside, name)
        if not os.path.lexists(path):
            raise GuardError(f"no such profile: {name}", "check the path", exit_code=USAGE)
        stem = os.path.basename(path)
        return Found(stem.removesuffix(SUFFIX), "path", path)
    for origin, folder in reversed(_folders(env)):
        if name in _stems(folder):
            return Found(name, origin, _file(folder, name))
    raise GuardError(f"no such profile: {name}", _hint(name, env), exit_code=USAGE)


def _hint(name: str, env: Mapping[str, str]) -> str:
    import difflib

    in_repository = _in_repository(name)
    if in_repository:
        return f"the repository has one; to use it, name its file: -p {in_repository}"
    near = difflib.get_close_matches(name, [row.name for row in list_profiles(env)], 1)
    return f"did you mean {near[0]}?" if near else "see vllm-guard profile list"


def _in_repository(name: str) -> str:
    """The file of that name in this repository, as a path from here; its content is not looked at."""
    try:
        folder = here = os.getcwd()
    except OSError:
        return ""
    while True:
        for kind in _IN_REPOSITORY:
            path = _file(os.path.join(folder, kind), name)
            if os.path.isfile(path):
                return os.path.join(".", os.path.relpath(path, here))
        parent = os.path.dirname(folder)
        if parent == folder or os.path.lexists(os.path.join(folder, ".git")):
            return ""
        folder = parent


def _load(found: Found, env: Mapping[str, str], above: Sequence[str]) -> Profile:
    """`above`: the files that extend this one, so that a circle ends."""
    real = os.path.realpath(found.path)
    if real in above:
        raise GuardError(f"profile {found.path} extends itself", "take it out of `extends`")
    if len(above) >= _DEEPEST:
        raise GuardError(f"profile {above[0]} extends through more than {_DEEPEST} files in a row")
    digest, rows = _read(found)
    beside = os.path.dirname(found.path)
    bases = [_load(_base(n, env, found, beside), env, (*above, real)) for n in rows["extends"]]
    own = tuple(_part(row) for row in rows["parts"])
    return Profile(
        name=found.name,
        origin=found.origin,
        path=found.path,
        digest=digest,
        summary=rows["summary"],
        cost=rows["cost"] or " ".join(base.cost for base in bases if base.cost),
        uri=rows["uri"] or next((base.uri for base in bases if base.uri), ""),
        vllm=",".join(spec for spec in (*(base.vllm for base in bases), rows["vllm"]) if spec),
        parts=(*(part for base in bases for part in base.parts), *own),
    )


def _base(name: str, env: Mapping[str, str], found: Found, beside: str) -> Found:
    """A profile that `found` extends; that it is missing is the file's fault, not the command line's."""
    try:
        return _find(name, env, beside)
    except GuardError as error:
        named = screen.shortened(name, _SHOWN)
        raise GuardError(f"profile {found.path} extends {named!r}: none", error.hint) from None


def _read(found: Found) -> tuple[str, dict[str, Any]]:
    """Digest and rows of one file, from one reading of it."""
    if found.origin == "builtin":  # uv may install the files of a package as symbolic links
        with open(found.path, "rb") as file:
            content = file.read(_LIMIT)
    else:
        content = paths.read_regular(found.path, _LIMIT)

    def parse() -> tuple[str, dict[str, Any]]:
        import hashlib

        from vllm_guard import profile_schema

        try:
            return hashlib.sha256(content).hexdigest(), profile_schema.parse(content)
        except GuardError as error:
            message, hint = (screen.shortened(s, _SHOWN) for s in (error.message, error.hint))
            raise GuardError(f"profile {found.path}: {message}", hint) from None

    key = (_ROWS, content)
    return cache.remember(f"profile-{found.path}", key, parse)  # type: ignore[no-any-return]


def _part(row: Any) -> Part:
    specifier, settings, engine, probes, remove = row
    return Part(specifier, tuple(Setting(*setting) for setting in settings), engine, probes, remove)


def _matches(specifier: str, version: str) -> bool:
    """PEP 440, pre-releases and local versions such as `0.32.0+cpu` included; an unknown one is none."""

    def compute() -> bool:
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion

        try:
            return SpecifierSet(specifier).contains(version, prereleases=True)
        except InvalidVersion:
            return False

    key = (specifier, version)
    return cache.remember(f"version-{version}-{specifier}", key, compute)  # type: ignore[no-any-return]


def _stems(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    shown = (name for name in names if not name.startswith("."))
    return [name.removesuffix(SUFFIX) for name in shown if name.endswith(SUFFIX)]


def _file(folder: str, name: str) -> str:
    return os.path.join(folder, name + SUFFIX)
