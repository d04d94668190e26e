"""`vllm-guard explain`: any log, however it is packed and prefixed; runs, signatures and findings."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.kit import GUARD, ROOT, guard, guard_env
from tests.kit.logs import ROUTINE, corpus, known
from tests.kit.schema import problems
from vllm_guard import finding_ids
from vllm_guard.commands import explain
from vllm_guard.model import Incident

LOG = next(log["text"] for log in corpus() if log["name"] == "kv-cache-too-small-0.11").lstrip()
ID = "kv-cache-too-small"
LINE = 1 + next(
    n for n, line in enumerate(LOG.splitlines()) if "is needed, which is larger" in line
)
STAMP = "2026-11-12T12:12:12.123456789Z"


def prefixed(prefix: str) -> str:
    return "".join(prefix + line for line in LOG.splitlines(keepends=True))


def docker_json(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(
        json.dumps({"log": line, "stream": "stdout", "time": STAMP}, separators=(",", ":")) + "\n"
        for line in lines
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text(LOG)
    return path


def test_a_log_is_explained_with_cause_fix_and_the_lines_that_say_so(log: Path) -> None:
    done = guard("explain", log)
    what, why, fix, *rest = done.stdout.decode().splitlines()

    assert (done.returncode, done.stderr) == (1, b"")
    assert what.startswith("failed: EngineCore_DP0 pid=271: no room in the KV cache")
    assert what.endswith(f"({ID}, line {LINE} of the log)")
    assert (
        why == "why: one sequence of 131072 tokens needs 16.00 GiB of KV cache, 7.35 GiB are free"
    )
    assert fix.startswith("fix: --max-model-len 60208; ")
    assert "  |     raise ValueError(" in rest
    assert "next: vllm-guard doctor --only model-memory -- COMMAND" in rest


def test_the_json_answer_is_as_the_schema_says(log: Path) -> None:
    done = guard("explain", "--json", log)
    document = json.loads(done.stdout)

    assert problems("explain", document) == []
    assert done.returncode == 1
    assert [incident["id"] for incident in document["incidents"]] == [ID]
    lines = len(LOG.splitlines())
    assert document["log"] == {"name": str(log), "lines": lines, "failed_before": 0}


@pytest.mark.parametrize(
    "data",
    [
        LOG.encode(),
        gzip.compress(LOG.encode()),
        lzma.compress(LOG.encode()),
        bz2.compress(LOG.encode()),
        docker_json(LOG).encode(),
        gzip.compress(docker_json(LOG).encode()),
        LOG.replace("\n", "\r\n").encode(),
        prefixed("\x1b[36m").encode(),
        prefixed(f"{STAMP} stderr F ").encode(),
        prefixed(f"[pod/vllm-0/server] {STAMP} ").encode(),
        prefixed("vllm-server-1  | ").encode(),
        prefixed("Nov 12 12:12:12 node-1 vllm.service[12]: ").encode(),
        prefixed(" 3: ").encode(),
        prefixed("(ServeReplica:default:LLM pid=9, ip=192.0.2.1) ").encode(),
        b"\xff\x00\n" * 5 + LOG.encode(),
    ],
    ids=["plain", "gzip", "xz", "bzip2", "docker", "docker.gz", "crlf", "colour", "cri", "kubectl", "compose",
         "journald", "srun", "ray", "bytes"],
)  # fmt: skip
def test_the_same_log_through_other_hands_is_explained_alike(data: bytes) -> None:
    done = guard("explain", "--json", "-", input=data, stdin=None)
    (incident,) = json.loads(done.stdout)["incidents"]

    assert done.returncode == 1
    assert (incident["id"], incident["process"]) == (ID, "EngineCore_DP0 pid=271")
    assert "60208" in incident["fix"]


def test_a_log_without_a_failure_is_answered_so(tmp_path: Path) -> None:
    path = tmp_path / "fine.log"
    path.write_text("\n".join(ROUTINE) + "\n")
    done = guard("explain", path)

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"no failure found: {path}, {len(ROUTINE)} lines\n"


def test_an_error_that_is_not_known_is_shown_and_called_so() -> None:
    log = b'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nacme.OddError: 7\n'
    done = guard("explain", "-", input=log, stdin=None)
    what, why, *_ = done.stdout.decode().splitlines()

    assert done.returncode == 1
    assert what.endswith("(not recognised, line 3 of the log)")
    assert why == "why: acme.OddError: 7"


def test_nothing_in_a_log_drives_the_terminal_or_tells_a_secret() -> None:
    token = "hf_" + "a" * 20
    log = f"acme.OddError: \x9b31m \u202e {token} \x07 my-secret-password\n".encode()
    env = guard_env(MY_PASSWORD="my-secret-password")
    done = guard("explain", "-", input=log, stdin=None, env=env)

    assert "why: acme.OddError: \\x9b31m \\u202e [masked] \\x07 [masked]" in done.stdout.decode()
    assert token not in done.stdout.decode()


#: Sequences that would drive a terminal, and characters that change how others are read.
ESCAPES = (
    *(b"\x1b[2J", b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b]52;c;AAAA\x1b\\", b"\x1b[6n", b"\x1bc"),
    *(b"\x1bP1\x1b\\", b"\x1b]8;;file:///etc\x1b\\", b"\x1b[?1049h", b"\x1b(0", b"\x1b#8"),
    *(b"\x9b31m", b"\x90q\x9c", b"\x1b", b"\x1b["),
    *(char.encode() for char in ("\u202e", "\u2066", "\u200b", "\ufeff", "\U000e0001")),
)


@pytest.mark.parametrize(
    "what", [bytes(range(256)), *ESCAPES, b"%0A::error::x", b"::stop-commands::x"]
)
def test_whatever_stands_in_the_line_comes_out_harmless(what: bytes) -> None:
    line = b"acme.OddError: " + what.replace(b"\n", b"").replace(b"\r", b"") + b" end\n"
    env = guard_env(GITHUB_ACTIONS="true")
    told = guard("explain", "-", input=line, stdin=None)
    run = guard(
        "--",
        sys.executable,
        "-c",
        f"print(end=''); import os; os.write(1, {line!r}); exit(1)",
        env=env,
    )
    text = told.stdout.decode() + run.stderr.decode()

    assert told.returncode == run.returncode == 1
    assert "why: acme.OddError: " in text
    assert all(line.isprintable() for line in text.split("\n")), text
    commands = [line for line in text.split("\n") if line.lstrip().startswith("::")]
    assert [command.partition("::failed: ")[0] for command in commands] == [
        "::error title=vllm-guard not recognised"
    ]


def test_of_several_runs_the_last_one_is_explained_and_the_others_are_counted() -> None:
    other = LOG.replace("is needed, which is larger", "is not what it was")
    several = guard("explain", "-", input=(other + LOG + LOG).encode(), stdin=None)
    document = guard("explain", "--json", "-", input=(other + LOG).encode(), stdin=None)

    assert f"({ID}, line {2 * len(LOG.splitlines()) + LINE} of the log)" in several.stdout.decode()
    assert several.stdout.decode().endswith("before: 2 earlier runs in this log failed as well\n")
    assert json.loads(document.stdout)["log"]["failed_before"] == 1


def test_other_causes_and_hints_are_named_and_the_fourth_is_counted() -> None:
    first = Incident(
        "a-b", "it broke", "known", "Worker", 7, ("x", "y"), "too much", "less", uri="https://x"
    )
    slow = Incident("c-d", "it is slow", "known", "Core", 3, ("z",), "no fast way", "a faster one")
    killed = Incident("e-f", "it was killed", "known", "", 0, (), "no memory", "more of it")

    assert list(explain._lines(first, slow, killed, slow, slow, slow)) == [
        click.style("failed: Worker: it broke (a-b, line 7 of the log)", fg="red"),
        "why: too much",
        "fix: less",
        "  | x",
        "  | y",
        "see: https://x",
        "also: c-d, Core, line 3",
        "also: e-f",
        "also: c-d, Core, line 3",
        "also: 2 more (--json has all)",
    ]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere.log", "nowhere.log: no such file, and no such id"),
        ("kv-cache-too-smal", f"did you mean {ID}?"),
        ("/", "/: Is a directory"),
        ("20261112", "no runs are recorded"),
    ],
)
def test_what_cannot_be_explained(what: str, message: str) -> None:
    done = guard("explain", what)

    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert done.stdout == b""


def test_a_packed_log_that_is_cut_off_tells_what_it_holds(tmp_path: Path) -> None:
    packed = gzip.compress(LOG.encode() + os.urandom(5000).hex().encode())
    path = tmp_path / "cut.gz"
    path.write_bytes(packed[:-100])
    done = guard("explain", path)
    path.write_bytes(packed[:50])
    nothing = guard("explain", path)

    assert done.returncode == 1
    assert ID in done.stdout.decode()
    assert "read in part" in done.stderr.decode()
    assert (nothing.returncode, nothing.stdout) == (2, b"")


def test_the_last_run_is_explained_by_its_log_and_its_outcome(log: Path) -> None:
    launched = guard("--", "sh", "-c", f"cat {log}; exit 3")
    by_default = guard("explain", "--json")
    document = json.loads(by_default.stdout)
    by_id = guard("explain", document["log"]["name"])

    assert launched.returncode == 3
    assert [incident["id"] for incident in document["incidents"]] == [ID]
    assert by_id.returncode == by_default.returncode == 1
    assert ID in by_id.stdout.decode()


def test_an_id_is_documented() -> None:
    signature = guard("explain", ID)
    document = guard("explain", "--json", ID)
    finding = guard("explain", "flag-file")

    assert signature.stdout.decode().startswith(f"{ID}: no room in the KV cache")
    assert "cause: one sequence of LENGTH tokens needs NEEDED GiB" in signature.stdout.decode()
    assert problems("explain", json.loads(document.stdout)) == []
    assert finding.stdout.decode().startswith(
        "flag-file (ok, warn, fail): the file of `--chat-template`"
    )
    assert {signature.returncode, document.returncode, finding.returncode} == {0}


def test_every_finding_and_every_signature_is_documented() -> None:
    text = (ROOT / "docs/checks.md").read_text()

    assert len(finding_ids.rows()) > 80
    assert all(f"`{name}`" in text for name in finding_ids.rows())
    assert known()


def test_a_long_wait_is_shown_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    """A fifo gives the log in two parts: the second comes when the progress has been seen."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    ours, theirs = pty.openpty()
    words = [*GUARD, "explain", str(fifo)]
    with subprocess.Popen(words, env=guard_env(), stdout=subprocess.PIPE, stderr=theirs) as child:
        os.close(theirs)
        with open(fifo, "wb", buffering=0) as file:
            seen = b""
            while b"MiB" not in seen:
                file.write(b"at work\n" * 1000)
                os.set_blocking(ours, False)
                try:
                    seen += os.read(ours, 4096)
                except BlockingIOError:
                    continue
            file.write(LOG.encode())
        out, _ = child.communicate()
    os.close(ours)

    assert b"reading" in seen
    assert ID.encode() in out


def test_reading_ends_with_ctrl_c_and_not_with_a_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    words = [sys.executable, "-m", "vllm_guard", "explain", str(fifo)]
    with (
        subprocess.Popen(
            words, env=guard_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child,
        open(fifo, "wb", buffering=0) as file,
    ):  # returns when it has been opened for reading
        file.write(b"at work\n")
        child.send_signal(2)
        _, errors = child.communicate()

    assert child.returncode == -2
    assert b"Traceback" not in errors


@pytest.mark.soak
def test_a_gigabyte_takes_no_more_memory_than_a_megabyte(tmp_path: Path) -> None:
    """Half of it lines like each other, half of it none like another; one failure in the middle."""
    alike = "".join(f"{line}\n" for line in ROUTINE).encode() * 400
    peaks = {}
    for mebibytes in (1, 1024):
        words = [*GUARD, "explain", "--json", "-"]
        child = subprocess.Popen(
            words, env=guard_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin as pipe:
            written = 0
            while written < mebibytes << 20:
                unlike = base64.b64encode(os.urandom(len(alike) * 3 // 4))
                for block in (
                    alike,
                    *(unlike[i : i + 150] + b"\n" for i in range(0, len(unlike), 150)),
                ):
                    written += pipe.write(block)
            pipe.write(LOG.encode())
            pipe.write(alike)
        document = json.loads(child.stdout.read())
        child.stdout.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peaks[mebibytes] = usage.ru_maxrss >> 10
        assert [incident["id"] for incident in document["incidents"]] == [ID]

    assert peaks[1024] < peaks[1] + 64, peaks
    assert peaks[1024] < 150, peaks


@pytest.mark.parametrize("content", [LOG.encode("utf-16"), bytes(range(256)) * 9], ids=repr)
def test_what_is_no_text_is_not_called_healthy(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)

    told = guard("explain", str(path))

    assert told.returncode == 2
    assert b"is no text: it holds zero bytes" in told.stderr


def test_a_run_that_failed_without_a_word_is_not_called_healthy() -> None:
    guard("--", "sh", "-c", "echo all is well; exit 3")

    told = guard("explain")

    assert told.returncode == 1
    assert b" exited 3 after " in told.stdout
    assert told.stdout.endswith(b"not explained: none of the 1 lines of its log tells why\n")
    assert guard("explain", "--json").returncode == 1


def test_a_run_that_ended_well_has_not_failed_whatever_it_said(log: Path) -> None:
    guard("--", "cat", log)
    told = guard("explain")

    assert told.returncode == 0
    assert told.stdout.startswith(b"no failure found: ")


def test_the_run_that_is_explained_is_named_and_a_log_that_is_gone_as_well(log: Path) -> None:
    guard("--", "sh", "-c", f"cat {log}; exit 3")
    told = guard("explain")
    run_id = json.loads(guard("explain", "--json").stdout)["log"]["name"]
    kept = json.loads(guard("runs", "show", "--json", run_id).stdout)["run"]["log"]
    os.unlink(kept)
    gone = guard("explain")

    assert told.stdout.startswith(f"run: {run_id}\nfailed: ".encode())
    assert f"its log is gone: {kept}".encode() in gone.stderr


def test_an_empty_log_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    told = guard("explain", path)

    assert (told.returncode, told.stdout) == (2, b"")
    assert f"{path}: is empty".encode() in told.stderr


def test_a_log_that_ends_before_the_server_is_ready_tells_where() -> None:
    start = LOG[: LOG.index("Loading weights took")]
    hangs = guard("explain", "-", input=start.encode(), stdin=None)
    ready = guard(
        "explain", "-", input=f"{start}\nApplication startup complete\n".encode(), stdin=None
    )

    assert hangs.returncode == ready.returncode == 0
    assert b"not ready: the log ends in phase load; " in hangs.stdout
    assert b"not ready" not in ready.stdout


def test_what_was_not_looked_at_is_told_where_nothing_was_found() -> None:
    told = guard("explain", "-", input=b"x" * 5000 + b"\n", stdin=None)

    assert told.stdout.endswith(b"not looked at: 904 bytes, in lines longer than 4096 bytes\n")


def test_stdin_that_nobody_asked_for_is_hinted_at() -> None:
    told = guard("explain", input=LOG.encode(), stdin=None)

    assert b"stdin is not read; for that: vllm-guard explain -" in told.stderr


def test_an_id_is_no_file_unless_a_slash_says_so(log: Path) -> None:
    for name in (ID, "flag-file"):
        log.with_name(name).write_text(LOG)
        plain = guard("explain", name, cwd=log.parent)
        file = guard("explain", f"./{name}", cwd=log.parent)

        assert (plain.returncode, file.returncode) == (0, 1)
        assert plain.stdout.startswith(name.encode())


def test_the_status_is_that_of_the_log_when_nobody_reads_the_answer(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    script = '"$@" explain log | true; exit "${PIPESTATUS[0]}"'
    command = ["bash", "-c", script, "bash", *GUARD]

    done = subprocess.run(command, cwd=tmp_path, env=guard_env(), capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (1, b"")
