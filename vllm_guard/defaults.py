"""`vllm-guard.toml` at a repository's root: profiles where none is asked for, and findings to ignore.

It is the repository's, so it can say nothing else, and a note tells what it says. It grants no trust: the
profiles it names are judged as if they had been asked for, and one of the user's own it cannot choose.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vllm_guard import finding_ids, paths, profile_schema, profiles, repository, schema, screen
from vllm_guard.errors import GuardError
from vllm_guard.frozen import replace
from vllm_guard.model import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.options import RunOptions

_KEYS = ("profiles", "ignore")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def applied(
    options: RunOptions, path: str, env: Mapping[str, str]
) -> tuple[RunOptions, list[Finding]]:
    """The options with what the file at `path` adds, and a note that says so. Raises GuardError (125).

    A file that others own or can write is left out with a warning: one above, in a shared folder, would
    otherwise stop the launches of everybody below it.
    """
    try:
        repository.refuse_foreign(path)
    except GuardError as error:
        fact = f"not used: {error.message}"
        return options, [Finding("repository-defaults", "warn", path, fact, fix=error.hint)]
    names, ignored = _read(path)
    if options.profiles:
        names = ()  # the user has chosen
    for name in names:
        _refuse_users_own(name, path, env)
    words = [f"profile {name}" for name in names] + [f"--ignore {id_}" for id_ in ignored]
    if not words:
        return options, []
    given = replace(
        options, profiles=(*options.profiles, *names), ignore=(*options.ignore, *ignored)
    )
    told = [Finding("repository-defaults", "note", path, ", ".join(words))]
    vain = finding_ids.unknown(ignored)
    if vain:
        fact = f"ignores what no finding of this vllm-guard is called: {', '.join(vain)}"
        told.append(Finding("repository-ignore", "note", path, fact))
    return given, told


def _read(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Profiles and ids."""
    content = paths.read_regular(path, profile_schema.LIMIT)
    try:
        data = profile_schema.toml(content)
        schema.only(data, _KEYS, "")
        names, ignored = (_words(data.get(key, []), key) for key in _KEYS)
    except GuardError as error:
        message, hint = (screen.shortened(text, 200) for text in (error.message, error.hint))
        raise GuardError(f"{path}: {message}", hint) from None
    return names, ignored


def _words(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(word, str) and _WORD.fullmatch(word) for word in value
    ):
        raise GuardError(f"`{key}` is no list of names", f'write {key} = ["..."]')
    return tuple(value)


def _refuse_users_own(name: str, path: str, env: Mapping[str, str]) -> None:
    if name.endswith(profiles.SUFFIX):
        raise GuardError(f"{path}: {name} is a file", f"write {name.removesuffix(profiles.SUFFIX)}")
    if profiles.find(name, env).origin not in ("builtin", "repository"):
        raise GuardError(f"{path} asks for {name}, which is your own", f"ask for it: -p {name}")
