"""A profile's engine options as defaults of vLLM's own classes: what the script passes wins.

Only defaults of parameters are changed, of the classes with which scripts make an engine; subclasses of the
script's call them. Nothing is changed where a profile has no engine options.
"""

from .errors import say
from .imports import when_imported

#: By the module that has them; `vllm` itself has some in stand-ins and old versions.
CLASSES = {
    "vllm": ("EngineArgs", "AsyncEngineArgs", "LLM"),
    "vllm.engine.arg_utils": ("EngineArgs", "AsyncEngineArgs"),
    "vllm.entrypoints.llm": ("LLM",),
}


def set_defaults(wanted, aloud):
    """`wanted`: name -> value, for this process; `aloud`: say what was changed."""
    told = []

    def change(module):
        kinds = [vars(module)[n] for n in CLASSES[module.__name__] if n in vars(module)]
        known = set().union(*(_change(kind.__init__, wanted) for kind in kinds))
        last = module.__name__ == "vllm.engine.arg_utils" or (kinds and module.__name__ == "vllm")
        if aloud and last and not told:
            told.append(module)
            _tell(wanted, known)

    when_imported(dict.fromkeys(CLASSES, change))


def _change(function, wanted):
    """Give the function's parameters these defaults; returns the names of those that it has."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if not hasattr(function, "__code__"):  # it takes what another class says
        return set()
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][-len(defaults) :] if defaults else ()
    function.__defaults__ = tuple(wanted.get(n, old) for n, old in zip(names, defaults)) or None
    only = function.__kwdefaults__ or {}
    function.__kwdefaults__ = {n: wanted.get(n, old) for n, old in only.items()} or None
    return wanted.keys() & {*names, *only}


def _tell(wanted, known):
    changed = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if name in known)
    if changed:
        say(f"vLLM's defaults in this script: {changed}")
    for name in wanted:
        if name not in known:
            say(f"this vLLM has no engine option {name}: it has no effect")
