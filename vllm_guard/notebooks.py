"""The Python of a Jupyter notebook: its code cells as one source, and where each line came from. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: What only IPython understands: `%magic`, `!command`, `name = !command`, `?name`, `name?`. A line may
#: begin with `% x` or `!= x`, inside brackets.
_NOT_PYTHON = re.compile(r"\s*(%%?\w|!(?!=)|\?|[\w.\[\], ]+=\s*[%!]|[\w.]+\?\??\s*$)")
_INDENT = re.compile(r"\s*")
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_PYTHON_MAGICS = ("time", "timeit", "capture", "prun", "python", "python3")


class Notebook(NamedTuple):
    """One source of all code cells; `places[n - 1]` is the (cell, line) of its line n, both from 1."""

    source: str
    places: tuple[tuple[int, int], ...]


def read(content: bytes) -> Notebook:
    """The code of a notebook of format 3 or 4. Raises ValueError for anything else."""
    lines: list[str] = []
    places: list[tuple[int, int]] = []
    for number, cell in enumerate(_cells(json.loads(content)), 1):
        if cell.get("cell_type") == "code":
            code = list(_python(_text(cell).split("\n")))
            lines += code
            places += [(number, line) for line in range(1, len(code) + 1)]
    return Notebook("\n".join(lines), tuple(places))


def _cells(document: Any) -> list[dict[str, Any]]:
    sheets = [document] if "cells" in document else document["worksheets"]
    return [cell for sheet in sheets for cell in sheet["cells"]]


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    return source if isinstance(source, str) else "".join(source)


def _python(lines: Sequence[str]) -> Iterator[str]:
    """The lines of a cell, those that are not Python replaced by `pass`: a block may need one."""
    magic = _CELL_MAGIC.match(lines[0])
    foreign = magic is not None and magic[1] not in _PYTHON_MAGICS
    continued = False
    for line in lines:
        if foreign or continued or _NOT_PYTHON.match(line):
            indent = _INDENT.match(line)
            yield "" if foreign or continued or not indent else f"{indent[0]}pass"
            continued = line.endswith("\\")
        else:
            yield line
