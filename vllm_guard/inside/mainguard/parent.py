"""The main process: the script as Python itself runs it, and a watch on multiprocessing.

The hot path: nothing is imported here that a bare interpreter has not loaded.
"""

import os
import sys
from _weakref import ref

from . import load

SPAWNERS = ("multiprocessing.spawn", "multiprocess.spawn")  #: the second is dill's
_options = {"stacks": False}
_engine = {}  #: name -> value: defaults of vLLM's engine options
_own_main = None  #: the module that Python made for the harness: its names must live on


class Script:
    """What is run as `__main__`, and how its children are to be started."""

    def __init__(self, mode, module, path, source, spec=None):
        self.mode = mode  #: "auto", "definitions", "cutoff" or "off"
        self.module = ref(module)  #: weak: at its end Python clears last what somebody still holds
        self.path = path  #: its `__file__`, before it sets that itself
        self.source = source  #: bytes, as they were when it was started
        self.spec = spec  #: of `-m`
        self._loader = spec.loader if spec else module.__loader__
        self.stacks = _options["stacks"]  #: as `stacks.offer` does it
        self.engine = _engine  #: as `engine.set_defaults` takes it
        self.sender = None  #: from when a module of `SPAWNERS` is imported

    def is_main(self):
        """Is it still the main module? A debugger may have put another script in its place."""
        main = sys.modules.get("__main__")
        return main is self.module() and vars(main).get("__loader__") is self._loader


def run(words, harness):
    """Run `[OPTIONS] [--] SCRIPT|-m MODULE [ARGUMENTS]`, as Python was to run the file `harness`.

    After `--` comes a file, whatever its name.
    """
    started = getattr(sys, "orig_argv", [sys.executable, harness, *words])  # since Python 3.10
    python = started[: -len(words) - 1]
    given = {"--main-guard": "auto", "--engine": "", "--stacks": ""}
    while words[0] in given:
        given[words[0]], words = words[1], words[2:]
    mode = given["--main-guard"]
    if given["--engine"]:
        _set_engine_defaults(given["--engine"])
    if given["--stacks"]:
        _options["stacks"] = True
        load("stacks").offer()
    script, *arguments = words
    try:
        if script == "-m":
            module, *arguments = arguments
            sys.argv[:] = ["-m", *arguments]
            _replace_first_entry(harness, os.getcwd())
            _run_module(mode, module)
        else:
            if script == "--":
                script, *arguments = arguments
            sys.argv[:] = [script, *arguments]
            _run_script(mode, script, harness, python)
    except SystemExit:
        raise
    except BaseException:
        _show_without_ours(harness)
        raise


def _set_engine_defaults(text):
    import json

    _engine.update(json.loads(text))
    load("engine").set_defaults(_engine, aloud=True)


def _run_script(mode, word, harness, python):
    """As `python SCRIPT` does; `-` is the standard input."""
    path = os.path.join(os.getcwd(), word)
    if word == "-":
        _replace_first_entry(harness, "")
        _execute(mode, "<stdin>", sys.stdin.buffer.read(), sys.__loader__)
        return
    try:
        source = _read(path)
    except (OSError, SyntaxError, ValueError):  # Python says why, each version in its own words
        os.execv(sys.executable, [*python, *sys.argv])
    _replace_first_entry(harness, os.path.dirname(os.path.realpath(path)))
    _execute(mode, path, source, _source_loader()("__main__", path))


def _read(path):
    """The script as bytes. Raises what tells that it is none that Python can read (a folder, an archive)."""
    with open(path, "rb") as file:
        source = file.read()
    encoding = "utf-8"
    if b"coding" in b"".join(source.split(b"\n", 2)[:2]):
        import io
        import tokenize

        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    if "\0" in source.decode(encoding):
        raise ValueError
    return source


def _source_loader():
    from _frozen_importlib_external import SourceFileLoader

    return SourceFileLoader


def _execute(mode, path, source, loader):
    code = compile(source, path, "exec", dont_inherit=True)
    module = _new_main()
    vars(module).update(__loader__=loader, __file__=path, __cached__=None)
    _watch(Script(mode, module, path, source))
    exec(code, vars(module))


def _run_module(mode, name):
    """As `python -m` does. A package's `__main__` is left alone: children do not import it."""
    import runpy

    module = _new_main()
    run_code = runpy._run_code

    def watched(code, namespace, init, run_name, spec, *rest):
        runpy._run_code = run_code
        if spec.name.rpartition(".")[2] != "__main__" and type(spec.loader) is _source_loader():
            with open(spec.origin, "rb") as file:
                _watch(Script(mode, module, spec.origin, file.read(), spec))
        return run_code(code, namespace, init, run_name, spec, *rest)

    runpy._run_code = watched
    runpy._run_module_as_main(name)


def _new_main():
    global _own_main
    _own_main = sys.modules["__main__"]
    sys.modules["__main__"] = module = type(sys)("__main__")
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    module.__builtins__ = sys.modules["builtins"]
    return module


def _replace_first_entry(harness, entry):
    """Python has put our folder first on `sys.path`, unless it was told not to."""
    folder = os.path.dirname(os.path.realpath(harness))
    if sys.path and os.path.realpath(sys.path[0]) == folder:
        sys.path[0] = entry


def _watch(script):
    """Have `multiprocessing.spawn` patched, now or when it is first imported."""
    if script.mode != "off":
        load("imports").when_imported(dict.fromkeys(SPAWNERS, lambda m: _patch(m, script)))


def _patch(spawn, script):
    sending = load("sending")
    if script.sender is None:
        script.sender = sending.Sender(script.is_main, _Parcel(script, sending), {})
    sending.watch(spawn, script.sender)


class _Parcel:
    """What the script's children are sent, made when the first one starts; threads may start some at once."""

    def __init__(self, script, sending):
        from threading import RLock

        self._script, self._sending = script, sending
        self._lock = lock = RLock()
        self._made = []
        # A fork waits for it: in the new process there is no thread that would let the lock go.
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )

    def __call__(self):
        with self._lock:
            if not self._made:
                order = load("analysis").order(self._script)
                self._made.append(self._sending.pack(order))
        return self._made[0]


def _show_without_ours(harness):
    """The interpreter is about to show an error: our frames are no part of the script."""
    show = getattr(sys, "excepthook", _show_without_hook)

    def hook(kind, value, traceback):
        traceback = _without_ours(traceback, harness)
        sys.last_traceback = value.__traceback__ = traceback
        show(kind, value, traceback)

    sys.excepthook = hook


def _show_without_hook(*error):
    """As Python does after `del sys.excepthook`."""
    sys.stderr.write("sys.excepthook is missing\n")
    sys.__excepthook__(*error)


def _without_ours(traceback, harness):
    ours = {harness, __file__}
    first = entry = traceback
    while entry is not None and entry.tb_frame.f_code.co_filename in ours:
        first = entry = entry.tb_next
    while entry is not None:
        following = entry.tb_next
        while following is not None and following.tb_frame.f_code.co_filename in ours:
            following = following.tb_next
        entry.tb_next = entry = following
    return first
