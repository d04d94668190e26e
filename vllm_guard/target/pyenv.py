"""pyenv's shims: bash scripts that choose a Python by variable, folder or default."""

from __future__ import annotations

import os

from vllm_guard.target.words import find_executable, head, reason, upwards

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.target.words import Command


def behind_shim(command: Command, shim: str) -> str:
    """The file that `pyenv exec` runs for a shim; empty if it cannot be told without pyenv."""
    root = os.path.dirname(os.path.dirname(shim))
    versions = os.path.join(root, "versions")
    for name in _names(command, root):
        if name == "system":
            found = _on_path(command, shim)
        else:
            program = os.path.basename(shim)
            found = os.path.join(versions, _installed(versions, name), "bin", program)
        if reason(found) == "found":
            return found
    return ""


def _names(command: Command, root: str) -> list[str]:
    """The versions that pyenv uses here, by precedence; none can lead out of pyenv's folder."""
    text = command.env.get("PYENV_VERSION", "").replace(":", " ")
    if not text:
        start = command.env.get("PYENV_DIR") or command.cwd
        files = [os.path.join(folder, ".python-version") for folder in upwards(start)]
        texts = map(head, [*files, os.path.join(root, "version")])
        text = os.fsdecode(next(filter(None, texts), b"system"))
    names = [name.removeprefix("python-") for name in text.split()]
    return [name for name in names if "/" not in name and name not in (".", "..")]


def _installed(versions: str, name: str) -> str:
    """`3.11` stands for the newest 3.11 there is."""
    try:
        known = os.listdir(versions)
    except OSError:
        return name
    patches = [n[len(name) + 1 :] for n in known if n.startswith(name + ".")]
    newest = max((n for n in patches if n.isdecimal()), key=int, default="")
    return f"{name}.{newest}" if newest and name not in known else name


def _on_path(command: Command, shim: str) -> str:
    folder, program = os.path.split(shim)
    others = [entry for entry in command.env.get("PATH", "").split(":") if entry != folder]
    found = find_executable(program, ":".join(others), command.cwd)
    return os.path.join(command.cwd, found.path)
