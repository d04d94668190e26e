"""`vllm-guard fix`: writes `if __name__ == "__main__":` into scripts that need it."""

from __future__ import annotations

import difflib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from vllm_guard import importers, overwrite, report, screen, scripts, voice
from vllm_guard.errors import FAILED, USAGE, GuardError
from vllm_guard.guarding import Mended, cutting, mend
from vllm_guard.guarding.outcomes import RefusedError, UnwritableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vllm_guard.scripts import Script

_MISSING = "`vllm-guard fix` needs LibCST"
_INSTALL = "pip install 'vllm-guard[fix]', or, from a checkout: pip install '.[fix]'"
_PACKAGE_MAIN = "needs no guard, as children do not import what `python -m package` runs"
_NOTEBOOK = (
    "a notebook needs no guard, as children do not import it; with spawn they find no function of it, "
    "either: move what they run to a module"
)
_SAME, _CHANGED = 0, -1  #: outcomes; the others are statuses
_WORDS = ((FAILED, "left as they are"), (USAGE, "not readable"))


@click.command()
@click.option("--write", is_flag=True, help="Change the files; without it a diff is printed.")
@click.option("--check", is_flag=True, help="Only say which would change; status 1 if one would.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def fix(write: bool, check: bool, paths: tuple[str, ...]) -> int:
    """Write the main guard into scripts that start processes without one.

    PATH is a script, a folder (the *.py below it) or - for stdin, whose new text --write prints. Nothing is
    imported or run. Notebooks are left as they are: no child imports them.

    Exit status: 0 nothing to do, or done; 1 refused, or (--check) one would change; 2 one could not be read.
    """
    if write and check:
        raise GuardError("--write and --check cannot be used together", exit_code=USAGE)
    if find_spec("libcst") is None:
        raise GuardError(_MISSING, _INSTALL, exit_code=USAGE)
    give = _write if write else _count if check else _print_diff
    names = scripts.found(paths)
    # What is found in one file depends on others: all are read before the first is changed.
    ready = [_prepared(name, names) for name in names]
    outcomes = [one if isinstance(one, int) else _given(*one, give) for one in ready]
    changed = outcomes.count(_CHANGED)
    voice.say(_summary(len(names), changed, "changed" if write else "to change", outcomes))
    return max(*outcomes, FAILED if check and changed else 0, 0)


def _prepared(name: str, names: Sequence[str]) -> tuple[Script, Mended] | int:
    """What is to be written; `_SAME`, or the status of what went wrong, where nothing is."""
    script = scripts.read(name)
    try:
        mended = _mend(script, names)
    except GuardError as error:
        voice.say_error(error)
        return error.exit_code
    return (script, mended) if mended.guards or name == scripts.STDIN else _SAME


def _given(script: Script, mended: Mended, give: Callable[[Script, Mended], None]) -> int:
    """`_CHANGED`, `_SAME`, or the status of what went wrong."""
    try:
        give(script, mended)
    except GuardError as error:
        voice.say_error(error)
        return error.exit_code
    return _CHANGED if mended.guards else _SAME


def _summary(looked: int, changed: int, done: str, outcomes: Sequence[int]) -> str:
    """`3 scripts: 1 to change, 1 refused`."""
    numbers = ((changed, done), *((outcomes.count(status), what) for status, what in _WORDS))
    words = [f"{number} {what}" for number, what in numbers if number]
    return f"{report.count(looked, 'script')}: {', '.join(words) or 'nothing to do'}"


def _mend(script: Script, names: Sequence[str]) -> Mended:
    """With its notes said. Raises GuardError."""
    if script.problem:
        raise GuardError(_placed(script, script.problem_line, script.problem), exit_code=USAGE)
    if script.is_notebook:
        _say_note(script, 0, _NOTEBOOK)
        return Mended(script.source)
    if script.is_package_main:
        if cutting.needing_a_guard(script.source, script.tree, scripts.neighbours(script.path)):
            _say_note(script, 0, _PACKAGE_MAIN)
        return Mended(script.source)
    try:
        mended = mend(script.source, script.path, scripts.neighbours(script.path))
        importers.refuse(script.path, mended.missed, names)
    except SyntaxError as error:
        raise GuardError(_placed(script, error.lineno or 0, error.msg), exit_code=USAGE) from None
    except UnwritableError as error:
        raise GuardError(_placed(script, 0, str(error)), exit_code=USAGE) from None
    except RecursionError:
        raise GuardError(_placed(script, 0, "is nested too deeply"), exit_code=USAGE) from None
    except RefusedError as refusal:
        reason = _placed(script, refusal.line, refusal.reason)
        raise GuardError(reason, refusal.way_out(script.launch), exit_code=FAILED) from None
    for note in mended.notes:
        _say_note(script, note.line, note.text)
    return mended


def _say_note(script: Script, line: int, text: str) -> None:
    voice.say(f"note: {screen.printable(_placed(script, line, text))}", "note")


def _placed(script: Script, line: int, text: str) -> str:
    """`s.py:14: TEXT`, as compilers write it."""
    return f"{script.path}:{line}: {text}" if line else f"{script.path}: {text}"


def _write(script: Script, mended: Mended) -> None:
    if script.path == scripts.STDIN:
        click.echo(mended.source, nl=False)
        return
    try:
        overwrite.overwrite(script.path, script.source, mended.source)
    except OSError as error:
        reason = _placed(script, 0, f"cannot be written: {error.strerror}")
        raise GuardError(reason, exit_code=FAILED) from None
    _count(script, mended)


def _count(script: Script, mended: Mended) -> None:
    if mended.guards:
        click.echo(f"{screen.printable(script.path)}: {report.count(mended.guards, 'main guard')}")


def _print_diff(script: Script, mended: Mended) -> None:
    """As `patch` reads it, byte for byte; a terminal gets nothing that could drive it."""
    for line in _diff(script, mended.source):
        if sys.stdout.isatty():
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n").replace("\t", " " * 8)
            click.echo(screen.printable(text))
        else:
            click.echo(line, nl=False)


def _diff(script: Script, new: bytes) -> Iterator[bytes]:
    name = script.path.encode("utf-8", "surrogateescape")
    name += b"\t" if b" " in name else b""  # where the name ends
    lines = [source.splitlines(keepends=True) for source in (script.source, new)]
    for line in difflib.diff_bytes(difflib.unified_diff, lines[0], lines[1], name, name):
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
