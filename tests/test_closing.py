"""The last words about a run that failed: on stderr, in the record, and where machines look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import GUARD, ROOT, guard, guard_env, start
from tests.kit.logs import corpus
from tests.kit.models import write_registry
from vllm_guard import closing
from vllm_guard.frozen import replace
from vllm_guard.model import Incident

LOG = next(log["text"] for log in corpus() if log["name"] == "kv-cache-too-small-0.11").lstrip()
ID = "kv-cache-too-small"
LINE = 1 + next(
    n for n, line in enumerate(LOG.splitlines()) if "is needed, which is larger" in line
)
WHY = "why: one sequence of 131072 tokens needs 16.00 GiB of KV cache, 7.35 GiB are free"

#: A folder of devices with a termination log stands for /dev, seen by what follows only.
IN_A_POD = """
dev=$1; shift
for name in null zero urandom tty; do touch "$dev/$name"; mount --bind /dev/$name "$dev/$name"; done
mkdir "$dev/shm"
mount --bind /dev/shm "$dev/shm"
mount --rbind "$dev" /dev
exec "$@"
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "written"
    path.write_text(LOG)
    return path


def said(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line.removeprefix("vllm-guard: ") for line in done.stderr.decode().splitlines()]


def written(log: Path, then: str) -> list[str]:
    """A command that writes that log, and ends so."""
    return ["sh", "-c", f"cat {log}; {then}"]


@pytest.mark.parametrize("options", [(), ("-q",), ("-p", "debug")])
def test_the_last_lines_say_what_failed_why_what_to_do_and_where_the_record_is(
    log: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    answer = tmp_path / "answer.json"
    done = guard(*options, "--json", answer, "--", *written(log, "exit 3"))
    document = json.loads(answer.read_text())
    *_, what, why, fix, record = said(done)

    assert done.returncode == 3
    assert what.startswith("failed: EngineCore_DP0 pid=271: no room in the KV cache")
    assert what.endswith(f"({ID}, line {LINE} of the log)")
    assert (why, fix.partition(";")[0]) == (WHY, "fix: --max-model-len 60208")
    assert record == f"record: {os.path.dirname(document['log'])}"
    assert [incident["id"] for incident in document["incidents"]] == [ID]
    assert json.loads(Path(document["log"]).with_name("run.json").read_text()) == document


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "kill -ABRT $$"])
def test_an_end_that_nobody_asked_for_is_explained(log: Path, end: str) -> None:
    assert WHY in said(guard("--", *written(log, end)))


def test_what_ended_well_is_not(log: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    done = guard("--json", answer, "--", *written(log, "exit 0"))

    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(answer.read_text())["incidents"] == []


def test_what_was_ended_by_a_signal_to_the_guard_is_not(log: Path) -> None:
    child = start("--", *written(log, "exec sleep 60"))
    assert child.stdout is not None
    while not child.stdout.readline().startswith(b"(APIServer pid=1) RuntimeError"):
        pass
    child.terminate()
    _, errors = child.communicate(timeout=30)

    assert child.returncode == 143
    assert b"failed:" not in errors


def test_a_server_that_exits_0_by_itself_is_explained(log: Path, tmp_path: Path) -> None:
    package = tmp_path / "packages/vllm"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "envs.py").write_text("environment_variables = {}\n")
    write_registry(package, {"LlamaForCausalLM": "llama"})
    server = tmp_path / "vllm"
    server.write_text(f"#!{sys.executable}\nprint(open({str(log)!r}).read())\n")
    server.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = guard_env(PATH=path, PYTHONPATH=f"{package.parent}:{ROOT}")

    done = guard("--preflight", "off", "--", "vllm", "serve", str(tmp_path), env=env)

    assert done.returncode == 0
    assert WHY in said(done)
    assert f"({ID}, in phase profile, line {LINE} of the log)" in done.stderr.decode()
    ended = next(line for line in said(done) if line.startswith("warn server-ended"))
    assert "look for the first error" not in ended


def test_a_failure_without_an_error_in_the_log_has_no_closing_words() -> None:
    done = guard("--", "sh", "-c", "echo at work; exit 3")

    assert (done.returncode, done.stderr) == (3, b"")


def test_secrets_in_the_line_are_masked_everywhere(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    command = ["sh", "-c", "echo acme.OddError: $MY_PASSWORD; exit 1"]
    env = guard_env(MY_PASSWORD="hunter2-hunter2", GITHUB_ACTIONS="true")
    done = guard("--json", answer, "--", *command, env=env)

    assert "why: acme.OddError: [masked]" in said(done)
    assert b"hunter2" not in done.stderr + answer.read_bytes()


def test_in_github_actions_the_first_incident_is_an_annotation(log: Path) -> None:
    done = guard("--", *written(log, "exit 3"), env=guard_env(GITHUB_ACTIONS="true"))
    *_, last = done.stderr.decode().splitlines()

    assert last.startswith(f"::error title=vllm-guard {ID}::failed: EngineCore_DP0")
    assert f"%0A{WHY}%0Afix: " in last
    assert done.stdout.decode() == LOG


@pytest.mark.parametrize(
    ("before", "after"), [("", "failed: "), ("of the command\n", "of the command\nfailed: ")]
)
def test_kubernetes_finds_them_in_the_termination_log(
    log: Path, tmp_path: Path, before: str, after: str
) -> None:
    left = in_a_pod(tmp_path, before, written(log, "exit 3"))

    assert left.startswith(after)
    assert f"\n{WHY}\nfix: " in left
    assert left.splitlines()[-1].startswith("record: /")


def test_the_termination_log_is_left_alone_by_what_ended_well_and_never_too_long(
    log: Path, tmp_path: Path
) -> None:
    full = "x" * 4090

    assert in_a_pod(tmp_path / "a", "", written(log, "exit 0")) == ""
    assert in_a_pod(tmp_path / "b", full, written(log, "exit 3")) == f"{full}failed"


def in_a_pod(folder: Path, before: str, command: list[str]) -> str:
    """What is in the termination log behind a run that has one."""
    dev = folder / "dev"
    dev.mkdir(parents=True)
    (dev / "termination-log").write_text(before)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", IN_A_POD, "sh", dev]
    done = subprocess.run(
        [*alone, *GUARD, "--", *command],
        env=guard_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr.decode()
    return (dev / "termination-log").read_text()


def test_the_words_of_an_incident_without_a_place() -> None:
    incident = Incident("a-b", "it was killed", "known", "", 0, (), "no memory", "more of it")

    assert closing.words(incident) == (
        "failed: it was killed (a-b)",
        "why: no memory",
        "fix: more of it",
    )
    assert closing.words(replace(incident, phase="load", line=7))[0] == (
        "failed: it was killed (a-b, in phase load, line 7 of the log)"
    )
