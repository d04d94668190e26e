"""Profiles: found by name, read once, parsed from the very bytes that were hashed.

Later wins: built in, the user's own, the repository's, a file named on the command line. What a repository
says is marked as doubted: `trust` decides whether it may be used.
"""

from __future__ import annotations

import os

from vllm_guard import cache, paths, repository, screen
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Part, Profile, Setting, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any

    from vllm_guard.model import Origin
else:
    from vllm_guard.frozen import dataclass

SUFFIX = ".toml"
_LIMIT = 32 << 10  #: bytes; as in `profile_schema`, which the launch path does not load
_DEEPEST = 4  #: files that extend each other in a row
_ROWS = 2  #: the shape of the rows that are kept between runs
_SHOWN = 200  #: characters of a message that quotes the file


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
    return load_found(find(name, env), env)


def load_found(found: Found, env: Mapping[str, str]) -> Profile:
    """A profile that `list_profiles` named. Raises GuardError (125) when it cannot be used."""
    return _load(found, env, (), set(), doubted=False)


def find(name: str, env: Mapping[str, str]) -> Found:
    """The file that `-p NAME` means; its content is not looked at. Raises GuardError (2) for none."""
    return _find(name, _folders(env), env)


def list_profiles(env: Mapping[str, str]) -> list[Found]:
    """What can be named with `-p`, by name; a repository's profile hides a user's, that a built-in one."""
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


def load_own(name: str, env: Mapping[str, str]) -> Profile:
    """The built-in or the user's own profile of that name, whatever a repository has; raises the same."""
    return load_found(_find(name, _own_folders(env), env), env)


def content_of(source: Source) -> bytes:
    """The bytes of a profile's file, as they were parsed. Raises GuardError where they are no more."""
    from hashlib import sha256

    content = _content(source.path, source.origin)
    if sha256(content).hexdigest() != source.digest:
        raise GuardError(f"profile {source.path} has just been changed", "try again")
    return content


def builtin_digest(name: str) -> str:
    """Of the built-in profile of that name: a copy of it is as good. Empty for none."""
    path = _file(paths.shipped("profiles"), name)
    return _read(Found(name, "builtin", path))[0] if os.path.isfile(path) else ""


def _own_folders(env: Mapping[str, str]) -> list[tuple[Origin, str]]:
    """Where profiles lie whatever the current folder is."""
    folder = os.path.join(paths.base_dir("config", env), "profiles")
    user: Origin = "repository" if repository.is_planted("config", env) else "user"
    return [("builtin", paths.shipped("profiles")), (user, folder)]


def _folders(env: Mapping[str, str]) -> list[tuple[Origin, str]]:
    """Where profiles are looked for, the strongest last."""
    own = _own_folders(env)
    known = {os.path.realpath(folder) for _, folder in own}
    nearest_first = [f for f in repository.profile_folders(env) if os.path.isdir(f)]
    others = [f for f in reversed(nearest_first) if os.path.realpath(f) not in known]
    return [*own, *(("repository", folder) for folder in others)]


def _find(
    name: str, folders: Sequence[tuple[Origin, str]], env: Mapping[str, str], beside: str = ""
) -> Found:
    """`beside` is the folder that a path is relative to, the current one by default."""
    if "/" in name or name.endswith(SUFFIX):
        path = os.path.join(beside, name)
        if not os.path.lexists(path):
            raise GuardError(f"no such profile: {name}", "check the path", exit_code=USAGE)
        file = os.path.basename(path)
        return Found(file.removesuffix(SUFFIX) or file, _origin_of(path, env), path)
    for origin, folder in reversed(folders):
        if name in _stems(folder):
            return Found(name, origin, _file(folder, name))
    raise GuardError(f"no such profile: {name}", _hint(name, env), exit_code=USAGE)


def _origin_of(path: str, env: Mapping[str, str]) -> Origin:
    """A file is judged by where it lies, however it was named."""
    folder = os.path.realpath(os.path.dirname(path))
    for origin, known in _own_folders(env):
        if folder == os.path.realpath(known):
            return origin
    return "repository" if repository.holds(path) else "path"


def _hint(name: str, env: Mapping[str, str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, [row.name for row in list_profiles(env)], 1)
    return f"did you mean {near[0]}?" if near else "see vllm-guard profile list"


def _load(
    found: Found, env: Mapping[str, str], above: Sequence[str], seen: set[str], doubted: bool
) -> Profile:
    """`above`: the files that extend this one, so that a circle ends; `doubted`: one is a repository's.

    `seen`: the files so far: one that several extend counts once, where it comes first.
    What a repository makes of a user's own profile is as doubtful as what it writes itself.
    """
    real = os.path.realpath(found.path)
    if real in above:
        raise GuardError(f"profile {found.path} extends itself", "take it out of `extends`")
    if len(above) >= _DEEPEST:
        raise GuardError(f"profile {above[0]} extends through more than {_DEEPEST} files in a row")
    seen.add(real)
    digest, rows = _read(found)
    in_repository = found.origin == "repository"
    folders = _own_folders(env)
    if in_repository:
        folders.append(("repository", os.path.dirname(found.path)))
    doubted = doubted or in_repository
    bases = []
    for base in (_base(name, folders, env, found) for name in rows["extends"]):
        there = os.path.realpath(base.path)
        if there not in seen or there in (*above, real):
            bases.append(_load(base, env, (*above, real), seen, doubted))
    known = found.origin == "builtin" or (in_repository and digest == builtin_digest(found.name))
    own = tuple(_part(row, doubted and not known) for row in rows["parts"])
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
        sources=(*(s for base in bases for s in base.sources), Source(real, digest, found.origin)),
    )


def _base(
    name: str, folders: Sequence[tuple[Origin, str]], env: Mapping[str, str], found: Found
) -> Found:
    """A profile that `found` extends; that it is missing is the file's fault, not the command line's."""
    try:
        return _find(name, folders, env, os.path.dirname(found.path))
    except GuardError as error:
        named = screen.shortened(name, _SHOWN)
        raise GuardError(f"profile {found.path} extends {named!r}: none", error.hint) from None


def _read(found: Found) -> tuple[str, dict[str, Any]]:
    """Digest and rows of one file, from one reading of it."""
    content = _content(found.path, found.origin)

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


def _content(path: str, origin: Origin) -> bytes:
    if origin == "builtin":  # uv may install the files of a package as symbolic links
        with open(path, "rb") as file:
            return file.read(_LIMIT)
    if origin == "repository":
        repository.refuse_foreign(path)
    return paths.read_regular(path, _LIMIT)


def _part(row: Any, doubted: bool) -> Part:
    specifier, settings, engine, probes, remove = row
    made = tuple(Setting(*setting) for setting in settings)
    return Part(specifier, made, engine, probes, remove, doubted)


def _matches(specifier: str, version: str) -> bool:
    """PEP 440, pre-releases and local versions such as `0.32.0+cpu` included; an unknown one is none."""

    def compute() -> bool:
        from packaging.specifiers import SpecifierSet

        try:
            return SpecifierSet(specifier).contains(version, prereleases=True)
        except ValueError:
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
