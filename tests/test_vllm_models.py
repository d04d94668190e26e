"""What vLLM's source says of models: registries in the shapes that releases had, and the installed one."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard.target.install import VllmInstall
from vllm_guard.target.models import architectures, quantizations, utilization
from vllm_guard.vllm_models import read_architectures, read_choices, read_utilization

#: As 0.8.5 had it: no table of what was dropped, cross encoders of their own.
OLD = """
import torch.nn as nn
_TEXT_GENERATION_MODELS = {
    # [Decoder-only]
    "AquilaModel": ("llama", "LlamaForCausalLM"),
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
}
_EMBEDDING_MODELS = {
    "BertModel": ("bert", "BertEmbeddingModel"),
    **{k: (mod, arch) for k, (mod, arch) in _TEXT_GENERATION_MODELS.items() if arch == "LlamaForCausalLM"},
}
_CROSS_ENCODER_MODELS = {"BertForSequenceClassification": ("bert", "BertForSequenceClassification")}
_FALLBACK_MODEL = {"TransformersModel": ("transformers", "TransformersModel")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS, **_EMBEDDING_MODELS}
"""
#: As about 0.12: what was dropped is listed.
MIDDLE = (
    OLD
    + """
_TRANSFORMERS_BACKEND_MODELS = {
    "TransformersForCausalLM": (
        "transformers",
        "TransformersForCausalLM",
    ),
}
_PREVIOUSLY_SUPPORTED_MODELS = {
    "MotifForCausalLM": "0.10.2",
    "Phi3SmallForCausalLM": "0.9.2",
}
"""
)
#: As 0.32: plug-ins are listed too.
NEW = (
    MIDDLE
    + """
_OOT_SUPPORTED_MODELS: dict[str, str] = {
    "BartModel": "https://github.com/vllm-project/bart-plugin",
}
_SUBPROCESS_COMMAND = ["python", "-m", "x"]
"""
)


@pytest.mark.parametrize(
    ("text", "supported", "dropped", "plugins"),
    [(OLD, 4, 0, 0), (MIDDLE, 5, 2, 0), (NEW, 5, 2, 1)],
    ids=["0.8.5", "0.12", "0.32"],
)
def test_registries_of_every_shape_are_read(text, supported, dropped, plugins) -> None:
    found = read_architectures(text.encode())

    assert (len(found["supported"]), len(found["dropped"]), len(found["plugins"])) == (
        *(supported, dropped, plugins),
    )
    assert found["supported"]["AquilaModel"] == "llama"
    assert json.loads(json.dumps(found)) == found


def test_what_was_dropped_comes_with_its_last_version() -> None:
    found = read_architectures(NEW.encode())

    assert found["dropped"] == {"MotifForCausalLM": "0.10.2", "Phi3SmallForCausalLM": "0.9.2"}
    assert found["plugins"] == {"BartModel": "https://github.com/vllm-project/bart-plugin"}


@pytest.mark.parametrize("text", ["", "x = 1", "_A_MODELS = {}", "def (", "_A_MODELS = {'a': f()}"])
def test_no_registry_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot read registry\.py: .+") as told:
        read_architectures(text.encode())
    assert "\n" not in str(told.value)


NAMES = st.text("abcXYZ09_", min_size=1)


@given(
    st.dictionaries(NAMES, st.tuples(NAMES, NAMES), min_size=1),
    st.dictionaries(NAMES, NAMES),
    st.dictionaries(NAMES, NAMES),
)
def test_what_is_written_is_read(supported, dropped, plugins) -> None:
    text = (
        f"_TEXT_MODELS = {supported!r}\n_PREVIOUSLY_SUPPORTED_MODELS = {dropped!r}\n"
        f"_OOT_SUPPORTED_MODELS = {plugins!r}\n_VLLM_MODELS = {{**_TEXT_MODELS}}\n"
    )

    assert read_architectures(text.encode()) == {
        "supported": {name: module for name, (module, _) in supported.items()},
        "dropped": dropped,
        "plugins": plugins,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('X = Literal["a", "b"]', ["a", "b"]),
        ('X: list[str] = ["a"]\nX = ["b"]', ["b"]),
        ('Y = Literal["a"]', []),
        ("X = list(get_args(Y))", []),
        ('X = Literal["a", None, 1]', ["a"]),
    ],
)
def test_choices_are_those_of_the_source(text: str, expected: list[str]) -> None:
    assert read_choices(text.encode(), "X") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("    gpu_memory_utilization: float = 0.9\n", 0.9),
        ("    gpu_memory_utilization: float = Field(default=0.92, gt=0, le=1)\n", 0.92),
    ],
)
def test_the_default_share_of_the_memory_is_read(text: str, expected: float) -> None:
    assert read_utilization(text.encode()) == expected
    with pytest.raises(ValueError, match=r"no gpu_memory_utilization"):
        read_utilization(b"")


@pytest.fixture
def installed() -> VllmInstall:
    (package,) = Path(os.environ["VGUARD_TEST_VLLM"]).glob("lib/python*/site-packages/vllm")
    return VllmInstall("0.32.0+cpu", str(package))


@pytest.mark.vllm
def test_the_installed_registry_is_what_python_makes_of_it(installed) -> None:
    """The tables alone, executed: their text needs nothing else."""
    path = Path(installed.package, "model_executor/models/registry.py")
    tables = [
        node
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict)
    ]
    code = "\n".join(map(ast.unparse, tables)) + (
        "\nimport json\nprint(json.dumps([{k: v[0] for k, v in _VLLM_MODELS.items()},"
        " _PREVIOUSLY_SUPPORTED_MODELS, _OOT_SUPPORTED_MODELS]))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    supported, dropped, plugins = json.loads(told)
    found = architectures(installed)

    assert found is not None
    assert supported.items() <= found["supported"].items()
    assert len(supported) > 300
    assert found["dropped"] == dropped
    assert found["plugins"] == plugins
    assert dropped["GritLM"] == "0.28.0"


@pytest.mark.vllm
def test_the_installed_choices_and_defaults_are_read(installed) -> None:
    assert {"fp8", "awq", "compressed-tensors"} <= set(quantizations(installed))
    assert utilization(installed) == 0.92
