"""What the script is doing when its first process is started: has it asked whether it is the main module?

Not every guard is seen in a script's text: `run_main(__name__)` of a library, a helper's `is_main()`. What is
on the stack at that moment tells more: a child that imports the script goes another way there.
"""

import ast
import builtins
import sys
import threading

from .names import binds

#: What tells a process that it is the main one.
_WHO = frozenset(("__name__", "current_process"))
_CHOICES = (ast.If, ast.While, ast.IfExp)


def is_guarded(tree, module):
    """Does what `module`, whose tree this is, runs just now hang on its being the main one?"""
    names = _WHO | _answers(tree)
    lines = _lines(vars(module))
    return any(_asks(node, names) for line in lines for node in _around(tree, line))


def _around(node, line):
    """All that stands there and may decide what runs, the outer before the inner."""
    if isinstance(node, (ast.Attribute, ast.keyword)):
        return  # `getLogger(__name__).info(run())`
    for part in ast.iter_child_nodes(node):
        first = getattr(part, "lineno", line)  # a `case` has none
        if first <= line <= getattr(part, "end_lineno", line):
            yield part
            yield from _around(part, line)


def _lines(namespace):
    """Where the script's code stands: in this thread, which starts a process, and in the main one."""
    for thread in {threading.get_ident(), threading.main_thread().ident}:
        frame = sys._current_frames().get(thread)
        while frame is not None:
            if frame.f_globals is namespace:
                yield frame.f_lineno
            frame = frame.f_back


def _answers(tree):
    """The names of variables and functions that say which process this is: `IS_MAIN`, `is_main()`."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _compares(node.value, names):
            names.update(binds(node))
        elif isinstance(node, ast.FunctionDef):
            returned = (n.value for n in node.body if isinstance(n, ast.Return))
            if any(_compares(value, names) for value in returned):
                names.add(node.name)
    return names


def _compares(value, names):
    whole = value and any(isinstance(n, (ast.Compare, ast.BoolOp)) for n in ast.walk(value))
    return bool(whole) and _reads(value, _WHO | names)


def _asks(node, names):
    """Is it a choice between the main process and others, or a call that is told the module's name?"""
    if isinstance(node, _CHOICES):
        return _reads(node.test, names) and _differs(node.test)
    if isinstance(node, ast.BoolOp):
        return any(_reads(value, names) and _differs(value) for value in node.values)
    if type(node).__name__ == "Match":
        return _reads(node.subject, names)
    if isinstance(node, ast.Call) and not hasattr(builtins, getattr(node.func, "id", "")):
        return any(isinstance(given, ast.Name) and given.id in names for given in node.args)
    return False


def _reads(node, names):
    return any(
        getattr(part, "id", "") in names or getattr(part, "attr", "") in names
        for part in ast.walk(node)
    )


def _differs(test):
    """Is it another in a child? Where it is more than a comparison of the name, nobody knows: yes."""
    code = compile(ast.Expression(test), "", "eval", dont_inherit=True)
    try:
        main, child = (
            eval(code, {"__builtins__": {}, "__name__": name})  # noqa: S307
            for name in ("__main__", "__mp_main__")
        )
    except Exception:
        return True
    return bool(main) != bool(child)
