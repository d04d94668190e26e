"""The files of `completions/`: the fixed part of each shell with its tables in it."""

from __future__ import annotations

from pathlib import Path

from vllm_guard.commands.completion import FILES

from . import bash, fish, names, powershell, tree, zsh

_HERE = Path(__file__).parent
_FILES = _HERE.parent.parent / "completions"
_TABLES = "@TABLES@"
_SHELLS = {
    "bash": bash.tables,
    "zsh": zsh.tables,
    "fish": fish.tables,
    "powershell": powershell.tables,
}


def texts() -> dict[Path, str]:
    """What each file of `completions/` must hold."""
    root, named = tree.read(), names.named()
    return {
        _FILES / name: (_HERE / f"{shell}.in")
        .read_text(encoding="utf-8")
        .replace(_TABLES, _SHELLS[shell](root, named))
        for shell, name in FILES.items()
    }
