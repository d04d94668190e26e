"""A repository with profiles, and a clone of it, by git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
HEAD = 'schema = 1\nsummary = "s"\n'


NOBODY = 65534


def git(folder: Path, *words: str, prefix: Sequence[str] = ()) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        [*prefix, "git", *_AUTHOR, *words], cwd=folder, env=env, capture_output=True, check=True
    )
    return done.stdout.decode()


def as_nobody() -> list[str]:
    """The words that make a command another user's, where the tests are root's; else none.

    It may read what only root could: the interpreter of the tests may lie in root's home.
    """
    if os.geteuid() != 0:
        return []
    ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]


def make(folder: Path, files: Mapping[str, str]) -> Path:
    """A repository with these files in one commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    write(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return folder


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def clone(source: Path, folder: Path, prefix: Sequence[str] = ()) -> Path:
    """A clone, through a file: git itself does not clone another user's repository."""
    bundle = folder.with_suffix(".bundle")
    git(source, "bundle", "create", str(bundle), "--all")
    git(folder.parent, "clone", "-q", "-b", "main", str(bundle), str(folder), prefix=prefix)
    bundle.unlink()
    return folder
