"""The main guard: which lines of a script run in the processes that it starts, and how they get there.

Standard library only, Python 3.8 or later. `harness.py` loads this package under a private name in the
interpreter of the script; vllm-guard itself imports it to explain and to mend scripts.
"""

import sys


def load(name):
    """A module of this package, without bytecode in the guard's folder: another Python's is not ours."""
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return __import__(f"{__name__}.{name}", fromlist=[name])
    finally:
        sys.dont_write_bytecode = kept
