"""Which calls start processes, build an engine or initialise CUDA: by their names as imported. Pure.

A name is dotted from the package's root; `X()` in it is what calling X returned:
`multiprocessing.get_context().Process().start`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ENGINES = ("LLM", "LLMEngine", "AsyncLLM", "AsyncLLMEngine")
_MAKERS = ("from_engine_args", "from_vllm_config")
_IN_PROCESS = ("LLM", "LLMEngine")  #: with VLLM_ENABLE_V1_MULTIPROCESSING=0; AsyncLLM never is
_SERVERS = (
    "run_server",
    "run_server_worker",
    "build_async_engine_client",
    "build_async_engine_client_from_engine_args",
)
_MAINS = re.compile(r"vllm\.(entrypoints\.cli\.main|scripts|benchmarks\.\w+)\.main")

_PROCESS_ROOTS = re.compile(r"(torch\.multiprocessing|multiprocessing|multiprocess)\.(.+)")
_CONTEXT = re.compile(r"(get_context|context\.\w+Context)\(\)\.")
_PROCESSES = {
    "Process().start": "Process is started",
    "process.BaseProcess().start": "Process is started",
    "context.Process().start": "Process is started",
    "context.SpawnProcess().start": "SpawnProcess is started",
    "context.ForkServerProcess().start": "ForkServerProcess is started",
    "Pool": "Pool is started",
    "pool.Pool": "Pool is started",
    "Manager": "Manager is started",
    "managers.BaseManager().start": "manager is started",
    "managers.SyncManager().start": "manager is started",
    "spawn": "spawn is called",
    "spawn.spawn": "spawn is called",
    "start_processes": "start_processes is called",
}
_SPAWNS = ("context.SpawnProcess", "context.ForkServerProcess", "spawn")  #: whatever the default is
_EXECUTOR = re.compile(r"concurrent\.futures(\.process)?\.ProcessPoolExecutor")

#: Pattern of the name, keyword that makes it so and its value, what happens, confidence.
_WRAPPERS = (
    (
        r"langchain(_community)?\.(.+\.)?VLLM",
        "",
        None,
        "langchain's VLLM is constructed",
        "certain",
    ),
    (r"llama_index\.(.+\.)?Vllm", "", None, "llama_index's Vllm is constructed", "likely"),
    (r"outlines\.models\.vllm", "", None, "outlines.models.vllm is called", "certain"),
    (
        r"lm_eval\.(.+\.)?simple_evaluate",
        "model",
        "vllm",
        "lm_eval evaluates with vLLM",
        "certain",
    ),
    (r"lm_eval\.(.+\.)?VLLM", "", None, "lm_eval's VLLM is constructed", "certain"),
    (r"distilabel\.(.+\.)?Pipeline\(\)\.run", "", None, "a distilabel pipeline is run", "likely"),
    (r"distilabel\.(.+\.)?vLLM\(\)\.load", "", None, "distilabel's vLLM is loaded", "certain"),
    (r"lighteval\.(.+\.)?VLLMModel", "", None, "lighteval's VLLMModel is constructed", "certain"),
    (  # unsloth_zoo/vllm_utils.py sets VLLM_ENABLE_V1_MULTIPROCESSING=0
        r"unsloth\.(.+\.)?from_pretrained",
        "fast_inference",
        True,
        "unsloth loads vLLM into this process",
        "info",
    ),
    (r"trl\.(.+\.)?\w+Config", "use_vllm", True, "trl uses vLLM", "info"),
)

#: torch 2.x, torch/cuda: these call `_lazy_init`; is_available, device_count and manual_seed do not.
_CUDA = re.compile(
    r"torch\.cuda\.(init|set_device|current_device|synchronize|mem_get_info|get_device_\w+"
    r"|is_bf16_supported|current_stream|default_stream|Stream|get_rng_state(_all)?|ipc_collect)"
)


_PACKAGES = re.compile(
    r"(vllm|torch|multiprocess(ing)?|concurrent|langchain(_community)?|llama_index|outlines|lm_eval"
    r"|distilabel|lighteval|unsloth|trl)(\..*)?"
)

UNKNOWN = object()  #: a value that is not written down in the script


class Hit(NamedTuple):
    """A call that does something at once."""

    what: str
    confidence: str  #: certain, likely or info
    engine: bool


class Facts(NamedTuple):
    """What is known when a name is called."""

    keywords: dict[str, object]  #: those of the EngineArgs that are passed too; `**` for a mapping
    method: str  #: start method of multiprocessing, as set or asked for; empty: the default
    env: dict[str, str]  #: variables that the script has set


def judge(name: str, facts: Facts) -> Hit | None:
    """What calling `name` starts; None for nothing that is known."""
    root = name.partition(".")[0]
    if root == "vllm":
        return _vllm(name, facts)
    match = _PROCESS_ROOTS.fullmatch(name)
    if match:
        return _process(match[1], _CONTEXT.sub("", match[2]), facts.method)
    if _EXECUTOR.fullmatch(name):
        return _by_method("ProcessPoolExecutor is started", facts.method)
    for pattern, keyword, value, what, confidence in _WRAPPERS:
        if re.fullmatch(pattern, name) and (not keyword or facts.keywords.get(keyword) == value):
            return Hit(what, confidence, confidence != "info")
    return None


def is_judged(module: str) -> bool:
    """Does this module belong to a package whose names are judged here?"""
    return _PACKAGES.fullmatch(module) is not None


def initialises_cuda(name: str) -> bool:
    """Does calling `name` initialise CUDA in this process?"""
    return _CUDA.fullmatch(name) is not None


def _vllm(name: str, facts: Facts) -> Hit | None:
    *_, owner, last = ("", *name.split("."))
    if last in _ENGINES:
        return _engine(last, f"vllm.{last} is constructed", facts)
    if owner in _ENGINES and last in _MAKERS:
        return _engine(owner, f"vllm.{owner}.{last} is called", facts)
    if last in _SERVERS:
        return Hit(f"vLLM's {last} is called", "certain", True)
    if _MAINS.fullmatch(name):
        return Hit(f"{name} is called", "certain", True)
    return None


def _engine(engine: str, what: str, facts: Facts) -> Hit:
    if facts.keywords.get("distributed_executor_backend") == "external_launcher":
        return Hit(f"{what} for an external launcher: it starts no process", "info", True)
    if facts.env.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0" and engine in _IN_PROCESS:
        sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        if "**" not in facts.keywords and all(facts.keywords.get(s, 1) == 1 for s in sizes):
            text = "in this process (VLLM_ENABLE_V1_MULTIPROCESSING=0): it starts no process"
            return Hit(f"{what} {text}", "info", True)
        if all(facts.keywords.get(size, 1) in (1, UNKNOWN) for size in sizes):
            return Hit(what, "likely", True)
    return Hit(what, "certain", True)


def _process(root: str, rest: str, method: str) -> Hit | None:
    what = _PROCESSES.get(rest)
    if what is None or (rest.startswith("spawn") and root != "torch.multiprocessing"):
        return None
    if rest.startswith(_SPAWNS):
        method = method or "spawn"
    return _by_method(f"{root}.{what}", method)


def _by_method(what: str, method: str) -> Hit:
    """Children of fork do not import the main module; the default is fork before Python 3.14."""
    confidence = {"": "likely", "fork": "info"}.get(method, "certain")
    return Hit(f"{what} with {method or 'the default start method'}", confidence, False)
