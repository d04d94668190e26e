"""Run a script so that the processes that it starts get what it defines, and do not do what it does.

    PYTHON [flags] harness.py [OPTIONS] [--] SCRIPT [ARGUMENTS]
    PYTHON [flags] harness.py [OPTIONS] -m MODULE [ARGUMENTS]

OPTIONS: `--main-guard auto|definitions|cutoff|off`; `--engine JSON` (name -> value: defaults of vLLM's engine
options). Standard library only, Python 3.8 or later. Every
script pays for what stands here and in `mainguard/parent.py`; all else is loaded at the first start of a
process.
"""

import os
import sys


def _load():
    """`mainguard` under a name of our own: nothing here may be found by the script's imports."""
    import _frozen_importlib as machinery
    import _frozen_importlib_external as files

    folder = os.path.join(os.path.dirname(os.path.realpath(__file__)), "mainguard")
    init = os.path.join(folder, "__init__.py")
    spec = files.spec_from_file_location(
        "_vllm_guard_main", init, submodule_search_locations=[folder]
    )
    sys.modules[spec.name] = package = machinery.module_from_spec(spec)
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(package)
    sys.dont_write_bytecode = kept
    package.words = sys.argv[1:]
    return package


_package = sys.modules.get("_vllm_guard_main") or _load()  # a debugger may run this file again
_package.load("parent").run(_package.words, __file__)
