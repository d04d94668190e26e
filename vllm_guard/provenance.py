"""Where a variable came from: the process that first had it, and the files that set it.

The files are read, never run. What a process was started with is in `/proc/PID/environ`; what it set for
itself later shows in its children only.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard import assignments, environment, paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LIMIT = 1 << 20  #: bytes of one file; a start-up file is small
_FOLDER_LIMIT = 200  #: files
_DEPTH = 3  #: how far `source` is followed
#: A folder stands for its files; `~` is the home.
_FILES = (
    "/etc/environment",
    "/etc/environment.d",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    *(
        f"/etc/{folder}{name}"
        for folder in ("", "zsh/")
        for name in ("zshenv", "zprofile", "zshrc", "zlogin")
    ),
    "/etc/fish/config.fish",
    "/etc/fish/conf.d",
    "/etc/csh.cshrc",
    "/etc/csh.login",
    "/etc/systemd/system.conf",
    "/etc/systemd/user.conf",
    "~/.pam_environment",
    "~/.ssh/environment",
    "~/.config/environment.d",
    "~/.profile",
    "~/.bash_profile",
    "~/.bash_login",
    "~/.bashrc",
    "~/.zshenv",
    "~/.zprofile",
    "~/.zshrc",
    "~/.zlogin",
    "~/.config/fish/conf.d",
    "~/.config/fish/config.fish",
    "~/.config/fish/fish_variables",
    "~/.cshrc",
    "~/.tcshrc",
    "~/.login",
)
_NAMED = ("BASH_ENV", "ENV")  #: variables that name a file which shells read
_IN_FOLDERS = (".env", ".envrc")  #: of the working folder and those above it
_UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_USER_UNITS = ("~/.config/systemd/user", "/etc/systemd/user", "/usr/lib/systemd/user")


@dataclass(frozen=True)
class Place:
    """A line that sets a variable."""

    path: str
    line: int
    value: str | None  #: None where the file is not run to learn it

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Origins:
    """Looks everything up once, for as many variables as are asked for."""

    def __init__(self, env: Mapping[str, str], cwd: str, pid: int) -> None:
        self._ancestors = list(_ancestors(pid))
        self._places: dict[str, list[Place]] = {}
        seen: set[str] = set()
        files = list(_paths(env, cwd, pid))
        for _ in range(_DEPTH + 1):
            files = [path for path in dict.fromkeys(files) if path not in seen]
            seen.update(files)
            files = [other for path in files for other in self._enter(path, env)]

    def of(self, name: str, value: str) -> Iterator[str]:
        """In words: the lines that set it to that value, or that may; then the process that first had it."""
        places = self._places.get(name, [])
        exact = [place for place in places if place.value == value]
        for place in exact or [place for place in places if place.value is None]:
            yield f"from {place}"
        holder = self._first_holder(name, value)
        if holder:
            yield holder

    def _first_holder(self, name: str, value: str) -> str:
        held = ""
        for pid, command, environ in self._ancestors:  # the nearest first
            if environ.get(name) != value:
                return held or f"set below process {pid} ({command}), which was started without it"
            held = f"process {pid} ({command}) was started with it"
            if pid == 1:
                held += ": the container's or the machine's own configuration"
        return held

    def _enter(self, path: str, env: Mapping[str, str]) -> list[str]:
        """Note what a file sets; the files that it includes."""
        text = _text(path)
        try:
            found = assignments.read(path, text)
        except ValueError:
            return []
        for item in found:
            place = Place(path, item.line, item.value)
            if place not in self._places.setdefault(item.name, []):
                self._places[item.name].append(place)
        return list(_included(path, text, paths.home(env)))


def _paths(env: Mapping[str, str], cwd: str, pid: int) -> Iterator[str]:
    home = paths.home(env)
    for name in (*_FILES, *_zdotdir(env), *filter(None, map(env.get, _NAMED))):
        yield from _files(_expanded(name, home))
    for prefix in (env.get("CONDA_PREFIX"), env.get("VIRTUAL_ENV")):
        if prefix:
            yield from _files(os.path.join(prefix, "etc", "conda", "activate.d"))
            yield os.path.join(prefix, "bin", "activate")
    for folder in _upwards(cwd):
        yield from (os.path.join(folder, name) for name in _IN_FOLDERS)
    yield from _unit_files(pid, home)


def _zdotdir(env: Mapping[str, str]) -> list[str]:
    folder = env.get("ZDOTDIR", "")
    return (
        [os.path.join(folder, f".{n}") for n in ("zshenv", "zprofile", "zshrc", "zlogin")]
        if folder
        else []
    )


def _expanded(name: str, home: str) -> str:
    return home + name[1:] if name.startswith("~") else name


def _files(path: str) -> list[str]:
    """A file, or the files of a folder."""
    try:
        return sorted(os.path.join(path, n) for n in os.listdir(path))[:_FOLDER_LIMIT]
    except NotADirectoryError:
        return [path]
    except OSError:
        return []


def _upwards(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            return
        folder = above


def _unit_files(pid: int, home: str) -> Iterator[str]:
    """The unit that the process runs in, with its drop-ins, and the service manager's own."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            parts = {part for line in file for part in line.rstrip("\n").split("/")}
    except OSError:
        return
    for unit in sorted(part for part in parts if part.endswith((".service", ".slice", ".scope"))):
        template = f"{unit.partition('@')[0]}@.service" if "@" in unit else unit
        for folder in (*_UNITS, *(_expanded(name, home) for name in _USER_UNITS)):
            for name in dict.fromkeys((unit, template)):
                yield os.path.join(folder, name)
                yield from _files(os.path.join(folder, f"{name}.d"))


def _included(path: str, text: str, home: str) -> Iterator[str]:
    """The files that `source`, `.` and `EnvironmentFile=` name in so many words."""
    for line in text.splitlines():
        words = [] if line.lstrip().startswith("#") else line.split()
        if words[:1] and words[0].startswith("EnvironmentFile="):
            yield words[0].partition("=")[2].removeprefix("-")
        for before, word in itertools.pairwise(words):
            if before in ("source", "."):
                plain = word.strip("\"';")
                for mark in ("$HOME", "${HOME}", "~"):
                    plain = home + plain[len(mark) :] if plain.startswith(mark) else plain
                if "$" not in plain:
                    yield os.path.join(os.path.dirname(path), plain)


def _text(path: str) -> str:
    try:
        return paths.peek(path, _LIMIT).decode("utf-8", "surrogateescape")
    except (OSError, ValueError):
        return ""


def _ancestors(pid: int) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The process and those above it: pid, command and environment, as far as we may look."""
    while pid > 0:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                head, _, rest = file.read().rpartition(")")
            yield pid, head.partition("(")[2], environment.view(environment.of_process(pid))
        except OSError:
            return
        pid = int(rest.split()[1])
