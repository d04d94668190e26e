"""A process that writes its Python stacks when vllm-guard asks for them: the guard's side is `stacks.py`.

The memory file that they go to is what tells the guard that this process knows the signal: an `exec` closes
it, a `fork` keeps both. The program sees one more descriptor, far above its own, and one handler.
"""

import os

NAME = "vllm-guard-stacks"  #: of the memory file
DESCRIPTOR = 1000  #: where it is: above those that a program gets, below the usual limit of 1024
#: A real-time signal (34 to 64) that neither CPython, torch nor vLLM handles (SigCgt, once imported).
#: Others have what is next to either end: systemd the first, Valgrind the last.
SIGNAL = 53


def offer():
    """Register, where signal and descriptor are free. Nothing else may come of it."""
    import _signal  # type: ignore[import-not-found]
    import faulthandler

    try:
        os.fstat(DESCRIPTOR)
    except OSError:
        pass
    else:
        return  # the program inherited something there, or it is ours: the process was forked
    try:
        if _signal.getsignal(SIGNAL) != _signal.SIG_DFL:
            return
        file = os.memfd_create(NAME)
        try:
            os.dup2(file, DESCRIPTOR, inheritable=False)
        finally:
            os.close(file)
        faulthandler.register(SIGNAL, file=DESCRIPTOR, all_threads=True)
    except (AttributeError, OSError, RuntimeError, ValueError):  # an old kernel, a small limit
        return
