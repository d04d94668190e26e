"""The target: the interpreter that the command will use, and its vLLM. Neither is imported.

`rewrite` finds the interpreter behind the words, `python` asks it for its `sys.path`, `install` finds
the vLLM there. The guard itself may be installed in another environment.
"""

from __future__ import annotations

import os

from vllm_guard import paths
from vllm_guard.errors import GuardError
from vllm_guard.target.rewrite import to_python
from vllm_guard.target.words import (
    Command,
    Executable,
    find_executable,
    interpreter_of,
    read_options,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Literal

    from vllm_guard.target.install import VllmInstall
    from vllm_guard.target.python import Python
    from vllm_guard.target.script import Script

    Kind = Literal["vllm-cli", "vllm-server", "script", "python-tool", "other"]
else:
    from vllm_guard.frozen import dataclass

__all__ = [
    "Executable",
    "Target",
    "find_executable",
    "find_target",
    "interpreter_of",
]

_TAKES_VALUE = ("-c", "-m", "-W", "-X", "--check-hash-based-pycs")
_ENDS_OPTIONS = ("-c", "-m")
_TOO_OLD = ("2.", "3.5.", "3.6.", "3.7.")  #: for the harness of the main guard
_CLI = "vllm.entrypoints.cli.main"
_SERVER = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True)
class Target:
    """The interpreter that a command will use, and what the command is."""

    interpreter: str  #: absolute; symbolic links are kept
    kind: Kind  #: "other": only `--python` says that it is Python
    subcommand: str = ""  #: of the `vllm` command: "serve"
    args_at: int | None = None  #: where the arguments of vLLM's (sub)command begin in argv
    version: str = ""  #: Python's: "3.11.7"
    search_path: tuple[str, ...] = ()  #: `sys.path` as the command will have it
    vllm: VllmInstall | None = None
    script: Script | None = None  #: what the main guard can be put around
    problem: str = ""  #: why the interpreter could not be asked
    file: str = (
        ""  #: what Python is given to run, absolute; empty for `-c`, `-m` and standard input
    )
    cwd: str = ""  #: where it will run, absolute; empty for the current folder
    changes: tuple[tuple[str, str | None], ...] = ()  #: of variables by the words; None: unset

    def env(self, env: Mapping[str, str]) -> Mapping[str, str]:
        """What Python gets where the command gets `env`."""
        if not self.changes:
            return env
        changed = {**env, **dict(self.changes)}
        return {name: value for name, value in changed.items() if value is not None}


@dataclass(frozen=True)
class _Call:
    """A Python command line, read."""

    kind: Kind = "other"
    subcommand: str = ""
    arguments: tuple[str, ...] = ()  #: the words after the subcommand
    options: tuple[str, ...] = ()  #: of Python itself
    first: str = ""  #: what Python puts first on `sys.path`; empty for nothing
    script: str = ""  #: the file that is run, or "-"; empty with `-m` and `-c`


def find_target(
    argv: Sequence[str], env: Mapping[str, str], python: str | None = None
) -> Target | None:
    """The target of the command `argv`, run with `env` from the current folder.

    `python` (`--python`) names the interpreter, whatever the command looks like. None when no
    interpreter is known; one that cannot be used is a Target with a `problem`.
    """
    given = Command(tuple(argv), env, paths.cwd())
    command = to_python(given)
    if python:
        path, problem = _named(given.but(python))
    elif command:
        path, problem = command.words[0], ""
    else:
        return None
    from vllm_guard.target.install import find_vllm
    from vllm_guard.target.python import ask

    call = _read(command) if command else _Call()
    what = (call.kind, call.subcommand, _args_at(argv, call))
    place = command or given
    file = os.path.join(place.cwd, call.script) if call.script not in ("", "-") else ""
    try:
        asked = ask(path, place.env, place.cwd) if not problem else None
    except GuardError as error:
        asked, problem = None, error.message
    where = (file, place.cwd, _changes(env, place.env))
    if asked is None:
        return Target(path, *what, "", (), None, None, problem, *where)
    search_path = tuple(_search_path(place, call, asked))
    script = None
    if command and not asked.version.startswith(_TOO_OLD):
        script = _script(given, command, call, search_path)
    vllm = find_vllm(search_path)
    version = asked.version
    return Target(asked.executable, *what, version, search_path, vllm, script, "", *where)


def _changes(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[str, str | None], ...]:
    """What must be set, and (None) unset, to make `after` of `before`."""
    names = {**before, **after} if before is not after else ()
    return tuple((n, after.get(n)) for n in names if before.get(n) != after.get(n))


def _named(command: Command) -> tuple[str, str]:
    """The interpreter that `--python` names, and what is wrong with it."""
    known = to_python(command)
    if known:
        return known.words[0], ""
    found = command.find()
    path = os.path.join(command.cwd, found.path)
    return path, "" if found.reason == "found" else f"{path}: {found.reason.replace('-', ' ')}"


def _read(command: Command) -> _Call:
    """What a Python command line runs."""
    options, words = read_options(command.words[1:], _TAKES_VALUE, last=_ENDS_OPTIONS)
    given = dict(options)
    script = ""
    if given.keys().isdisjoint(_ENDS_OPTIONS):
        script, *words = words or ["-"]
    kind = _kind(given.get("-m", ""), script)
    subcommand = ""
    if kind == "vllm-cli":
        _, words = read_options(words, ())
        subcommand, *words = words or [""]
    first = _first_entry(command, given, script)
    return _Call(kind, subcommand, tuple(words), tuple(given), first, script)


def _kind(module: str, script: str) -> Kind:
    if module == _SERVER:
        return "vllm-server"
    folder, name = os.path.split(script)
    if module == _CLI or name == "vllm":
        return "vllm-cli"
    is_tool = os.path.basename(folder) == "bin" and not name.endswith(".py")
    return "python-tool" if is_tool else "script"


def _script(
    given: Command, command: Command, call: _Call, search_path: Sequence[str]
) -> Script | None:
    is_torchrun = os.path.basename(call.script) == "torchrun"
    if not (call.kind == "script" or is_torchrun) or "-c" in call.options:
        return None
    from vllm_guard.target.script import find_script

    return find_script(given, command, call.script, call.arguments, search_path)


def _args_at(argv: Sequence[str], call: _Call) -> int | None:
    """Every rewriting keeps the words at the end, so the arguments are found from there."""
    if call.kind != "vllm-server" and not call.subcommand:
        return None
    at = len(argv) - len(call.arguments)
    return at if tuple(argv[at:]) == call.arguments else None


def _first_entry(command: Command, given: Mapping[str, str], script: str) -> str:
    """The script's own folder, links resolved, or the current one (sys.path in Python's manual)."""
    file = os.path.realpath(os.path.join(command.cwd, script))
    if script and os.path.isdir(file):
        return file  # `python folder` runs its __main__.py, in any mode
    safe = "-E" not in given and command.env.get("PYTHONSAFEPATH")
    if safe or not given.keys().isdisjoint(("-I", "-P")):
        return ""
    return command.cwd if script in ("", "-") else os.path.dirname(file)


def _search_path(command: Command, call: _Call, asked: Python) -> Iterator[str]:
    env = command.env if {"-E", "-I"}.isdisjoint(call.options) else {}
    if call.first:
        yield call.first
    if env.get("PYTHONPATH"):
        yield from (os.path.join(command.cwd, entry) for entry in env["PYTHONPATH"].split(":"))
    without_user = env.get("PYTHONNOUSERSITE") or not {"-I", "-s"}.isdisjoint(call.options)
    yield from (
        entry for entry in asked.search_path if not without_user or entry != asked.user_site
    )
