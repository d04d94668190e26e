"""Where a child that only loads the script comes to a start of a process: it goes no further there."""

import os
import sys


class CutOffError(BaseException):
    """Raised there; it knows what was being done."""

    def __init__(self):
        super().__init__("a child that only loads the script may start no process")
        self.line = 0  #: of the script
        self.place = ""  #: "helper.py:6", the line of a module that was being imported
        self.modules = []  #: those that were being imported, the inner first
        frame = sys._getframe(1)
        while frame is not None and not self.line:
            self._look(frame)
            frame = frame.f_back

    def _look(self, frame):
        if frame.f_code.co_name != "<module>":
            return
        name = frame.f_globals.get("__name__")
        module = sys.modules.get(name)
        if name == "__mp_main__":
            self.line = frame.f_lineno
        elif module is not None and vars(module) is frame.f_globals:
            file = os.path.basename(frame.f_code.co_filename)
            self.place = self.place or f"{file}:{frame.f_lineno}"
            self.modules.append(module)

    def keep_modules(self):
        """Let those modules count as imported, with what they have come to; returns whether there are any.

        Python has thrown them away, and would import them again, up to the same line, when it next needs one.
        """
        kept = [module for module in self.modules if module.__name__ not in sys.modules]
        for module in kept:
            sys.modules[module.__name__] = module
        for module in kept:
            package, _, name = module.__name__.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], name, module)
        return bool(kept)
