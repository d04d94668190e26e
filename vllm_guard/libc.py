"""System calls that Python's `os` does not have, through the C library."""

from __future__ import annotations


def call(name: str, *arguments: int | bytes) -> int:
    """The result of libc's function; -1 when it failed, is not there, or libc cannot be reached.

    `_ctypes` is a private module, so `ctypes` (3 ms) is the fallback.
    """
    try:
        import _ctypes

        function = _ctypes.dlsym(_ctypes.dlopen("", 2), name)
        return int(_ctypes.call_function(function, arguments))
    except (ImportError, AttributeError, OSError, TypeError):
        pass
    try:
        import ctypes

        return int(getattr(ctypes.CDLL(None), name)(*arguments))
    except (ImportError, AttributeError, OSError):
        return -1
