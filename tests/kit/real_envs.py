"""Run by an interpreter with vLLM: what its own code makes of each variable and value. JSON in, JSON out.

In: lists of [name, value]. `values`: what vLLM's getter returns, or the error. `factors`: does the value
change the key of the compile cache. `levels`, `dialects`: what the logging configuration and others say.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from contextlib import contextmanager


@contextmanager
def setting(name, value):
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def outcome(call):
    try:
        return {"value": json.loads(json.dumps(call(), default=str))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    asked = json.load(sys.stdin)
    from vllm import envs

    answers = {"values": [], "factors": [], "levels": [], "dialects": []}
    for name, value in asked["values"]:
        with setting(name, value):
            answers["values"].append(outcome(envs.environment_variables[name]))
    unchanged = envs.compile_factors()
    for name, value in asked["factors"]:
        with setting(name, value):
            answers["factors"].append(envs.compile_factors() != unchanged)
    from vllm import logger

    for name, value in asked["levels"]:
        with setting(name, value):
            answers["levels"].append(
                outcome(lambda: importlib.reload(logger)._configure_vllm_root_logger())
            )
    for kind, value in asked["dialects"]:
        with setting("VGUARD_DIALECT", value):
            answers["dialects"].append(
                outcome(lambda kind=kind, value=value: DIALECTS[kind](value))
            )
    print("ANSWERS" + json.dumps(answers))


def hub(value):
    from huggingface_hub import constants

    return constants._is_true(value)


def triton(value):
    from triton._C import libtriton

    return libtriton.getenv_bool("VGUARD_DIALECT", False)


def debug_level(value):
    from torch import distributed

    with setting("TORCH_DISTRIBUTED_DEBUG", value):
        distributed.set_debug_level_from_env()
    return distributed.get_debug_level().name


DIALECTS = {"hf-bool": hub, "triton-bool": triton, "debug-level": debug_level}

if __name__ == "__main__":
    main()
