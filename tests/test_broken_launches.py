"""Every launch of the table that a real `vllm serve` fails on is named by doctor before, for that reason."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.kit import GUARD
from tests.kit.broken import Launch, Scene, table
from tests.kit.serving import ENDED, READY

pytestmark = pytest.mark.vllm

LAUNCHES = table()
#: Two at a time: a start is mostly one thread that imports, and there are two cores at least.
PAIRS = [
    chosen[index : index + 2]
    for chosen in ([x for x in LAUNCHES if x.soak == soak] for soak in (False, True))
    for index in range(0, len(chosen), 2)
]
LAST_WORDS = (
    r"\nvllm-guard: failed: (?:(?P<process>[\w-]+) pid=\d+: )?.+"
    r" \((?P<id>[a-z0-9-]+)(?:, in phase [a-z ]+)?(?P<line>, line \d+ of the log)?\)"
    r"\nvllm-guard: why: (?P<why>.+)\nvllm-guard: fix: (?P<fix>.+)\nvllm-guard: record: (?P<record>.+)\n$"
)
LayOut = Callable[[Launch], Scene]


@pytest.fixture
def lay_out(clean_world: Path) -> Iterator[LayOut]:
    """Launches laid out below the test's own folder."""
    with contextlib.ExitStack() as until_over:

        def lay_out(launch: Launch) -> Scene:
            if launch.first:
                tried = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
                if tried.returncode:
                    pytest.skip("no mount namespace can be made here")
            return launch.scene(clean_world / re.sub(r"\W+", "-", launch.name), until_over)

        yield lay_out


@contextlib.contextmanager
def started(scenes: Sequence[Scene]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """However the test goes, none of them outlives it."""
    processes = [scene.start() for scene in scenes]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.wait(ENDED)


@pytest.mark.parametrize(
    "launch",
    [
        pytest.param(x, id=x.name, marks=[pytest.mark.soak] * bool(x.soak and x.full))
        for x in LAUNCHES
    ],
)
def test_doctor_names_it_before(lay_out: LayOut, launch: Launch) -> None:
    status, id_, part = re.findall(r"^(\w+) ([a-z-]+): (.+)$", launch.told)[0]
    only = ("--only", launch.full) if launch.full else ()
    scene = lay_out(launch)

    document = scene.doctor(*only)

    facts = [(f["status"], f["id"], f["fact"]) for f in document["findings"]]
    assert [fact for *what, fact in facts if what == [status, id_] and part in fact] != [], facts
    failed = {name for how_bad, name, _ in facts if how_bad == "fail"}
    assert failed == ({id_} if status == "fail" else set())
    assert document["status"] == (1 if failed else 0)


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(
            pair, id=" + ".join(x.name for x in pair), marks=[pytest.mark.soak] * pair[0].soak
        )
        for pair in PAIRS
    ],
)
def test_real_vllm_then_fails_for_that_reason(lay_out: LayOut, pair: list[Launch]) -> None:
    scenes = [lay_out(launch) for launch in pair]
    with started(scenes) as processes:
        statuses = [process.wait(READY + ENDED) for process in processes]

    told = [scene.said.read_text(errors="replace") for scene in scenes]
    assert statuses == [launch.exit for launch in pair], told
    assert [x.said for x, text in zip(pair, told, strict=True) if x.said not in text] == [], told
    for launch, scene, text in zip(pair, scenes, told, strict=True):
        if launch.failed:
            _has_the_last_words(launch, scene, text)


def _has_the_last_words(launch: Launch, scene: Scene, text: str) -> None:
    """The guard's, and those of `explain`, which reads the saved log: of a silent end also the run."""
    found = re.search(LAST_WORDS, text)
    assert found, text
    process, id_ = (found["process"] or "").rstrip("-0123456789"), found["id"]
    assert f"{process}: {id_}".removeprefix(": ") == launch.failed, text
    assert launch.why in found["why"]
    assert "?" not in found["fix"]

    record = Path(found["record"])
    what = record / "output.log" if found["line"] else record.name
    explained = subprocess.run(
        [*GUARD, "explain", "--json", str(what)], env=scene.env, capture_output=True, check=False
    )
    assert [i["id"] for i in json.loads(explained.stdout)["incidents"]][:1] == [id_]
