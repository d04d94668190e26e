"""A repository with profiles, and a clone of it, by git itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
HEAD = 'schema = 1\nsummary = "s"\n'


def git(folder: Path, *words: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *_AUTHOR, *words], cwd=folder, env=env, capture_output=True, check=True
    )
    return done.stdout.decode()


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


def clone(source: Path, folder: Path) -> Path:
    git(source, "clone", "-q", str(source), str(folder))
    return folder
