"""The run on disk: a folder of its own under the state folder, and a marker while it is under way.

<state>/runs/<id>/run.json, output*.log     the record, redacted, mode 0600
<state>/active/<id>                         who runs it; gone at the end, so a left one is a dead run
"""

from __future__ import annotations

import os
import time

from vllm_guard import __version__, marker, paths
from vllm_guard.errors import GuardError
from vllm_guard.frozen import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from vllm_guard.marker import Marker
    from vllm_guard.model import Run

KEPT_RUNS = 50
_PRUNE_AT = KEPT_RUNS + 25  #: not at every run
SCHEMA_VERSION = 1
_MARKER_MAX = 1 << 20  #: bytes; it grows with the number of files in /dev/shm
_RECORD_MAX = 16 << 20


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

    def mark(self, run_id: str, private: str, contained: str, present: Iterable[int]) -> None:
        """Mark the run as under way, before anything else of it is made.

        `private`, `contained`, `present`: its folder and cgroup, and the inodes that are in /dev/shm.
        """
        try:
            active = paths.make_private(os.path.join(self.root, "active"))
            content = marker.text(private, contained, present)
            paths.create_private(os.path.join(active, run_id), content)
        except OSError as error:
            self.problem = f"no record is kept: {error}"

    def open(self, run_id: str) -> str:
        """Make the folder for a run's record; empty (with `problem` set) where that fails."""
        if self.problem:
            return ""
        try:
            return paths.make_private(os.path.join(self.root, "runs", run_id))
        except OSError as error:
            self.problem = f"no record is kept: {error}"
            return ""

    def add_keeper(self, run_id: str, pid: int) -> None:
        """The run's keeper has been started: while it lives, so does the run."""
        path = os.path.join(self.root, "active", run_id)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                paths.write_all(fd, marker.keeper_line(pid))
            finally:
                os.close(fd)
        except OSError as error:
            self.problem = self.problem or f"the marker is incomplete: {error}"

    def discard(self, run_id: str) -> None:
        """Forget a run that could not be started."""
        self.unmark(run_id)
        self.remove(run_id)

    def unmark(self, run_id: str) -> None:
        try:
            os.unlink(os.path.join(self.root, "active", run_id))
        except OSError:
            return

    def markers(self) -> list[Marker]:
        """Every run that is marked as under way, dead ones included."""
        found = (self._marker(run_id) for run_id in self.marked())
        return [marker for marker in found if marker is not None]

    def marked(self) -> list[str]:
        """The runs that have a marker, be it one that cannot be read."""
        return sorted(filter(is_id, self._names("active")))

    def _names(self, folder: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self.root, folder))
        except OSError:
            return []

    def _marker(self, run_id: str) -> Marker | None:
        try:
            path = os.path.join(self.root, "active", run_id)
            return marker.parse(run_id, paths.read_regular(path, _MARKER_MAX))
        except GuardError:
            return None

    def ids(self) -> list[str]:
        """The runs that have a record, by the time of their start; a link to a folder is none."""
        try:
            with os.scandir(os.path.join(self.root, "runs")) as entries:
                folders = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(filter(is_id, folders))

    def read(self, run_id: str) -> dict[str, Any] | None:
        """The record as `to_json` wrote it; None where there is none, or none that can be read."""
        import json

        if run_id not in self.ids():
            return None
        path = os.path.join(self.root, "runs", run_id, "run.json")
        try:
            document = json.loads(paths.read_regular(path, _RECORD_MAX))
        except (GuardError, ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    def remove(self, run_id: str) -> bool:
        """Remove the record of an ended run; False where something of it stays."""
        folder = os.path.join(self.root, "runs", run_id)
        _remove_record(folder)
        return not os.path.lexists(folder)

    def write(self, run: Run) -> None:
        """Write `run.json`, at the start (without an outcome) and at the end."""
        folder = os.path.join(self.root, "runs", run.id)
        if self.problem or not os.path.isdir(folder):
            return
        try:
            paths.write_private(os.path.join(folder, "run.json"), to_json(run))
        except OSError as error:
            self.problem = f"the record is incomplete: {error}"

    def mask_logs(self, run_id: str, known: Sequence[bytes] = ()) -> dict[str, int]:
        """Mask what the stream could not know as a secret; how many there were, by the shape's id."""
        folder = os.path.join(self.root, "runs", run_id)
        if not os.path.isdir(folder):
            return {}
        try:
            from vllm_guard import facts, masking

            return masking.mask_logs(folder, facts.load("redact")["shape"], known)
        except (OSError, ImportError) as error:  # or our own files are gone: an upgrade meanwhile
            self.problem = self.problem or f"the log may hold secrets: {error}"
            return {}

    def prune(self) -> None:
        """Drop the oldest records beyond KEPT_RUNS."""
        if len(self._names("runs")) < _PRUNE_AT:
            return
        names = self.ids()
        active = self.marked()
        for name in names[:-KEPT_RUNS]:
            if name not in active:
                self.remove(name)


def is_id(name: str) -> bool:
    """Could it be from `new_id`?"""
    words = name.split("-")
    digits = [len(word) for word in words if word.isascii() and word.isalnum()]
    return digits[:2] == [8, 6] and len(digits) == len(words) == 3


def to_json(run: Run) -> bytes:
    """The run as one JSON document (design, section 2)."""
    document = {"schema_version": SCHEMA_VERSION, "vllm_guard": __version__, **plain(run)}
    return (json_text(document) + "\n").encode("ascii")


def json_text(value: Any) -> str:
    """`json.dumps` for the plain values of a record: importing `json` costs 6 ms after each launch."""
    if isinstance(value, dict):
        items = (f"{_quoted(str(key))}: {json_text(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_text, value)) + "]"
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


def _remove_record(folder: str) -> None:
    """Most records are flat folders: no need to look for mounts."""
    try:
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError:
        from vllm_guard import folders

        folders.remove(folder)
