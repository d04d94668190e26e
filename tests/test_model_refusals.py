"""What the probes call certain to fail of types and sizes, vLLM itself refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit import guard
from tests.kit.serving import vllm_env
from vllm_guard import probes, record
from vllm_guard.target import Target
from vllm_guard.target.install import VllmInstall

pytestmark = pytest.mark.vllm

#: vLLM's words for each row of (folder, arguments): empty where it makes a configuration.
CONFIGURE = """
import json, sys
from vllm.engine.arg_utils import EngineArgs
said = []
for folder, arguments in json.loads(sys.argv[1]):
    try:
        EngineArgs(model=folder, **arguments).create_engine_config()
        said.append("")
    except Exception as error:
        said.append(" ".join(str(error).split()))
print(json.dumps(said))
"""
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
#: Name, what config.json says besides, arguments for vLLM, words for the guard, finding, vLLM's words.
ROWS: list[tuple[dict[str, Any], dict[str, Any], list[str], str, str]] = [
    ({}, {}, [], "", ""),
    ({}, {"dtype": "half"}, ["--dtype", "half"], "", ""),
    ({"quantization_config": FP8}, {}, [], "", ""),
    ({"quantization_config": {"quant_method": "bitsandbytes"}}, {}, [],
     "model-quantization", "Unknown quantization method: bitsandbytes"),
    ({"quantization_config": {"quant_method": "fbgemm_fp8"}}, {}, [],
     "model-quantization", "is deprecated"),
    ({"quantization_config": {"quant_method": "mxfp4"}}, {"dtype": "half"}, ["--dtype", "half"],
     "model-quantization", "torch.float16 is not supported for quantization method mxfp4"),
    ({"quantization_config": FP8}, {"dtype": "float32"}, ["--dtype", "float32"],
     "model-quantization", "torch.float32 is not supported for quantization method fp8"),
    ({"model_type": "glm4", "architectures": ["Glm4ForCausalLM"]}, {"dtype": "half"},
     ["--dtype", "half"], "model-dtype", "does not support float16"),
    ({}, {"enable_expert_parallel": True}, ["--enable-expert-parallel"],
     "model-experts", "Number of experts in the model must be greater than 0"),
]  # fmt: skip


def changed(folder: Path, **rows: Any) -> Path:
    """A copy of the tiny Llama with another config.json."""
    shutil.copytree(os.environ["VGUARD_TEST_MODEL"], folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **rows}))
    return folder


def failing(model: Path, *words: str) -> set[str]:
    """The ids of what the doctor says will fail."""
    command = ("vllm", "serve", str(model), "--port", "0", *words)
    result = guard("doctor", "--json", "--", *command, env=vllm_env())
    findings = json.loads(result.stdout)["findings"]
    return {finding["id"] for finding in findings if finding["status"] == "fail"}


def test_vllm_makes_no_configuration_of_what_is_called_certain_to_fail(clean_world) -> None:
    folders = [changed(clean_world / f"m{n}", **row[0]) for n, row in enumerate(ROWS)]
    asked = [(str(folder), row[1]) for folder, row in zip(folders, ROWS, strict=True)]
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    done = subprocess.run(
        [python, "-c", CONFIGURE, json.dumps(asked)],
        env=vllm_env(),
        capture_output=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])

    for folder, told, (_, _, words, id_, refusal) in zip(folders, said, ROWS, strict=True):
        assert failing(folder, *words) == ({id_} if id_ else set())
        assert (refusal in told) if refusal else told == ""


#: vLLM's check of an MLP in blocks, called with its sizes; no kernel of the CPU gets so far.
VALIDATE = """
import json, sys
from types import SimpleNamespace
from vllm import distributed
from vllm.model_executor.layers.quantization.utils.fp8_utils import validate_fp8_block_shape
distributed.get_tensor_model_parallel_world_size = lambda: 1  # it is asked, and not used
said = []
for size, gpus, block in json.loads(sys.argv[1]):
    layer = SimpleNamespace(tp_size=gpus, prefix="mlp")
    try:
        validate_fp8_block_shape(layer, 512, 2 * size, 512, [size // gpus] * 2, block)
        validate_fp8_block_shape(layer, size, 512, size // gpus, [512], block)
        said.append([])
    except ValueError:
        said.append(["model-blocks"])
print(json.dumps(said))
"""


def test_blocks_are_cut_where_vllm_says_so(clean_world) -> None:
    asked = [
        (size, gpus, block)
        for size in (128, 192, 256, 384, 512, 544)
        for gpus in (1, 2)
        for block in ([128, 128], [64, 128], [128, 64], [32, 32])
    ]
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    command = [python, "-c", VALIDATE, json.dumps(asked)]
    done = subprocess.run(command, env=vllm_env(), capture_output=True, check=True)

    ours = [split(clean_world / f"m{n}", *row) for n, row in enumerate(asked)]
    assert ours == json.loads(done.stdout.splitlines()[-1])
    assert sum(map(len, ours)) > 10


def split(folder: Path, size: int, gpus: int, block: list[int]) -> list[str]:
    """What the probe says will fail, with the installed vLLM."""
    config = {**FP8, "weight_block_size": block}
    model = changed(folder, intermediate_size=size, quantization_config=config)
    (package,) = Path(os.environ["VGUARD_TEST_VLLM"]).glob("lib/python*/site-packages/vllm")
    install = VllmInstall("0.32.0", str(package))
    target = Target("/bin/python", "vllm-cli", "serve", 2, vllm=install)
    argv = ("vllm", "serve", str(model), "-tp", str(gpus))
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf({}))
    found = probes.run_one("server", "model_split", context)
    return [finding.id for finding in found if finding.status == "fail"]
