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

from vllm_guard.probes.server import model_dtype, model_quantization
from vllm_guard.target.install import VllmInstall
from vllm_guard.target.models import (
    architectures,
    deprecated_quantizations,
    mentions_quantization,
    quantizations,
    requirements,
    says,
    utilization,
    without_float16,
)
from vllm_guard.vllm_models import (
    read_architectures,
    read_bounds,
    read_choices,
    read_keys,
    read_methods,
    read_requirement,
    read_utilization,
)

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


METHODS = """
def get_quantization_config(quantization):
    from vllm.model_executor.layers.quantization.quark.quark import QuarkConfig
    from .fp8 import Fp8Config
    from .compressed_tensors.compressed_tensors import (
        CompressedTensorsConfig,
    )
    deepseek = f()
    method_to_config: dict[str, type] = {
        "fp8": Fp8Config,
        "quark": QuarkConfig,
        "compressed-tensors": CompressedTensorsConfig,
        "deepseek": deepseek,
        "mine": _MINE["x"],
        1: Fp8Config,
    }
"""
CLASSES = """
class Base(QuantizationConfig):
    @classmethod
    def get_min_capability(cls) -> int:
        # sm 8.0
        return 80

    def get_supported_act_dtypes(self):
        return [torch.half, torch.bfloat16, torch.float]

    def get_config_filenames():
        return ["quant_config.json", "quantize_config.json"]

class Child(Base):
    @classmethod
    def get_min_capability(cls) -> int:
        \"\"\"Less.\"\"\"
        return 75

class Computed(Base):
    def get_min_capability(cls):
        return Other.get_min_capability()

class Twice(Twice): pass
"""


def test_methods_of_quantisation_and_their_classes_are_read() -> None:
    assert read_methods(METHODS.encode()) == {
        "fp8": ("fp8", "Fp8Config"),
        "quark": ("quark.quark", "QuarkConfig"),
        "compressed-tensors": ("compressed_tensors.compressed_tensors", "CompressedTensorsConfig"),
    }


@pytest.mark.parametrize(
    ("kind", "capability", "dtypes"),
    [
        ("Base", 80, ["float16", "bfloat16", "float32"]),
        ("Child", 75, ["float16", "bfloat16", "float32"]),
        ("Computed", 80, ["float16", "bfloat16", "float32"]),
        ("Other", None, []),
    ],
)
def test_what_a_class_of_quantisation_asks_for_is_read(kind, capability, dtypes) -> None:
    found = read_requirement(CLASSES.encode(), kind)

    files = ["quant_config.json", "quantize_config.json"] if dtypes else []
    assert found == {"capability": capability, "dtypes": dtypes, "files": files}


def test_bounds_are_those_of_the_fields() -> None:
    text = b"""
class C:
    a: int = Field(default=X, ge=1)
    b: float = Field(default=0.9, gt=0, le=1)
    c: int = Field(default=1, ge=LEAST)
    d: int = 1
    e: int = field(default=1)
    f: str = Field(default="x")
    g: int = Field(default=None, ge=-1)
"""
    assert read_bounds(text) == {"a": {"ge": 1}, "b": {"gt": 0, "le": 1}, "g": {"ge": -1}}


def test_keys_are_those_of_the_source() -> None:
    text = b'X = {"a": "why", "b": 1, 3: 4, **Y}\nY = {"c": 1}\nX2 = X'

    assert read_keys(text, "X") == ["a", "b"]
    assert read_keys(text, "Z") == []


@pytest.mark.parametrize(
    "read",
    [read_bounds, read_methods, lambda t: read_requirement(t, "X"), lambda t: read_keys(t, "X")],
)
def test_a_text_that_is_no_python_is_one_line(read) -> None:
    with pytest.raises(ValueError, match=r"^cannot read .+") as told:
        read(b"def (")
    assert "\n" not in str(told.value)


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


#: vLLM's own words for each method of quantisation, imported.
REQUIREMENTS = """
import inspect, json
from vllm.model_executor.layers import quantization as q
from vllm.config import model
rows = {}
for name in q.QUANTIZATION_METHODS:
    kind = q.get_quantization_config(name)
    bound = inspect.ismethod(kind.get_supported_act_dtypes)
    dtypes = kind.get_supported_act_dtypes() if bound else kind.get_supported_act_dtypes(kind)
    rows[name] = [kind.get_min_capability(), [str(d).removeprefix("torch.") for d in dtypes]]
print(json.dumps([rows, list(model._FLOAT16_NOT_SUPPORTED_MODELS)]))
"""


@pytest.mark.vllm
def test_the_installed_requirements_are_what_vllm_itself_says(installed) -> None:
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    done = subprocess.run([python, "-c", REQUIREMENTS], capture_output=True, check=True)
    rows, without = json.loads(done.stdout.splitlines()[-1])
    read = {name: requirements(installed, name) for name in rows}

    assert sorted(rows) == sorted(quantizations(installed))
    for name, (capability, dtypes) in rows.items():
        known = [(n["capability"], n["dtypes"]) for n in read[name] if n["capability"] is not None]
        assert (capability, dtypes) in known or not known
    assert sum(need["capability"] is not None for needs in read.values() for need in needs) > 20
    assert without_float16(installed) == without
    assert deprecated_quantizations(installed) == ["fbgemm_fp8", "fp_quant"]
    assert not mentions_quantization(installed, "bitsandbytes")
    assert mentions_quantization(installed, "auto-round")


@pytest.mark.vllm
def test_the_installed_source_still_refuses_in_the_words_that_are_looked_for(installed) -> None:
    assert says(installed, model_dtype.REFUSAL, "platforms/cuda.py")
    assert says(installed, model_quantization.NO_CAPABILITY, *model_quantization.CHECKED_IN)
    assert says(installed, model_quantization.NO_DTYPE, *model_quantization.CHECKED_IN)
