"""What is read from a model's folder: real files, whole and broken in every way that is known."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.models import safetensors, write_model
from vllm_guard import model_files

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 16060617592\n"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_model(tmp_path / "model", shards=3)


def shard(folder: Path, number: int) -> Path:
    return folder / f"model-{number:05}-of-00003.safetensors"


def test_whole_weights_are_counted_by_type(tmp_path) -> None:
    write_model(tmp_path)
    safetensors(tmp_path / "model.safetensors", {"a": ("BF16", 100), "b": ("F32", 10)})
    found = model_files.weights(str(tmp_path))

    assert found.files == ("model.safetensors",)
    assert dict(found.stored) == {"BF16": 200, "F32": 40}
    assert (found.size, found.missing, found.damaged) == (240, (), ())


def test_shards_are_those_of_the_index(folder) -> None:
    safetensors(folder / "extra.safetensors", {"a": ("BF16", 100)})
    found = model_files.weights(str(folder))

    assert len(found.files) == 3
    assert (found.size, found.announced) == (6000, 6000)


def test_a_missing_shard_is_named_and_the_index_tells_the_size(folder) -> None:
    shard(folder, 2).unlink()
    found = model_files.weights(str(folder))

    assert found.missing == (shard(folder, 2).name,)
    assert found.size == 6000


def test_a_link_to_a_blob_that_is_gone_is_missing(folder) -> None:
    shard(folder, 2).unlink()
    shard(folder, 2).symlink_to("../../blobs/gone")

    assert model_files.weights(str(folder)).missing == (shard(folder, 2).name,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (POINTER.encode(), "is a Git LFS pointer"),
        (b"\x01\x02", "does not begin with a safetensors header"),
        (b"\xff" * 100, "does not begin with a safetensors header"),
        ((1000).to_bytes(8, "little") + b"{" * 10, "is cut off in its header: it has 18 of at least"),
        ((10).to_bytes(8, "little") + b"{" * 10, "has a header that is not safetensors'"),
        ((2).to_bytes(8, "little") + b"[]", "has a header that is not safetensors'"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "has a header that is not safetensors'"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_named_with_the_reason(folder, content: bytes, reason: str) -> None:
    shard(folder, 3).write_bytes(content)
    ((name, said),) = model_files.weights(str(folder)).damaged

    assert name == shard(folder, 3).name
    assert said.startswith(reason)


def test_a_shard_that_was_cut_off_is_known_by_its_size(folder) -> None:
    path = shard(folder, 1)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    found = model_files.weights(str(folder))

    assert found.damaged == ((path.name, f"is cut off: it has {size - 1} of {size} bytes"),)


def test_a_download_that_is_made_good_is_seen(folder) -> None:
    path = shard(folder, 1)
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert model_files.weights(str(folder)).damaged

    path.write_bytes(content)

    assert not model_files.weights(str(folder)).damaged


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["pytorch_model.bin", "training_args.bin"], ("pytorch_model.bin",)),
        (["consolidated.00.pth", "model.pt"], ("model.pt",)),
        (["model.gguf"], ()),
    ],
)
def test_other_formats_are_taken_as_vllm_does(tmp_path, names, chosen) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    found = model_files.weights(str(tmp_path))

    assert found.files == chosen
    assert found.size == 5 * len(chosen)


def test_an_index_that_is_no_index_is_no_crash(folder) -> None:
    for text in ("[]", "{}", '{"weight_map": []}', '{"metadata": 3, "weight_map": {"a": 5}}', "{"):
        (folder / model_files.INDEX).write_text(text)
        model_files.weights(str(folder))


@given(st.binary(max_size=300))
def test_whatever_a_file_holds_is_whole_or_damaged(tmp_path_factory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "model.safetensors").write_bytes(content)
    found = model_files.weights(str(folder))

    assert len(found.damaged) in (0, 1)


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_every_cut_of_a_file_is_seen(tmp_path_factory, count: int, cut: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "model.safetensors"
    safetensors(path, {"a": ("F16", count)})
    size = path.stat().st_size
    os.truncate(path, max(0, size - cut))

    assert bool(model_files.weights(str(path.parent)).damaged) == (cut > 0)


def test_two_hundred_shards_take_little_time_and_less_the_second_time(tmp_path) -> None:
    tensors = [f"model.layers.{n}.mlp.experts.{n}.weight" for n in range(200)]
    write_model(tmp_path, shards=200)
    for path in tmp_path.glob("*.safetensors"):
        safetensors(path, dict.fromkeys(tensors, ("BF16", 1000)))

    def seconds() -> float:
        start = time.monotonic()
        assert model_files.weights(str(tmp_path)).size == 200 * 200 * 2000
        return time.monotonic() - start

    seconds()
    assert min(seconds() for _ in range(5)) < 0.05


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_size": 1}, {"hidden_size": 1}),
        ({"text_config": {"hidden_size": 2}, "hidden_size": 1}, {"hidden_size": 2}),
        ({"llm_config": {"hidden_size": 3}}, {"hidden_size": 3}),
        ({"thinker_config": {"text_config": {"hidden_size": 4}}}, {"hidden_size": 4}),
        ({"text_config": None, "hidden_size": 1}, {"text_config": None, "hidden_size": 1}),
    ],
)
def test_the_configuration_of_the_language_model_may_be_nested(config, expected) -> None:
    assert model_files.text_config(config) == expected


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff"])
def test_what_is_no_json_object_is_none(tmp_path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")

    assert model_files.read_json(str(tmp_path / "x.json")) is None


def test_tokenizer_and_chat_template_are_found(tmp_path) -> None:
    assert not model_files.has_chat_template(str(tmp_path))
    for name in ("config.json", "tokenizer.model", "qwen.tiktoken", "vocab.txt", "README.md"):
        (tmp_path / name).touch()
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": null}')

    assert set(model_files.tokenizer_files(str(tmp_path))) == {
        *("tokenizer.model", "qwen.tiktoken", "vocab.txt"),
    }
    assert not model_files.has_chat_template(str(tmp_path))
    (tmp_path / "chat_template.jinja").touch()
    assert model_files.has_chat_template(str(tmp_path))


def test_only_what_differs_from_vllms_defaults_is_changed(tmp_path) -> None:
    rows = {"temperature": 0.6, "top_p": 1.0, "top_k": 20, "min_p": None, "eos_token_id": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(rows))

    assert model_files.sampling_defaults(str(tmp_path)) == {"temperature": 0.6, "top_k": 20}


def test_a_fifo_is_no_file_of_a_model_and_nothing_waits_for_it(folder) -> None:
    names = ("config.json", "generation_config.json", "tokenizer_config.json", model_files.INDEX)
    for name in names:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    os.unlink(shard(folder, 1))
    os.mkfifo(shard(folder, 1))

    assert model_files.read_json(str(folder / "config.json")) is None
    assert model_files.json_problem(str(folder / "config.json")) == ""
    assert model_files.sampling_defaults(str(folder)) == {}
    assert not model_files.has_chat_template(str(folder))
    assert [name for name, _ in model_files.weights(str(folder)).damaged] == [shard(folder, 1).name]


@pytest.mark.parametrize("size", ["NaN", "Infinity", "-5", "1" + "0" * 400, '"9"', "[]"])
def test_a_total_that_is_no_size_is_not_announced(folder, size: str) -> None:
    index = {"metadata": {"total_size": "SIZE"}, "weight_map": {"a": shard(folder, 1).name}}
    (folder / model_files.INDEX).write_text(json.dumps(index).replace('"SIZE"', size))

    assert model_files.weights(str(folder)).announced == 0


def row(dtype: object = "F32", shape: object = (2,), ends: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": ends}


#: What the header says of eight bytes behind it, or as many as are named.
HEADERS: list[tuple[str, object, int, bool]] = [
    ("whole", {"a": row()}, 8, True),
    ("with metadata", {"__metadata__": {"format": "pt"}, "a": row()}, 8, True),
    ("two", {"b": row(ends=(8, 16)), "a": row()}, 16, True),
    ("of no numbers", {"a": row(shape=(0,), ends=(0, 0)), "b": row()}, 8, True),
    ("a scalar", {"a": row("F64", ())}, 8, True),
    ("of half bytes", {"a": row("F4", (4, 4))}, 8, True),
    ("no tensor", {}, 0, True),
    ("trailing bytes", {"a": row()}, 9, False),
    ("no tensor and bytes", {}, 8, False),
    ("negative offsets", {"a": row(ends=(-8, 0))}, 0, False),
    ("an end before its beginning", {"a": row(ends=(8, 0))}, 8, False),
    ("another shape", {"a": row(shape=(3,))}, 8, False),
    ("a gap", {"a": row(ends=(8, 16))}, 16, False),
    ("overlap", {"a": row(), "b": row(ends=(4, 12))}, 12, False),
    ("a type that is a list", {"a": row(["F32"])}, 8, False),
    ("a type that is a number", {"a": row(5)}, 8, False),
    ("no type", {"a": {"shape": [2], "data_offsets": [0, 8]}}, 8, False),
    ("no shape", {"a": {"dtype": "F32", "data_offsets": [0, 8]}}, 8, False),
    ("three ends", {"a": row(ends=(0, 4, 8))}, 8, False),
    ("a shape of words", {"a": row(shape=["2"])}, 8, False),
    ("a list", [], 0, False),
]


def write_header(path: Path, header: object, size: int) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))


@pytest.mark.parametrize(
    ("header", "size", "whole"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS]
)
def test_what_the_library_refuses_is_damaged(tmp_path, header, size: int, whole: bool) -> None:
    write_header(tmp_path / "model.safetensors", header, size)

    assert (model_files.weights(str(tmp_path)).damaged == ()) == whole


#: The library's own opinion of files.
OPEN = """
import sys
from safetensors import safe_open
for path in sys.argv[1:]:
    try:
        with safe_open(path, "pt") as file:
            print(len(list(file.keys())) >= 0)
    except Exception:
        print(False)
"""


@pytest.mark.vllm
def test_the_library_refuses_the_same(tmp_path) -> None:
    for number, (_, header, size, _) in enumerate(HEADERS):
        write_header(tmp_path / f"{number}.safetensors", header, size)
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    command = [python, "-c", OPEN, *(f"{number}.safetensors" for number in range(len(HEADERS)))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    told = zip((row[0] for row in HEADERS), done.stdout.split(), strict=True)
    assert list(told) == [(row[0], str(row[3])) for row in HEADERS]
