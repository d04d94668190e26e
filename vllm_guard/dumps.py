"""The Python stacks that a process of a script writes itself: faulthandler, registered by the harness.

Only a process that has registered is asked: the signal ends any other one.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from vllm_guard.inside.mainguard.stacks import DESCRIPTOR, NAME, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAUSE = 0.05  #: seconds without a further word after which it has said all
_THREAD = re.compile(r"(?:Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):")
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')


def read(pid: int, seconds: float) -> str:
    """What it writes when it is asked, within that time; empty where it cannot be asked."""
    path = f"/proc/{pid}/fd/{DESCRIPTOR}"
    try:
        if not os.readlink(path).startswith(f"/memfd:{NAME} ") or not _takes(pid):
            return ""
        with open(path, "rb", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            os.kill(pid, SIGNAL)
            return _new(file.fileno(), before, seconds).decode("utf-8", "replace")
    except OSError:
        return ""


def threads(text: str) -> Iterator[list[tuple[str, str, int]]]:
    """Of each thread its calls: function, file and line, the innermost first; the main thread is the last."""
    frames: list[tuple[str, str, int]] | None = None
    for line in text.splitlines():
        if _THREAD.match(line):
            if frames is not None:
                yield frames
            frames = []
        elif frames is not None and (found := _FRAME.match(line)):
            frames.append((found["function"], found["file"], int(found["line"])))
    if frames is not None:
        yield frames


def _takes(pid: int) -> bool:
    """Does it handle the signal, and will at once? One that is blocked or stopped would keep it for later."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        rows = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    bit = 1 << (SIGNAL - 1)
    handled, blocked = (bool(int(rows[name], 16) & bit) for name in ("SigCgt", "SigBlk"))
    return handled and not blocked and rows["State"][0] in "RS"


def _new(fd: int, before: int, seconds: float) -> bytes:
    """What is written behind `before`, when it grows no more."""
    until = time.monotonic() + seconds
    size = before
    while time.monotonic() < until:
        time.sleep(_PAUSE)
        last, size = size, os.fstat(fd).st_size
        if size == last > before:
            break
    return os.pread(fd, size - before, before)
