"""Where in a command the script stands that Python will run as its main module."""

from __future__ import annotations

import os

from vllm_guard.target.rewrite import is_interpreter, steps
from vllm_guard.target.words import head, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import dataclass

    from vllm_guard.target.words import Command
else:
    from vllm_guard.frozen import dataclass

_MODULE = ("-m", "--module")
_TORCHRUN_MODULES = [("-m", "torch.distributed.run"), ("-m", "torch.distributed.launch")]
#: The options of torchrun that take a value; with the others of these it does not run `python SCRIPT`:
#: `torch/distributed/run.py` of 2.13. It takes `_` for `-`.
_TORCHRUN_TAKES_VALUE = (
    "-r -t --duplicate-stderr-filters --duplicate-stdout-filters --event-log-handler --local-addr"
    " --local-ranks-filter --log-dir --logs-specs --master-addr --master-port --max-restarts"
    " --monitor-interval --nnodes --node-rank --nproc-per-node --numa-binding --rdzv-backend --rdzv-conf"
    " --rdzv-endpoint --rdzv-id --redirects --role --shutdown-timeout --signals-to-handle --start-method"
    " --tee"
)
_TORCHRUN_OTHER = {"--no-python", "--run-path", "-h", "--help"}


_HARNESS = os.path.join("vllm_guard", "inside", "harness.py")  #: also of another installation
_HARNESS_OPTIONS = ("--engine", "--main-guard", "--stacks")  #: each with a value


@dataclass(frozen=True)
class Script:
    """The script of a command."""

    before: tuple[str, ...]  #: the words before it, which start its interpreter
    words: tuple[
        str, ...
    ]  #: as the harness takes them: the file or `-m` and a module, and arguments

    def run_by(self, harness: Sequence[str]) -> tuple[str, ...]:
        """The command with the script run by another one, which is given the script's words."""
        return (*self.before, *harness, *self.words)


def as_typed(words: Sequence[str]) -> list[str]:
    """The words of a command whose script the harness runs, without the harness; others as they are."""
    at = next((n for n, word in enumerate(words) if word.endswith(_HARNESS)), len(words))
    rest = list(words[at + 1 :])
    while rest and rest[0] in _HARNESS_OPTIONS:
        del rest[:2]
    return [*words[:at], *(rest[1:] if rest[:1] == ["--"] else rest)]


def find_script(
    given: Command,
    command: Command,
    script: str,
    arguments: Sequence[str],
    search_path: Sequence[str],
) -> Script | None:
    """The script of the command `given`, whose Python command is `command`.

    `script` is the file that Python is given, empty for `-m MODULE`; `arguments` are the words after it
    or the module; `search_path` is Python's. None where Python's children would not import what it runs
    (a folder, an archive, a package, a program like pip), and where it is not certain that the last words
    of `given` are those that Python will get.
    """
    argv = given.words
    count = len(arguments) + (1 if script else 2)
    options, own = command.words[1:-count], command.words[-count:]
    is_torchrun = os.path.basename(script) == "torchrun" or own[:2] in _TORCHRUN_MODULES
    if is_torchrun:
        return _of_torchrun(argv, arguments, command.cwd)
    at = len(argv) - count
    if at < 0 or tuple(argv[at + 1 :]) != own[1:] or "-x" in options:
        return None  # -x: Python skips the first line
    if not (_is_script(script, own[0], command.cwd) if script else _is_module(own, search_path)):
        return None
    words = ("--", *own) if script not in ("", "-") and own[0].startswith("-") else own
    program = _last_program(given)
    by_uv = os.path.basename(program[0]) == "uv"
    before = _interpreter_before(argv, at, command, options)
    if before and (by_uv or program[1:] == argv[len(before) - len(options) :]):
        return Script(before, words)
    if not by_uv and program != argv[at:]:
        return None  # `env -S "python -u" s.py`: what Python gets is within a word
    if not script and argv[at] not in _MODULE:
        return None  # `uv run -m` with more options behind it
    # By its first line, or by `uv run`; the kernel passes the name that it was given.
    name = argv[at] if "/" in argv[at] else own[0]
    return Script((*argv[:at], command.words[0], *options), (name, *own[1:]))


def _last_program(given: Command) -> tuple[str, ...]:
    """The last program that the words themselves name, with the words that it gets."""
    argv = given.words
    return [step.words for step in steps(given) if step.words == argv[-len(step.words) :]][-1]


def _interpreter_before(
    argv: Sequence[str], at: int, command: Command, options: Sequence[str]
) -> tuple[str, ...]:
    """The words before the script where the last of them name Python itself, and its options."""
    at_python = at - len(options) - 1
    if at_python < 0 or tuple(argv[at_python + 1 : at]) != tuple(options):
        return ()
    first = command.but(*argv[at_python:])
    if not is_interpreter(first):
        return ()
    found = os.path.join(command.cwd, first.find().path)
    same = os.path.realpath(found) == os.path.realpath(command.words[0])
    # A shim of pyenv looks for `.python-version` beside the file that Python is given.
    word = argv[at_python] if same else command.words[0]
    return (*argv[:at_python], word, *options)


def _is_script(script: str, word: str, cwd: str) -> bool:
    """A text to run: a file, or the standard input if nobody types it."""
    if script == "-":
        return word == script and not os.isatty(0)
    path = os.path.join(cwd, script)
    return os.path.isfile(path) and b"\0" not in head(path)


def _is_module(own: Sequence[str], search_path: Sequence[str]) -> bool:
    """`-m MODULE`, and it is no package."""
    if own[0] not in _MODULE[:1]:
        return False
    folders = own[1].split(".")
    mains = (os.path.join(entry, *folders, "__main__.py") for entry in search_path)
    return not any(map(os.path.isfile, mains))


def _of_torchrun(argv: Sequence[str], words: Sequence[str], cwd: str) -> Script | None:
    """The script that torchrun starts once for each rank."""
    with_dashes = [_dashed(word) if word.startswith("--") else word for word in words]
    options, own = read_options(with_dashes, _TORCHRUN_TAKES_VALUE.split())
    own = list(words[len(words) - len(own) :])
    given = {name for name, _ in options}
    at = len(argv) - len(own)
    if not own or tuple(argv[at:]) != tuple(own) or given & _TORCHRUN_OTHER:
        return None
    if own[0].startswith("-"):
        return None  # `torchrun -- --file`: it would be one of the harness's options
    if given.isdisjoint(_MODULE):
        is_script = _is_script(own[0], own[0], cwd)
        return Script(tuple(argv[:at]), tuple(own)) if is_script else None
    if argv[at - 1] not in _MODULE:
        return None
    return Script(tuple(argv[: at - 1]), ("-m", *own))


def _dashed(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
