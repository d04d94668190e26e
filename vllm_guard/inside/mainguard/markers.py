"""`# vllm-guard: child` and `# vllm-guard: main`: what the script itself says about a statement."""

import ast
import io
import re
import tokenize

_MARKER = re.compile(r"#\s*vllm-guard:\s*(child|main)\b")
_ALIKE = re.compile(r"#\s*v(?:llm)?[-_ ]?guard(?::|\s+(?:child|main)).*", re.IGNORECASE)


class Markers:
    """The markers of one source, by line."""

    def __init__(self, source):
        self._on = {}
        self._alone = set()
        if b"vllm-guard" not in source:
            return
        for token in _comments(source):
            found = _MARKER.match(token.string)
            if found:
                self._on[token.start[0]] = found.group(1)
                if not token.line[: token.start[1]].strip():
                    self._alone.add(token.start[0])

    def of(self, node):
        """What a marker on its lines (of a block: its head's), or alone above them, says; empty for none."""
        if not self._on:
            return ""
        first, last = first_line(node), node.end_lineno
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            last = max(node.lineno, first_line(body[0]) - 1)
        for line in range(first, last + 1):
            if line in self._on and (line not in self._alone or line < last):
                return self._on[line]
        return self._on[first - 1] if first - 1 in self._alone else ""


def misspelt(source):
    """(line, column from 0, text) of each comment that looks like a marker and is none."""
    if _ALIKE.search(source.decode("latin-1")):  # most scripts need not be taken apart
        for token in _comments(source):
            found = _ALIKE.search(token.string)
            if found and not _MARKER.match(token.string):
                yield token.start[0], token.start[1] + found.start(), found.group()


def _comments(source):
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return (token for token in tokens if token.type == tokenize.COMMENT)


def first_line(node):
    """Of a statement, its decorators included."""
    decorators = getattr(node, "decorator_list", ())
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def parse(source, path):
    """The tree of the source, without the warnings that running it will give. Raises SyntaxError."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source, path)
