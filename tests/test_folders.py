"""Folders of runs are removed whole, and nothing beyond them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kit import PATIENCE, guard, plant_marker
from tests.test_supervision import _state
from vllm_guard import folders, leftovers, record

RUN = "20000101-000000-aa"


@pytest.fixture
def doomed(tmp_path: Path) -> Path:
    """A folder with all kinds of files, and links to what is not in it."""
    folder = tmp_path / "a b\\c"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/file").write_text("x")
    (tmp_path / "spared").mkdir()
    (tmp_path / "spared/file").touch()
    (folder / "deep/link").symlink_to(tmp_path / "spared")
    os.mkfifo(folder / "fifo")
    return folder


def test_a_folder_is_removed_and_no_link_in_it_is_followed(doomed: Path, tmp_path: Path) -> None:
    assert folders.remove(str(doomed))
    assert not doomed.exists()
    assert (tmp_path / "spared/file").exists()


def test_a_folder_that_is_gone_is_removed_and_a_link_to_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")

    assert folders.remove(str(tmp_path / "none"))
    assert not folders.remove(str(tmp_path / "link"))
    assert (tmp_path / "folder").exists()


@pytest.mark.parametrize("where", ["deep/mount", "."])
@pytest.mark.parametrize("kind", [["--bind"], ["-t", "tmpfs"]], ids=["bind", "tmpfs"])
def test_what_is_mounted_in_a_folder_stays_and_is_named(
    kind: list[str], where: str, doomed: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    point = doomed / where
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", *kind, str(tmp_path / "spared"), str(point)], check=True)
    try:
        (point / "inside").touch()
        removed = folders.remove(str(doomed))
        (finding,) = leftovers.findings((), [str(doomed)], ())
        kept = (point / "inside").exists()
    finally:
        subprocess.run(["umount", str(point)], check=True, timeout=PATIENCE)

    assert not removed
    assert kept
    assert finding.fix == f"umount {point}; rm -r {doomed}"
    if where != ".":
        assert [path.name for path in doomed.iterdir()] == ["deep"]
    assert folders.remove(str(doomed))


def test_a_folder_deeper_than_python_can_go_stays_and_is_no_error(tmp_path: Path) -> None:
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    try:
        assert not folders.remove(str(tmp_path / "d"))
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True, timeout=PATIENCE)


def test_links_and_strangers_among_the_records_are_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").touch()
    plant_marker(RUN).unlink()
    runs = _state() / "runs"
    (runs / "20000101-000000-ab").symlink_to(mine)
    (runs / "notes").mkdir()
    shelf = record.Shelf(os.environ)
    for index in range(record.KEPT_RUNS + 25):
        run_id = f"20260101-000000-{index:08x}"
        shelf.open(run_id)

    shelf.prune()
    guard("runs", "clean", "--records")

    assert sorted(os.listdir(runs)) == ["20000101-000000-ab", "notes"]
    assert (mine / "file").exists()
