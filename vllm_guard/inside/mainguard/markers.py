"""`# vllm-guard: child` and `# vllm-guard: main`: what the script itself says about a statement."""

import ast
import io
import re
import tokenize

_NAMED = re.compile(rb"vllm[-_ ]?guard", re.IGNORECASE)
_MARKER = re.compile(r"#\s*vllm-guard:\s*(child|main)\b")
_IGNORE = re.compile(r"#\s*vllm-guard:\s*ignore\b")
_MEANT = re.compile(r"#\s*vllm[-_ ]?guard\s*:|#\s*vllm[-_ ]?guard\W+\w+\s*$", re.IGNORECASE)


class Markers:
    """The markers of one source, by line."""

    def __init__(self, source):
        self._on = {}
        self._alone = set()
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
    """(line, comment) of what is meant for a marker, and is none; `source`: bytes."""
    texts = ((token.start[0], token.string) for token in _comments(source))
    return [
        (line, t)
        for line, t in texts
        if _MEANT.match(t) and not _MARKER.match(t) and not _IGNORE.match(t)
    ]


def ignored(source):
    """The lines of which `check` says nothing: with `# vllm-guard: ignore`, or below that alone."""
    found = set()
    for token in _comments(source):
        if _IGNORE.match(token.string):
            alone = not token.line[: token.start[1]].strip()
            found.add(token.start[0] + alone)
    return found


def _comments(source):
    if not _NAMED.search(source):
        return
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token


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
