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


def retitle(text: str) -> None:
    """Change the words of this process's command line (proc(5), `arg_start`), as far as they have room.

    A process that was only forked has those of its parent: `pkill -f` would mean both.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(text.encode()[: end - start - 1].ljust(end - start, b"\0"))
    except (OSError, ValueError, IndexError):
        return
