"""The subcommands of `vllm`, and the flags of its `serve`, in vLLM's own source text.

As in `vllm_source`, the text is parsed, never executed.
"""

from __future__ import annotations

import ast
import re

from vllm_guard.vllm_source import one_line_errors, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAG = re.compile("--[a-z][a-z0-9-]*")


def read_flags(source: bytes) -> list[str]:
    """The long flags that this text may define, sorted: rather too many than too few.

    Each literal that looks like one, and each field of a class: vLLM makes flags of both. Raises ValueError,
    with one line, if this Python cannot parse the text.
    """
    with one_line_errors("the text with the flags"):
        module = parse(source, "flags")
        return sorted({*_literals(module), *_fields(module)})


def read_names(source: bytes) -> list[str]:
    """The texts that this text of `vllm/entrypoints/cli` assigns to `name` or `self.name`, sorted.

    By these its subcommands are called. Raises ValueError, with one line, as above.
    """
    with one_line_errors("the text with the subcommands"):
        found = set()
        for node in ast.walk(parse(source, "subcommands")):
            match node:
                case ast.Assign(
                    [ast.Name(id="name") | ast.Attribute(attr="name")], ast.Constant(str(text))
                ):
                    found.add(text)
        return sorted(found)


def _literals(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and _FLAG.fullmatch(value):
            yield value


def _fields(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        for field in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield "--" + field.target.id.replace("_", "-")
