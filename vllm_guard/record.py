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
    from collections.abc import Mapping
    from dataclasses import dataclass
    from typing import Any

    from vllm_guard.model import Run
else:
    from vllm_guard.frozen import dataclass

KEPT_RUNS = 50
_PRUNE_AT = KEPT_RUNS + 25  #: not at every run
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

    def mark(self, run_id: str, private: str, contained: str, keeper: int) -> None:
        """Leave a marker that tells a later guard whose processes and files these are."""
        if self.problem:
            return
        me = os.getpid()
        lines = [
            f"guard {me} {_start(me)}",
            f"keeper {keeper} {_start(keeper)}",
            f"private {private}",
            f"cgroup {contained}",
        ]
        try:
            folder = paths.make_private(os.path.join(self.root, "active"))
            text = "\n".join([*lines, f"boot {boot_id()}", ""])
            paths.create_private(os.path.join(folder, run_id), os.fsencode(text))
        except OSError as error:
            self.problem = f"no marker is kept: {error}"

    def discard(self, run_id: str) -> None:
        """Forget a run that could not be started."""
        self.unmark(run_id)
        _remove_record(os.path.join(self.root, "runs", run_id))

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
        """Write `run.json`, at the start (without an outcome) and at the end."""
        folder = os.path.join(self.root, "runs", run.id)
        if self.problem or not os.path.isdir(folder):
            return
        try:
            paths.write_private(os.path.join(folder, "run.json"), to_json(run))
        except OSError as error:
            self.problem = f"the record is incomplete: {error}"

    def prune(self) -> None:
        """Drop the oldest records beyond KEPT_RUNS."""
        runs = os.path.join(self.root, "runs")
        names = self.ids()
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
    cgroup: str  #: the folder it may have; empty for none
    boot: str

    @property
    def is_dead(self) -> bool:
        """Neither guard nor keeper is there any more."""
        if self.boot != boot_id():
            return True
        return not tree.is_alive(*self.guard) and not tree.is_alive(*self.keeper)


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
    except FileNotFoundError:
        return
    except OSError:
        remove_tree(folder)


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def _named_after(run_id: str, folder: str) -> str:
    """That folder, if it is the cgroup of this run and no other."""
    return folder if folder.endswith(f"/vllm-guard-{run_id}") else ""


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
            _named_after(name, rows.get("cgroup", "")),
            rows["boot"],
        )
    except (OSError, ValueError, KeyError, IndexError):
        return None
