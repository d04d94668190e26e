"""A profile against an installed vLLM, for the commands that check it; nothing of it is imported or run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from vllm_guard import audit, facts, probes, profiles, target
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.model import Finding
from vllm_guard.target import install

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Profile
    from vllm_guard.target.install import VllmInstall
    from vllm_guard.verifying import Installed


def vllm(python: str | None) -> VllmInstall | None:
    """The vLLM meant: `--python`'s, else that of `vllm` or of `python` on PATH."""
    commands = [("python",)] if python else [("vllm",), ("python",), (sys.executable,)]
    for command in commands:
        found = target.find_target(command, os.environ, python)
        if python and found is not None and found.problem:
            raise GuardError(f"--python: {found.problem}", "name a Python", exit_code=USAGE)
        if found is not None and found.vllm is not None:
            return found.vllm
    return None


def findings(item: Profile, found: VllmInstall | None) -> Iterator[Finding]:
    """What this vLLM (None: none was found) would not know or refuse of a profile."""
    if found is not None:
        parts = profiles.settings_for((item,), found.version)
        tables = install.env_table(found), install.engine_args(found)
        yield from audit.check_parts(parts, *tables, facts.variables())
        if not profiles.meant_for(item, found.version):
            fact = f"is written for vLLM {item.vllm}; this is {found.version}"
            yield Finding("profile-version", "warn", f"profile {item.name}", fact)
    yield from probes.unknown([(f"profile {item.name}", part) for part in item.parts])


def names(found: VllmInstall | None) -> Installed | None:
    """What an installed vLLM knows, by its own source; None where that cannot be read."""
    if found is None:
        return None
    variables, engine = install.env_table(found), install.engine_args(found)
    if variables is None or engine is None:
        return None
    return found.version, variables, engine


def none_found(python: str | None) -> Finding:
    """There is no vLLM to check against."""
    return Finding(
        "vllm-not-found",
        "skip",
        python or "PATH",
        "no vLLM found: only the files were checked",
        fix="name its interpreter with --python",
    )
