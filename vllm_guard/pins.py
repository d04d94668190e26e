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

from packaging.version import Version

from vllm_guard import (
    __version__,
    paths,
    profile_schema,
    profiles,
    repository,
    schema,
    screen,
)
from vllm_guard.errors import USAGE, GuardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.model import Origin, Profile, Source

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
    items: Iterable[Profile], root: str, folder: str, versions: Sequence[str], old: Iterable[Pin]
) -> tuple[dict[str, bytes], list[Pin]]:
    """What pinning these profiles writes: file (relative) -> its bytes, and the rows of the lock.

    What a file that stays in its place extends is copied beside it, where it is found first. Raises
    GuardError for what would not be the same profile there.
    """
    files: dict[str, bytes] = {}
    pins: dict[str, Pin] = {}
    locked = {row.file: row for row in old}
    for own, source in ((item.sources[-1], each) for item in items for each in item.sources):
        name = os.path.basename(source.path).removesuffix(profiles.SUFFIX)
        beside = os.path.dirname(place_of(own, root)) or folder
        file = place_of(source, root) or f"{beside}/{name}{profiles.SUFFIX}"
        if not _FILE.fullmatch(file):
            raise GuardError(f"profile {source.path}: its name is no plain word", "rename it")
        content = profiles.content_of(source)
        if files.setdefault(file, content) != content:
            raise GuardError(f"two profiles would be {file}", "rename one of them")
        _refuse_paths(source, content, root)
        origin = _first_origin(source, locked.get(file))
        pins[file] = Pin(name, file, source.digest, origin, __version__, tuple(versions))
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


def upstream(pin: Pin, env: Mapping[str, str]) -> Profile | None:
    """The profile that a copy was made of, as it is now; None for what was written in the repository."""
    if pin.origin not in ("builtin", "user"):
        return None
    try:
        return profiles.load_own(pin.name, env)
    except GuardError:
        return None


def place_of(source: Source, root: str) -> str:
    """The file's path from the root, where it lies where pins do; else empty."""
    relative = os.path.relpath(source.path, os.path.realpath(root))
    return relative if source.origin == "repository" and _FILE.fullmatch(relative) else ""


def _first_origin(source: Source, row: Pin | None) -> Origin:
    """Where a file came from: pinned anew in its place, a copy is still one."""
    if source.origin == "repository" and row is not None and row.sha256 == source.digest:
        return row.origin
    return source.origin


def _refuse_paths(source: Source, content: bytes, root: str) -> None:
    """A path may only lead to a file beside, of one that stays where it is: no copy would find it."""
    stays = bool(place_of(source, root))
    for word in profile_schema.parse(content)["extends"]:
        is_path = "/" in word or word.endswith(profiles.SUFFIX)
        beside = stays and os.path.basename(word) == os.path.normpath(word)
        if is_path and not beside:
            fact = f"profile {source.path} extends the path {word}, which cannot be locked with it"
            raise GuardError(fact, "put that file beside it, and extend it by its name")


def _make_folder(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    if os.path.islink(path) or not os.path.isdir(path):
        raise NotADirectoryError(None, "is no folder", path)


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
    if not found or found[1] != name or origin not in _ORIGINS or not is_version(guard):
        raise GuardError(
            f"{screen.shortened(file, 200)!r}: no row of ours", "pin the profiles again"
        )
    return Pin(name, file, digest, origin, guard, tuple(versions))  # type: ignore[arg-type]


def is_version(text: str) -> bool:
    """Is it a version by PEP 440?"""
    try:
        Version(text)
    except ValueError:  # also of a number that is too long for Python
        return False
    return True
