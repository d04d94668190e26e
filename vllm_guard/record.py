"""The run on disk: a folder of its own under the state folder, and a marker while it is under way.

<state>/runs/<id>/run.json, output*.log     the record, redacted, mode 0600
<state>/active/<id>                         who runs it; gone at the end, so a left one is a dead run
"""

from __future__ import annotations

import os
import time

from vllm_guard import __version__, paths, tree
from vllm_guard.frozen import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any

    from vllm_guard.model import Run
else:
    from vllm_guard.frozen import dataclass

KEPT_RUNS = 50
_PRUNE_AT = KEPT_RUNS + 25  #: not at every run
HEAD_LIMIT = 32 << 20  #: bytes of output.log: the start, and mostly the first error
TAIL_LIMIT = 16 << 20  #: bytes of output.tail.log and of its predecessor: the end
SCHEMA_VERSION = 1


def new_id() -> str:
    """`20261124-143015-c3f7f3a9c2e`: in the order of their start, not to be guessed or met twice."""
    now = time.time()
    start = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{start}-{int(now % 1 * 4096):03x}{os.urandom(4).hex()}"


class Shelf:
    """The state folder of this user. Where it cannot be written, every method does nothing."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.root = paths.base_dir("state", env)
        self.problem = ""

    def open(self, run_id: str) -> str:
        """Make the folder for a run's record; empty (with `problem` set) where that fails."""
        try:
            return paths.make_private(os.path.join(self.root, "runs", run_id))
        except OSError as error:
            self.problem = f"no record is kept: {error}"
            return ""

    def mark(self, run_id: str, private: str, keeper: int) -> None:
        """Leave a marker that tells a later guard whose processes and files these are."""
        if self.problem:
            return
        me = os.getpid()
        lines = [
            f"guard {me} {_start(me)}",
            f"keeper {keeper} {_start(keeper)}",
            f"private {private}",
        ]
        try:
            folder = paths.make_private(os.path.join(self.root, "active"))
            text = "\n".join([*lines, f"boot {boot_id()}", ""])
            paths.create_private(os.path.join(folder, run_id), os.fsencode(text))
        except OSError as error:
            self.problem = f"no marker is kept: {error}"

    def unmark(self, run_id: str) -> None:
        try:
            os.unlink(os.path.join(self.root, "active", run_id))
        except OSError:
            return

    def markers(self) -> list[Marker]:
        """Every run that is marked as under way, dead ones included."""
        folder = os.path.join(self.root, "active")
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return []
        found = (_read_marker(folder, name) for name in names if not name.endswith(".new"))
        return [marker for marker in found if marker is not None]

    def ids(self) -> list[str]:
        """The runs that have a record, by the time of their start."""
        try:
            return sorted(os.listdir(os.path.join(self.root, "runs")))
        except OSError:
            return []

    def read(self, run_id: str) -> dict[str, Any] | None:
        """The record as `to_json` wrote it; None where there is none, or none that can be read."""
        import json

        if "/" in run_id:
            return None
        try:
            with open(os.path.join(self.root, "runs", run_id, "run.json"), "rb") as file:
                document = json.loads(file.read())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def remove(self, run_id: str) -> bool:
        """Remove the record of an ended run."""
        folder = os.path.join(self.root, "runs", run_id)
        remove_tree(folder)
        return not os.path.exists(folder)

    def write(self, run: Run) -> None:
        """Write `run.json` and drop the oldest records beyond KEPT_RUNS."""
        folder = os.path.join(self.root, "runs", run.id)
        if self.problem or not os.path.isdir(folder):
            return
        try:
            paths.write_private(os.path.join(folder, "run.json"), to_json(run))
            self._prune()
        except OSError as error:
            self.problem = f"the record is incomplete: {error}"

    def _prune(self) -> None:
        runs = os.path.join(self.root, "runs")
        names = sorted(os.listdir(runs))
        if len(names) < _PRUNE_AT:
            return
        active = {marker.run_id for marker in self.markers()}
        for name in names[:-KEPT_RUNS]:
            if name not in active:
                _remove_record(os.path.join(runs, name))


@dataclass(frozen=True)
class Marker:
    """Who was running a run."""

    run_id: str
    guard: tuple[int, str]  #: pid and start time
    keeper: tuple[int, str]
    private: str
    boot: str

    @property
    def is_dead(self) -> bool:
        """Neither guard nor keeper is there any more."""
        if self.boot != boot_id():
            return True
        return not tree.is_alive(*self.guard) and not tree.is_alive(*self.keeper)


class Log:
    """What the command wrote, with the known secrets masked: the beginning, and the end.

    `output.log` holds the first HEAD_LIMIT bytes; what comes later goes to `output.tail.log`, of which
    one full predecessor is kept (`output.tail.log.1`). Nothing here disturbs the run.
    """

    def __init__(self, folder: str, secrets: Sequence[bytes]) -> None:
        self.path = os.path.join(folder, "output.log") if folder else ""
        self.lost = 0  #: bytes that are in none of the files
        self._tail = os.path.join(folder, "output.tail.log")
        self._secrets = secrets
        self._overlap = max((len(s) for s in secrets), default=1) - 1
        self._held = b""
        self._room = HEAD_LIMIT
        self._fd = _new_file(self.path) if folder else -1

    def keep(self, data: bytes) -> None:
        """Add to the log, holding back what could be the start of a secret."""
        if self._fd < 0:
            self.lost += len(data) if self.path else 0
            return
        if self._secrets:
            data = self._masked(self._held + data)
            cut = max(0, len(data) - self._overlap)
            self._held = data[cut:]
            data = data[:cut]
        self._append(data)

    def close(self) -> None:
        self._append(self._held)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _masked(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, b"[masked]")
        return data

    def _append(self, data: bytes) -> None:
        while data and self._fd >= 0:
            try:
                if not self._room:
                    self._rotate()
                paths.write_all(self._fd, data[: self._room])
            except OSError:  # a full disk, a removed folder
                os.close(self._fd)
                self._fd = -1
                break
            written = min(len(data), self._room)
            self._room -= written
            data = data[written:]
        self.lost += len(data)

    def _rotate(self) -> None:
        """Begin a new tail; the one before it is kept, the one before that is not."""
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)  # should the next step fail
        if os.path.exists(self._tail):
            if os.path.exists(f"{self._tail}.1"):
                self.lost += TAIL_LIMIT
            os.replace(self._tail, f"{self._tail}.1")
        os.close(self._fd)
        self._fd = _new_file(self._tail)
        self._room = TAIL_LIMIT


def _new_file(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, paths.PRIVATE_FILE)


def to_json(run: Run) -> bytes:
    """The run as one JSON document (design, section 2)."""
    document = {"schema_version": SCHEMA_VERSION, "vllm_guard": __version__, **plain(run)}
    return (_json(document) + "\n").encode("ascii")


def _json(value: Any) -> str:
    """`json.dumps` for the plain values of a record: importing `json` costs 6 ms after each launch."""
    if isinstance(value, dict):
        items = (f"{_quoted(str(key))}: {_json(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    import json

    return json.dumps(text)


def remove_tree(path: str) -> None:
    """`rm -r` of a folder of ours; what cannot be removed stays, and leftovers says so."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _remove_record(folder: str) -> None:
    """Most records are flat: no need for `shutil`, which costs 10 ms to import."""
    try:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except IsADirectoryError:
        remove_tree(folder)


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def _start(pid: int) -> str:
    info = tree.stat(pid)
    return info["start"] if info else "?"


def _read_marker(folder: str, name: str) -> Marker | None:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            rows = dict(os.fsdecode(line).split(" ", 1) for line in file.read().splitlines())
        guard, keeper = rows["guard"].split(), rows["keeper"].split()
        return Marker(
            name,
            (int(guard[0]), guard[1]),
            (int(keeper[0]), keeper[1]),
            rows["private"],
            rows["boot"],
        )
    except (OSError, ValueError, KeyError, IndexError):
        return None
