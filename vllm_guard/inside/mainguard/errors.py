"""What a child says when it needs what only the main process has: the line, the reason, the way out."""

import os
import sys

#: Reasons why a child lacks what a line binds that it has tried to run.
STARTS, FAILED = "starts a process", "failed in this child: "

_WAY_OUT = (
    " with '# vllm-guard: child' to run {} in every child too,"
    " or move it into the function that uses it."
)
_MARK = "Mark that line" + _WAY_OUT.format("it")
_MARK_BOTH = "Mark that line and those that it needs" + _WAY_OUT.format("them")
_HAND_OVER = "Pass it as an argument: Process(args=(...,)), Pool(initializer=..., initargs=(...,))."
#: Of values that another process must not make anew: what their refusal says, and the way out.
_NOT_AGAIN = (
    ("a multiprocessing.pool.", "Make one in the function that uses it."),
    ("a multiprocessing.managers.SyncManager", "Pass the objects that it manages as arguments."),
    ("a concurrent.futures.", "Make one in the function that uses it."),
    ("multiprocessing.", _HAND_OVER),
    ("a socket.socket", _HAND_OVER),
    ("an _io.", "Open it in the function that uses it."),
    ("it is a function", "Move its definition out of the block that it is in."),
    ("it is a class", "Move its definition out of the block that it is in."),
)


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
    return f"{head}{ran}{value} {_way_out(reason, refusal)}"


def _way_out(reason, refusal):
    if reason == STARTS:
        return "Put what starts a process there under the main guard."
    if reason == f"{FAILED}ModuleNotFoundError":  # of a stub, mostly
        return "Mark what makes that module with '# vllm-guard: child'."
    if reason.startswith(FAILED):
        return "Let that line work in children, too, or move it into the function that uses it."
    if ", which line " in reason:
        return _MARK_BOTH
    return next((way for part, way in _NOT_AGAIN if part in refusal), _MARK)


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


def cut_short(cut, line, path):
    """One line for a module that starts a process while a statement imports it in a child."""
    names = ", ".join(module.__name__ for module in cut.modules)
    return (
        f"{cut.place} starts a process while line {line} of {os.path.basename(path)} imports it: children"
        f" have {names} up to there; move that into a function"
    )


def say(text):
    """One line on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"vllm-guard: {text}\n")
        sys.stderr.flush()
