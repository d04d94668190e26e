"""The ways in which a secret is written: as it is, in a URL, in JSON, by Python's `repr`, in base64. Pure."""

from __future__ import annotations

import binascii
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_UNRESERVED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986
_PLAIN = frozenset(map(chr, _UNRESERVED))


def of(secret: str) -> set[str]:
    """Every spelling of a secret, itself included."""
    data = os.fsencode(secret)
    found = {secret, *_in_base64(data)}
    if not _PLAIN.issuperset(secret):
        for kept in (b"", b"/", b"/:"):
            quoted = _in_url(data, kept)
            found |= {quoted, quoted.replace("%20", "+")}
        found |= {*_in_json(secret), repr(secret)[1:-1]}
        found |= {secret.replace("'", quoted) for quoted in ("'\\''", "'\"'\"'")}  # for a shell
    return found


def _in_url(data: bytes, kept: bytes) -> str:
    return "".join(chr(b) if b in _UNRESERVED or b in kept else f"%{b:02X}" for b in data)


def _in_json(secret: str) -> Iterator[str]:
    import json

    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]


def _in_base64(data: bytes) -> Iterator[str]:
    """What of it is the same whatever stands before and behind it: three bytes are four characters."""
    for before in range(3):
        text = binascii.b2a_base64(bytes(before) + data, newline=False).rstrip(b"=").decode()
        whole = text[(0, 2, 3)[before] : len(text) - bool((before + len(data)) % 3)]
        yield whole
        yield whole.replace("+", "-").replace("/", "_")
