"""An interpreter asked where it would look for modules. Nothing of its environment is executed."""

from __future__ import annotations

import os

from vllm_guard import cache
from vllm_guard.errors import GuardError
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

_PATIENCE = 5.0  #: seconds
#: `site` itself computes the path, without the parts that run code of that environment; folders that
#: may come to be later are there already.
_QUESTION = """
import os, site, sys
site.addpackage = lambda *_: None  # .pth files: read by vllm_guard.target.install
site.execsitecustomize = site.execusercustomize = lambda: None
site.check_enableusersite = lambda: True
os.path.isdir = lambda _: True
site.main()
print(ascii((sys.executable, sys.version.split()[0], tuple(sys.path), site.getusersitepackages())))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter, in its own words."""

    executable: str
    version: str  #: "3.11.7"
    search_path: tuple[str, ...]  #: standard library and site-packages; no script's folder
    user_site: str  #: is in `search_path` unless a virtual environment forbids it


def ask(path: str, env: Mapping[str, str], cwd: str) -> Python:
    """What the interpreter at `path` says of itself, or said when it was asked before.

    Raises GuardError when it does not answer as Python does, or not within 5 s.
    """

    def compute() -> Any:
        return _answer(path, env, cwd)

    try:
        if head(path, 2) == b"#!":  # a wrapper: what it starts depends on more than its file
            return Python(*compute())
        return Python(*cache.remember(f"python-{path}", _key(path, env), compute))
    except OSError as error:
        raise GuardError(f"cannot run {path}: {error.strerror}") from None


def _key(path: str, env: Mapping[str, str]) -> Any:
    """All that the answer depends on."""
    folder = os.path.dirname(path)
    configs = [os.path.join(f, "pyvenv.cfg") for f in (folder, os.path.dirname(folder))]
    files = [file for file in (path, *configs) if os.path.isfile(file)]
    homes = [env.get(name, "") for name in ("HOME", "PYTHONUSERBASE")]
    return (path, *map(cache.identity, files), *homes)


def _answer(path: str, env: Mapping[str, str], cwd: str) -> Any:
    import ast

    status, output, errors = _run((path, "-I", "-S", "-c", _QUESTION), env, cwd)
    try:
        executable, version, search_path, user_site = ast.literal_eval(output.splitlines()[-1])
    except (IndexError, SyntaxError, TypeError, ValueError):
        reason = " ".join(errors.split()[-40:]) or f"exit status {status}"
        raise GuardError(f"{path} does not answer as Python does: {reason}") from None
    return executable or path, version, search_path, user_site


def _run(words: tuple[str, ...], env: Mapping[str, str], cwd: str) -> tuple[int, str, str]:
    """Run to the end, without a terminal; after `_PATIENCE` it is killed with all it started."""
    import signal
    import subprocess

    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            output, errors = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise GuardError(f"{words[0]} did not answer within {_PATIENCE:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, errors
