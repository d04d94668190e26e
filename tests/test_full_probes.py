"""The full probes in a real Python with torch and vLLM: what they find, and who hangs is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kit import ROOT, guard, guard_env, schema
from tests.kit.serving import Machine, vllm_env
from vllm_guard import trial
from vllm_guard.model import Finding
from vllm_guard.probes import full
from vllm_guard.probes.full import Answer, collective

LONG = 300.0  #: seconds that a probe may take on two busy cores

HANGING = """
import os, sys, time
forks = []
def hook():
    if len(forks) == 1 and "torch.distributed" in sys.modules:
        sys.modules["torch.distributed"].all_reduce = this_rank_hangs
def this_rank_hangs(*_, **__):
    while True:
        time.sleep(1)
os.register_at_fork(after_in_parent=lambda: forks.append(1), after_in_child=hook)
"""


def look(
    *words: str, env: dict[str, str], status: int = 0, said: bytes = b""
) -> list[dict[str, Any]]:
    ran = guard("doctor", "--json", *words, env=env, timeout=LONG)
    assert (ran.returncode, ran.stderr) == (status, said)
    document = json.loads(ran.stdout)
    assert schema.problems("doctor", document) == []
    return list(document["findings"])


def serve(*flags: str) -> list[str]:
    return ["--", "vllm", "serve", os.environ["VGUARD_TEST_MODEL"], *flags]


@pytest.mark.vllm
def test_torch_platform_and_inspection_work() -> None:
    only = [word for name in ("torch", "platform", "inspect") for word in ("--only", name)]

    found = {f["check"]: f for f in look(*only, *serve("--max-model-len", "128"), env=vllm_env())}

    assert {f["status"] for f in found.values()} == {"ok"}
    assert "built for CPU; matmul cpu" in found["torch"]["fact"]
    assert "platform: cpu (CpuPlatform)" in found["platform"]["fact"]
    assert "LlamaForCausalLM" in found["inspect"]["fact"]
    assert "max_model_len 128" in found["inspect"]["fact"]


@pytest.mark.vllm
def test_a_flag_that_vllm_does_not_have_is_found_by_vllm_itself() -> None:
    (found,) = look("--only", "inspect", *serve("--no-such-flag", "3"), env=vllm_env(), status=1)

    assert found["id"] == "inspect-flags"
    assert "unrecognized arguments: --no-such-flag" in found["fact"]


@pytest.mark.vllm
def test_a_model_that_vllm_cannot_inspect_fails(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in Path(os.environ["VGUARD_TEST_MODEL"]).iterdir():
        if file.name != "config.json":
            (model / file.name).symlink_to(file)
    config = json.loads(Path(os.environ["VGUARD_TEST_MODEL"], "config.json").read_text())
    config["architectures"] = ["NoSuchModelForCausalLM"]
    config["model_type"] = "no-such-model"
    (model / "config.json").write_text(json.dumps(config))

    words = ("--", "vllm", "serve", str(model))
    (found,) = look("--only", "inspect", *words, env=vllm_env(), status=1)

    assert found["id"] == "inspect-model"


@pytest.mark.vllm
def test_compile_works_in_a_cache_of_its_own(clean_world: Path) -> None:
    machine = Machine(clean_world / "tmp")

    (found,) = look("--only", "compile", *serve(), env=vllm_env())

    assert (found["id"], found["status"]) == ("compile-works", "ok")
    assert machine.left() == {}


@pytest.mark.vllm
def test_nothing_is_compiled_for_a_command_that_compiles_nothing() -> None:
    """A tool chain that is not needed must not refuse a launch with `--preflight full`."""
    why = "--enforce-eager: nothing is compiled"
    said = f"vllm-guard: error: nothing was checked: compile: {why}\n".encode()

    (found,) = look(
        "--only", "compile", "-p", "eager", *serve(), env=vllm_env(), status=2, said=said
    )

    assert (found["status"], found["fact"]) == ("skip", why)


@pytest.mark.vllm
@pytest.mark.parametrize(("flags", "world"), [((), 2), (("-tp", "2", "-pp=2"), 4)])
def test_gloo_between_the_ranks_of_the_command(flags: tuple[str, ...], world: int) -> None:
    (found,) = look("--only", "collective", *serve(*flags), env=vllm_env())

    assert (found["id"], found["subject"]) == ("collective-works", f"{world} ranks")
    assert found["fact"] == "join, gloo; no GPU: NCCL, PyNccl and P2P were not tested"


@pytest.mark.vllm
def test_an_interface_that_is_not_there_fails_with_gloos_words() -> None:
    env = vllm_env(GLOO_SOCKET_IFNAME="nope0")

    found = look("--only", "collective", *serve(), env=env, status=1)

    assert any("nope0" in f["fact"] for f in found if f["status"] == "fail")


@pytest.mark.vllm
def test_a_rank_that_hangs_is_named_with_its_stack(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    env = vllm_env(PYTHONPATH=f"{ROOT}:{tmp_path}")
    short = "from vllm_guard.probes.full import collective as c; c._RANK = 3.0; "
    start = time.monotonic()

    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{short}from vllm_guard import cli; cli.main()",
            "doctor",
            "--json",
            "--only",
            "collective",
            *serve(),
        ],
        env=env,
        capture_output=True,
        check=False,
        timeout=LONG,
    )

    hung = {f["subject"]: f for f in json.loads(ran.stdout)["findings"] if "hangs" in f["id"]}
    assert ran.returncode == 1
    assert set(hung) == {"rank 0", "rank 1"}
    assert all("in gloo" in f["fact"] for f in hung.values())
    guilty = [who for who, f in hung.items() if "this_rank_hangs" in "\n".join(f["evidence"])]
    assert guilty == ["rank 1"]
    assert "all_reduce" in "\n".join(hung["rank 0"]["evidence"])
    assert time.monotonic() - start < 60


ONE_FAILS = """
import os, sys, time
forks = []
def hook():
    if "torch" not in sys.modules:
        return
    torch = sys.modules["torch.distributed"]
    torch.all_reduce = this_rank_fails if len(forks) == 0 else this_rank_waits
def this_rank_fails(*_, **__):
    raise RuntimeError("broken here\\nException raised from it.cpp:1 (most recent call first):\\n#0")
def this_rank_waits(*_, **__):
    while True:
        time.sleep(1)
os.register_at_fork(after_in_parent=lambda: forks.append(1), after_in_child=hook)
"""


@pytest.mark.vllm
def test_when_one_rank_has_failed_the_others_are_not_waited_for_until_the_limit(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ONE_FAILS)
    start = time.monotonic()

    found = look(
        "--only", "collective", *serve(), env=vllm_env(PYTHONPATH=f"{ROOT}:{tmp_path}"), status=1
    )

    told = {(f["id"], f["subject"]): f for f in found}
    assert set(told) == {("collective-gloo", "rank 0"), ("collective-hangs", "rank 1")}
    assert told["collective-gloo", "rank 0"]["fact"] == "RuntimeError: broken here"
    hung = told["collective-hangs", "rank 1"]
    assert "in gloo" in hung["fact"]
    assert "this_rank_waits" in "\n".join(hung["evidence"])
    assert time.monotonic() - start < 40  # the limit of the ranks is 60 s


@pytest.mark.vllm
@pytest.mark.soak
def test_load_starts_the_command_with_dummy_weights_and_leaves_nothing(clean_world: Path) -> None:
    machine = Machine(clean_world / "tmp")
    flags = ("--max-model-len", "128", "--enforce-eager")

    (found,) = look("--only", "load", *serve(*flags), env=vllm_env())

    assert (found["id"], found["status"]) == ("load-works", "ok")
    assert "ready after" in found["fact"]
    assert machine.left() == {}


# ---- without vLLM: how answers are judged


def row(part: str, state: str, who: str = "rank 0", **more: Any) -> dict[str, Any]:
    return {"part": part, "state": state, "who": who, "fact": f"{part} {state}", **more}


class Asked:
    """Stands for the target: the answers that it will give, and what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.profiles: list[tuple[str, ...]] = []

    def __call__(self, step: str, asked: object, limit: float, profiles: Any = ()) -> Answer:
        self.profiles.append(tuple(profiles))
        return self.answers.pop(0)


WELL = Answer("exited", rows=(row("nccl", "begin"), row("nccl", "ok")))
OTHER = row("nccl", "begin", "rank 1"), row("nccl", "ok", "rank 1")
BAD = Answer("exited", rows=(row("nccl", "begin"), row("nccl", "fail"), *OTHER))
STUCK = Answer(
    "exited", rows=(row("nccl", "begin"), row("rank", "fail", hung=True, stack=()), *OTHER)
)


class Context:
    target = None

    def __init__(self) -> None:
        self.env: dict[str, str] = {}

    def flag(self, *_: str) -> None:
        return None

    has = flag


@pytest.mark.parametrize("first", [BAD, STUCK])
def test_p2p_off_is_recommended_only_where_it_helped(first: Answer) -> None:
    helps, does_not = Asked(first, WELL), Asked(first, first)

    with_help = list(collective.check(Context(), helps))  # type: ignore[arg-type]
    without = list(collective.check(Context(), does_not))  # type: ignore[arg-type]

    assert {f.status for f in with_help} == {"fail"}
    assert helps.profiles == does_not.profiles == [(), ("p2p-off",)]
    assert all("with -p p2p-off all of it works" in f.fix for f in with_help)
    assert all("with -p p2p-off it fails as well" in f.fix for f in without)


def test_what_every_rank_says_is_one_finding() -> None:
    rows = [row("join", "fail", f"rank {number}") for number in (1, 0)]

    (found,) = full.judged("x", "2 ranks", Answer("exited", rows=tuple(rows)))

    assert (found.subject, found.fact) == ("rank 0, rank 1", "join fail")


@pytest.mark.parametrize("part", ["gloo", "nccl"])
def test_p2p_off_is_not_tried_where_no_gpu_is_at_fault_or_there_is_only_one(part: str) -> None:
    asked = Asked(Answer("exited", rows=(row("join", "ok"), row(part, "fail"))))

    (found,) = collective.check(Context(), asked)  # type: ignore[arg-type]

    assert (found.id, found.status, found.fix) == (f"collective-{part}", "fail", "")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("deadline", rows=(row("import", "begin", ""),)), [("x-hangs", "fail")]),
        (Answer("signalled", signal=11), [("x-crashed", "fail")]),
        (Answer("exited", code=1), [("x-crashed", "fail")]),
        (Answer("exited"), [("x-not-run", "unknown")]),
        (Answer("lost", reason="r"), [("x-not-run", "unknown")]),
        (Answer("not-started", reason="r"), [("x-not-run", "unknown")]),
        (Answer("exited", rows=(row("a", "ok"),)), [("x-works", "ok")]),
        (
            Answer("exited", rows=(row("a", "ok"),), left=("pid 3",)),
            [("x-left", "warn"), ("x-works", "ok")],
        ),
        (
            Answer("exited", rows=(row("a 1", "fail"), row("b", "note"))),
            [("x-a", "fail"), ("x-b", "note")],
        ),
    ],
)
def test_how_an_answer_is_judged(answer: Answer, expected: list[tuple[str, str]]) -> None:
    found: list[Finding] = list(full.judged("x", "subject", answer))

    assert [(f.id, f.status) for f in found] == expected


LOGGED = "(Worker-0 pid=7) ERROR 11-28 23:30:09 [multiproc_executor.py:953] "
AFTER = [f"line {n}" for n in range(30)]
GENERIC = "RuntimeError: Engine core initialization failed. See root cause above."


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ([f"{LOGGED}ValueError: too little", *AFTER, GENERIC], f"{LOGGED}ValueError: too little"),
        (["\x1b[31mKeyError: 'x'\x1b[0m", "OSError: y", *AFTER], "KeyError: 'x'"),
        (["a.b.MyException: \x1b]0;title\x07y", *AFTER], "a.b.MyException: y"),
        (["KeyError: " + "x" * 5000, *AFTER], "KeyError: " + "x" * 990),
        (["WARNING [a.py:1] ImportError: y", "no Error: here", GENERIC, *AFTER], None),
        (AFTER, None),
        (["", *AFTER[:3], "KeyError: 'x'"], None),  # it is among the last
    ],
)
def test_what_a_step_said_begins_with_the_cause(lines: list[str], cause: str | None) -> None:
    said = trial._said("\n".join(lines))

    last = [line for line in lines if line][-12:]
    assert said == ([cause] if cause else []) + last


def test_the_steps_are_python_3_8() -> None:
    import ast

    files = sorted((ROOT / "vllm_guard/inside").rglob("*.py"))
    assert {"main.py", "harness.py", "parent.py"} <= {file.name for file in files}
    for file in files:
        ast.parse(file.read_text(), feature_version=(3, 8))


def test_a_step_does_not_see_its_own_folder_or_the_current_one(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('from the current folder')")

    ran = guard(
        "doctor", "--json", "--only", "torch", "--", sys.executable, "-c", "pass",
        env=guard_env(), cwd=tmp_path,
    )  # fmt: skip

    (found,) = json.loads(ran.stdout)["findings"]
    assert "No module named 'torch'" in found["fact"]


def test_that_there_are_fewer_gpus_than_ranks_is_told_beside_what_works() -> None:
    fewer = {
        "who": "",
        "part": "gpus",
        "state": "note",
        "fact": "2 ranks here, 1 GPUs: tested with 1",
    }
    works = {"who": "rank 0", "part": "nccl", "state": "ok", "fact": ""}

    assert (
        collective._summary(Answer("exited", rows=(fewer, works)))
        == "nccl; 2 ranks here, 1 GPUs: tested with 1"
    )
