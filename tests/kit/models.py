"""Models and registries of vLLM, small enough to write by hand: real files, no weights worth the name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_size": 64,
    "max_position_embeddings": 256,
}
BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I32": 4}


def safetensors(path: Path, tensors: Mapping[str, tuple[str, int]]) -> None:
    """A file with these tensors, name -> (type, number of values); it is sparse."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, count) in tensors.items():
        begin, end = end, end + count * BYTES[kind]
        header[name] = {"dtype": kind, "shape": [count], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def write_model(folder: Path, shards: int = 1, count: int = 1000, **config: Any) -> Path:
    """A model in `shards` files, with an index if they are several; ... takes a key from its config."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: value for name, value in {**LLAMA, **config}.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(rows))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    if shards == 1:
        safetensors(folder / "model.safetensors", {"w": ("BF16", count)})
        return folder
    names = [f"model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
    for name in names:
        safetensors(folder / name, {f"w.{name}": ("BF16", count)})
    index = {
        "metadata": {"total_size": 2 * count * shards},
        "weight_map": {f"w.{name}": name for name in names},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def cached_model(cache: Path, name: str, commit: str = "abc", **more: Any) -> Path:
    """A model in a Hugging Face cache, as its branch main; returns the snapshot."""
    home = cache / ("models--" + name.replace("/", "--"))
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(commit)
    (home / "blobs").mkdir()
    return write_model(home / "snapshots" / commit, **more)


def write_registry(
    vllm: Path,
    supported: Mapping[str, str],
    dropped: Mapping[str, str] | None = None,
    plugins: Mapping[str, str] | None = None,
) -> None:
    """The registry of a package `vllm`, and a source for each module in it."""
    models = vllm / "model_executor/models"
    models.mkdir(parents=True)
    rows = {name: (module, name) for name, module in supported.items()}
    (models / "registry.py").write_text(
        f"_TEXT_GENERATION_MODELS = {rows!r}\n"
        f"_PREVIOUSLY_SUPPORTED_MODELS = {dict(dropped or {})!r}\n"
        f"_OOT_SUPPORTED_MODELS = {dict(plugins or {})!r}\n"
        "_VLLM_MODELS = {**_TEXT_GENERATION_MODELS}\n"
    )
    for module in set(supported.values()):
        (models / f"{module}.py").write_text("self.qkv_proj = QKVParallelLinear(\n")
