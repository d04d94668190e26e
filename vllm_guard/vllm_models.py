"""What vLLM's own source text says of models: architectures, methods of quantisation, share of the memory.

As in `vllm_source`, the text is parsed, never imported or executed.
"""

from __future__ import annotations

import ast
import re

from vllm_guard.vllm_source import one_line_errors, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypedDict

    class Architectures(TypedDict):
        """What a registry says: architecture -> module, last version, place of the plug-in."""

        supported: dict[str, str]
        dropped: dict[str, str]
        plugins: dict[str, str]


def read_architectures(source: bytes) -> Architectures:
    """The architectures in the text of `vllm/model_executor/models/registry.py`.

    `supported`: those of the tables `_..._MODELS`, with the module that has each; `dropped`: the last vLLM
    that had it; `plugins`: where the plug-in is that has it now. Raises ValueError, with one line, if this
    Python cannot parse the text or it has no such table.
    """
    with one_line_errors("registry.py"):
        found: Architectures = {"supported": {}, "dropped": {}, "plugins": {}}
        texts = {
            "_PREVIOUSLY_SUPPORTED_MODELS": found["dropped"],
            "_OOT_SUPPORTED_MODELS": found["plugins"],
        }
        for name, table in _tables(parse(source, "registry.py")):
            for key, value in zip(table.keys, table.values, strict=True):
                match key, value:
                    case ast.Constant(str(architecture)), ast.Tuple(
                        [ast.Constant(str(module)), *_]
                    ):
                        found["supported"][architecture] = module
                    case ast.Constant(str(architecture)), ast.Constant(str(text)) if name in texts:
                        texts[name][architecture] = text
        if not found["supported"]:
            raise ValueError("no table of models")
        return found


def read_choices(source: bytes, name: str) -> list[str]:
    """The texts of a module's `NAME = Literal[...]`, or of its list; empty where it has none.

    Raises ValueError, with one line, if this Python cannot parse the text.
    """
    with one_line_errors(name):
        for statement in parse(source, name).body:
            match statement:
                case ast.Assign([ast.Name(id=found)], ast.Subscript(ast.Name("Literal"), kinds)):
                    values = kinds
                case ast.Assign([ast.Name(id=found)], ast.List() as values):
                    pass
                case _:
                    continue
            if found == name:
                texts = [node.value for node in ast.walk(values) if isinstance(node, ast.Constant)]
                return [text for text in texts if isinstance(text, str)]
        return []


def read_utilization(source: bytes) -> float:
    """The default of `gpu_memory_utilization` in the text of `vllm/config/cache.py`, which has grown."""
    found = re.search(rb"gpu_memory_utilization: float = (?:Field\(default=)?([\d.]+)", source)
    if found is None:
        raise ValueError("cannot read cache.py: no gpu_memory_utilization")
    return float(found[1])


def _tables(module: ast.Module) -> Iterator[tuple[str, ast.Dict]]:
    """The dicts that a module assigns to `_..._MODELS`."""
    for statement in module.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as table) | ast.Assign(
                [ast.Name(id=name)], value=ast.Dict() as table
            ) if name.startswith("_") and name.endswith("_MODELS"):
                yield name, table
