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

    from vllm_guard.model import Part, Profile
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
    else:
        parts = [(f"profile {item.name}", part) for part in item.parts]
        yield from audit.check_parts(parts, None, None, facts.variables())
        for origin, part in parts:
            yield from _never_known(origin, part)
    yield from probes.unknown([(f"profile {item.name}", part) for part in item.parts])


def _never_known(origin: str, part: Part) -> Iterator[Finding]:
    """What no sampled release has; a newer one may, so that is a warning."""
    table, known = facts.load("vllm_names"), facts.variables()
    variables, options = (table[kind]["known"] for kind in ("variables", "engine"))
    elsewhere = {*known["rows"], *known["removed"]}
    text = f"no vLLM up to {table['engine']['releases'][-1]} that was looked at has it"
    for setting in part.settings:
        name = setting.name
        if name.startswith("VLLM_") and name not in variables and name not in elsewhere:
            fix = audit.did_you_mean(name, variables)
            yield Finding("variable-unknown", "warn", f"{origin}: {name}", text, fix=fix)
    for name, _ in part.engine:
        if name not in options:
            fix = audit.did_you_mean(name, options)
            yield Finding(
                "engine-option-unknown", "warn", f"{origin}: [engine] {name}", text, fix=fix
            )


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
