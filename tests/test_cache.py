"""The cache: it may cost time, and nothing else, whatever lies in its folder."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import guard, guard_env
from vllm_guard import __version__, cache

KEY = b"the very bytes"
VALUE = ("a", 1, None, (b"x", 0.5), {"k": [True]})

#: What `marshal` reads without complaint, and is no entry of ours.
FOREIGN: tuple[Any, ...] = (
    *(None, 0, True, "", b"", (), {}, [], ("one",), ("one", "two"), ("one", "two", "three")),
    *({0: (__version__, KEY)}, [(__version__, KEY), "served"], ((__version__, KEY),)),
    *(((__version__, KEY, 1), "served"), (("0", KEY), "served"), ((KEY,), "served")),
)


def folder() -> Path:
    return Path(os.environ["HOME"], ".cache/vllm-guard")


def entry(name: str = "test") -> Path:
    """The file of an entry that was written."""
    assert cache.remember(name, KEY, lambda: VALUE) == VALUE
    (path,) = folder().iterdir()
    return path


def never() -> Any:
    raise AssertionError("computed, although it was known")


def test_a_value_is_computed_once() -> None:
    entry()

    assert cache.remember("test", KEY, never) == VALUE


@pytest.mark.parametrize("content", FOREIGN, ids=repr)
def test_a_file_that_is_no_entry_is_not_served(content: Any) -> None:
    entry().write_bytes(marshal.dumps(content) + cache.END)

    assert cache.remember("test", KEY, lambda: "new") == "new"
    assert cache.remember("test", KEY, never) == "new"


@pytest.mark.parametrize("rest", [b"", b"\0"], ids=["cut", "zeros"])
def test_an_entry_that_a_crash_left_half_written_costs_a_computation(rest: bytes) -> None:
    whole = entry().read_bytes()
    for cut in range(len(whole)):
        entry().write_bytes(whole[:cut] + rest * (len(whole) - cut))

        assert cache.remember("test", KEY, lambda: VALUE) == VALUE
        assert cache.remember("test", KEY, never) == VALUE


def test_every_command_works_beside_damaged_entries() -> None:
    for _ in range(2):
        done = guard("-p", "debug", "--", sys.executable, "-c", "pass")
        assert done.returncode == 0
    paths = list(folder().iterdir())
    assert len(paths) > 2
    for content in (b"i\0\0\0\0", b")\0", b"{0", b"N", b"", b"\0" * 64):
        for path in paths:
            path.write_bytes(content + cache.END)
        again = guard("-p", "debug", "--", sys.executable, "-c", "pass")
        assert (again.returncode, b"internal error" in again.stderr) == (0, False)


def test_a_fifo_in_place_of_an_entry_does_not_block() -> None:
    path = entry()
    path.unlink()
    os.mkfifo(path, 0o600)

    assert cache.remember("test", KEY, lambda: "new") == "new"
    assert cache.remember("test", KEY, never) == "new"


def test_a_folder_in_place_of_an_entry_stays_and_leaves_no_half_file() -> None:
    path = entry()
    path.unlink()
    path.mkdir()

    assert cache.remember("test", KEY, lambda: "new") == "new"
    assert list(folder().iterdir()) == [path]


def test_a_link_in_place_of_an_entry_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path = entry()
    other = tmp_path / "other"
    path.rename(other)
    path.symlink_to(other)
    before = other.read_bytes()

    assert cache.remember("test", KEY, lambda: "new") == "new"
    assert other.read_bytes() == before
    assert not path.is_symlink()


def test_an_entry_of_absurd_size_is_not_read() -> None:
    with entry().open("r+b") as file:
        file.truncate(1 << 40)

    assert cache.remember("test", KEY, lambda: "new") == "new"


def test_what_a_dead_process_of_the_same_id_left_half_written_is_in_nobodys_way() -> None:
    path = entry()
    stale = Path(f"{path}.{os.getpid()}.new")
    stale.write_bytes(b"half")

    assert cache.remember("test", b"changed", lambda: "new") == "new"
    assert cache.remember("test", b"changed", never) == "new"
    assert not stale.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../escape",
        "/etc/passwd",
        "a\0b",
        "\udcff\udcfe",
        "\ud800",
        "x" * 5000,
        "☃" * 5000,
        "/%2F%" * 200,
    ],
    ids=ascii,
)
def test_any_name_is_one_file_of_the_cache_folder(name: str) -> None:
    path = entry(name)

    assert path.parent == folder()
    assert cache.remember(name, KEY, never) == VALUE
    assert sorted(os.listdir(os.environ["HOME"])) == [".cache"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_short_names_are_two_entries(one: str, other: str) -> None:
    for old in folder().glob("*"):  # of the example before
        old.unlink()
    one, other = f"n-{one}", f"n-{other}"
    cache.remember(one, "one", lambda: "one")
    cache.remember(other, "other", lambda: "other")
    known = cache.remember(one, "one", lambda: "overwritten")

    assert known == ("overwritten" if one == other else "one")


def test_another_version_of_the_guard_computes_anew() -> None:
    path = entry()
    known = marshal.loads(path.read_bytes())
    path.write_bytes(marshal.dumps((("0.0.1", known[0][1]), "old")) + cache.END)

    assert cache.remember("test", KEY, lambda: "new") == "new"


def test_a_refusal_is_not_remembered() -> None:
    with pytest.raises(ZeroDivisionError):
        cache.remember("test", KEY, lambda: 1 / 0)

    assert cache.remember("test", KEY, lambda: "value") == "value"


RACE = """
import sys
from vllm_guard import cache
me = int(sys.argv[1])
for turn in range(200):
    key = turn % 3
    value = cache.remember("race", key, lambda: (key, "x" * 100_000))
    assert value == (key, "x" * 100_000), (me, turn)
"""


def test_processes_that_write_the_same_entry_never_read_half_of_it() -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", RACE, str(n)], env=guard_env(), stderr=-1)
        for n in range(3)
    ]

    for process in running:
        assert process.communicate(timeout=30)[1] == b""
    assert [path.name for path in folder().iterdir()] == ["race"]


def test_the_identity_of_a_file_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    first = cache.identity(str(path))
    os.utime(path, ns=(0, first[3]))  # only read
    times = first[3:4]
    path.write_bytes(b"two")
    os.utime(path, ns=(0, *times))  # same size, same mtime: ctime tells

    assert cache.identity(str(path)) != first
