"""Run one step in the target's interpreter. Standard library only, Python 3.8 or later.

    python main.py ORDER

ORDER is a file, for everybody sees the list of processes, and an order may hold a secret:
`{"step": "torch", "rows": FILE, "stacks": FOLDER, "limit": SECONDS, "ask": {...}}`.

What it finds out is appended to FILE, one JSON object a line, as it is found: of a step that is ended
at its limit is known how far it came. Shortly before the limit the Python stacks go to FOLDER.
"""

import json
import os
import signal
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
# Python has put this folder first: nothing here may be taken for a module of the target's.
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != HERE]


class Report:
    """Where a step, or one of its ranks, says what it finds out."""

    def __init__(self, rows, stacks):
        self._rows = rows
        self._stacks = stacks
        self.who = ""
        self.about = {}  #: what each row says besides

    def say(self, part, state, fact="", **more):
        """One row; `state` is begin, ok, note, fail or skip. A single write: rows of ranks do not mix."""
        self.say_of(self.who, part, state, fact, **more)

    def say_of(self, who, part, state, fact="", **more):
        """The same of another one."""
        self.copy(dict(self.about, **more, who=who, part=part, state=state, fact=str(fact)[:2000]))

    def copy(self, row):
        """A row that was said elsewhere."""
        fd = os.open(self._rows, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, (json.dumps(row) + "\n").encode())
        finally:
            os.close(fd)

    def told(self):
        """All rows so far."""
        with open(self._rows) as file:
            return [json.loads(line) for line in file]

    def stack(self, who):
        """The lines of the Python stack of `who`, where it was written."""
        with open(self._place(who), errors="replace") as file:
            return file.read().splitlines()

    def attempt(self, part, action):
        """Do it, and say how it went; True where it went well. `action` returns the fact."""
        self.say(part, "begin")
        try:
            fact = action()
        except Exception as error:  # whatever the libraries of the target raise is the answer
            self.say(part, "fail", _words(error))
            return False
        self.say(part, "ok", fact)
        return True

    def watch(self, who, seconds):
        """After so long, or at SIGUSR1, write the Python stacks of this process; C code does it."""
        import faulthandler

        self.who = who
        self._file = open(self._place(who), "w")  # noqa: SIM115 (the C code's)
        faulthandler.dump_traceback_later(seconds, file=self._file)
        faulthandler.register(signal.SIGUSR1, file=self._file)

    def _place(self, who):
        return os.path.join(self._stacks, (who or "main").replace(" ", "-"))

    def unwatch(self):
        """Before a fork: the child would wait for the thread that only its parent has."""
        import faulthandler

        faulthandler.cancel_dump_traceback_later()


def _words(error):
    """Without the stack of C++ that torch adds."""
    return f"{type(error).__name__}: {error}".partition("\nException raised from ")[0]


def load(name):
    """A module of this folder, by its path."""
    import importlib.util

    path = os.path.join(HERE, name + ".py")
    spec = importlib.util.spec_from_file_location("vllm_guard_inside_" + name, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # not in the guard's folder
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = kept
    return module


def main():
    with open(sys.argv[1]) as file:
        order = json.load(file)
    report = Report(order["rows"], order["stacks"])
    report.watch("", order["limit"])
    load("step_" + order["step"]).run(report, order["ask"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # taking torch down takes a third of the time of its import


if __name__ == "__main__":
    main()
