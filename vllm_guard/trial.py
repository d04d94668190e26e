"""Full checks with a time limit: `Trials` launches one step of `inside/` in the target's interpreter as a run
like any other, with a keeper, a private folder, a deadline and nothing left behind. The process that does so
is forked, and is told to end when this one dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm_guard import aside, environment, folders, paths, record, temporary
from vllm_guard.errors import GuardError
from vllm_guard.frozen import replace
from vllm_guard.probes.full import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vllm_guard.model import Outcome
    from vllm_guard.options import RunOptions
    from vllm_guard.prepare import Prepared

    Start = Callable[[RunOptions, tuple[int, ...]], Outcome]
    Progress = Callable[[float], None]

_MAIN = os.path.join(os.path.dirname(__file__), "inside", "main.py")
_SPARE = 4.0  #: seconds from the dump of the stacks to the deadline
_ENDING = 30.0  #: seconds that the end of a run may take
_ROOM = 1 << 20  #: bytes that a step's own files may take; what torch writes comes on top
_FILES = 16  #: of them
_SAID_LINES = 12
_SAID_BYTES = 16_384
_CAUSE_CHARS = 1000
#: An exception's own line; before it may stand `(EngineCore pid=7) ERROR 11-28 23:26:01 [core.py:9]`.
_CAUSE = re.compile(
    r"^(?:\([^)\n]*\) )?(?:ERROR [^\[\n]*\[[^\]\n]*\] +)?[\w.]*(?:Error|Exception): .*",
    re.MULTILINE,
)
_GENERIC = "Engine core initialization failed"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True)
class Trials:
    """Steps in the target's interpreter, in the environment that the command would have."""

    prepared: Prepared
    start: Start  #: carries out a launch
    progress: Progress  #: is told the seconds since the start

    def ask(
        self, step: str, asked: dict[str, Any], limit: float, profiles: Sequence[str] = ()
    ) -> Answer:
        """What the step says within its limit in seconds; `profiles`: on top of the command's."""

        def attempt() -> Iterator[str]:
            yield json.dumps(self._attempt(step, asked, limit, tuple(profiles)))

        child = aside.Child(attempt(), ending=_ENDING)
        try:
            text = child.line(limit + _SPARE + _ENDING, self.progress)
        except (TimeoutError, ChildProcessError) as error:
            return Answer(kind="lost", reason=str(error))
        finally:
            child.close()
        return Answer(**{key: _frozen(value) for key, value in json.loads(text).items()})

    def _attempt(
        self, step: str, asked: dict[str, Any], limit: float, profiles: tuple[str, ...]
    ) -> dict[str, Any]:
        """In the forked process: launch, look at what came of it, remove it."""
        before = environment.view(environment.inherited())
        folder = temporary.private_folder(record.new_id(), before)
        if no_room := _no_room(os.path.dirname(folder)):
            return {"kind": "not-started", "reason": no_room}
        folders.make(folder)
        try:
            os.mkdir(os.path.join(folder, "stacks"))
            _speak_to(os.path.join(folder, "said"))
            order = {
                "step": step,
                "rows": os.path.join(folder, "rows"),
                "stacks": os.path.join(folder, "stacks"),
                "limit": limit,
                "ask": {**asked, "folder": folder},
            }
            ended = self._launch(order, profiles, folder)
            return {**ended, **_found(folder)}
        finally:
            folders.remove(folder)

    def _launch(
        self, order: dict[str, Any], profiles: tuple[str, ...], folder: str
    ) -> dict[str, Any]:
        target = self.prepared.target
        assert target is not None
        options = self.prepared.options
        result = os.path.join(folder, "run.json")
        given = os.path.join(folder, "order")
        paths.create_private(given, json.dumps(order).encode())
        # What fails in the plan is said by the doctor; here it must not keep the step from running.
        failing = tuple(f.id for f in self.prepared.findings if f.status == "fail")
        mine = replace(
            options,
            command=(target.interpreter, _MAIN, given),
            profiles=(*options.profiles, *profiles),
            env=(*options.env, f"TMPDIR={folder}"),
            ignore=(*options.ignore, *failing),
            python=target.interpreter,
            preflight="off",
            deadline=order["limit"] + _SPARE,
            json=result,
            exec=False,
            no_watch=True,
            allow_daemon=False,
            dry_run=False,
        )
        try:
            outcome = self.start(mine, ())
        except GuardError as error:
            return {"kind": "not-started", "code": error.exit_code, "reason": error.message}
        try:
            document = json.loads(paths.peek(result, 16 << 20))
        except ValueError:  # the disk was filled meanwhile
            reason = _no_room(folder) or "the record of its run is damaged"
            return {"kind": "lost", "reason": reason}
        record.Shelf(self.prepared.before).remove(document["id"])  # of interest to nobody
        left = tuple(f["subject"] for f in document["leftovers"] if f["id"] == "left-behind")
        return {"kind": outcome.kind, "code": outcome.code, "signal": outcome.signal, "left": left}


def _no_room(folder: str) -> str:
    """That the file system of the folder is full; empty where it is not, or does not count its files."""
    info = os.statvfs(folder)
    free = info.f_bavail * info.f_frsize
    if free < _ROOM:
        return f"no space left in {folder}: {free >> 10} KiB; set TMPDIR to a folder with room"
    if info.f_files and info.f_favail < _FILES:
        return f"no space left in {folder}: {info.f_favail} inodes; set TMPDIR to another folder"
    return ""


def _speak_to(path: str) -> None:
    """From now on stdout and stderr go to this file, and stdin is empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd, place in ((null, 0), (said, 1), (said, 2)):
        os.dup2(fd, place)
    os.close(null)
    os.close(said)


def _found(folder: str) -> dict[str, Any]:
    """What the step left in its folder: its rows, its last words, its stacks."""
    rows = list(_rows(_text(os.path.join(folder, "rows"))))
    stacks = os.path.join(folder, "stacks")
    texts = {name: _text(os.path.join(stacks, name)) for name in sorted(os.listdir(stacks))}
    return {
        "rows": rows,
        "said": _said(_text(os.path.join(folder, "said"))),
        "stacks": {name: text.splitlines() for name, text in texts.items() if text},
    }


def _rows(text: str) -> Iterator[Any]:
    """What was written whole: a full disk tears a row."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _said(text: str) -> list[str]:
    """The last lines of what it wrote; before them the first that names an error, if that is further up.

    What ends a start of vLLM is "Engine core initialization failed. See root cause above."
    """
    plain = _ESCAPES.sub("", text)
    cause = next((found[0] for found in _CAUSE.finditer(plain) if _GENERIC not in found[0]), "")
    lines = [line for line in plain[-_SAID_BYTES:].splitlines() if line.strip()][-_SAID_LINES:]
    return [cause[:_CAUSE_CHARS], *lines] if cause and cause not in lines else lines


def _text(path: str) -> str:
    try:
        return paths.peek(path, 4 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
