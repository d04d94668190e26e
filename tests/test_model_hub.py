"""The model at the hub: what a real HTTP server answers, and what is made of it; never the real hub."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.hub import serving
from tests.kit.models import cached_model
from vllm_guard import hub, probes, record
from vllm_guard.host import Host
from vllm_guard.model import Finding
from vllm_guard.probes.server import model_hub
from vllm_guard.target import Target

TOKEN = "hf_" + "s" * 34
MAIN = "/api/models/org/m/revision/main"
AUTH = "/api/models/org/m/auth-check"
GIB = 1 << 30
LFS = {"sha256": "0" * 64, "size": 1, "pointerSize": 134}
INFO = {
    "id": "org/m",
    "sha": "0123456789abcdef0123456789abcdef01234567",
    "private": False,
    "gated": False,
    "siblings": [
        {"rfilename": "config.json", "size": 700, "blobId": "b"},
        {"rfilename": "model-00001-of-00002.safetensors", "size": 3 * GIB, "lfs": LFS},
        {"rfilename": "model-00002-of-00002.safetensors", "size": GIB, "lfs": LFS},
        {"rfilename": "consolidated.safetensors", "size": 4 * GIB},
        {"rfilename": "original/consolidated.00.pth", "size": 4 * GIB},
        {"rfilename": "pytorch_model.bin", "size": 4 * GIB},
    ],
}
GATED = {**INFO, "gated": "manual"}


def asking(home: Path, *words: str, **env: str) -> probes.Context:
    """What the probe looks at for `vllm serve WORDS`."""
    argv = ("vllm", "serve", *(words or ("org/m",)))
    env = {"HF_HOME": str(home), "no_proxy": "*", **env}
    target = Target("/bin/python", "vllm-cli", "serve", 2)
    return probes.Context(argv, env, env, target, (), (), record.Shelf({}))


def look(home: Path, *words: str, **env: str) -> dict[str, Finding]:
    """The findings of the probe for `vllm serve WORDS`, by id."""
    context = asking(home, *words, **env)
    found = list(probes.run_one("server", "model_hub", context))
    assert all(TOKEN not in str(finding) for finding in found)
    return {finding.id: finding for finding in found}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def answering(**answer: Any) -> Any:
    return serving({MAIN: answer})


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_model_that_is_there_is_told_with_its_commit_and_its_size(home) -> None:
    with answering(body=INFO) as server:
        found = look(home, HF_ENDPOINT=server.url + "/")

    assert {id_: f.status for id_, f in found.items()} == {"hub-answers": "ok", "disk-space": "ok"}
    assert found["hub-answers"].fact == "org/m, commit 0123456789ab"
    assert found["disk-space"].fact.endswith("GiB free for 4.0 GiB of the model")
    assert [request.path for request in server.requests] == [f"{MAIN}?blobs=true"]


def test_what_was_told_is_known_afterwards_and_the_hub_is_not_asked_again(home) -> None:
    with answering(body=INFO) as server:
        context = asking(home, HF_ENDPOINT=server.url)
        assert model_hub.missing(context) is None
        look(home, HF_ENDPOINT=server.url)
        assert model_hub.missing(context) == 4 * GIB

    assert len(server.requests) == 1


def test_a_model_that_is_larger_than_the_disk_is_a_warning(home) -> None:
    siblings = [{"rfilename": "model.safetensors", "size": 1 << 60}]
    with answering(body={**INFO, "siblings": siblings}) as server:
        found = look(home, HF_ENDPOINT=server.url)["disk-space"]

    assert (found.status, found.fix[:20]) == ("warn", "HF_HOME=FOLDER on a ")
    assert "free for 1073741824.0 GiB of the model" in found.fact


def test_what_is_in_the_cache_is_not_counted(home) -> None:
    snapshot = cached_model(home / "hub", "org/m", shards=2)
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    with answering(body=INFO) as server:
        found = look(home, HF_ENDPOINT=server.url)

    assert "GiB free for 4.0 GiB of the model" in found["disk-space"].fact  # consolidated


@pytest.mark.parametrize(
    ("answer", "env", "id_", "status", "fact"),
    [
        ({"status": 401, "code": "RepoNotFound"}, {}, "hub-model", "fail", "or it is private, and no token"),
        ({"status": 404, "code": "RepoNotFound"}, {"HF_TOKEN": TOKEN}, "hub-model", "fail",
         "the token in HF_TOKEN is not for it"),
        ({"status": 401, "headers": {"X-Error-Message": "Invalid username or password."}}, {},
         "hub-model", "fail", "has no such model"),
        ({"status": 401, "headers": {"X-Error-Message": "Invalid credentials in Authorization header"}},
         {"HF_TOKEN": TOKEN}, "hub-token", "fail", "does not accept the token in HF_TOKEN"),
        ({"status": 404, "code": "RevisionNotFound"}, {}, "hub-revision", "fail", "no revision main"),
        ({"status": 403, "code": "GatedRepo"}, {"HUGGING_FACE_HUB_TOKEN": TOKEN}, "hub-gated", "fail",
         "the token in HUGGING_FACE_HUB_TOKEN was not"),
        ({"status": 401}, {}, "hub-answers", "unknown", "it answers with status 401"),
        ({"status": 404}, {}, "hub-answers", "unknown", "it answers with status 404"),
        ({"status": 403}, {}, "hub-answers", "unknown", "it answers with status 403"),
        ({"status": 407}, {}, "hub-answers", "unknown", "it answers with status 407"),
        ({"status": 429}, {}, "hub-answers", "unknown", "it answers with status 429"),
        ({"status": 500, "code": "Other"}, {}, "hub-answers", "unknown", "it answers with status 500"),
        ({"body": "<html>log in first</html>"}, {}, "hub-answers", "unknown", "is no hub"),
        ({"body": "[1]"}, {}, "hub-answers", "unknown", "is no hub"),
        ({"body": "{}"}, {}, "hub-answers", "unknown", "is no hub"),
        ({"body": "[" * 100_000}, {}, "hub-answers", "unknown", "is no hub"),
        ({"body": {"sha": "1", "siblings": 7}}, {}, "hub-answers", "unknown", "its list of files is damaged"),
        ({"status": 302, "location": "https://login.example/?from=here"}, {}, "hub-answers", "unknown",
         "it sends to another host, login.example"),
    ],
)  # fmt: skip
def test_only_what_the_hub_says_definitely_fails(home, answer, env, id_, status, fact) -> None:
    with answering(**answer) as server:
        found = look(home, HF_ENDPOINT=server.url, **env)[id_]

    assert (found.status, bool(found.fix)) == (status, True)
    assert fact in found.fact


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ({}, "ok"),
        ({"status": 401, "code": "GatedRepo"}, "fail"),
        ({"status": 403, "code": "GatedRepo"}, "fail"),
        ({"status": 500}, "unknown"),
    ],
)
def test_a_gated_model_shows_its_metadata_and_tells_by_auth_check(home, auth, status) -> None:
    with serving({MAIN: {"body": GATED}, AUTH: auth}) as server:
        found = look(home, HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)

    assert found["hub-gated" if status == "fail" else "hub-answers"].status == status
    assert [request.path for request in server.requests] == [f"{MAIN}?blobs=true", AUTH]
    assert {request.token for request in server.requests} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_a_hub_that_is_slow_costs_a_second_and_blocks_nothing(home, how: str) -> None:
    start = time.monotonic()
    with answering(how=how, body='{"sha": ') as server:
        found = look(home, HF_ENDPOINT=server.url)["hub-answers"]

    assert time.monotonic() - start < 2.5
    assert found.status == "unknown"
    assert "no answer within 1 s" in found.fact or "timed out" in found.fact


def test_a_hub_that_refuses_or_is_no_address_blocks_nothing(home, closed) -> None:
    assert "connection refused" in look(home, HF_ENDPOINT=closed)["hub-answers"].fact
    for address in ("", "file:///etc", "huggingface.co", "https://[", "http://a b"):
        assert look(home, HF_ENDPOINT=address)["hub-answers"].status == "unknown"
    with answering(body=INFO) as server:
        found = look(home, HF_ENDPOINT=server.url.replace("http", "https"))
    assert found["hub-answers"].status == "unknown"


def test_a_renamed_model_is_followed_with_the_token_and_another_host_never_gets_it(home) -> None:
    new = "/api/models/org/new/revision/main"
    with answering(body=INFO) as stranger:
        moved = {"status": 307, "location": new}
        away = {"status": 307, "location": stranger.url + MAIN}
        with serving(
            {MAIN: moved, new: {"body": INFO}, "/api/models/a/b/revision/main": away}
        ) as server:
            followed = look(home, HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)
            stopped = look(home, "a/b", HF_ENDPOINT=server.url, HF_TOKEN=TOKEN)

    assert followed["hub-answers"].status == "ok"
    assert [request.token for request in server.requests[:2]] == [f"Bearer {TOKEN}"] * 2
    assert stopped["hub-answers"].status == "unknown"
    assert stranger.requests == []


@pytest.mark.parametrize("proxy", ["http_proxy", "all_proxy"])
def test_the_proxies_of_the_command_are_used_and_no_proxy_is_heeded(home, proxy, closed) -> None:
    with answering(body=INFO) as server:
        port = server.url.rpartition(":")[2]
        through = look(home, no_proxy="", HF_ENDPOINT=closed, **{proxy: server.url})
        around = look(
            home, no_proxy="127.0.0.1", HF_ENDPOINT=server.url, **{proxy: "http://127.0.0.1:9"}
        )

    assert through["hub-answers"].status == "unknown"  # it is asked for another address: 404
    assert around["hub-answers"].status == "ok"
    assert server.requests[0].path.startswith(f"{closed}{MAIN}")
    assert server.requests[1].host == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("env", "sent"),
    [
        ({"HF_TOKEN": TOKEN}, TOKEN),
        ({"HF_TOKEN": f" {TOKEN}\n"}, TOKEN),
        ({"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": TOKEN}, TOKEN),
        ({"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": "other"}, TOKEN),
        ({"HF_TOKEN": " "}, "of-the-file"),
        ({}, "of-the-file"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, ""),
        ({"HF_TOKEN_PATH": "/no/such"}, ""),
    ],
)
def test_the_token_is_the_one_that_huggingface_hub_sends(home, env, sent: str) -> None:
    home.mkdir()
    (home / "token").write_text("of-the-file\n")
    token, origin = hub.token(Host(), {"HF_HOME": str(home), **env})

    assert token == sent
    assert bool(origin) == bool(sent)
    with answering(body=INFO) as server:
        look(home, HF_ENDPOINT=server.url, **env)
    assert server.requests[0].token == (f"Bearer {sent}" if sent else None)


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["org/m"], {"HF_HUB_OFFLINE": "1"}),
        (["org/m"], {"TRANSFORMERS_OFFLINE": "1"}),
        (["org/m"], {"VLLM_USE_MODELSCOPE": "1"}),
        (["/no/such"], {}),
        (["./m"], {}),
        (["~/m"], {}),
        (["a/b/c"], {}),
        (["s3://bucket/x"], {}),
        (["org/whole"], {}),
        (["org/whole", "--load-format", "dummy"], {}),
    ],
)
def test_nobody_is_asked_where_vllm_asks_nobody(home, words, env) -> None:
    cached_model(home / "hub", "org/whole")
    with serving({}) as server:
        assert look(home, *words, HF_ENDPOINT=server.url, **env) == {}

    assert server.requests == []


def test_a_token_that_only_huggingface_hub_can_make_is_not_guessed(home) -> None:
    found = look(home, HF_OIDC_RESOURCE="org", HF_ENDPOINT="http://127.0.0.1:9")

    assert found["hub-answers"].status == "skip"


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["org/m", "--download-dir", "/x"], {}),
        (["org/m", "--hf-token", "x"], {}),
        (["org/m", "--config", "/no/such.yaml"], {}),
    ],
)
def test_what_may_still_go_well_is_a_warning(home, words, env) -> None:
    with answering(status=404, code="RepoNotFound") as server:
        assert look(home, *words, HF_ENDPOINT=server.url, **env)["hub-model"].status == "warn"
        home.mkdir()
        (home / "token").write_text(TOKEN)
        assert look(home, HF_ENDPOINT=server.url)["hub-model"].status == "warn"
        (home / "token").unlink()
        cached_model(home / "hub", "org/m", commit="old")
        (home / "hub/models--org--m/refs/main").write_text("new")
        assert look(home, HF_ENDPOINT=server.url)["hub-model"].status == "warn"


@pytest.mark.parametrize(
    ("name", "revision", "path"),
    [
        ("gpt2", "main", "/api/models/gpt2/revision/main"),
        ("org/m", "refs/pr/1", "/api/models/org/m/revision/refs%2Fpr%2F1"),
        ("org/m", "a b?c", "/api/models/org/m/revision/a%20b%3Fc"),
        ("org/m:Q4_K_M", "main", MAIN),
        ("org/m/x.gguf", "main", MAIN),
    ],
)
def test_the_address_is_that_of_huggingface_hub(home, name, revision, path) -> None:
    with serving({}) as server:
        look(home, name, "--revision", revision, HF_ENDPOINT=server.url)

    assert [request.path for request in server.requests] == [f"{path}?blobs=true"]


def test_the_guard_says_no_token_even_where_an_address_holds_one(home) -> None:
    found = look(home, HF_ENDPOINT=f"http://user:{TOKEN}@127.0.0.1:9")

    assert found["hub-answers"].status == "unknown"


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("user:hunter22@127.0.0.1:9", "127.0.0.1:9"),
        ("user:hun@ter22@127.0.0.1:9", "127.0.0.1:9"),
        ("http://user:hun@ter22@127.0.0.1:9", "http://127.0.0.1:9"),
        ("hunter22@127.0.0.1:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_name_and_password_of_an_address_are_not_shown(home, endpoint: str, shown: str) -> None:
    found = look(home, HF_ENDPOINT=endpoint)["hub-answers"]

    assert (found.status, found.subject) == ("unknown", shown)
    assert "ter22" not in str(found)


FILE = {"rfilename": "model.safetensors", "size": 5}


@pytest.mark.parametrize(
    "rows",
    [
        "abc",
        {"a": 1},
        7,
        ["abc"],
        [FILE, None],
        [{"size": 5}],
        [{**FILE, "rfilename": 7}],
        [{**FILE, "size": "5"}],
        [{**FILE, "size": True}],
        [{**FILE, "size": -1}],
        [{**FILE, "size": 1.5}],
        [{**FILE, "size": 10**400}],
    ],
    ids=lambda rows: str(rows)[:40],
)
def test_a_list_of_files_that_is_none_is_told_in_one_line(home, rows: Any) -> None:
    with answering(body={"sha": "abc", "siblings": rows}) as server:
        found = look(home, HF_ENDPOINT=server.url)

    assert found["hub-answers"].status == "unknown"
    told = "not known whether it will give the model: its list of files is damaged"
    assert found["hub-answers"].fact == told


@pytest.mark.parametrize("sha", [None, 7, ["a"], {}])
def test_a_commit_that_is_none_comes_from_no_hub(home, sha: Any) -> None:
    with answering(body={"sha": sha}) as server:
        assert "no hub" in look(home, HF_ENDPOINT=server.url)["hub-answers"].fact


#: What huggingface_hub makes of each model: the name of its error, empty for none; rows on stdout.
ASK = """
import sys
from huggingface_hub import HfApi
for name in sys.argv[1:]:
    try:
        HfApi().model_info(name, revision="main", files_metadata=True)
        HfApi().auth_check(name)
        print()
    except Exception as error:
        said = error.response.headers.get("X-Error-Message", "")
        print(type(error).__name__, said.count("Invalid credentials"))
"""
SAME = {
    "RepositoryNotFoundError 0": "hub-model",
    "RevisionNotFoundError 0": "hub-revision",
    "GatedRepoError 0": "hub-gated",
    "HfHubHTTPError 1": "hub-token",
    "HfHubHTTPError 0": "hub-model",  # where it is https, RepositoryNotFoundError: REPO_API_REGEX
    "": "hub-answers",
}


@pytest.mark.vllm
def test_huggingface_hub_refuses_the_same(home) -> None:
    answers = [
        {"body": INFO},
        {"status": 401, "code": "RepoNotFound"},
        {"status": 404, "code": "RepoNotFound"},
        {"status": 401, "headers": {"X-Error-Message": "Invalid username or password."}},
        {
            "status": 401,
            "headers": {"X-Error-Message": "Invalid credentials in Authorization header"},
        },
        {"status": 404, "code": "RevisionNotFound"},
        {"status": 403, "code": "GatedRepo"},
        {"status": 401, "code": "GatedRepo"},
    ]
    names = [f"org/m{number}" for number in range(len(answers))]
    paths = {f"/api/models/{n}/revision/main": a for n, a in zip(names, answers, strict=True)}
    with serving({**paths, "/api/models/org/m0/auth-check": {}}) as server:
        ours = [next(iter(look(home, name, HF_ENDPOINT=server.url))) for name in names]
        env = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(home)}
        command = [Path(os.environ["VGUARD_TEST_VLLM"], "bin/python"), "-c", ASK, *names]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)

    assert [SAME[line] for line in done.stdout.splitlines()] == ours


@pytest.mark.vllm
def test_huggingface_hub_finds_the_same_token_and_the_same_snapshot(home) -> None:
    cached_model(home / "hub", "org/m", commit="0" * 40)
    (home / "hub/models--org--m/refs/refs/pr").mkdir(parents=True)
    (home / "hub/models--org--m/refs/refs/pr/1").write_text("0" * 40)
    (home / "token").write_text("of-the-file\n")
    code = """if True:
        import sys
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import get_token_to_send
        print(get_token_to_send(None))
        for revision in ("main", "refs/pr/1", "0" * 40, "v2"):
            try:
                print(snapshot_download("org/m", revision=revision, local_files_only=True))
            except Exception:
                print()
    """
    python = Path(os.environ["VGUARD_TEST_VLLM"], "bin/python")
    for more in (
        *({"HF_TOKEN": t} for t in ("x", " ", "")),
        {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"},
    ):
        env = {**os.environ, "HF_HOME": str(home), **more}
        done = subprocess.run(
            [python, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        token, *snapshots = done.stdout.splitlines()

        assert (hub.token(Host(), env)[0] or "None") == token
        revisions = ("main", "refs/pr/1", "0" * 40, "v2")
        cache = hub.cache_dir(env)
        assert [hub.snapshot(Host(), cache, "org/m", r) for r in revisions] == snapshots
