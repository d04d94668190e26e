"""The environment as the kernel gave it to us, byte for byte, and as the command will get it.

`os.environ` is not enough: it drops entries without `=`, keeps one of several entries with the same
name, and shows the `LC_CTYPE` that Python itself sets in the C locale (PEP 538).
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vllm_guard.model import Entry, EnvPlan

#: The kernel's limits for execve: one string (MAX_ARG_STRLEN, 32 pages with its final NUL); the sum,
#: each string with a pointer, is a quarter of the stack limit within these two.
MAX_STRING = 131_072
_ALWAYS_ALLOWED = 131_072
_LARGEST_SUM = 6 << 20
_POINTER = 8
_PATHS = 4096  #: room for the program's path and its `#!` line, which the kernel counts, too


def inherited() -> tuple[Entry, ...]:
    """The entries this process was started with, in order, duplicates kept.

    Entries that no program can read by name (no `=`, or nothing before it) are left out.
    """
    try:
        return of_process("self")
    except OSError:
        return tuple(os.environb.items())


def of_process(pid: int | str) -> tuple[Entry, ...]:
    """What a process was started with, as `inherited`. Raises OSError where we may not see it."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        raw = file.read()
    entries = (item.partition(b"=") for item in raw.split(b"\0"))
    return tuple((name, value) for name, equals, value in entries if name and equals)


def view(entries: Iterable[Entry]) -> dict[str, str]:
    """Names and values as text; of duplicates the first counts, as for `getenv` and Python."""
    result: dict[str, str] = {}
    for name, value in entries:
        result.setdefault(os.fsdecode(name), os.fsdecode(value))
    return result


def planned(entries: Sequence[Entry], plan: EnvPlan) -> tuple[Entry, ...]:
    """The entries with the plan's changes: the others keep their place, their bytes and duplicates."""
    wanted = {os.fsencode(c.name): c.after for c in plan.changes}
    result = []
    done = set()
    for name, value in entries:
        if name not in wanted:
            result.append((name, value))
        elif name not in done:
            done.add(name)
            after = wanted[name]
            if after is not None:
                result.append((name, os.fsencode(after)))
    result += [
        (name, os.fsencode(after))
        for name, after in wanted.items()
        if after is not None and name not in done
    ]
    return tuple(result)


def duplicates(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Names that occur more than once: shells and Python then see different values."""
    seen: set[bytes] = set()
    twice = [name for name, _ in entries if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    return tuple(dict.fromkeys(os.fsdecode(name) for name in twice))


def block(entries: Sequence[Entry]) -> Mapping[bytes, bytes]:
    """The entries as `os.execve` wants them: a mapping, but one that may hold a name twice."""
    return _Block(entries)  # type: ignore[return-value]


class _Block:
    """As much of a mapping as CPython's `parse_envlist` uses."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: bytes) -> bytes:
        return dict(self._entries)[name]

    def keys(self) -> list[bytes]:
        return [name for name, _ in self._entries]

    def values(self) -> list[bytes]:
        return [value for _, value in self._entries]


def too_big(argv: Sequence[bytes], entries: Sequence[Entry]) -> str:
    """Why execve would refuse these (E2BIG), naming the largest; empty when it would not.

    Source: execve(2), "Limits on size of arguments and environment".
    """
    for name, value in entries:
        if len(name) + len(value) + 2 > MAX_STRING:
            return (
                f"variable {os.fsdecode(name)} is {len(value)} bytes long; "
                f"name and value together may be {MAX_STRING - 2}"
            )
    for index, word in enumerate(argv):
        if len(word) + 1 > MAX_STRING:
            return f"argument {index} is {len(word)} bytes long; one may be {MAX_STRING - 1}"
    total = _PATHS + sum(len(word) + 1 + _POINTER for word in argv)
    total += sum(len(name) + len(value) + 2 + _POINTER for name, value in entries)
    return "" if total <= _ALWAYS_ALLOWED else _sum_too_big(total, entries)


def _sum_too_big(total: int, entries: Sequence[Entry]) -> str:
    import resource

    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    quarter = _LARGEST_SUM if stack == resource.RLIM_INFINITY else stack // 4
    limit = max(_ALWAYS_ALLOWED, min(quarter, _LARGEST_SUM))
    if total <= limit:
        return ""
    largest = sorted(entries, key=lambda entry: -len(entry[1]))[:5]
    names = ", ".join(f"{os.fsdecode(name)} ({len(value)})" for name, value in largest)
    return f"arguments and environment are {total} bytes; {limit} are allowed; largest: {names}"
