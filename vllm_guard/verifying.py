"""The pins of a repository against its lock: what has drifted, is missing, or is unknown to a vLLM."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packaging.version import Version

from vllm_guard import __version__, facts, profiles, repository, vllm_names
from vllm_guard.errors import GuardError
from vllm_guard.model import Finding
from vllm_guard.pins import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from vllm_guard.model import Part, Profile
    from vllm_guard.pins import Pin

    #: Names that an installed vLLM knows: its version, variables, engine arguments.
    Installed = tuple[str, Mapping[str, Any], Mapping[str, Any]]


def verify(
    root: str, pins: Sequence[Pin], env: Mapping[str, str], installed: Installed | None
) -> Iterator[tuple[str, Finding]]:
    """(file, finding) for each pin that is not as the lock says, and for what the lock does not have."""
    known = {pin.file for pin in pins}
    for pin in pins:
        path = os.path.join(root, pin.file)
        try:
            item = profiles.load_profile(path, env)
        except GuardError as error:
            gone = "pin-invalid" if os.path.lexists(path) else "pin-missing"
            yield pin.file, Finding(gone, "fail", pin.name, error.message, fix=error.hint)
            continue
        if item.digest != pin.sha256:
            fact = f"its sha256 is {item.digest[:12]}.., the lock has {pin.sha256[:12]}.."
            fix = f"git checkout {pin.file}; or, if it is meant: vllm-guard profile pin {pin.file}"
            yield pin.file, Finding("pin-drift", "fail", pin.name, fact, fix=fix)
        for source in item.sources:
            if place_of(source, root) not in known:
                fact = f"extends {source.path} ({source.origin}), which is not in the lock"
                fix = f"vllm-guard profile pin {pin.file}"
                yield pin.file, Finding("pin-drift", "fail", pin.name, fact, fix=fix)
        for finding in unknown_keys(item, pin.vllm, installed):
            yield pin.file, finding
    for file in _files(root, known):
        fix = f"vllm-guard profile pin {file}"
        yield file, Finding("pin-unlocked", "warn", file, "is not in the lock", fix=fix)


def outdated(pins: Iterable[Pin]) -> Iterator[tuple[str, Finding]]:
    """(file, finding) for each copy of a built-in profile that this vllm-guard has another version of."""
    for pin in pins:
        if pin.origin != "builtin":
            continue
        if Version(pin.vllm_guard) > Version(__version__):
            fact = f"pinned with vllm-guard {pin.vllm_guard}; this is {__version__}"
            yield pin.file, Finding("pin-guard-older", "note", pin.name, fact)
        elif profiles.builtin_digest(pin.name) != pin.sha256:
            fact = f"pinned with vllm-guard {pin.vllm_guard}; that of {__version__} is another"
            fix = f"vllm-guard profile diff {pin.name}; vllm-guard profile pin {pin.name}"
            yield pin.file, Finding("pin-outdated", "fail", pin.name, fact, fix=fix)


def unknown_keys(
    item: Profile, versions: Iterable[str], installed: Installed | None
) -> Iterator[Finding]:
    """A finding for each variable of vLLM's and engine option that one of these versions does not know."""
    table = facts.load("vllm_names")
    for version in versions:
        own = installed if installed and installed[0] == version else None
        parts = [part for _, part in profiles.settings_for((item,), version)]
        for kind, name in dict.fromkeys(_names(parts)):
            if own is not None:
                known: bool | None = name in own[1 if kind == "variables" else 2]
            else:
                known = vllm_names.knows(name, kind, version, table)
            if known is False:
                fact = f"vLLM {version} does not know {name}"
                yield Finding("pin-unknown-key", "fail", f"profile {item.name}", fact)
            elif known is None:
                fact = f"whether vLLM {version} knows {name} was not checked: not among the samples"
                yield Finding("pin-unknown-key", "unknown", f"profile {item.name}", fact)


def _names(parts: Iterable[Part]) -> Iterator[tuple[vllm_names.Kind, str]]:
    """What only some versions know; unsetting a variable that is gone does no harm."""
    rows = facts.variables()["rows"]
    for part in parts:
        for setting in part.settings:
            internal = rows.get(setting.name, {}).get("internal", False)
            is_set = setting.kind in ("set", "default")
            if is_set and setting.name.startswith("VLLM_") and not internal:
                yield "variables", setting.name
        yield from (("engine", name) for name, _ in part.engine)


def _files(root: str, known: Iterable[str]) -> Iterator[str]:
    """Profiles that lie where pins do, and are none."""
    folders = {repository.FOLDERS[0], *(os.path.dirname(file) for file in known)}
    for folder in sorted(folders):
        place = os.path.join(root, folder)
        names = sorted(os.listdir(place)) if os.path.isdir(place) else ()
        files = (f"{folder}/{name}" for name in names if name.endswith(profiles.SUFFIX))
        yield from (file for file in files if file not in known)
