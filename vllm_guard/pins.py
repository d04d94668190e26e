"""Profiles pinned in a repository: copies, and a lock file that says what they were.

<root>/vllm-guard.lock            TOML, one [[profile]] for each file
<root>/.vllm-guard/NAME.toml      the copies, byte for byte, with all that they extend

A pin is written whole or not at all: first every new file beside its place, then the renames, the lock last.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from vllm_guard import (
    __version__,
    facts,
    paths,
    profile_schema,
    profiles,
    repository,
    schema,
    vllm_names,
)
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.model import Origin, Part, Profile, Source

    #: Names that an installed vLLM knows: its version, variables, engine arguments.
    Installed = tuple[str, Mapping[str, Any], Mapping[str, Any]]

LOCK = "vllm-guard.lock"
_FORMAT = 1
_HEAD = "# Written by `vllm-guard profile pin`, checked by `vllm-guard profile verify`.\n"
_KEYS = ("name", "file", "sha256", "from", "vllm_guard", "vllm")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILE = re.compile(rf"(?:{'|'.join(map(re.escape, repository.FOLDERS))})/({_NAME.pattern})\.toml")
_ORIGINS = ("builtin", "user", "repository", "path")
_MODE = 0o644  #: as a checkout makes them; git keeps no more of it


@dataclass(frozen=True)
class Pin:
    """One row of the lock."""

    name: str
    file: str  #: relative to the root
    sha256: str  #: of the file's bytes, hex
    origin: Origin  #: where it was copied from; `repository`: written there
    vllm_guard: str  #: the version that pinned it
    vllm: tuple[str, ...]  #: the versions that its keys were checked against


def root_here() -> str:
    """The root of the repository of the current folder. Raises GuardError (2) where there is none."""
    here = paths.cwd()
    root = repository.root_of(here)
    if not root and os.path.lexists(os.path.join(here, LOCK)):  # an image has no `.git`
        return here
    if not root:
        raise GuardError("no repository here", "git init", exit_code=USAGE)
    return root


def read_lock(root: str) -> tuple[Pin, ...]:
    """The rows of the lock, none where there is no lock. Raises GuardError (2) for anything else."""
    path = os.path.join(root, LOCK)
    if not os.path.lexists(path):
        return ()
    try:
        repository.refuse_foreign(path)
        data = profile_schema.toml(paths.read_regular(path, profile_schema.LIMIT))
        return tuple(_rows(data))
    except GuardError as error:
        message = f"{LOCK}: {error.message}".replace(f"{LOCK}: {path}", path)
        raise GuardError(message, error.hint, exit_code=USAGE) from None


def lock_text(pins: Iterable[Pin]) -> bytes:
    """The lock file with these rows."""
    rows = sorted(pins, key=lambda pin: pin.file)
    text = _HEAD + f"version = {_FORMAT}\n" + "".join(map(_row_text, rows))
    return text.encode()


def copies(
    items: Iterable[Profile], root: str, folder: str, versions: Sequence[str]
) -> tuple[dict[str, bytes], list[Pin]]:
    """What pinning these profiles writes: file (relative) -> its bytes, and the rows of the lock.

    Raises GuardError for what would not be the same profile there.
    """
    files: dict[str, bytes] = {}
    pins: dict[str, Pin] = {}
    for source in (source for item in items for source in item.sources):
        name = os.path.basename(source.path).removesuffix(profiles.SUFFIX)
        file = _place(source, root) or f"{folder}/{name}{profiles.SUFFIX}"
        if not _FILE.fullmatch(file):
            raise GuardError(f"profile {source.path}: its name is no plain word", "rename it")
        content = profiles.content_of(source)
        if files.setdefault(file, content) != content:
            raise GuardError(f"two profiles would be {file}", "rename one of them")
        if not _place(source, root):
            _refuse_paths(source, content)
        pins[file] = Pin(name, file, source.digest, source.origin, __version__, tuple(versions))
    return files, list(pins.values())


def write(root: str, files: Mapping[str, bytes]) -> None:
    """Write all of the files (relative path -> content), or none. Raises GuardError."""
    news: dict[str, str] = {}
    try:
        for file, content in files.items():
            path = os.path.join(root, file)
            _make_folder(os.path.dirname(path))
            new = f"{path}.{os.getpid()}.new"
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
            news[new] = path
            try:
                paths.write_all(fd, content)
            finally:
                os.close(fd)
        for new, path in news.items():
            os.replace(new, path)
    except OSError as error:
        raise GuardError(f"nothing is pinned: {error.filename}: {error.strerror}") from None
    finally:
        for new in news:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)


def verify(
    root: str, pins: Sequence[Pin], env: Mapping[str, str], installed: Installed | None
) -> Iterator[tuple[str, Finding]]:
    """(file, finding) for each pin that is not as the lock says, and for what the lock does not have."""
    for pin in pins:
        path = os.path.join(root, pin.file)
        try:
            item = profiles.load_profile(path, env)
        except GuardError as error:
            gone = "pin-invalid" if os.path.lexists(path) else "pin-missing"
            yield pin.file, Finding(gone, "fail", pin.name, error.message, fix=error.hint)
            continue
        if item.digest != pin.sha256:
            fact = f"its sha256 is {item.digest[:12]}.., the lock has {pin.sha256[:12]}.."
            fix = f"git checkout {pin.file}; or, if it is meant: vllm-guard profile pin {pin.file}"
            yield pin.file, Finding("pin-drift", "fail", pin.name, fact, fix=fix)
        for finding in unknown_keys(item, pin.vllm, installed):
            yield pin.file, finding
    known = {pin.file for pin in pins}
    for file in _files(root, known):
        fix = f"vllm-guard profile pin {file}"
        yield file, Finding("pin-unlocked", "warn", file, "is not in the lock", fix=fix)


def outdated(pins: Iterable[Pin]) -> Iterator[tuple[str, Finding]]:
    """(file, finding) for each copy of a built-in profile that this vllm-guard has another version of."""
    for pin in pins:
        if pin.origin != "builtin":
            continue
        if Version(pin.vllm_guard) > Version(__version__):
            fact = f"pinned with vllm-guard {pin.vllm_guard}; this is {__version__}"
            yield pin.file, Finding("pin-guard-older", "note", pin.name, fact)
        elif profiles.builtin_digest(pin.name) != pin.sha256:
            fact = f"pinned with vllm-guard {pin.vllm_guard}; that of {__version__} is another"
            fix = f"vllm-guard profile diff {pin.name}; vllm-guard profile pin {pin.name}"
            yield pin.file, Finding("pin-outdated", "fail", pin.name, fact, fix=fix)


def unknown_keys(
    item: Profile, versions: Iterable[str], installed: Installed | None
) -> Iterator[Finding]:
    """A finding for each variable of vLLM's and engine option that one of these versions does not know."""
    table = facts.load("vllm_names")
    for version in versions:
        own = installed if installed and installed[0] == version else None
        parts = [part for _, part in profiles.settings_for((item,), version)]
        for kind, name in dict.fromkeys(_names(parts)):
            if own is not None:
                known: bool | None = name in own[1 if kind == "variables" else 2]
            else:
                known = vllm_names.knows(name, kind, version, table)
            if known is False:
                fact = f"vLLM {version} does not know {name}"
                yield Finding("pin-unknown-key", "fail", f"profile {item.name}", fact)
            elif known is None:
                fact = f"whether vLLM {version} knows {name} was not checked: not among the samples"
                yield Finding("pin-unknown-key", "unknown", f"profile {item.name}", fact)


def upstream(pin: Pin, env: Mapping[str, str]) -> Source | None:
    """The profile that a copy was made of, as it is now; None for what was written in the repository."""
    if pin.origin not in ("builtin", "user"):
        return None
    try:
        return profiles.load_own(pin.name, env).sources[-1]
    except GuardError:
        return None


def _names(parts: Iterable[Part]) -> Iterator[tuple[vllm_names.Kind, str]]:
    """What only some versions know; unsetting a variable that is gone does no harm."""
    rows = facts.variables()["rows"]
    for part in parts:
        for setting in part.settings:
            internal = rows.get(setting.name, {}).get("internal", False)
            is_set = setting.kind in ("set", "default")
            if is_set and setting.name.startswith("VLLM_") and not internal:
                yield "variables", setting.name
        yield from (("engine", name) for name, _ in part.engine)


def _place(source: Source, root: str) -> str:
    """The file's path from the root, where it lies among the repository's profiles already; else empty."""
    relative = os.path.relpath(source.path, os.path.realpath(root))
    return relative if source.origin == "repository" and _FILE.fullmatch(relative) else ""


def _refuse_paths(source: Source, content: bytes) -> None:
    for word in profile_schema.parse(content)["extends"]:
        if "/" in word or word.endswith(profiles.SUFFIX):
            fact = f"profile {source.path} extends the path {word}, which a copy would not find"
            raise GuardError(fact, "extend it by its name")


def _make_folder(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if os.path.islink(path) or not os.path.isdir(path):
        raise NotADirectoryError(None, "is no folder", path)


def _files(root: str, known: Iterable[str]) -> Iterator[str]:
    """Profiles that lie where pins do, and are none."""
    folders = {repository.FOLDERS[0], *(os.path.dirname(file) for file in known)}
    for folder in sorted(folders):
        place = os.path.join(root, folder)
        names = sorted(os.listdir(place)) if os.path.isdir(place) else ()
        files = (f"{folder}/{name}" for name in names if name.endswith(profiles.SUFFIX))
        yield from (file for file in files if file not in known)


def _row_text(pin: Pin) -> str:
    values = (pin.name, pin.file, pin.sha256, pin.origin, pin.vllm_guard, list(pin.vllm))
    pairs = zip(_KEYS, values, strict=True)
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in pairs)
    return "\n[[profile]]\n" + "".join(lines)


def _rows(data: Mapping[str, Any]) -> Iterator[Pin]:
    schema.only(data, ("version", "profile"), "")
    if data.get("version") != _FORMAT:
        raise GuardError(f"`version` is not {_FORMAT}", "it was written by another vllm-guard")
    rows = data.get("profile", [])
    if not isinstance(rows, list):
        raise GuardError("`profile` is not a list of tables", "pin the profiles again")
    for row in rows:
        if not isinstance(row, dict):
            raise GuardError("`profile` is not a list of tables", "pin the profiles again")
        schema.only(row, _KEYS, "profile.")
        yield _pin(row)


def _pin(row: Mapping[str, Any]) -> Pin:
    texts = [row.get(key) for key in _KEYS[:-1]]
    versions = row.get("vllm")
    if not isinstance(versions, list) or not all(isinstance(v, str) for v in (*texts, *versions)):
        raise GuardError(f"a [[profile]] needs {', '.join(_KEYS)}", "pin the profiles again")
    name, file, digest, origin, guard = map(str, texts)
    found = _FILE.fullmatch(file)
    if not found or found[1] != name or origin not in _ORIGINS or not _is_version(guard):
        raise GuardError(f"{file!r}: no row of ours", "pin the profiles again")
    return Pin(name, file, digest, origin, guard, tuple(versions))  # type: ignore[arg-type]


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
