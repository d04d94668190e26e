"""The quick probes: real sockets, folders, mounts and interpreters; only certainty blocks a launch."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import GUARD, NO_HUB, ROOT, guard, guard_env
from tests.kit.hub import serving
from tests.kit.models import cached_model, write_model, write_registry
from vllm_guard import environment, probes, profiles, record
from vllm_guard.model import Finding, Part
from vllm_guard.target import Target, find_target
from vllm_guard.target.install import VllmInstall

#: What the host that runs the tests may be found to lack.
OF_THE_HOST = {
    *("nofile", "cgroup-pids", "cgroup-memory", "host-memory", "shm-size", "shm-stale"),
    *("disk-space", "c-compiler", "python-headers", "ptrace-scope", "gpu-memory", "gpu-xid"),
    *("gpu-ecc", "gpu-slowed", "gpu-mig", "gpu-compute-mode", "torch-build", "packages"),
}
EVERY_INTERFACE = ",".join(name for _, name in socket.if_nameindex())


@pytest.fixture
def fake_vllm(tmp_path) -> Path:
    """A folder with a `vllm` command and package, as an install lays them out; it serves nothing."""
    packages = tmp_path / "venv/lib/vllm-packages"
    (packages / "vllm/engine").mkdir(parents=True)
    (packages / "vllm/__init__.py").touch()
    (packages / "vllm/envs.py").write_text(
        "import os\nenvironment_variables = {\n"
        '    "VLLM_LOGGING_LEVEL": lambda: os.getenv("VLLM_LOGGING_LEVEL", "INFO"),\n}\n'
    )
    (packages / "vllm/engine/arg_utils.py").write_text(
        "class EngineArgs:\n    enforce_eager: bool = False\n"
        'parser.add_argument("--enforce-eager")\n'
    )
    write_registry(packages / "vllm", {"LlamaForCausalLM": "llama"})
    info = packages / "vllm-0.20.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.20.0\n")
    program = tmp_path / "venv/bin/vllm"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nprint('served')\n")
    program.chmod(0o755)
    return tmp_path / "venv"


SCRIPT, SERVE = ("python", "s.py"), ("vllm", "serve", "m")


@pytest.mark.parametrize(
    ("argv", "kind", "has_vllm", "folders"),
    [
        (("true",), None, False, "command"),
        (("vllm",), None, False, "command machine"),
        (("vllm",), "vllm-cli", True, "command python vllm machine"),
        (("python",), "script", False, "command python machine"),
        (SCRIPT, "script", False, "command python"),
        (SCRIPT, "script", True, "command python vllm machine"),
        (("vllm", "bench", "x"), "vllm-cli", True, "command python vllm"),
        (SERVE, "vllm-cli", True, "command python vllm machine server"),
        ((*SERVE, "--help"), "vllm-cli", True, "command python vllm"),
        (SERVE, "vllm-cli", False, "command python machine server"),
    ],
)
def test_which_folders_of_probes_apply(argv, kind, has_vllm, folders) -> None:
    vllm = VllmInstall("0.32.0", "/none/vllm") if has_vllm else None
    subcommand = "serve" if argv[1:2] == ("serve",) else ""
    target = Target(sys.executable, kind, subcommand, 2, vllm=vllm) if kind else None
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf({}))

    assert " ".join(context.folders) == folders


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(folder)
    return folder


@pytest.fixture
def serve(fake_vllm, model):
    """Run `vllm-guard -v -- vllm serve ...`; returns status and findings (id -> line)."""

    def serve(*words: str, guard_words: tuple[str, ...] = (), **env: str | None):
        extra = {
            "PATH": f"{fake_vllm}/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{guard_env()['PYTHONPATH']}:{fake_vllm}/lib/vllm-packages",
            **env,
        }
        words = words or (str(model), "--port", str(free_port()))
        result = guard("-v", *guard_words, "--", "vllm", "serve", *words, env=guard_env(**extra))
        said = result.stderr.decode().replace("vllm-guard: ", "").splitlines()
        statuses = ("ok", "note", "warn", "fail", "skip", "unknown")
        lines = [line for line in said if line.partition(" ")[0] in statuses]
        return result.returncode, {line.split()[1].rstrip(":"): line for line in lines}

    return serve


def free_port() -> int:
    with listening("127.0.0.1") as port:
        return port


@contextmanager
def listening(host: str, reuse: bool = False) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        if reuse:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((host, 0))
        server.listen()
        yield server.getsockname()[1]


def run_one(folder: str, name: str, **given: Any) -> list[Finding]:
    """The findings of one probe; one that breaks is none of them."""
    env = given.pop("env", {})
    argv = given.pop("argv", ("vllm", "serve"))
    kind = given.pop("kind", "vllm-cli")
    file = str(given.pop("file", ""))
    target = Target(sys.executable, kind, "serve" if kind == "vllm-cli" else "", 2, file=file)
    context = probes.Context(argv, env, env, target, (), (), record.Shelf(os.environ), **given)
    return list(probes.load(folder, name).check(context))


# ---- all of them


def test_a_server_that_can_start_is_started_and_everything_is_ok(serve) -> None:
    status, found = serve()

    assert status == 0
    told = {id_ for id_, line in found.items() if not line.startswith(("ok ", "skip "))}
    assert told - OF_THE_HOST == {"server-ended"}
    assert {"vllm-found", "model-path", "port-free"} <= set(found)


def test_without_preflight_nothing_is_checked(serve, tmp_path) -> None:
    status, found = serve(str(tmp_path / "nowhere"), guard_words=("--preflight", "off"))

    assert (status, set(found)) == (0, {"server-ended"})


BROKEN = {
    "at_work": (
        'from vllm_guard.model import Finding\nTITLE = "what it looks at"\n'
        'def check(_):\n    yield Finding("first", "note", "s", "f")\n    1 / 0\n'
    ),
    "at_import": "import no_such_module\n",
    "no_probe": "",
}


def test_a_probe_that_breaks_is_a_finding_and_stops_nothing(tmp_path) -> None:
    package = tmp_path / "vllm_guard"
    shutil.copytree(Path(probes.__file__).parent.parent, package)
    for name, text in BROKEN.items():
        (package / "probes/command" / f"{name}.py").write_text(text)
    shutil.copytree(ROOT / "profiles", package / "_profiles")

    result = guard("-v", "--", "echo", "started", cwd=tmp_path, env=guard_env(PYTHONPATH=None))

    assert (result.returncode, result.stdout) == (0, b"started\n")
    said = result.stderr.decode()
    assert "note first: s: f\n" in said
    assert "unknown probe-at-work: what it looks at: could not look: ZeroDivisionError: " in said
    assert "unknown probe-at-import: at_import: could not look: ModuleNotFoundError: " in said
    assert "unknown probe-no-probe: no_probe: could not look: AttributeError: " in said


def test_a_probe_that_a_profile_asks_for_and_nobody_has_is_said_once() -> None:
    part = Part("", (), (), ("shared-memory", "share-memory", "xyz"))
    parts = [("profile p", part), ("profile p", part)]
    context = probes.Context(("true",), {}, {}, None, (), parts, record.Shelf(os.environ))

    first, second = [f for f in probes.run_all(context) if f.id == "probe-unknown"]

    assert (first.status, first.subject) == ("warn", "profile p")
    assert "probe share-memory" in first.fact
    assert first.fix == "did you mean shared-memory?"
    assert "probe xyz" in second.fact
    assert "dead-runs" in second.fix


def test_an_unknown_probe_of_a_profile_warns_and_starts_all_the_same(tmp_path) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text('schema = 1\nsummary = "s"\n[preflight]\nprobes = ["colective"]\n')

    result = guard("-p", str(profile), "--", "echo", "started")

    assert (result.returncode, result.stdout) == (0, b"started\n")
    assert b"warn probe-unknown: profile p: asks for the probe colective, " in result.stderr


def test_no_built_in_profile_asks_for_an_unknown_probe() -> None:
    for row in profiles.list_profiles(os.environ):
        for part in profiles.load_found(row, os.environ).parts:
            assert set(part.probes) <= probes.ids()


def test_all_quick_probes_together_take_less_than_a_second(fake_vllm, model) -> None:
    env = environment.view(environment.inherited())
    env |= {"PATH": f"{fake_vllm}/bin:{env['PATH']}", "NCCL_SOCKET_IFNAME": "lo"}
    argv = ("vllm", "serve", str(model))
    target = find_target(argv, env)
    context = probes.Context(argv, env, env, target, (), (), record.Shelf(os.environ))

    def seconds() -> float:
        start = time.monotonic()
        assert probes.run_all(context)
        return time.monotonic() - start

    assert min(seconds() for _ in range(3)) < 1.0


WORDS = st.sampled_from(
    [
        *(
            "--port",
            "--host",
            "--uds",
            "--model",
            "--config",
            "--headless",
            "--port=",
            "--host=",
            "--",
        ),
        *(
            "--model=",
            "--api-server-count",
            "-",
            "",
            "~",
            "~nobody/x",
            "/",
            ".",
            "..",
            "a/b/c",
            "x:y:z",
        ),
        *(
            "0",
            "00",
            "-0",
            "1e3",
            "0x10",
            "9" * 5000,
            "::",
            ":::",
            "[::]",
            "::1%lo",
            "127.1",
            "a" * 5000,
        ),
        *(
            "a/b.gguf",
            "$HOME",
            "://",
            "\udcff",
            "☃.example",
            "a..b",
            "65536",
            "lo,",
            "^",
            "=",
            "^=",
            ",,",
        ),
    ]
)
VARIABLES = st.sampled_from(
    [
        *("VLLM_HOST_IP", "VLLM_LOOPBACK_IP", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HOME"),
    ]
)


@given(st.lists(WORDS, max_size=6), st.dictionaries(VARIABLES, WORDS))
def test_no_words_and_no_environment_break_a_probe(words: list[str], env: dict[str, str]) -> None:
    here = {"HF_ENDPOINT": NO_HUB, **env}
    for folder in ("server", "python"):
        for name in set(probes.names(folder)) - {"vllm_install"}:
            for finding in run_one(folder, name, argv=("vllm", "serve", *words), env=here):
                assert finding.fact
                assert finding.fix or finding.status in ("ok", "note", "skip", "unknown")


# ---- port


def test_a_busy_port_refuses_and_ignore_starts_all_the_same(serve, model) -> None:
    with listening("0.0.0.0") as port:
        words = (str(model), "--port", str(port))
        refused, found = serve(*words)
        ignored, demoted = serve(*words, guard_words=("--ignore", "port-busy"))

    assert refused == 78
    assert found["port-busy"].startswith(f"fail port-busy: *:{port}: ")
    assert ignored == 0
    assert demoted["port-busy"].startswith("warn ")


def test_a_port_that_another_server_shares_is_a_warning(serve, model) -> None:
    with listening("0.0.0.0", reuse=True) as port:
        status, found = serve(str(model), f"--port={port}")

    assert status == 0
    assert found["port-shared"].startswith("warn ")


@pytest.mark.parametrize(
    ("words", "id_", "status"),
    [
        (["--port", "0"], "port-free", "ok"),
        (["--port", "http"], "port-invalid", "fail"),
        (["--port", "70000"], "port-invalid", "fail"),
        (["--port=-1"], "port-invalid", "fail"),
        (["--port="], "port-invalid", "fail"),
        (["--port", "²"], "port-invalid", "fail"),
        (["--port", "+0_0"], "port-free", "ok"),
        (["--host", "203.0.113.7"], "host-not-here", "fail"),
        (["--host", "::1", "--port", "0"], "port-free", "ok"),
        (["--host", "localhost", "--port", "0"], "port-free", "ok"),
        (["--host", "::", "--port", "0"], "port-free", "ok"),
        (["--host", "2001:db8::7", "--port", "0"], "host-not-here", "fail"),
        (["--host", "gpu-7.example", "--port", "0"], "port-unknown", "unknown"),
        (["--host", "x" * 300, "--port", "0"], "port-unknown", "unknown"),
        (["--config", "c.yaml", "--port", "0"], "port-free", "ok"),
        (["--config", "c.yaml", "--port", "x"], "port-invalid", "fail"),
        (["--config", "c.yaml", "--port", "0", "--host", "203.0.113.7"], "host-not-here", "warn"),
    ],
)
def test_addresses_are_tried_as_vllm_will(words, id_, status) -> None:
    (finding,) = run_one("server", "port", argv=("vllm", "serve", *words))

    assert (finding.id, finding.status) == (id_, status)


@pytest.mark.parametrize("host", ["::", "::1", "127.0.0.1"])
def test_a_busy_port_is_found_in_both_families(host: str) -> None:
    with listening(host) as port:
        words = ("vllm", "serve", "--host", host, "--port", str(port))
        (finding,) = run_one("server", "port", argv=words)

    assert (finding.id, finding.status) == ("port-busy", "fail")
    assert f":{port}`" in finding.fix


def test_a_port_that_may_be_anothers_by_the_config_file_only_warns() -> None:
    with listening("0.0.0.0") as port:
        words = ("vllm", "serve", "--port", str(port), "--config", "c.yaml")
        (finding,) = run_one("server", "port", argv=words)

    assert (finding.id, finding.status) == ("port-busy", "warn")
    assert "c.yaml may name another host or a Unix socket" in finding.fact


@pytest.mark.parametrize(
    "words",
    [
        ["--uds", "/tmp/x"],
        ["--uds=/tmp/x"],
        ["--headless"],
        ["--api-server-count", "0"],
        ["--api_server_count=0"],
    ],
)
def test_a_server_without_a_port_of_its_own_needs_none(words: list[str]) -> None:
    with listening("0.0.0.0") as port:
        argv = ("vllm", "serve", "--port", str(port), *words)
        assert run_one("server", "port", argv=argv) == []


def test_a_privileged_port_refuses_whoever_may_not_use_it(model, fake_vllm) -> None:
    capability = ["--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]
    drop = ["setpriv", *capability] if os.geteuid() == 0 else []
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every user may use every port here")
    words = ["--", "vllm", "serve", str(model), "--port", "81"]

    result = subprocess.run(
        [*drop, *GUARD, *words],
        env=guard_env(PATH=f"{fake_vllm}/bin:{os.environ['PATH']}"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode == 78
    assert b"fail port-privileged: *:81: " in result.stderr


# ---- model


def test_a_missing_model_folder_refuses(serve, tmp_path) -> None:
    missing = tmp_path / "nowhere"
    status, found = serve(str(missing), "--port", str(free_port()))

    assert status == 78
    assert found["model-path"] == f"fail model-path: {missing}: no such folder"


def test_a_folder_without_config_refuses(serve, model) -> None:
    (model / "config.json").unlink()
    status, found = serve(str(model), "--port", str(free_port()))

    assert status == 78
    assert "config.json" in found["model-config"]


def test_a_name_is_looked_up_in_the_cache(serve, tmp_path) -> None:
    words = ("org/name", "--port", str(free_port()))
    cache = tmp_path / "hub"
    here = {"HF_HUB_CACHE": str(cache)}

    online, missing = serve(*words, **here)
    offline, certain = serve(*words, HF_HUB_OFFLINE="1", **here)
    cached_model(cache, "org/name")
    cached, there = serve(*words, HF_HUB_OFFLINE="1", **here)

    assert (online, offline, cached) == (0, 78, 0)
    assert missing["model-not-cached"].startswith("note ")
    assert certain["model-not-cached"].startswith("fail ")
    assert there["model-cached"].startswith("ok ")


def test_what_the_hub_refuses_is_refused_before_the_start_and_a_silent_hub_refuses_nothing(
    serve,
) -> None:
    words = ("org/name", "--port", str(free_port()))
    answers = {"/api/models/org/name/revision/main": {"status": 401, "code": "RepoNotFound"}}

    with serving(answers) as hub:
        refused, found = serve(*words, HF_ENDPOINT=hub.url)
    silent, unknown = serve(*words)

    assert (refused, silent) == (78, 0)
    assert found["hub-model"].startswith("fail ")
    assert unknown["hub-answers"].startswith("unknown ")


def test_a_link_to_itself_among_the_weights_breaks_nothing(model) -> None:
    (model / "loop.safetensors").symlink_to("loop.safetensors")
    findings = run_one("server", "model", argv=("vllm", "serve", str(model)))

    assert [(one.id, one.status) for one in findings] == [("model-path", "ok")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["s3://bucket/x"], []),
        (["--model", "/no/such"], ["model-path"]),
        (["--model=/no/such"], ["model-path"]),
        (["/no/such", "--model-tag", "/no/such"], ["model-path"]),
        (["/no/such", "--model", "s3://bucket/x"], ["model-path"]),
        (["s3://bucket/x", "--model", "/no/such"], ["model-path"]),
        (["--model=/no/such folder"], ["model-path"]),
        (["--model="], []),
        ([""], []),
        (["--port", "1"], []),
        ([], []),
    ],
)
def test_the_model_is_read_from_the_words_or_left_to_vllm(words, expected) -> None:
    findings = run_one("server", "model", argv=("vllm", "serve", *words))

    assert [finding.id for finding in findings] == expected


def test_a_file_that_was_cut_off_refuses_and_dummy_weights_start_all_the_same(serve, model) -> None:
    os.truncate(model / "model.safetensors", 300)
    words = (str(model), "--port", str(free_port()))
    status, found = serve(*words)
    dummy, _ = serve(*words, "--load-format", "dummy")

    assert status == 78
    assert found["model-complete"].startswith("fail ")
    assert dummy == 0


def test_flags_of_a_profile_do_not_hide_the_model(serve) -> None:
    status, found = serve("/no/such", "--port", "0", guard_words=("-p", "eager"))

    assert status == 78
    assert "model-path" in found


def test_the_server_as_a_module_is_checked_like_vllm_serve(fake_vllm, model) -> None:
    module = fake_vllm / "lib/vllm-packages/vllm/entrypoints/openai"
    module.mkdir(parents=True)
    (module / "api_server.py").write_text("print('served')\n")
    env = guard_env(PYTHONPATH=f"{guard_env()['PYTHONPATH']}:{fake_vllm}/lib/vllm-packages")
    command = ("--", sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model")

    with listening("0.0.0.0") as port:
        busy = guard(*command, str(model), "--port", str(port), env=env)
    missing = guard(*command, "/no/such", "--port", "0", env=env)
    good = guard(*command, str(model), "--port", "0", env=env)

    assert (busy.returncode, missing.returncode, good.returncode) == (78, 78, 0)
    assert b"fail port-busy" in busy.stderr
    assert b"fail model-path" in missing.stderr
    assert good.stdout == b"served\n"


def test_the_module_of_the_server_has_no_model_by_position() -> None:
    found = run_one("server", "model", argv=("python", "-m", "/no/such"), kind="vllm-server")

    assert found == []


@pytest.mark.parametrize(
    "env", [{"VLLM_USE_MODELSCOPE": "True"}, {"VLLM_MODEL_REDIRECT_PATH": "/map.json"}]
)
def test_a_name_that_vllm_takes_from_elsewhere_is_not_judged(env: dict[str, str]) -> None:
    assert run_one("server", "model", argv=("vllm", "serve", "/no/such"), env=env) == []


def test_a_tilde_that_no_shell_expanded_refuses() -> None:
    (finding,) = run_one("server", "model", argv=("vllm", "serve", "--model=~/llama"))

    assert (finding.id, finding.status) == ("model-path", "fail")
    assert finding.fix == f"write {os.environ['HOME']}/llama"


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("org/model", "org/model"),
        ("gpt2", "gpt2"),
        ("org/model-GGUF:Q4_K_M", "org/model-GGUF"),
        ("org/model-GGUF/model-Q4_K_M.gguf", "org/model-GGUF"),
    ],
)
def test_the_repository_of_a_name_is_what_is_cached(name: str, repository: str, tmp_path) -> None:
    env = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "on"}

    (before,) = run_one("server", "model", argv=("vllm", "serve", name), env=env)
    cached_model(tmp_path / "hub", repository)
    (after,) = run_one("server", "model", argv=("vllm", "serve", name), env=env)

    assert (before.status, after.status) == ("fail", "ok")
    assert before.fix.startswith(f"hf download {repository} ")


@pytest.mark.parametrize(
    ("words", "status", "fact"),
    [
        ([], "ok", "revision main in"),
        (["--revision", "v2"], "ok", "revision v2 in"),
        (["--revision", "refs/pr/1"], "ok", "revision refs/pr/1 in"),
        (["--revision", "0123456789abcdef"], "ok", "commit 0123456789ab"),
        (["--revision", "v3"], "fail", "does not hold revision v3, only 1 other(s)"),
    ],
)
def test_the_revision_is_found_as_huggingface_hub_does(words, status, fact, tmp_path) -> None:
    cached_model(tmp_path / "hub", "org/x", commit="0123456789abcdef")
    refs = tmp_path / "hub/models--org--x/refs"
    (refs / "refs/pr").mkdir(parents=True)
    for name in ("v2", "refs/pr/1"):
        (refs / name).write_text("0123456789abcdef\n")
    env = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    (finding,) = run_one("server", "model", argv=("vllm", "serve", "org/x", *words), env=env)

    assert finding.status == status
    assert fact in finding.fact


@pytest.mark.parametrize(
    ("env", "status", "named"),
    [
        ({}, "note", ""),
        ({"HF_HUB_OFFLINE": "1"}, "fail", "HF_HUB_OFFLINE is set"),
        ({"HF_HUB_OFFLINE": "Yes"}, "fail", "HF_HUB_OFFLINE is set"),
        ({"HF_HUB_OFFLINE": "2"}, "note", ""),
        ({"TRANSFORMERS_OFFLINE": "1"}, "fail", "TRANSFORMERS_OFFLINE is set"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "1"}, "fail", "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, "note", ""),
    ],
)
def test_offline_is_what_huggingface_hub_calls_so(env, status: str, named: str, tmp_path) -> None:
    env = {**env, "HF_HOME": str(tmp_path)}

    (finding,) = run_one("server", "model", argv=("vllm", "serve", "org/x"), env=env)

    assert (finding.id, finding.status) == ("model-not-cached", status)
    assert named in finding.fact


@pytest.mark.parametrize("option", ["--download-dir", "--hf-config-path", "--config"])
def test_a_configuration_from_elsewhere_makes_nothing_certain(option: str, tmp_path) -> None:
    env = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for name, id_ in (("org/x", "model-not-cached"), (str(tmp_path), "model-config")):
        words = ("vllm", "serve", name, option, "x")

        (finding,) = run_one("server", "model", argv=words, env=env)

        assert (finding.id, finding.status) == (id_, "warn")


def test_a_path_that_is_no_name_either_is_a_warning(tmp_path) -> None:
    words = ("vllm", "serve", "models/org/x")

    (finding,) = run_one("server", "model", argv=words, env={"HF_HOME": str(tmp_path)})

    assert (finding.id, finding.status) == ("model-path", "warn")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/h", "HF_HOME": "~/hf"}, "/h/hf/hub"),
        ({"HOME": "/h", "HF_HOME": "$SCRATCH/hf", "SCRATCH": "/s"}, "/s/hf/hub"),
        ({"HOME": "/h", "HF_HUB_CACHE": "${SCRATCH}/c", "SCRATCH": "/s"}, "/s/c"),
        ({"HOME": "/h", "HF_HUB_CACHE": "/a/$NOT_SET"}, "/a/$NOT_SET"),
        ({"HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
    ],
)
def test_the_hub_cache_is_where_huggingface_hub_has_it(env, expected: str) -> None:
    from vllm_guard import hub

    assert hub.cache_dir(env) == expected


@pytest.mark.parametrize(
    ("name", "has_gguf", "status", "fact"),
    [
        ("model.gguf", True, "ok", "2.0 MiB"),
        ("model.gguf", False, "fail", "vLLM 0.20.0 reads no GGUF"),
        ("model.safetensors", True, "fail", "is a file"),
        ("config.json", True, "warn", "is a file"),
    ],
)
def test_a_single_file_is_a_model_only_in_gguf(
    fake_vllm, tmp_path, name: str, has_gguf: bool, status: str, fact: str
) -> None:
    file = tmp_path / name
    file.write_bytes(b"GGUF" * (1 << 19))
    package = fake_vllm / "lib/vllm-packages/vllm"
    if has_gguf:
        folder = package / "model_executor/layers/quantization"
        folder.mkdir(parents=True)
        (folder / "gguf.py").touch()
    install = VllmInstall("0.20.0", str(package))
    target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=install)
    argv = ("vllm", "serve", str(file))
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))

    (finding,) = probes.run_one("server", "model", context)

    assert (finding.id, finding.status, finding.fact) == ("model-path", status, fact)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (
            '{"a": 1,\n "b": 2,,}',
            "is no JSON: Expecting property name enclosed in double quotes, line 2 column 9",
        ),
        ("", "is no JSON: Expecting value, line 1 column 1"),
        ("\xff", "is no JSON"),
        ("[1]", "holds no object"),
    ],
)
def test_a_config_that_is_no_json_refuses_and_what_reads_it_says_so(
    fake_vllm, model, text: str, fact: str
) -> None:
    (model / "config.json").write_bytes(text.encode("latin-1"))
    install = VllmInstall("0.20.0", str(fake_vllm / "lib/vllm-packages/vllm"))
    target = Target(sys.executable, "vllm-cli", "serve", 2, vllm=install)
    argv = ("vllm", "serve", str(model))
    context = probes.Context(argv, {}, {}, target, (), (), record.Shelf(os.environ))
    found = {
        finding.id: finding
        for name in probes.names("server")
        if name.startswith("model")
        for finding in probes.run_one("server", name, context)
    }

    assert found["model-config"].status == "fail"
    assert fact in found["model-config"].fact
    read = ("complete", "dtype", "heads", "intermediate", "memory", "quantization", "supported")
    assert {found[f"model-{name}"].status for name in read} == {"skip"}


@pytest.mark.parametrize(
    ("word", "offline", "status", "fix"),
    [
        ("./modle", "1", "fail", "did you mean ./model?"),
        ("modle", "1", "fail", "did you mean ./model?"),
        ("modle", "0", "note", "did you mean ./model?"),
        ("./x/modle", "1", "fail", "check the path"),
        ("./weights", "1", "fail", "check the path"),
        ("./other", "1", "fail", "check the path"),
    ],
)
def test_a_misspelt_folder_is_told_with_the_one_beside_it(
    model, monkeypatch, word: str, offline: str, status: str, fix: str
) -> None:
    (model.parent / "othr").mkdir()  # no model
    monkeypatch.chdir(model.parent)
    env = {"HF_HUB_OFFLINE": offline, "HF_HOME": "/no/such"}
    (found,) = run_one("server", "model", argv=("vllm", "serve", word), env=env)

    assert found.status == status
    assert found.fix.startswith(fix)


# ---- shared memory


def test_a_small_dev_shm_is_a_warning_with_what_is_free(model, fake_vllm) -> None:
    script = 'mount -t tmpfs -o size=64m none /dev/shm && exec "$@"'
    words = ["--", "vllm", "serve", str(model), "--port", str(free_port())]
    tried = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace here: {tried.stderr.decode().strip()}")

    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *GUARD, *words],
        env=guard_env(PATH=f"{fake_vllm}/bin:{os.environ['PATH']}"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert result.returncode == 0
    assert b"warn shm-size: /dev/shm/: 64 MiB free" in result.stderr
    assert b"--shm-size" in result.stderr


# ---- network


@pytest.mark.parametrize(
    ("name", "value", "id_", "status"),
    [
        ("NCCL_SOCKET_IFNAME", "lo", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", "l", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", "=lo", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", "=l", "socket-ifname", "warn"),
        ("NCCL_SOCKET_IFNAME", "nosuch0,lo", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", "nosuch0", "socket-ifname", "warn"),
        ("NCCL_SOCKET_IFNAME", "^docker", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", "^=docker0", "socket-ifname", "ok"),
        ("NCCL_SOCKET_IFNAME", f"^{EVERY_INTERFACE}", "socket-ifname", "warn"),
        ("NCCL_SOCKET_IFNAME", "nosuch0,", "socket-ifname", "warn"),
        ("NCCL_OOB_NET_IFNAME", "lo", "socket-ifname", "ok"),
        ("GLOO_SOCKET_IFNAME", "lo", "socket-ifname", "ok"),
        ("GLOO_SOCKET_IFNAME", "l", "socket-ifname", "warn"),
        ("TP_SOCKET_IFNAME", "nosuch0", "socket-ifname", "warn"),
        ("VLLM_HOST_IP", "127.0.0.1", "host-ip", "ok"),
        ("VLLM_HOST_IP", "203.0.113.7", "host-ip", "warn"),
        ("VLLM_HOST_IP", "0.0.0.0", "host-ip", "warn"),
        ("VLLM_HOST_IP", "2001:db8::7", "host-ip", "warn"),
        ("VLLM_LOOPBACK_IP", "203.0.113.7", "host-ip", "warn"),
    ],
)
def test_names_of_the_network_are_held_against_this_host(name, value, id_, status) -> None:
    (finding,) = run_one("python", "network", env={name: value})

    assert (finding.id, finding.status, finding.subject) == (id_, status, f"{name}={value}")
    assert status == "ok" or (
        finding.fix and ("127.0.0.1" if "IP" in name else "lo") in finding.fact
    )


def test_an_address_may_be_written_in_many_ways(monkeypatch) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    for address in ("::1", "0:0:0:0:0:0:0:1"):
        (finding,) = run_one("python", "network", env={"VLLM_HOST_IP": address})
        assert (finding.status, finding.fact) == ("ok", "on lo")


def test_a_host_name_is_not_looked_up() -> None:
    (finding,) = run_one("python", "network", env={"VLLM_HOST_IP": "gpu-7.example"})

    assert (finding.id, finding.status) == ("host-ip", "unknown")


def test_psutil_gives_the_same_addresses_where_netifaces_is_missing() -> None:
    from vllm_guard.probes.python import network

    one, other = network.addresses_by_interface(), network._by_psutil()

    assert {"127.0.0.1"} <= set(one["lo"]) & set(other["lo"])
    assert {k: set(v) for k, v in one.items() if v} == {k: set(v) for k, v in other.items() if v}


# ---- vLLM and the profile's keys


def test_an_interpreter_without_vllm_is_a_warning(tmp_path) -> None:
    program = tmp_path / "vllm"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)

    result = guard("--", str(program), "serve", "org/x", "--port", str(free_port()))

    assert result.returncode == 0
    assert b"warn vllm-not-found: " in result.stderr
    assert b"pip install vllm" in result.stderr


@pytest.mark.parametrize(
    ("argv", "kind", "expected"),
    [
        (("python",), "script", ["warn vllm-not-found"]),
        (("vllm", "serve", "m"), "vllm-cli", ["warn vllm-not-found"]),
        (("python", "s.py"), "script", []),
    ],
)
def test_that_there_is_no_vllm_is_told_to_who_asks_for_nothing_else(argv, kind, expected) -> None:
    found = run_one("python", "vllm_install", argv=argv, kind=kind)

    assert [f"{one.status} {one.id}" for one in found] == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nfrom vllm import LLM\n", ["warn"]),
        ("import vllm.envs as e\n", ["warn"]),
        ("import vllm, os\n", ["warn"]),
        ("import sys\nsys.path.append('x')\nimport vllm\n", ["note"]),
        ("try:\n    import vllm\nexcept ImportError:\n    pass\n", []),
        ("import vllmx\nfrom . import vllm\nfrom\timport\nimport \n", []),
        (None, []),
    ],
)
def test_a_script_that_imports_a_vllm_that_is_not_there(source, expected, tmp_path) -> None:
    script = tmp_path / "s.py"
    if source is not None:
        script.write_text(source)
    found = run_one("python", "vllm_install", argv=("python", "s.py"), kind="script", file=script)

    assert [one.status for one in found] == expected
    assert all(one.fact.endswith(" of s.py imports it") for one in found)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("vllm",), ["vllm-not-found"]),
        (("vllm", "serve"), []),
        (("bash", "-c", "vllm serve m"), ["command-shell"]),
        (("env", "A=1", "/bin/sh", "-ec", "exec vllm serve m"), ["command-shell"]),
        (("bash", "-c", "echo"), []),
        (("bash", "vllm.sh"), []),
        (("echo", "-c", "vllm"), []),
    ],
)
def test_where_no_python_is_known_it_is_said_why(argv, expected) -> None:
    context = probes.Context(argv, {}, {}, None, (), (), record.Shelf(os.environ), dry_run=True)
    found = [
        one for name in probes.names("command") for one in probes.run_one("command", name, context)
    ]

    assert [one.id for one in found] == expected


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["nosuch.py"], 78),
        (["-u", "./nosuch.py", "x"], 78),
        (["there.py"], 0),
        (["-c", "pass"], 0),
        (["-m", "this"], 0),
        (["-"], 0),
    ],
)
def test_a_script_that_is_not_there_refuses(tmp_path, words: list[str], status: int) -> None:
    (tmp_path / "there.py").touch()
    result = guard("--", sys.executable, *words, cwd=tmp_path)
    plain = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, input=b"", capture_output=True, check=False
    )

    assert result.returncode == status
    assert (b"fail script-missing: " in result.stderr) == bool(status)
    assert plain.returncode == (2 if status else 0)


def test_a_checkout_in_the_way_is_told(fake_vllm, tmp_path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(fake_vllm / "lib/vllm-packages/vllm", clone / "vllm")
    paths = f"{guard_env()['PYTHONPATH']}:{clone}:{fake_vllm}/lib/vllm-packages"

    result = guard("--", sys.executable, "-c", "pass", env=guard_env(PYTHONPATH=paths))

    assert b"warn vllm-shadowed: " in result.stderr


def test_keys_that_this_vllm_does_not_know_are_named(serve, tmp_path) -> None:
    profile = tmp_path / "new.toml"
    profile.write_text(
        'schema = 1\nsummary = "s"\nvllm = ">=0.30"\n[env]\nVLLM_LOGING_LEVEL = "DEBUG"\n'
        "[engine]\nenforce_egaer = true\n"
    )

    status, found = serve(guard_words=("-p", str(profile)))

    assert status == 78
    assert found["variable-unknown"].startswith("warn variable-unknown: profile new: VLLM_LOGING")
    assert found["engine-option-unknown"].startswith("fail ")
    assert "this is 0.20.0" in found["profile-version"]


def test_a_refused_run_is_in_the_json_with_its_findings(serve, tmp_path, model) -> None:
    answer = tmp_path / "run.json"
    status, _ = serve(str(model), "--port", "x", guard_words=("--json", str(answer)))
    run = json.loads(answer.read_text())

    assert status == 78
    assert run["outcome"]["kind"] == "not-started"
    assert run["outcome"]["code"] == 78
    assert [f["id"] for f in run["findings"] if f["status"] == "fail"] == ["port-invalid"]


def test_who_asks_a_server_for_help_starts_none(serve) -> None:
    status, found = serve("--help")

    assert status == 0
    assert not {"port-free", "server-ended"} & set(found)


def test_a_server_that_ends_by_itself_is_told_even_if_it_ended_well(serve, model) -> None:
    _, found = serve(str(model), "--port", "0")

    assert found["server-ended"].startswith("warn server-ended: vllm: exited 0 although")


def test_with_exec_the_command_keeps_its_own_temporary_folder(serve, fake_vllm, tmp_path) -> None:
    """Nobody would make a private one, and nobody would remove it."""
    witness = tmp_path / "tmpdir"
    program = fake_vllm / "bin" / "vllm"
    code = f"import os; open({str(witness)!r}, 'w').write(os.environ['TMPDIR'])"
    program.write_text(f"#!{sys.executable}\n{code}\n")

    status, _ = serve(guard_words=("--exec",))

    assert status == 0
    assert witness.read_text() == os.environ["TMPDIR"]
