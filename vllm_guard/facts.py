"""The data files of the package, parsed once for each version of their bytes."""

from __future__ import annotations

import os

from vllm_guard import cache, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT = 1 << 20


def load(name: str) -> dict[str, Any]:
    """`vllm_guard/data/<name>.toml` as plain data."""
    path = os.path.join(paths.PACKAGE, "data", f"{name}.toml")
    with open(path, "rb") as file:
        content = file.read(_LIMIT)
    return cache.remember(f"data-{name}", content, lambda: _parse(content))  # type: ignore[no-any-return]


def _parse(content: bytes) -> dict[str, Any]:
    import tomli

    return tomli.loads(content.decode())
