"""What a child says when it needs what only the main process has: the line, the reason, the way out."""

import os
import sys

_WAY_OUT = (
    "with '# vllm-guard: child' to run {} in every child too,"
    " or move it into the function that uses it."
)
_MARK = "Mark that line " + _WAY_OUT.format("it")
_MARK_BOTH = "Mark that line and those that it needs " + _WAY_OUT.format("them")


def missing(name, path, lost, refusal):
    """The text of the NameError for a name that the child lacks.

    `lost`: (line, reason), or None where no single statement binds it. `refusal`: why its value was not
    sent; empty where it was not asked for.
    """
    script = os.path.basename(path)
    head = f"name {name!r} is not defined in this child process: "
    value = f" Its value was not sent: {refusal}." if refusal else ""
    if lost is None:
        where = f"{script} sets it in the main process only."
        return f"{head}{where}{value} Pass it to the function as an argument."
    line, reason = lost
    ran = f"vllm-guard ran line {line} of {script} in the main process only ({reason})."
    return f"{head}{ran}{value} {_MARK_BOTH if ', which line ' in reason else _MARK}"


def failed(line, path, error, names):
    """One line for a statement that raised in a child."""
    script = os.path.basename(path)
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    lacking = f"; not available there: {', '.join(names)}" if names else ""
    return f"line {line} of {script} failed in a child process ({what}){lacking}"


def started(line, path, names):
    """One line for a statement that started a process while a child was loading the script."""
    script = os.path.basename(path)
    lacking = f"; not available there: {', '.join(names)}" if names else ""
    return (
        f"line {line} of {script} starts a process, which a child that only loads the script may not"
        f"{lacking}; mark it with '# vllm-guard: main', or put it under the main guard"
    )


def say(text):
    """One line on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"vllm-guard: {text}\n")
        sys.stderr.flush()
