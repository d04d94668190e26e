"""What a run wrote, on disk: masked, and its beginning and end kept."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import log


def test_a_log_masks_a_secret_that_is_written_in_pieces(tmp_path) -> None:
    it = log.Log([b"s3cr3t-value"])
    it.open(str(tmp_path))
    for piece in (b"before s3cr", b"et", b"-val", b"s3cr3t-va", b"lue after s3cr3t"):
        it.keep(piece)
    it.close()

    kept = Path(it.path).read_bytes()
    assert b"s3cr3t-value" not in kept
    assert kept == b"before s3cret-val[masked] after s3cr3t"


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_of_a_long_log_the_beginning_and_the_end_are_kept(pieces) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "HEAD_LIMIT", 64)
        patch.setattr(log, "TAIL_LIMIT", 32)
        it = log.Log(())
        it.open(folder)
        for piece in pieces:
            it.keep(piece)
        it.close()
        parts = [Path(folder, f"output{name}") for name in (".log", ".tail.log.1", ".tail.log")]
        head, before, tail = (part.read_bytes() if part.exists() else b"" for part in parts)

    whole = b"".join(pieces)
    assert head == whole[:64]
    assert whole[64:].endswith(before + tail)
    assert len(whole) == len(head + before + tail) + it.lost
    assert len(before + tail) <= 64


def test_without_a_descriptor_for_it_there_is_no_log_and_the_reason_is_told(tmp_path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        it = log.Log(())
        it.open(str(tmp_path))
        it.keep(b"lost")
        it.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (it.path, it.lost) == ("", 0)
    assert it.problem.startswith("no log is kept: ")


def test_a_log_whose_next_file_cannot_be_opened_ends_and_counts_the_rest(tmp_path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "HEAD_LIMIT", 4)
        it = log.Log(())
        it.open(str(tmp_path))
        it.keep(b"head")
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        it.keep(b"lost")
        it.keep(b"too")
        it.close()

    assert it.lost == 7
