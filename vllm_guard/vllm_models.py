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

    class Requirement(TypedDict):
        """What a method of quantisation asks for."""

        capability: (
            int | None
        )  #: the least compute capability, 75 for 7.5; None where it is not told
        dtypes: list[str]  #: the types that it computes in; empty where they are not told
        files: list[str]  #: ends of the names of JSON files that may hold its configuration


_QUANTIZATION = "vllm.model_executor.layers.quantization."
_SAME = {"half": "float16", "float": "float32"}


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
                return _texts(values)
        return []


def read_utilization(source: bytes) -> float:
    """The default of `gpu_memory_utilization` in the text of `vllm/config/cache.py`, which has grown."""
    found = re.search(rb"gpu_memory_utilization: float = (?:Field\(default=)?([\d.]+)", source)
    if found is None:
        raise ValueError("cannot read cache.py: no gpu_memory_utilization")
    return float(found[1])


def read_bounds(source: bytes) -> dict[str, dict[str, float]]:
    """Field -> its bounds (`gt`, `ge`, `lt`, `le`), in the text of a module of `vllm/config`.

    They stand in `name: int = Field(default=1, ge=1)`; pydantic refuses what is out of them. Raises
    ValueError, with one line, if this Python cannot parse the text.
    """
    with one_line_errors("config"):
        found: dict[str, dict[str, float]] = {}
        for node in ast.walk(parse(source, "config")):
            match node:
                case ast.AnnAssign(
                    target=ast.Name(id=name), value=ast.Call(ast.Name("Field"), keywords=words)
                ):
                    found[name] = dict(_bounds(words))
        return {name: bounds for name, bounds in found.items() if bounds}


def read_methods(source: bytes) -> dict[str, tuple[str, str]]:
    """Method -> (module, class) in the text of `vllm/model_executor/layers/quantization/__init__.py`.

    The module is relative to that folder: `compressed_tensors.compressed_tensors`. Those that come from
    elsewhere are left out. Raises ValueError, with one line, if this Python cannot parse the text.
    """
    with one_line_errors("quantization"):
        modules: dict[str, str] = {}
        rows: dict[str, str] = {}
        for node in ast.walk(parse(source, "quantization")):
            match node:
                case ast.ImportFrom(module=str(name)) if node.level == 1:
                    modules.update({alias.name: name for alias in node.names})
                case ast.ImportFrom(module=str(name)) if name.startswith(_QUANTIZATION):
                    inner = name.removeprefix(_QUANTIZATION)
                    modules.update({alias.name: inner for alias in node.names})
                case ast.Dict():
                    rows.update(_names(node))
        return {method: (modules[kind], kind) for method, kind in rows.items() if kind in modules}


def read_requirement(source: bytes, kind: str) -> Requirement:
    """What a class of quantisation asks for, by itself or by the class it derives from in the same text.

    Raises ValueError, with one line, if this Python cannot parse the text.
    """
    with one_line_errors(kind):
        classes = {
            node.name: node
            for node in ast.walk(parse(source, kind))
            if isinstance(node, ast.ClassDef)
        }
        found: Requirement = {"capability": None, "dtypes": [], "files": []}
        waiting = [kind]
        while waiting:
            node = classes.get(waiting.pop(0))
            if node is None:
                continue
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
            for name, value in _returned(node):
                if name == "get_min_capability" and found["capability"] is None:
                    found["capability"] = _whole(value)
                elif name == "get_supported_act_dtypes" and not found["dtypes"]:
                    found["dtypes"] = _dtypes(value)
                elif name == "get_config_filenames" and not found["files"]:
                    found["files"] = _texts(value)
        return found


def read_keys(source: bytes, name: str) -> list[str]:
    """The texts that are keys of a module's `NAME = {...}`; empty where it has none.

    Raises ValueError, with one line, if this Python cannot parse the text.
    """
    with one_line_errors(name):
        for statement in parse(source, name).body:
            match statement:
                case ast.Assign([ast.Name(id=found)], ast.Dict(keys)) if found == name:
                    texts = [key.value for key in keys if isinstance(key, ast.Constant)]
                    return [text for text in texts if isinstance(text, str)]
        return []


def _names(table: ast.Dict) -> Iterator[tuple[str, str]]:
    for key, value in zip(table.keys, table.values, strict=True):
        match key, value:
            case ast.Constant(str(text)), ast.Name(id=name):
                yield text, name


def _returned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """The methods of a class that end with a `return`, and what they return there."""
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]):
                yield name, value


def _bounds(words: list[ast.keyword]) -> Iterator[tuple[str, float]]:
    for word in words:
        match word:
            case ast.keyword(
                "gt" | "ge" | "lt" | "le" as name, ast.Constant(int() | float() as limit)
            ):
                yield name, limit
            case ast.keyword(
                "gt" | "ge" | "lt" | "le" as name,
                ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as limit)),
            ):
                yield name, -limit


def _whole(value: ast.expr) -> int | None:
    match value:
        case ast.Constant(int(number)):
            return number
    return None


def _texts(value: ast.expr) -> list[str]:
    constants = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return [text for text in constants if isinstance(text, str)]


def _dtypes(value: ast.expr) -> list[str]:
    """`[torch.half, torch.bfloat16]` by the names that a configuration has for them."""
    elements = value.elts if isinstance(value, ast.List) else []
    names = [node.attr for node in elements if isinstance(node, ast.Attribute)]
    return [_SAME.get(name, name) for name in names]


def _tables(module: ast.Module) -> Iterator[tuple[str, ast.Dict]]:
    """The dicts that a module assigns to `_..._MODELS`."""
    for statement in module.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as table) | ast.Assign(
                [ast.Name(id=name)], value=ast.Dict() as table
            ) if name.startswith("_") and name.endswith("_MODELS"):
                yield name, table
