"""An interpreter asked where it would look for modules. Nothing of its environment is executed."""

from __future__ import annotations

import os

from vllm_guard import cache
from vllm_guard.errors import GuardError
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from dataclasses import dataclass
    from subprocess import Popen
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

_PATIENCE = 5.0  #: seconds
_WORDS = 300  #: characters of its last words that are shown
_MOST = 1 << 20  #: bytes of an answer; a Python with 100 folders says 10 KiB
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
    status, output, errors = _run((path, "-I", "-S", "-c", _QUESTION), env, cwd)
    try:
        executable, *rest = _parsed(output)
    except (IndexError, SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        reason = " ".join(errors[-_WORDS:].split()) or f"exit status {status}"
        raise GuardError(f"{path} does not answer as Python does: {reason}") from None
    return executable or path, *rest


def _parsed(output: str) -> tuple[str, str, tuple[str, ...], str]:
    """What `_QUESTION` printed. `ast` raises MemoryError and RecursionError for what is nested too deep."""
    import ast

    executable, version, search_path, user_site = ast.literal_eval(output.splitlines()[-1])
    is_path = isinstance(search_path, tuple)
    if not is_path or not all(
        isinstance(word, str) for word in (executable, version, user_site, *search_path)
    ):
        raise TypeError
    return executable, version, search_path, user_site


def _run(words: tuple[str, ...], env: Mapping[str, str], cwd: str) -> tuple[int, str, str]:
    """Run to the end, without a terminal; after `_PATIENCE` it is killed with all it started."""
    import signal
    import subprocess
    import time

    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            output, errors = _heard(process, time.monotonic() + _PATIENCE)
            if max(len(output), len(errors)) > _MOST:
                raise GuardError(f"{words[0]} wrote more than {_MOST >> 20} MiB, as no Python does")
            process.wait(_PATIENCE)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise GuardError(f"{words[0]} did not answer within {_PATIENCE:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")


def _heard(process: Popen[bytes], end: float) -> Iterable[bytes]:
    """What it writes to stdout and stderr, until it closes them or that is too much. Raises TimeoutError."""
    import select
    import time

    heard = {stream.fileno(): b"" for stream in (process.stdout, process.stderr) if stream}
    poll = select.poll()
    for fd in heard:
        poll.register(fd, select.POLLIN)
    still = len(heard)
    while still and max(map(len, heard.values())) <= _MOST:
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not ready:
            raise TimeoutError
        for fd, _ in ready:
            data = os.read(fd, 65536)
            heard[fd] += data
            if not data:
                poll.unregister(fd)
                still -= 1
    return heard.values()
