"""Text that is safe to show: nothing quoted from a file, a log or a variable can drive the terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def printable(text: str) -> str:
    """The text on one line, with everything that is not printable (controls, bidi, surrogates) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def shortened(text: str, limit: int = 120) -> str:
    """`printable`, cut in the middle when longer than `limit` characters."""
    text = printable(text)
    if len(text) <= limit:
        return text
    half = max(2, (limit - 20) // 2)
    return f"{text[:half]} ..{len(text) - 2 * half} more.. {text[-half:]}"


def html(text: str) -> str:
    """`printable`, with every character that is markup in HTML escaped."""
    from html import escape

    return escape(printable(text))


def wants_colour(env: Mapping[str, str], is_terminal: bool) -> bool:
    """NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and TERM=dumb, in the order of no-color.org."""
    if env.get("NO_COLOR"):
        return False
    if any(env.get(name) not in (None, "", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return is_terminal and env.get("TERM", "dumb") != "dumb"


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
