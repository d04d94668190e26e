"""Where the guard keeps things: private, atomic, no symlink followed, never trusted when foreign."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import guard, guard_env
from vllm_guard import cache, facts, frozen, paths, record
from vllm_guard.errors import GuardError
from vllm_guard.model import EnvPlan, Outcome, Run

DATA = Path(__file__).parent / "data"


# ---- paths


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/vllm-guard"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/vllm-guard"),
        ({"HOME": "/h", "XDG_STATE_HOME": ""}, "/h/.local/state/vllm-guard"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/vllm-guard"),
    ],
)
def test_the_state_folder_follows_xdg(env: dict[str, str], expected: str) -> None:
    assert paths.base_dir("state", env) == expected


def test_folders_and_files_are_private_whatever_the_umask(tmp_path) -> None:
    old = os.umask(0)
    try:
        folder = paths.make_private(str(tmp_path / "a/b"))
        paths.write_private(f"{folder}/file", b"x")
    finally:
        os.umask(old)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert set(modes.values()) == {0o700, 0o600}


@pytest.mark.parametrize("plant", ["link", "file", "open to others"])
def test_a_folder_that_is_not_private_is_refused(plant, tmp_path) -> None:
    path = tmp_path / "state"
    if plant == "link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    elif plant == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)

    with pytest.raises(OSError, match="is not a private folder"):
        paths.make_private(str(path))


def test_a_planted_link_is_not_written_through(tmp_path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(OSError, match="exists"):
        paths.create_private(str(tmp_path / "link"), b"overwritten")
    paths.write_private(str(tmp_path / "link"), b"new")

    assert target.read_text() == "precious"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def test_a_longer_file_than_allowed_is_refused_unread(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)

    assert paths.read_regular(str(path), 11) == b"x" * 11
    with pytest.raises(GuardError, match="at most 10"):
        paths.read_regular(str(path), 10)


def test_relative_xdg_folders_write_nothing_in_the_working_folder(tmp_path) -> None:
    relative = dict.fromkeys(("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "here")

    guard("-p", "debug", "--", "true", cwd=tmp_path, env=guard_env(**relative))

    assert list(tmp_path.iterdir()) == []


# ---- cache


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(PLAIN, PLAIN)
def test_a_value_is_remembered_for_its_key_only(key, value) -> None:
    cache.remember("test", ("key", key), lambda: value)

    assert cache.remember("test", ("key", key), lambda: "computed again") == value
    assert cache.remember("test", ("other", key), lambda: "anew") == "anew"


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"not marshal", b"\xe9\x00\x00\x00"])
def test_an_entry_that_cannot_be_read_costs_a_computation(content) -> None:
    cache.remember("test", 1, lambda: "old")
    (entry,) = (Path(os.environ["HOME"]) / ".cache/vllm-guard").glob("test*")
    entry.write_bytes(content)

    assert cache.remember("test", 1, lambda: "new") == "new"


def test_an_entry_that_others_could_write_is_not_believed() -> None:
    cache.remember("test", 1, lambda: "mine")
    (entry,) = (Path(os.environ["HOME"]) / ".cache/vllm-guard").glob("test*")
    entry.chmod(0o666)

    assert cache.remember("test", 1, lambda: "computed") == "computed"


def test_without_a_place_for_it_the_cache_is_only_slow(monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")

    assert cache.remember("test", 1, lambda: "value") == "value"


# ---- records


def a_run(**changes) -> Run:
    base = Run(
        id="20261124-143015-7f3a9c2e",
        command=("vllm", 'a "b" \\ é \x00'),
        cwd="/",
        profiles=(),
        interpreter="",
        vllm="",
        started="",
        plan=EnvPlan(),
        findings=(),
        containment="keeper",
        outcome=Outcome("exited", 1, left_behind=0, seconds=0.5),
    )
    return frozen.replace(base, **changes)


@given(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
def test_the_record_is_json_with_every_value_of_its_own_type(text, number, flag, real) -> None:
    outcome = Outcome("exited", number, core=flag, seconds=real, ended_by=text)

    document = json.loads(record.to_json(a_run(outcome=outcome, command=(text,))))

    assert document["schema_version"] == 1
    for key, value in (("code", number), ("core", flag), ("seconds", real), ("ended_by", text)):
        assert document["outcome"][key] == value
        assert type(document["outcome"][key]) is type(value)
    assert document["command"] == [text]


def test_old_records_are_dropped_and_the_newest_kept(monkeypatch) -> None:
    shelf = record.Shelf(os.environ)
    for index in range(record.KEPT_RUNS + 25):
        run_id = f"20260101-000000-{index:08x}"
        folder = Path(shelf.open(run_id))
        if index % 2:
            (folder / "traces").mkdir()  # of VLLM_TRACE_FUNCTION
            (folder / "traces" / "log").touch()
        shelf.write(a_run(id=run_id))

    kept = sorted(os.listdir(Path(shelf.root) / "runs"))
    assert len(kept) == record.KEPT_RUNS
    assert kept[-1].endswith(f"{record.KEPT_RUNS + 24:08x}")
    assert shelf.problem == ""


def test_a_log_masks_a_secret_that_is_written_in_pieces(tmp_path) -> None:
    log = record.Log(str(tmp_path), [b"s3cr3t-value"])
    for piece in (b"before s3cr", b"et", b"-val", b"s3cr3t-va", b"lue after s3cr3t"):
        log.keep(piece)
    log.close()

    kept = Path(log.path).read_bytes()
    assert b"s3cr3t-value" not in kept
    assert kept == b"before s3cret-val[masked] after s3cr3t"


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_of_a_long_log_the_beginning_and_the_end_are_kept(pieces) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "HEAD_LIMIT", 64)
        patch.setattr(record, "TAIL_LIMIT", 32)
        log = record.Log(folder, ())
        for piece in pieces:
            log.keep(piece)
        log.close()
        parts = [Path(folder, f"output{name}") for name in (".log", ".tail.log.1", ".tail.log")]
        head, before, tail = (part.read_bytes() if part.exists() else b"" for part in parts)

    whole = b"".join(pieces)
    assert head == whole[:64]
    assert whole[64:].endswith(before + tail)
    assert len(whole) == len(head + before + tail) + log.lost
    assert len(before + tail) <= 64


# ---- facts


def test_what_became_of_a_removed_variable_is_true() -> None:
    tables = {p.stem: set(json.loads(p.read_text())) for p in (DATA / "envs").glob("*.json")}
    rows = facts.load("vars/vllm")["removed"]

    assert len({row["name"] for row in rows}) == len(rows) > 30
    for row in rows:
        assert set(row) <= {"name", "last", "absent", "instead"}
        if row["last"] in tables:
            assert row["name"] in tables[row["last"]]
        if row["absent"] in tables:
            assert row["name"] not in tables[row["absent"]]


def test_no_prefix_belongs_to_two_families() -> None:
    families = facts.load("families")["family"]
    prefixes = [prefix for family in families for prefix in family["prefixes"]]

    assert len(set(prefixes)) == len(prefixes)
    assert len({family["id"] for family in families}) == len(families)


def test_every_data_file_is_toml() -> None:
    for path in Path(paths.PACKAGE, "data").rglob("*.toml"):
        assert tomli.loads(path.read_text())
