"""Which Python interpreter will a command use? Read from its words and files: nothing is run.

A command is rewritten step by step, as the programs it names will do it: `env A=1 nice vllm serve M`
becomes `nice vllm serve M`, then `vllm serve M`, then, by that script's first line, `/venv/bin/python3
/venv/bin/vllm serve M`. Every step keeps the words at the end. What no step knows is not Python.
"""

from __future__ import annotations

import os

from vllm_guard.target.words import Command, head, read_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_STEPS = 16
_SHEBANG_MAX = 256  #: BINPRM_BUF_SIZE of Linux 5.1 and later

#: Programs that run another: their options that take a value, and how many words of their own stand
#: between the options and the command.
_PREFIXES = {
    "chrt": ("-T -P -D --sched-runtime --sched-period --sched-deadline", 1),
    "dumb-init": ("-r --rewrite", 0),
    "ionice": ("-c -n --class --classdata", 0),
    "nice": ("-n --adjustment", 0),
    "nohup": ("", 0),
    "numactl": (
        (
            "-C -N -P -i -m -p -w --cpunodebind --interleave --membind --physcpubind --preferred"
            " --preferred-many --weighted-interleave"
        ),
        0,
    ),
    "setsid": ("", 0),
    "stdbuf": ("-i -o -e --input --output --error", 0),
    "taskset": ("", 1),
    "time": ("-f -o --format --output", 0),
    "timeout": ("-k -s --kill-after --signal", 1),
    "tini": ("-p -e", 0),
}
_ENV = ("-u", "-C", "-a", "-S", "--unset", "--chdir", "--argv0", "--split-string")
#: How a relocatable script (`uv venv --relocatable`) writes "the folder that I am in".
_OWN_FOLDER = '"$(dirname -- "$(realpath -- "$0")")"'


def to_python(command: Command) -> Command | None:
    """The command as the words of a Python interpreter, the first of them its absolute path.

    Symbolic links are kept: the `python` of a virtual environment is one, and knows by its own path
    where it is. None when the command is not known to come to Python.
    """
    *_, last = steps(command)
    path = _path(last)
    return last.behind(path) if path and _is_python(path, head(path)) else None


def steps(command: Command) -> Iterator[Command]:
    """The command, and what it becomes, as far as that is known."""
    for _ in range(_MOST_STEPS):
        yield command
        path = _path(command)
        following = _step(command, path, head(path)) if path else None
        if following is None:
            return
        command = following


def _path(command: Command) -> str:
    """The file that will be executed, absolute; empty where there is none."""
    found = command.find()
    return (
        os.path.join(command.cwd, found.path.removeprefix("./")) if found.reason == "found" else ""
    )


def is_interpreter(command: Command) -> bool:
    """Is the first word Python itself, and no program that starts one?"""
    path = _path(command)
    return bool(path) and _is_python(path, head(path))


def _is_python(path: str, start: bytes) -> bool:
    """By its name, or that of the program that it is a link to."""
    return _named_python(path) or (start[:2] != b"#!" and _named_python(os.path.realpath(path)))


def _named_python(path: str) -> bool:
    """`python`, `python3`, `python3.13t`, `python3-dbg`, `pypy3`; not `python3-config`."""
    name = os.path.basename(path).removesuffix("-dbg")
    return name.rstrip(".0123456789dmt") in ("python", "pypy")


def _step(command: Command, path: str, start: bytes) -> Command | None:
    """What the program at `path`, which begins with `start`, will execute; None if not known."""
    name = os.path.basename(path)
    if name == "env":
        return _env(command)
    if name == "uv":
        from vllm_guard.target import uv

        return uv.run(command)
    if name in _PREFIXES:
        takes_value, own = _PREFIXES[name]
        return command.but(*read_options(command.words[1:], takes_value.split())[1][own:])
    if start[:2] != b"#!":
        return None
    if b'/pyenv" exec "$program"' in start:
        from vllm_guard.target import pyenv

        behind = pyenv.behind_shim(command, path)
        return command.behind(behind) if behind else None
    if _named_python(path):
        return None  # a wrapper, which is asked
    return _script(command, path, start.partition(b"\0")[0])


def _script(command: Command, path: str, start: bytes) -> Command | None:
    """As the kernel starts a script: interpreter, at most one argument, the file, its arguments."""
    line, _, rest = start.partition(b"\n")
    text = os.fsdecode(line[2:_SHEBANG_MAX]).replace("\t", " ").strip(" ")
    interpreter, _, argument = text.partition(" ")
    if text == "/bin/sh" and rest.startswith(b"'''exec' "):
        return _long_shebang(command, path, os.fsdecode(rest.partition(b"\n")[0]))
    if len(line) >= _SHEBANG_MAX and not argument:
        return None  # cut off within the interpreter's name: the kernel refuses it
    arguments = [argument.lstrip(" ")] if argument else []
    return command.behind(os.path.join(command.cwd, interpreter), *arguments, path)


def _long_shebang(command: Command, path: str, line: str) -> Command | None:
    """`'''exec' "/long path/python" "$0" "$@"`: at once a command for sh and a string for Python.

    distlib (pip), conda and uv write it where a first line would be too long or hold a space.
    """
    import shlex

    own_folder = shlex.quote(os.path.dirname(os.path.realpath(path)))
    try:
        _, *words = shlex.split(line.replace(_OWN_FOLDER, own_folder), comments=True)
    except ValueError:
        return None
    return command.behind(*words[:-2], path) if words[-2:] == ["$0", "$@"] else None


def _env(command: Command) -> Command | None:
    """`env` of coreutils: the command is looked for in the changed environment."""
    options, rest = read_options(command.words[1:], _ENV, last=("-S", "--split-string"))
    env, cwd = dict(command.env), command.cwd
    if rest[:1] == ["-"]:
        options.insert(0, ("-i", ""))
        del rest[0]
    if any(name in ("-i", "--ignore-environment") for name, _ in options):
        env = {}
    for name, value in options:
        if name in ("-u", "--unset"):
            env.pop(value, None)
        elif name in ("-C", "--chdir"):
            cwd = os.path.join(cwd, value)
        elif name in ("-S", "--split-string"):
            return _env_split(Command((command.words[0], *rest), env, cwd), value)
    while rest and "=" in rest[0]:
        name, _, value = rest.pop(0).partition("=")
        env[name] = value
    return Command(tuple(rest), env, cwd)


def _env_split(command: Command, text: str) -> Command | None:
    """`env -S`: the words of the text are options and words of `env` again."""
    import shlex

    try:
        return command.behind(command.words[0], *shlex.split(text))
    except ValueError:
        return None
