"""Do the packages beside vLLM fit each other? By their metadata; none is imported."""

from __future__ import annotations

import os

from vllm_guard import cache
from vllm_guard.model import Finding
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from vllm_guard.probes import Context

TITLE = "the packages beside vLLM"

#: Who must fit whom: packages that break when another of them has a version that they do not name.
_LOOKED_AT = (
    *("torch", "torchvision", "torchaudio", "triton", "transformers", "tokenizers"),
    *("flashinfer-python", "flashinfer-cubin", "flashinfer-jit-cache", "huggingface-hub"),
    *("xgrammar", "compressed-tensors", "vllm"),
)
_METADATA_MAX = 1 << 20


def check(context: Context) -> Iterator[Finding]:
    assert context.target is not None
    found = installed(context)
    if "torch" not in found:
        python = context.target.interpreter
        fact = "vLLM is installed, torch is not"
        yield Finding("packages", "warn", python, fact, fix=f"{python} -m pip install torch")
        return
    mismatches = _known_mismatches(context, found)
    for who, fact, wanted in mismatches:
        fix = f"{context.target.interpreter} -m pip install '{wanted}'"
        yield Finding("package-mismatch", "warn", who, fact, fix=fix)
    if not mismatches:
        names = ", ".join(f"{name} {version}" for name, (version, _) in sorted(found.items()))
        yield Finding("packages", "ok", context.target.interpreter, names)


def installed(context: Context) -> dict[str, tuple[str, str]]:
    """Name -> version and metadata folder of those looked at that the interpreter has."""
    assert context.target is not None
    found: dict[str, tuple[str, str]] = {}
    for folder in context.target.search_path:
        if not folder.endswith("-packages"):
            continue
        for entry in context.host.names(folder):
            if not entry.endswith(".dist-info"):
                continue
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            name = name.lower().replace("_", "-").replace(".", "-")
            if name in _LOOKED_AT:
                found.setdefault(name, (version, os.path.join(folder, entry)))
    return found


def _known_mismatches(
    context: Context, found: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """Kept by the metadata's identity: `packaging`, which compares, costs more than all other probes."""
    rows = []
    for name, (version, folder) in found.items():
        path = f"{context.host.root}{folder}/METADATA"
        rows.append((name, version, path, cache.identity(path) if os.path.exists(path) else ()))
    assert context.target is not None
    key = (context.target.version, tuple(rows))
    name = f"packages-{context.host.root}{context.target.interpreter}"
    return cache.remember(name, key, lambda: list(_mismatches(context, found)))  # type: ignore[no-any-return]


def _mismatches(
    context: Context, found: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str, str]]:
    """Who requires it, what is so, and what would fit."""
    from packaging.markers import UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement
    from packaging.version import InvalidVersion

    for name, (version, folder) in found.items():
        for text in _requires(context, folder):
            try:
                unmet = _unmet(context, text, found)
            except (InvalidRequirement, InvalidVersion, UndefinedEnvironmentName):
                continue
            if unmet:
                wanted, there = unmet
                yield f"{name} {version}", f"requires {wanted}; {there} is installed", wanted


def _requires(context: Context, folder: str) -> Iterator[str]:
    """What it requires of those looked at; the full text of the others is not even parsed."""
    text = head(f"{context.host.root}{folder}/METADATA", _METADATA_MAX).decode("utf-8", "replace")
    for line in text.partition("\n\n")[0].splitlines():
        field, _, value = line.partition(":")
        word = value.strip().lower().replace("_", "-").replace(".", "-")
        if field == "Requires-Dist" and word.startswith(_LOOKED_AT):
            yield value.strip()


def _unmet(
    context: Context, text: str, found: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | None:
    """The requirement and the version that is installed, where that does not meet it."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted = Requirement(text)
    name = canonicalize_name(wanted.name)
    if name not in found or (wanted.marker and not wanted.marker.evaluate(_marks(context))):
        return None
    version = found[name][0]
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"{name}{wanted.specifier}", version


def _marks(context: Context) -> dict[str, Any]:
    """What markers are asked about: the target's Python, and no extra."""
    assert context.target is not None
    version = context.target.version
    marks = {"extra": ""}
    if version:
        short = ".".join(version.split(".")[:2])
        marks |= {"python_full_version": version, "python_version": short}
    return marks
