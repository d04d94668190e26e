"""A repository on disk: where it begins, where its profiles lie, and whether they are its user's.

Only names, owners and modes are looked at; no content.
"""

from __future__ import annotations

import os
import stat

from vllm_guard import paths
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The stronger first: nobody else's tool uses that name.
FOLDERS = (".vllm-guard", "profiles")
_DEFAULTS = "vllm-guard.toml"
_MARK = ".git"  #: a folder, or the file of a work tree or submodule


def profile_folders(env: Mapping[str, str]) -> Iterator[str]:
    """Where profiles of this repository may lie, the nearest to the current folder first.

    The search ends at the first folder that is a repository's root, before the home folder, and where
    another file system begins: what lies beyond belongs to somebody else (CVE-2022-24765).
    """
    try:
        folder = os.getcwd()
        device = os.stat(folder).st_dev
    except OSError:
        return
    home = os.path.realpath(paths.home(env))
    while True:
        is_root = os.path.lexists(os.path.join(folder, _MARK))
        if folder == home and not is_root:
            return
        yield from (os.path.join(folder, name) for name in FOLDERS)
        above = os.path.dirname(folder)
        if is_root or above == folder or os.stat(above).st_dev != device:
            return
        folder = above


def root_of(path: str) -> str:
    """The root of the repository that the real `path` lies in; empty for none."""
    return _marked_above(os.path.realpath(path))


def _marked_above(folder: str) -> str:
    while not os.path.lexists(os.path.join(folder, _MARK)):
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above
    return folder


def defaults_file() -> str:
    """The `vllm-guard.toml` of the current folder's repository; empty for none."""
    root = root_of(paths.cwd())
    path = os.path.join(root, _DEFAULTS)
    return path if root and os.path.lexists(path) else ""


def holds(path: str) -> bool:
    """Is this file a repository's: below its root, or in a folder that is searched for profiles?

    An unpacked archive has no `.git`; its profiles are found by name all the same. A repository's link that
    leads out of it is the repository's choice, so the way counts as well as where it ends.
    """
    places = [os.path.dirname(find(path)) for find in (os.path.realpath, os.path.abspath)]
    return any(os.path.basename(place) in FOLDERS or _marked_above(place) for place in places)


def is_planted(kind: str, env: Mapping[str, str]) -> bool:
    """Do `XDG_*` or `HOME` move the guard's own folder into a repository, or an archive unpacked here?

    What lies there came with it, and the environment cannot make it the user's. A home folder that is
    itself a repository (dotfiles) is where the password database says, not where a variable does.
    """
    given = paths.base_dir(kind, env)
    folder = os.path.realpath(given)
    came = root_of(folder) or any(folder.startswith(f"{place}/") for place in _unpacked(env))
    return bool(came) and given != paths.base_dir(kind, {})


def _unpacked(env: Mapping[str, str]) -> Iterator[str]:
    """Folders that may be of an archive, which has no `.git`: this one, and those above with profiles."""
    here = paths.cwd()
    if here != os.path.realpath(paths.home(env)):
        yield here
    yield from (os.path.dirname(place) for place in profile_folders(env) if os.path.isdir(place))


def refuse_foreign(path: str) -> None:
    """Raise GuardError unless file and folder are this user's or root's, and only they can write."""
    for place in (os.path.dirname(path) or ".", path):
        try:
            info = os.lstat(place)
        except OSError as error:
            raise GuardError(f"cannot read {place}: {error.strerror}") from None
        if stat.S_ISLNK(info.st_mode):
            raise GuardError(f"{place} is a symbolic link", "name the file itself")
        if info.st_uid not in (os.geteuid(), 0):
            fact = f"{place} belongs to uid {info.st_uid}, not to you or root"
            raise GuardError(fact, paths.TAKE_IT)
        if paths.is_open(info):
            raise GuardError(f"{place} can be written by other users", f"chmod go-w {place}")
