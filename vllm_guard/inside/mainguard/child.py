"""A child process: the script's definitions as its main module, before the Process is unpickled."""

import linecache
import marshal
import sys
from importlib.util import find_spec

from . import engine, errors, places, sending, stacks
from .received import FAILED, Received
from .sending import CUTOFF, STANDARD


def arrive(spawn, order, sent, modules):
    """Called while the preparation data are unpickled: make `spawn` prepare this process our way."""
    original = spawn.prepare
    parcel = sending.Parcel(marshal.loads(order), order, modules)
    if parcel.order["stacks"]:
        stacks.offer()
    if parcel.order["engine"]:
        engine.set_defaults(parcel.order["engine"], aloud=False)
    child = _Child(parcel.order, sent)
    child.sender = sending.Sender(child.is_main, lambda: parcel, sent)
    sending.watch(spawn, child.sender)

    def prepare(data):
        spawn.prepare = original
        child.prepare(original, data)

    spawn.prepare = prepare


class _Child:
    """The process, on its way to be what its parent started it for."""

    def __init__(self, order, sent):
        self.order = order
        self._received = Received(sent)
        self._main = None
        self._told = set()
        self.lost = {}
        self.sender = None

    def is_main(self):
        """Is the main module what `prepare` has made it?"""
        return sys.modules.get("__main__") is self._main

    def prepare(self, original, data):
        """The preparation of multiprocessing, then the main module."""
        self.sender.loading = True
        try:
            cut = self._until_cut(original, data)  # in the standard mode it imports the script
            if cut and not self._keeps_modules(cut, cut.line):
                self._tell_start(cut.line, ())
            if cut or self.order["mode"] != STANDARD:
                self._load()
        finally:
            self.sender.loading = False
        self._main = sys.modules["__main__"]

    def _until_cut(self, run, *arguments):
        """Run it; the CutOffError that ended it is returned, also if the script has caught it first."""
        self.sender.cut = None
        try:
            run(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:
            if self.sender.cut is None:
                raise
            return self.sender.cut.with_traceback(None)  # of its frames, nothing is held
        finally:
            self.sender.cut = None
        return None

    def _keeps_modules(self, cut, line):
        """Where an import was cut short: with what it has come to, the line can be run once more."""
        kept = cut.keep_modules()
        if kept:
            errors.say(errors.cut_short(cut, line, self.order["path"]))
        return kept

    def _tell_start(self, line, lacking):
        if line not in self._told:
            self._told.add(line)
            errors.say(errors.started(line, self.order["path"], lacking))

    def _load(self):
        """Build `__mp_main__`, which stands for `__main__` from then on."""
        module = self._new_module()
        sys.modules["__mp_main__"] = module  # dataclasses and typing look it up
        _remember_source(self.order)
        argument, sys.argv[:1] = sys.argv[:1], [self.order["path"]]
        namespace = vars(module)
        if self.order["mode"] == CUTOFF:
            self._run_until_start(namespace)
        else:
            self._run_statements(namespace)
        sys.argv[:1] = argument
        sys.modules["__main__"] = module
        self._set_small_values(namespace)

    def _new_module(self):
        """With the names that an import of the main module gives it."""
        order = self.order
        module = type(sys)("__mp_main__", order["doc"])
        names = vars(module)
        names.update(__file__=order["path"], __cached__=None, __package__="")
        names["__builtins__"] = vars(sys.modules["builtins"])
        spec = find_spec(order["name"]) if order["name"] else None
        if spec is not None:
            names.update(__spec__=spec, __loader__=spec.loader, __cached__=spec.cached)
            names["__package__"] = spec.parent
        return module

    def _run_until_start(self, namespace):
        for _, _, code, _ in self.order["statements"]:
            self._until_cut(exec, code, namespace)

    def _run_statements(self, namespace):
        order, received = self.order, self._received
        self.lost = dict(order["lost"])
        there = (order["fresh"].keys() - order["lost"].keys()).union(received.small())
        if order["marked"] or not there.issuperset(order["wanted"]):
            self._explain_missing_names(namespace)
        namespace[places.HELD] = places.Held(received.of)
        for row, (line, names, code, holes) in enumerate(order["statements"]):
            early = received.of([name for name in names if name in order["early"]])
            if not names or len(early) < len(names):
                self._run(line, names, code, holes, namespace)
            namespace.update(early)
            for name in names:
                if order["fresh"].get(name) == row and name in namespace:
                    received.lend(name, namespace)
        received.settle(order["fresh"], namespace)
        exec(order["last"], namespace)
        del namespace[places.HELD]
        for name in order["lost"].keys() - received.of(order["fresh"]).keys():
            namespace.pop(name, None)
        if self.lost or received.pickled:
            namespace["__getattr__"] = self._attribute_getter(namespace.get("__getattr__"))

    def _set_small_values(self, namespace):
        """Not only when they are read: torch.compile looks for names without running the code."""
        names = [name for name in self._received.small() if name.isidentifier()]
        namespace.update(self._received.of([name for name in names if name not in namespace]))

    def _run(self, line, names, code, holes, namespace):
        path = self.order["path"]
        lacking = [hole for hole in holes if hole[1] and hole[0] not in namespace[places.HELD]]
        for place, reason in lacking[:1]:
            self._lose(line, names, reason, namespace)
            self._refuse(names, place)
            return
        try:
            cut = self._until_cut(exec, code, namespace)
            while cut and self._keeps_modules(cut, line):
                cut = self._until_cut(exec, code, namespace)
            if cut:
                self._tell_start(line, self._lose(line, names, errors.STARTS, namespace))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is: the main process got past this line
            needed = getattr(error, "missing", "")
            if names and needed in self.lost:
                reason = f"uses {needed!r}, which line {self.lost[needed][0]} sets in the main process only"
                self._lose(line, names, reason, namespace)
                self._refuse(names, needed)
                return
            sent = self._received.of([name for name in names if name in self.order["fresh"]])
            namespace.update(sent)
            if names and len(sent) == len(names):
                return
            reason = f"{errors.FAILED}{type(error).__name__}"
            lacking = self._lose(line, names, reason, namespace)
            errors.say(errors.failed(line, path, error, lacking))

    def _lose(self, line, names, reason, namespace):
        lacking = [name for name in names if name not in namespace]
        self.lost.update((name, (line, reason)) for name in lacking)
        if lacking:
            self._explain_missing_names(namespace)
        return lacking

    def _refuse(self, names, needed):
        """They are not there because what they need was not sent."""
        self._received.refused.update(dict.fromkeys(names, self._received.refused.get(needed, "")))

    def _explain_missing_names(self, namespace):
        """Only where a name may be missing: code defined from now on looks up builtins more slowly."""
        namespace["__builtins__"] = _Builtins(vars(sys.modules["builtins"]), self, namespace)

    def value(self, name, namespace):
        """The value that was sent for a name that is read for the first time. Raises NameError."""
        if name in self._received.pickled:
            value = self._received.value(name)
            if value is not FAILED:
                namespace[name] = value
                return value
        error = NameError(self._missing(name))
        error.missing = name
        raise error

    def knows(self, name):
        """Is it a name that the main process has?"""
        received = self._received
        return name in self.lost or name in received.pickled or name in received.refused

    def _missing(self, name):
        refused = self._received.refused.get(name, "")
        return errors.missing(name, self.order["path"], self.lost.get(name), refused)

    def _attribute_getter(self, own):
        """`__getattr__` of the main module, before the script's own one."""

        def __getattr__(name):  # noqa: N807
            namespace = vars(sys.modules["__mp_main__"])
            if not self.knows(name):
                if own is not None:
                    return own(name)
                raise AttributeError(f"module '__mp_main__' has no attribute {name!r}")
            try:
                return self.value(name, namespace)
            except NameError as error:
                raise self._while_unpickling(error, name) from None

        return __getattr__

    def _while_unpickling(self, error, name):
        """While unpickling, the NameError: pickle hides the text of the AttributeError that others get."""
        from multiprocessing import process

        if getattr(process.current_process(), "_inheriting", False):
            return error
        if name not in self._told:
            self._told.add(name)
            errors.say(str(error))
        return AttributeError(str(error))


class _Builtins(dict):
    """The builtins of the script's code, which Python asks last for a name."""

    def __init__(self, names, child, namespace):
        # A name of the script that is also a builtin's, `input` say, is not to be found as that.
        super().__init__((n, value) for n, value in names.items() if n not in child.lost)
        self._child, self._namespace = child, namespace

    def __missing__(self, name):
        if self._child.knows(name):
            return self._child.value(name, self._namespace)
        raise KeyError(name)


def _remember_source(order):
    """For tracebacks and `inspect`: the text that runs, whatever has become of the file."""
    import io
    import tokenize

    encoding, _ = tokenize.detect_encoding(io.BytesIO(order["source"]).readline)
    text = io.TextIOWrapper(io.BytesIO(order["source"]), encoding, line_buffering=True).read()
    linecache.cache[order["path"]] = (
        len(text),
        None,
        text.splitlines(keepends=True),
        order["path"],
    )
