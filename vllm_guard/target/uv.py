"""`uv run`, by its documented discovery. uv itself is never run: it may install."""

from __future__ import annotations

import os

from vllm_guard.target.words import Command, head, read_options, reason, upwards

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The options of `uv` and `uv run` that take a value: `uv run --help` of 0.13.
_TAKES_VALUE = (
    "-C -P -f -i -p -w --allow-insecure-host --cache-dir --color --config-file --config-setting"
    " --config-settings-package --default-index --directory --env-file --exclude-newer"
    " --exclude-newer-package --extra --extra-index-url --find-links --fork-strategy --group"
    " --index --index-strategy --index-url --keyring-provider --link-mode --no-binary-package"
    " --no-build-isolation-package --no-build-package --no-editable-package --no-extra --no-group"
    " --no-sources-package --only-group --package --prerelease --prerelease-package --project"
    " --python --python-platform --refresh-package --reinstall-package --resolution"
    " --upgrade-group --upgrade-package --with --with-editable --with-requirements"
)
#: With these, uv makes an environment that nothing on disk tells yet.
_ELSEWHERE = {"--isolated", "--script", "--with", "--with-editable", "--with-requirements"}
_LONG = {"-m": "--module", "-p": "--python", "-s": "--script", "-w": "--with"}


def run(command: Command) -> Command | None:
    """What `uv run` will execute; None when it is not `run`, or its environment is not known."""
    takes_value = _TAKES_VALUE.split()
    before, rest = read_options(command.words[1:], takes_value)
    after, words = read_options(rest[1:], takes_value)
    given = {_LONG.get(name, name): value for name, value in before + after}
    if rest[:1] != ["run"] or not words or given.keys() & _ELSEWHERE:
        return None
    cwd = os.path.join(command.cwd, given.get("--directory", ""))
    python = _python(given, command.env, cwd)
    file = words[0] if words[0].endswith(".py") else ""
    if not python or (file and b"\n# /// script" in b"\n" + head(os.path.join(cwd, file))):
        return None  # PEP 723: such a script has an environment of its own
    path = f"{os.path.dirname(python)}:{command.env.get('PATH', os.defpath)}"
    if "--module" in given:
        words = [python, "-m", *words]
    elif file or words[0] == "-":
        words = [python, *words]
    elif words[0] == "python":
        words[0] = python
    return Command(tuple(words), {**command.env, "PATH": path}, cwd)


def _python(given: Mapping[str, str], env: Mapping[str, str], cwd: str) -> str:
    """The interpreter of the environment; empty if there is none yet.

    In a project that is its own, `.venv` there or, in a workspace, further up; elsewhere the one
    asked for, the active one, or a `.venv` up the tree.
    """
    start = os.path.join(cwd, given.get("--project") or env.get("UV_PROJECT", ""))
    if _in_project(start) and "--no-project" not in given and not env.get("UV_NO_PROJECT"):
        chosen = env.get("VIRTUAL_ENV" if "--active" in given else "UV_PROJECT_ENVIRONMENT")
    else:
        chosen = given.get("--python") or env.get("UV_PYTHON")
        if chosen and "/" not in chosen:
            return ""  # a version: uv finds it by running interpreters
        chosen = chosen or env.get("VIRTUAL_ENV") or env.get("CONDA_PREFIX")
    found = (_interpreter(os.path.join(f, chosen or ".venv")) for f in upwards(start))
    return next(filter(None, found), "")


def _in_project(start: str) -> bool:
    """Is there a `pyproject.toml` here or above? uv does not ask what is in it."""
    return any(os.path.isfile(os.path.join(f, "pyproject.toml")) for f in upwards(start))


def _interpreter(place: str) -> str:
    python = os.path.join(place, "bin", "python") if os.path.isdir(place) else place
    return python if reason(python) == "found" else ""
