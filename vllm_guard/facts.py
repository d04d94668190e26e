"""The data files of the package, parsed once for each version of their bytes."""

from __future__ import annotations

import os

from vllm_guard import cache, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    #: One variable; the keys are those of docs/variables.md, with the `family` and `source` of its file.
    Row = dict[str, Any]
    Family = tuple[str, tuple[str, ...], tuple[str, ...]]  #: id, prefixes, whole names

    class Variables(TypedDict):
        """All that `data/vars/*.toml` say."""

        rows: dict[str, Row]
        families: list[Family]
        removed: dict[str, dict[str, str]]  #: what vLLM reads no more


_DATA = os.path.join(paths.PACKAGE, "data")
_VARS = os.path.join(_DATA, "vars")
_SIGNATURES = os.path.join(_DATA, "signatures")
_LIMIT = 1 << 20


def load(name: str) -> dict[str, Any]:
    """`vllm_guard/data/<name>.toml` as plain data."""
    content = _read(os.path.join(_DATA, f"{name}.toml"))
    return cache.remember(f"data-{name}", content, lambda: _parse(content))  # type: ignore[no-any-return]


def variables() -> Variables:
    """Every variable of the stack that is known, whatever file it stands in."""
    return cache.remember("data-vars", _identities(_VARS), lambda: _merged(_tables(_VARS)))  # type: ignore[no-any-return]


def signatures() -> dict[str, Row]:
    """Every known failure by its id, as `data/signatures/*.toml` say: the keys of `signatures.Signature`."""
    key = _identities(_SIGNATURES)
    return cache.remember("data-signatures", key, lambda: _signatures(_tables(_SIGNATURES)))  # type: ignore[no-any-return]


def family_of(name: str, families: Sequence[Family] = ()) -> str:
    """The family of the stack that a variable belongs to; empty for none. `families`: read once for many."""
    for family, prefixes, names in families or variables()["families"]:
        if name in names or name.startswith(prefixes):
            return family
    return ""


def _identities(folder: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What changes when a file of the folder does."""
    files = sorted(os.listdir(folder))
    return tuple((file, cache.identity(os.path.join(folder, file))) for file in files)


def _tables(folder: str) -> list[dict[str, Any]]:
    return [_parse(_read(os.path.join(folder, file))) for file in sorted(os.listdir(folder))]


def _signatures(tables: list[dict[str, Any]]) -> dict[str, Row]:
    return {
        name: {"family": table["family"], "source": table.get("source", ""), **row}
        for table in tables
        for name, row in table["signatures"].items()
    }


def _merged(tables: list[dict[str, Any]]) -> Variables:
    return {
        "rows": {
            name: {"family": table["family"], "source": table.get("source", ""), **row}
            for table in tables
            for name, row in table.get("variables", {}).items()
        },
        "families": [
            (table["family"], tuple(table["prefixes"]), tuple(table.get("names", ())))
            for table in tables
        ],
        "removed": {row["name"]: row for table in tables for row in table.get("removed", ())},
    }


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LIMIT)


def _parse(content: bytes) -> dict[str, Any]:
    import tomli

    return tomli.loads(content.decode())
