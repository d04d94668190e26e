"""The main guard: which lines of a script run in the processes that it starts, and how they get there.

Standard library only, Python 3.8 or later. `harness.py` loads this package under a private name in the
interpreter of the script; vllm-guard itself imports it to explain and to mend scripts.
"""
