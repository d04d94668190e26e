"""What lies in the folder of a model: its configuration, its weights, its tokenizer. Nothing is loaded.

Of the weights only the headers are read: a safetensors file begins with eight bytes (the length of its
header) and a JSON header that says which bytes each tensor has, so that a file that was cut off is known by
its size alone.
"""

from __future__ import annotations

import math
import os

from vllm_guard import cache, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass

INDEX = "model.safetensors.index.json"
_HEADER_MAX = 100_000_000  #: bytes, safetensors' own limit
_JSON_MAX = 64 << 20
_ABSURD = 1 << 60  #: bytes that no model has
_LFS = b"version https://git-lfs"
#: Bits of a number, by safetensors' names of 0.7; of another type, of a later version, nothing is said.
_BITS = {
    **dict.fromkeys(("F64", "U64", "I64", "C64"), 64),
    **dict.fromkeys(("F32", "U32", "I32"), 32),
    **dict.fromkeys(("F16", "BF16", "U16", "I16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
#: Where a multimodal model keeps the configuration of its language model.
_NESTED = ("text_config", "llm_config", "language_config")
#: Beginnings and ends of the names of tokenizers' files.
_TOKENIZER_STARTS = (
    *("tokenizer.", "tokenization_", "vocab.", "tekken."),
    *("spiece.", "spm.", "sentencepiece."),
)
_TOKENIZER_ENDS = (".tiktoken", ".spm", ".bpe.model")
#: What vLLM takes from generation_config.json as defaults of a request, and its own.
SAMPLING = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "max_new_tokens": None,
}


@dataclass(frozen=True)
class Weights:
    """The files that vLLM's default loader takes, by its rule: safetensors, else `.bin`, else `.pt`."""

    files: tuple[str, ...]
    missing: tuple[str, ...]  #: named by the index, and not there
    damaged: tuple[tuple[str, str], ...]  #: file and what is wrong with it
    stored: Mapping[str, int]  #: bytes by type, as safetensors calls them; "?" for other formats
    announced: int = 0  #: bytes, by the index

    @property
    def size(self) -> int:
        """Bytes of all weights, as far as they can be told."""
        present = sum(self.stored.values())
        return max(present, self.announced) if self.missing or self.damaged else present


def read_json(path: str) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is none."""
    import json

    try:
        found = json.loads(paths.peek(path, _JSON_MAX))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def json_problem(path: str) -> str:
    """Why a file holds no JSON object, and where; empty where it does, or cannot be read."""
    import json

    try:
        found = json.loads(paths.peek(path, _JSON_MAX))
    except OSError:
        return ""
    except json.JSONDecodeError as error:
        return f"is no JSON: {error.msg}, line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError):
        return "is no JSON"
    return "" if isinstance(found, dict) else "holds no object: {...}"


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the configuration that is about the language model: all of it, or a nested one."""
    thinker = config.get("thinker_config")
    if isinstance(thinker, dict):
        config = thinker
    nested = (config.get(name) for name in _NESTED)
    return next((part for part in nested if isinstance(part, dict)), config)


def weights(folder: str) -> Weights:
    """The weights in a folder; kept until one of the files changes."""
    names = sorted(os.listdir(folder))
    files = [name for name in names if name.endswith((".safetensors", ".bin", ".pt"))]
    identities = []
    for name in [*files, *(name for name in names if name == INDEX)]:
        try:
            identities.append((name, *cache.identity(os.path.join(folder, name))))
        except OSError:  # a link to a blob that is gone
            files.remove(name)
    found = cache.remember(f"weights-{folder}", identities, lambda: _weights(folder, files))
    named, missing, damaged, stored, announced = found
    return Weights(tuple(named), tuple(missing), tuple(map(tuple, damaged)), stored, announced)


def lfs_pointer(path: str) -> bool:
    """Is it a pointer of Git LFS, which stands for the file until `git lfs pull`?"""
    return _start(path, len(_LFS)) == _LFS


def tokenizer_files(folder: str) -> list[str]:
    """The files that hold a tokenizer, or the code of one."""
    names = sorted(os.listdir(folder))
    return [n for n in names if n.startswith(_TOKENIZER_STARTS) or n.endswith(_TOKENIZER_ENDS)]


def has_chat_template(folder: str) -> bool:
    """Does the model say how a chat becomes a prompt?"""
    files = (
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates",
        "tekken.json",
    )
    if any(os.path.exists(os.path.join(folder, name)) for name in files):
        return True
    config = read_json(os.path.join(folder, "tokenizer_config.json")) or {}
    return bool(config.get("chat_template"))


def sampling_defaults(folder: str) -> dict[str, Any]:
    """What generation_config.json changes of a request's defaults, against vLLM's own."""
    config = read_json(os.path.join(folder, "generation_config.json")) or {}
    given = {name: config.get(name) for name in SAMPLING}
    return {n: value for n, value in given.items() if value is not None and value != SAMPLING[n]}


def _weights(folder: str, files: Sequence[str]) -> tuple[Any, ...]:
    chosen, missing, announced = _chosen(folder, files)
    damaged: list[tuple[str, str]] = []
    stored: dict[str, int] = {}
    for name in chosen:
        path = os.path.join(folder, name)
        try:
            for kind, size in _stored(path):
                stored[kind] = stored.get(kind, 0) + size
        except ValueError as error:
            damaged.append((name, str(error)))
    return chosen, missing, damaged, stored, announced


def _chosen(folder: str, files: Sequence[str]) -> tuple[list[str], list[str], int]:
    """The files to load, those that the index misses, and the bytes that it announces."""
    index = read_json(os.path.join(folder, INDEX)) or {}
    mapped, metadata = index.get("weight_map"), index.get("metadata")
    wanted = sorted(set(map(str, mapped.values()))) if isinstance(mapped, dict) else []
    size = metadata.get("total_size") if isinstance(metadata, dict) else 0
    is_size = isinstance(size, (int, float)) and 0 < size < _ABSURD  # NaN is none
    announced = int(size or 0) if is_size else 0
    for end in (".safetensors", ".bin", ".pt"):
        found = [name for name in files if name.endswith(end)]
        if end == ".safetensors" and wanted and (found or not files):
            there = [name for name in wanted if name in found]
            return there, [name for name in wanted if name not in found], announced
        own = [name for name in found if not name.startswith("consolidated")]
        if found:
            found = own or found  # Mistral's own files hold the same again
            return [name for name in found if name != "training_args.bin"], [], 0
    return [], [], 0


def _stored(path: str) -> Iterator[tuple[str, int]]:
    """Bytes by type. Raises ValueError, with what is wrong, for a file that cannot be loaded."""
    size = os.path.getsize(path)
    if not size:
        raise ValueError("is empty (0 bytes)")
    if lfs_pointer(path):
        raise ValueError(f"is a Git LFS pointer ({size} bytes), not the weights")
    if not path.endswith(".safetensors"):
        yield "?", size
        return
    header, begin = _header(path, size)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if begin + end > size:
        raise ValueError(f"is cut off: it has {size} of {begin + end} bytes")
    if begin + end < size:
        raise ValueError(f"has {size - begin - end} bytes too many behind its tensors")
    for tensor in header.values():
        first, last = tensor["data_offsets"]
        yield tensor["dtype"], last - first


def _header(path: str, size: int) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where the tensors begin."""
    import json

    length = int.from_bytes(_start(path, 8), "little")
    if size < 8 or length > _HEADER_MAX:
        raise ValueError("does not begin with a safetensors header")
    if 8 + length > size:
        raise ValueError(f"is cut off in its header: it has {size} of at least {8 + length} bytes")
    try:
        header = json.loads(_start(path, 8 + length)[8:])
        header.pop("__metadata__", None)
        rows = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
        whole = all(map(_is_tensor, header.values())) and _follow(rows)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError("has a header that is not safetensors'")
    return header, 8 + length


def _is_tensor(row: Mapping[str, Any]) -> bool:
    """Has it a type, and as many bytes as its shape says? Raises TypeError and the like for no row."""
    first, last = row["data_offsets"]
    numbers = [first, last, *row["shape"]]
    bits = _BITS.get(row["dtype"])
    if type(row["dtype"]) is not str or any(type(n) is not int or n < 0 for n in numbers):
        return False
    return bits is None or 8 * (last - first) == bits * math.prod(row["shape"])


def _follow(rows: Sequence[tuple[int, int]]) -> bool:
    """Does each tensor begin where the one before ends, as the library insists?"""
    ends = [0, *(last for _, last in rows)]
    return all(first == end <= last for (first, last), end in zip(rows, ends, strict=False))


def _start(path: str, length: int) -> bytes:
    try:
        return paths.peek(path, length)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
