"""`vllm-guard doctor`: what is checked, each within its limit; text, JSON and the other formats, statuses."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import (
    GUARD,
    PATIENCE,
    ROOT,
    children,
    gone,
    guard,
    guard_env,
    is_alive,
    schema,
    wait_for,
)
from tests.test_terminal import screen
from vllm_guard import aside, checkup, formats, options, prepare, probes
from vllm_guard.checkup import Check, Checked
from vllm_guard.errors import GuardError
from vllm_guard.model import Finding

HOSTILE = "a|b\x1b[31m\u202e%0A::error::x\r\n]]>&<'\"\ud800\x00"


def doctor(*words: str, status: int = 0, **options: Any) -> str:
    ran = guard("doctor", *words, **options)
    assert (ran.returncode, ran.stderr) == (status, b"")
    return ran.stdout.decode()


def findings(*words: str, status: int = 0, **options: Any) -> list[dict[str, Any]]:
    document = json.loads(doctor("--json", *words, status=status, **options))
    assert schema.problems("doctor", document) == []
    return list(document["findings"])


def checked(*found: Finding, name: str = "port", seconds: float = 0.25) -> Checked:
    check = Check(name, "quick", "server", name, f"the {name}", "nothing", 5.0)
    return Checked(check, found, seconds)


def finding(status: Any, text: str = "x", **more: Any) -> Finding:
    return Finding("an-id", status, f"subject {text}", f"fact {text}", **more)


# ---- the command


def test_the_list_has_every_probe_with_tier_needs_and_limit() -> None:
    rows = json.loads(doctor("--list", "--json"))["checks"]

    assert {row["id"] for row in rows} == {"command", *probes.ids()}
    full = {row["id"] for row in rows if row["tier"] == "full"}
    assert full == {"collective", "compile", "inspect", "load", "platform", "torch"}
    assert all(row["title"] and row["needs"] for row in rows)
    assert all(row["limit_s"] > 0 for row in rows if row["id"] != "command")
    text = doctor("--list")
    assert all(re.search(rf"^{row['id']} +{row['tier']} ", text, re.MULTILINE) for row in rows)


def test_the_findings_of_a_command_are_those_of_its_launch(tmp_path: Path) -> None:
    vllm = fake_vllm(tmp_path)
    words = ("--", "vllm", "serve", "./no-such", "--port", "99999")

    found = findings(*words, status=1, env=vllm)
    launch = guard("-v", *words, env=vllm)

    assert launch.returncode == 78
    failed = {f["id"] for f in found if f["status"] == "fail"}
    assert failed == {"model-path", "port-invalid"}
    assert all(f"fail {name}: ".encode() in launch.stderr for name in failed)
    assert all(f["duration_ms"] >= 0 and f["check"] for f in found)


def test_without_a_command_the_rest_is_listed_as_not_checked() -> None:
    text = doctor(env=guard_env(PATH="/usr/bin:/bin"))
    whole = doctor("-v", env=guard_env(PATH="/usr/bin:/bin"))

    assert "checks (-v names them): needs a `vllm serve` command\n" in text
    for name in ("model", "port", "rendezvous"):
        assert re.search(
            rf"^not checked: .*\b{name}\b.*: needs a `vllm serve` command$", whole, re.MULTILINE
        )
    assert re.search(r"^\w+ +machine +[1-9]", text, re.MULTILINE)
    assert re.search(r"^\d+ checks in \d+ ms, \d+ not checked: ", text.splitlines()[-1])


def test_with_no_torch_no_vllm_no_gpu_and_no_network_it_works() -> None:
    alone = ["unshare", "--user", "--map-root-user", "--net", *GUARD]
    env = guard_env(PATH="/usr/bin:/bin")
    for words in ([], ["--help"], ["--list"], ["--full", "--", "python3", "-c", "pass"]):
        ran = subprocess.run(
            [*alone, "doctor", *words], env=env, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, ""), words
    assert (
        "not checked: collective, compile, torch: ModuleNotFoundError: No module named"
        in ran.stdout
    )


def test_a_command_that_is_not_there_fails() -> None:
    (found,) = findings("--only", "command", "--", "no-such-program", status=1)

    assert (found["id"], found["status"]) == ("command-not-found", "fail")


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_an_unknown_check_is_wrong_usage_with_the_nearest(option: str) -> None:
    ran = guard("doctor", option, "colective")

    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"no such check: colective" in ran.stderr
    assert b"did you mean collective?" in ran.stderr


def test_only_skip_and_ignore(tmp_path: Path) -> None:
    vllm = fake_vllm(tmp_path)
    words = ("--", "vllm", "serve", "./no-such", "--port", "99999")

    only = findings("--only", "port", *words, status=1, env=vllm)
    skipped = findings("--skip", "port", "--skip", "model", *words, env=vllm)
    ignored = findings("--only", "port", "--ignore", "port-invalid", *words, env=vllm)

    assert [f["id"] for f in only] == ["port-invalid"]
    assert not {"port", "model"} & {f["check"] for f in skipped}
    assert [(f["id"], f["status"]) for f in ignored] == [("port-invalid", "warn")]
    strict = ("--strict", "--only", "port", "--ignore", "port-invalid")
    doctor(*strict, *words, status=1, env=vllm)


def test_full_checks_that_do_not_apply_say_why() -> None:
    words = ("--full", "--only", "command", "--only", "load", "--only", "inspect")
    found = findings(*words, "--", "true")

    assert [f["status"] for f in found] == ["skip", "skip"]
    assert {f["fact"] for f in found} == {"no Python is known that could be asked"}


@pytest.mark.parametrize(
    ("form", "status"), [("text", 2), ("json", 2), ("nagios", 3), ("github", 2), ("junit", 2)]
)
def test_when_no_check_applies_that_is_said_and_is_no_success(form: str, status: int) -> None:
    ran = guard("doctor", "--only", "port", "--only", "load", "--format", form, "--", "true")

    told = ran.stdout if form == "nagios" else ran.stderr
    assert b"nothing was checked: port: needs a `vllm serve` command; load: no Python" in told
    assert ran.returncode == status
    assert b"all ok" not in ran.stdout


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU here")
def test_without_a_gpu_its_checks_are_not_made() -> None:
    found = findings("--only", "command", "--only", "gpu-health", "--only", "gpu-links")

    reasons = {f["check"]: (f["status"], f["fact"]) for f in found if f["check"] != "command"}
    none = ("skip", "no NVIDIA driver here (/dev/nvidiactl)")
    assert reasons == {"gpu-health": none, "gpu-links": none}


def test_secrets_and_controls_do_not_get_out() -> None:
    secret = "s3cr3t-without-a-shape"
    env = guard_env(VLLM_API_KEY=secret)

    text = doctor("-v", "--", f"no-{secret}\x1b[31m", status=1, env=env)

    assert secret not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("form", ["text", "json", "nagios", "github", "junit"])
def test_every_format_has_the_status_of_its_findings(form: str) -> None:
    failing = guard("doctor", "--format", form, "--only", "command", "--", "no-such-program")
    fine = guard("doctor", "--format", form, "--only", "command", "--", "true")

    assert failing.returncode == (2 if form == "nagios" else 1)
    assert fine.returncode == 0
    assert (failing.stderr, fine.stderr) == (b"", b"")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "nagios", "--only", "colective"], "--only: no such check: colective"),
        (["--ignore", "port-busi", "--format=nagios"], "--ignore: no finding has the id port-busi"),
        (["--format", "nagios", "--zz"], "No such option '--zz'."),
        (["--zz", "--format=nagios", "--", "true"], "No such option '--zz'."),
        (["--format", "nagios", "--only"], "Option '--only' requires an argument."),
    ],
)
def test_wrong_usage_is_unknown_to_nagios(words: list[str], told: str) -> None:
    ran = guard("doctor", *words)

    assert (ran.returncode, ran.stderr) == (3, b"")
    assert ran.stdout.decode() == f"VLLM-GUARD UNKNOWN - {told}\n"


def test_nagios_in_the_command_is_the_commands() -> None:
    ran = guard("doctor", "--zz", "--", "plugin", "--format", "nagios")

    assert (ran.returncode, ran.stdout) == (2, b"")


@pytest.mark.parametrize("words", [["run"], ["doctor"]])
def test_an_id_that_no_finding_has_is_not_ignored(words: list[str]) -> None:
    wrong = guard(*words, "--ignore", "model-pathh", "--", "true")
    right = guard(*words, "--ignore", "model-path", "--ignore", "collective-gloo", "--", "true")

    assert (wrong.returncode, wrong.stdout, right.returncode) == (2, b"", 0)
    assert b"--ignore: no finding has the id model-pathh" in wrong.stderr
    assert b"did you mean model-path?" in wrong.stderr


def test_on_a_terminal_the_areas_come_first_in_colour() -> None:
    with screen(*GUARD, "doctor", "--only", "command", "--", "no-such-program") as shown:
        shown.until("AREA")
        shown.until("\x1b[31mfail\x1b[0m command-not-found")
        shown.until("1 fail")

        assert shown.ended() == 1


def test_on_a_terminal_the_time_goes_by_while_a_full_check_runs(torch_that) -> None:
    env, words = torch_that("import time; time.sleep(1.5)")

    path = env["PYTHONPATH"]
    with screen(*GUARD, "doctor", "--only", "torch", *words, PYTHONPATH=path) as shown:
        shown.until("\r\x1b[Kvllm-guard: torch (at most 120 s): 0 s")
        shown.until("\r\x1b[Kvllm-guard: torch (at most 120 s): 1 s")
        shown.until("\r\x1b[K")
        shown.until("AREA")
        shown.ended()


# ---- limits


def hang() -> None:
    while True:
        time.sleep(1)


def test_what_hangs_is_ended_at_its_limit_and_the_next_goes_on() -> None:
    start = time.monotonic()

    late, next_one = aside.in_turn([hang, lambda: "next"], [0.2, 30])

    assert time.monotonic() - start < 5
    assert (type(late), str(late)) == (TimeoutError, "no answer within 0.2 s")
    assert next_one == "next"
    assert children(os.getpid()) == []


def test_what_dies_or_raises_says_so() -> None:
    jobs = [os.getpid, lambda: os.kill(os.getpid(), signal.SIGKILL), os.getpid, lambda: 1 // 0]

    first, killed, second, raised = aside.in_turn(jobs, [5] * 4)

    assert first not in (os.getpid(), second)
    assert isinstance(killed, ChildProcessError)
    assert "signal 9" in str(killed)
    assert isinstance(raised, ChildProcessError)
    assert "ZeroDivisionError" in str(raised)


def test_one_process_calls_all_as_long_as_none_is_lost() -> None:
    assert len(set(aside.in_turn([os.getpid] * 3, [5] * 3))) == 1


def test_what_is_left_when_nobody_asks_on_is_ended() -> None:
    answers = aside.in_turn([os.getpid, hang], [5, 5])
    pid = next(answers)
    answers.close()

    assert not is_alive(pid)
    assert children(os.getpid()) == []


def test_what_is_large_and_odd_comes_through() -> None:
    text = HOSTILE * 50_000

    assert list(aside.in_turn([lambda: [text]], [30])) == [[text]]


def test_a_probe_that_hangs_is_unknown_and_the_others_go_on(monkeypatch) -> None:
    monkeypatch.setattr(checkup, "_LIMIT", 0.3)
    real = probes.run_one
    monkeypatch.setattr(
        probes, "run_one", lambda f, n, c: hang() if n == "dead_runs" else real(f, n, c)
    )
    checks = checkup.select(("dead-runs", "network"), (), full=False)

    first, second = run_checks(checks, sys.executable, "-c", "pass")

    assert [(f.id, f.status) for f in first.findings] == [("probe-dead-runs", "unknown")]
    assert "no answer within 0.3 s" in first.findings[0].fact
    assert second.status == "ok"


def test_a_full_probe_that_breaks_is_unknown(monkeypatch) -> None:
    class Broken:
        def why_not(self, context: object) -> str:
            raise ZeroDivisionError

    monkeypatch.setattr(probes, "load_full", lambda _: Broken())
    (done,) = run_checks(checkup.select(("torch",), (), full=False), "true")

    assert [(f.id, f.status) for f in done.findings] == [("probe-torch", "unknown")]


def run_checks(checks: list[Check], *command: str) -> list[Checked]:
    prepared = prepare.prepare(options.finish_values({"command": command, "preflight": "off"}))
    return list(checkup.run(prepared, checks, lambda *_: pytest.fail("a launch"), lambda *_: None))


def test_unknown_ids_in_a_list_of_checks_raise() -> None:
    with pytest.raises(GuardError):
        checkup.select((), ("nothing-like-that-at-all",), full=True)


# ---- full probes in a plain Python


@pytest.fixture
def torch_that(tmp_path: Path):
    """An environment in which `import torch` does this, and words that name its Python."""

    def make(source: str) -> tuple[dict[str, str], list[str]]:
        (tmp_path / "torch.py").write_text(source)
        return guard_env(PYTHONPATH=f"{ROOT}:{tmp_path}"), ["--", sys.executable, "-c", "pass"]

    return make


def test_a_torch_that_crashes_is_named_with_its_last_words(torch_that) -> None:
    source = "import os, sys\nprint('the last words', flush=True)\nos.kill(os.getpid(), 11)\n"
    env, words = torch_that(source)

    (found,) = findings("--only", "torch", *words, status=1, env=env)

    assert (found["id"], found["status"]) == ("torch-crashed", "fail")
    assert "killed by signal 11 (it in import)" in found["fact"]
    assert "the last words" in found["evidence"]


def test_a_torch_that_is_broken_fails_and_one_that_is_missing_is_skipped(torch_that) -> None:
    env, words = torch_that("raise ImportError('libtorch_cuda.so: cannot open shared object')")

    (broken,) = findings("--only", "torch", *words, status=1, env=env)
    (missing,) = findings("--only", "command", "--only", "collective", *words)

    assert (broken["id"], broken["status"]) == ("torch-import", "fail")
    assert "cannot open shared object" in broken["fact"]
    assert (missing["status"], missing["id"]) == ("skip", "collective-import")
    assert "No module named 'torch'" in missing["fact"]


def test_a_step_that_hangs_is_ended_at_its_limit_with_its_stack(torch_that, monkeypatch) -> None:
    env, words = torch_that(
        "import time\ndef waits_for_ever():\n    time.sleep(600)\nwaits_for_ever()"
    )
    short = "from vllm_guard.probes.full import torch; torch.LIMIT = 1.0; "
    start = time.monotonic()

    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{short}from vllm_guard import cli; cli.main()",
            "doctor",
            "--json",
            "--only",
            "torch",
            *words,
        ],
        env=env,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )

    (found,) = json.loads(ran.stdout)["findings"]
    assert (ran.returncode, found["id"]) == (1, "torch-hangs")
    assert "it in import" in found["fact"]
    assert any("waits_for_ever" in line for line in found["evidence"])
    assert time.monotonic() - start < 20


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Short enough for the guard to make its own there: it holds sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder


#: A command with a small file system of its own.
ON_SMALL_DISK = 'mount -t tmpfs -o "$1" none "$2"; shift 2; exec "$@"'
FILLS_THE_DISK = """
import os, tempfile
with open(os.path.join(tempfile.gettempdir(), "fills"), "wb") as file:
    for _ in range(64):
        file.write(bytes(1 << 16))
        file.flush()
"""


@pytest.mark.parametrize(
    ("size", "source", "why"),
    [
        ("size=4k", "", "4 KiB; set TMPDIR to a folder with room"),
        ("nr_inodes=9", "", " inodes; set TMPDIR to another folder"),
        ("size=2m", FILLS_THE_DISK, "0 KiB; set TMPDIR to a folder with room"),
    ],
)
def test_a_full_disk_is_named(torch_that, short_folder, size: str, source: str, why: str) -> None:
    env, words = torch_that(source)
    small = short_folder
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", ON_SMALL_DISK]

    ran = subprocess.run(
        [*mounted, "sh", size, small, *GUARD, "doctor", "--json", "--only", "torch", *words],
        env={**env, "TMPDIR": small},
        capture_output=True,
        check=False,
    )

    assert ran.stderr == b""
    (found,) = [f for f in json.loads(ran.stdout)["findings"] if f["id"] == "torch-not-run"]
    assert found["status"] == "unknown"
    assert found["fact"].startswith(f"could not be run: no space left in {small}")
    assert found["fact"].endswith(why)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_doctor_that_is_ended_leaves_nothing(torch_that, number, tmp_path, clean_world) -> None:
    mark = tmp_path / "started"
    source = f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)"
    env, words = torch_that(source)
    process = subprocess.Popen(
        [*GUARD, "doctor", "--only", "torch", *words], env=env, stdout=subprocess.DEVNULL
    )
    wait_for(mark.exists, "the step runs")
    below = list(descendants(process.pid))

    process.send_signal(number)
    process.wait(PATIENCE)

    assert len(below) >= 3
    gone(below)
    wait_for(lambda: not list((clean_world / "tmp").glob("vg-*")), "its folder is removed")
    assert not list((clean_world / "home").glob(".local/state/vllm-guard/active/*"))


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(below for child in found for below in descendants(child))]


#: A module of vLLM that writes down what everybody sees of the step, and says what it was told.
TELLS_ALL = """
import contextlib, glob, os, sys
lines = []
for path in glob.glob("/proc/[0-9]*/cmdline"):
    with contextlib.suppress(OSError):
        lines.append(open(path).read())
order = open(sys.argv[1]).read()
open(os.environ["SEEN"], "w").write(repr((oct(os.stat(sys.argv[1]).st_mode), order, lines)))
raise ImportError(order)
"""


def test_the_secrets_of_a_config_file_are_neither_in_the_list_of_processes_nor_said(
    tmp_path: Path,
) -> None:
    secret = "s3cr3t-without-a-shape"
    (tmp_path / "o.yaml").write_text(f"api-key: {secret}\n")
    env = {**fake_vllm(tmp_path), "SEEN": str(tmp_path / "seen")}
    (tmp_path / "packages/vllm/entrypoints/cli").mkdir(parents=True)
    (tmp_path / "packages/vllm/entrypoints/cli/serve.py").write_text(TELLS_ALL)
    words = ("vllm", "serve", "m", "--config", f"{tmp_path}/o.yaml")

    text = doctor("-v", "--only", "inspect", "--", *words, status=1, env=env)

    mode, order, lines = ast.literal_eval((tmp_path / "seen").read_text())
    assert mode == "0o100600"
    assert order.count(secret) == 1
    assert "fail inspect-import" in text
    assert any(line.startswith(f"{sys.executable}\0") for line in lines)
    assert secret not in text + "".join(lines)


def test_full_probes_leave_no_record(torch_that, clean_world) -> None:
    env, words = torch_that("raise ImportError('x')")

    findings("--only", "torch", *words, status=1, env=env)

    assert not list((clean_world / "home").glob(".local/state/vllm-guard/*/*"))


def test_preflight_full_refuses_a_launch(torch_that) -> None:
    env, words = torch_that("raise ImportError('libtorch_cuda.so: cannot open')")

    ran = guard("--preflight", "full", *words, env=env)
    asked = guard("--preflight", "off", *words, env=env)

    assert (ran.returncode, asked.returncode) == (78, 0)
    assert b"fail torch-import: torch: ImportError: libtorch_cuda.so" in ran.stderr
    assert b"\r" not in ran.stderr


def test_what_went_well_is_not_repeated_at_the_next_launch(torch_that, tmp_path) -> None:
    count = tmp_path / "count"
    works = f"""
import sys, types
open({str(count)!r}, "a").write("x")
class Ones:
    def __matmul__(self, other): return self
    def sum(self): return self
    def item(self): return 64.0 ** 3
__version__ = "9.9"
version = types.SimpleNamespace(cuda=None)
cuda = types.SimpleNamespace(is_available=lambda: False)
ones = lambda *_, **__: Ones()
"""
    env, words = torch_that(works)
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[preflight]\nprobes = ["torch"]\n')

    def launch(**more: str) -> bytes:
        ran = guard("-v", "-p", str(profile), *words, env={**env, **more})
        assert (ran.returncode, ran.stderr.count(b"ok torch-works: ")) == (0, 1)
        return ran.stderr

    assert b"not repeated" not in launch()
    assert b"not repeated: driver, GPUs, torch, vLLM and command are as they were" in launch()
    assert count.read_text() == "x"
    assert b"not repeated" not in launch(NCCL_P2P_DISABLE="1")
    assert count.read_text() == "xx"
    findings("--only", "torch", *words, env=env)
    assert count.read_text() == "xxx", "the doctor looks anew"
    (tmp_path / "torch.py").write_text("raise ImportError('x')")
    for _ in range(2):
        ran = guard("-p", str(profile), *words, env={**env, "NCCL_DEBUG": "WARN"})
        assert ran.returncode == 78, "what failed is not kept"


def test_a_profile_that_asks_for_a_full_probe_gets_it(torch_that, tmp_path) -> None:
    env, words = torch_that("raise ImportError('x')")
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[preflight]\nprobes = ["torch"]\n')

    ran = guard("-p", str(profile), *words, env=env)

    assert ran.returncode == 78
    assert b"fail torch-import" in ran.stderr


# ---- formats


@pytest.mark.parametrize(
    ("statuses", "code", "word"),
    [
        (["ok"], 0, "OK"),
        (["note", "skip"], 0, "OK"),
        (["ok", "warn"], 1, "WARNING"),
        (["warn", "fail"], 2, "CRITICAL"),
        (["unknown", "warn"], 1, "WARNING"),
        (["unknown"], 3, "UNKNOWN"),
        ([], 0, "OK"),
    ],
)
def test_nagios_statuses(statuses: list[Any], code: int, word: str) -> None:
    line, status = formats.nagios([checked(*map(finding, statuses))])

    assert status == code
    assert line.startswith(f"VLLM-GUARD {word} - ")


def test_nagios_is_one_line_with_one_bar() -> None:
    line, _ = formats.nagios([checked(finding("fail", HOSTILE), finding("warn")), checked()])

    text, _, numbers = line.partition(" | ")
    assert line.isprintable()
    assert "|" not in text
    assert numbers == "fail=1;;;0 warn=1;;;0 unknown=0;;;0 time=0.500s;;;0"


def test_github_annotations_cannot_be_forged() -> None:
    rows = list(formats.github([checked(finding("fail", HOSTILE), finding("ok"), finding("note"))]))

    assert len(rows) == 2
    assert rows[0].startswith("::error title=vllm-guard an-id::an-id: subject a|b")
    assert rows[1].startswith("::notice ")
    assert "%250A" in rows[0]
    assert all(row.isprintable() for row in rows)


def test_junit_is_valid_xml_whatever_is_in_it() -> None:
    hostile = finding("fail", HOSTILE, evidence=(HOSTILE,))
    item = checked(hostile, finding("skip"), finding("unknown"), finding("ok"))

    suite = ET.fromstring("\n".join([*formats.junit([item, checked()])]).encode())[0]

    counts = [suite.get(name) for name in ("tests", "failures", "skipped", "errors")]
    assert counts == ["5", "1", "2", "0"]
    assert len(suite.findall("testcase/failure")) == 1
    assert len(suite.findall("testcase/skipped")) == 2
    assert suite[0].get("name").startswith("an-id: subject a|b\\x1b")


# ---- kit


def fake_vllm(folder: Path) -> dict[str, str]:
    """An environment in which `vllm` is a command, with a vLLM 0.20.0."""
    packages = folder / "packages"
    (packages / "vllm").mkdir(parents=True)
    (packages / "vllm/__init__.py").touch()
    (packages / "vllm/envs.py").write_text("environment_variables = {}\n")
    (packages / "vllm-0.20.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.20.0\n"
    (packages / "vllm-0.20.0.dist-info/METADATA").write_text(metadata)
    program = folder / "bin/vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return guard_env(PATH=path, PYTHONPATH=f"{ROOT}:{packages}")
