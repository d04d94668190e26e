"""`vllm-guard env audit` of files, NCCL's own among them; and what it shows of secrets and hostile text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.kit import guard
from tests.test_env_audit import SECRET, environment, keys, look

KUBERNETES = """apiVersion: v1
kind: Pod
spec:
  containers:
  - name: server
    image: vllm/vllm-openai
    env:
    - name: NCCL_DEBUG
      value: TRACE
    - name: HF_TOKEN
      valueFrom: {secretKeyRef: {name: hf, key: token}}
    - name: NCCL_ALGO
      value: "$(ALGO)"
  - name: side
    env:
    - {name: CUDA_LAUNCH_BLOCKING, value: "1"}
"""
COMPOSE = """services:
  vllm:
    image: vllm/vllm-openai
    environment:
      CUDA_LAUNCH_BLOCKING: 1
      NCCL_DEBUG: ${LEVEL:-WARN}
  other:
    environment:
    - NCCL_P2P_DISABLE=1
    - HF_TOKEN
"""
SLURM = "#!/bin/bash\n#SBATCH -N 2\n#SBATCH --export=ALL,NCCL_DEBUG=INFO\nsrun x\n"
#: Name, text, and the lines with what is left on there.
FILES = [
    (".env", "A=1\nNCCL_DEBUG=INFO # why\n", ["2: NCCL_DEBUG=INFO"]),
    ("prod.env", "NCCL_DEBUG=WARN\n", []),
    ("Dockerfile", "FROM x\nENV A=1 \\\n  NCCL_SHM_DISABLE=1\n", ["2: NCCL_SHM_DISABLE=1"]),
    ("compose.yaml", COMPOSE, ["5: CUDA_LAUNCH_BLOCKING=1", "9: NCCL_P2P_DISABLE=1"]),
    ("pod.yml", KUBERNETES, ["8: NCCL_DEBUG=TRACE", "16: CUDA_LAUNCH_BLOCKING=1"]),
    ("job.sh", SLURM, ["3: NCCL_DEBUG=INFO"]),
    ("job", "#!/bin/sh\nTORCH_LOGS=+dynamo vllm serve m\n", ["2: TORCH_LOGS=+dynamo"]),
    ("x.fish", "set -gx PYTHONDEVMODE 1\n", ["1: PYTHONDEVMODE=1"]),
    ("v.service", "[Service]\nEnvironment=NCCL_DEBUG=INFO\n", ["2: NCCL_DEBUG=INFO"]),
    ("empty.yaml", "", []),
    ("binary", "\x00\x01\x7fELF", []),
]


@pytest.mark.parametrize(("name", "text", "expected"), FILES, ids=[file[0] for file in FILES])
def test_what_a_file_sets_is_judged_with_its_line(
    tmp_path: Path, name: str, text: str, expected: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(text)

    found = look("--file", str(path), env=environment(NCCL_DEBUG="TRACE"))  # not the caller's own

    assert keys(found) == [f"debug-left-on {path}:{line}" for line in expected]
    assert all(f["evidence"] == [] for f in found)


def test_several_files_are_each_judged(tmp_path: Path) -> None:
    for name in ("a.env", "b.env"):
        (tmp_path / name).write_text("NCCL_DEBUG=INFO\n")

    found = look("--file", str(tmp_path / "a.env"), "--file", str(tmp_path / "b.env"))

    assert [f["subject"] for f in found] == [
        f"{tmp_path}/{n}:1: NCCL_DEBUG=INFO" for n in ("a.env", "b.env")
    ]


def test_of_two_lines_that_set_one_variable_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "NCCL_DEBUG=INFO\nNCCL_DEBUG=TRACE\nCUDA_LAUNCH_BLOCKING=1\nCUDA_LAUNCH_BLOCKING=0\n"
    )

    assert keys(look("--file", str(path))) == [f"debug-left-on {path}:2: NCCL_DEBUG=TRACE"]


@pytest.mark.parametrize("named", [False, True])
def test_nccls_own_files_are_looked_at_and_the_environment_wins(
    tmp_path: Path, named: bool
) -> None:
    path = tmp_path / "nccl.conf" if named else Path.home() / ".nccl.conf"
    path.write_text("# left here\nNCCL_P2P_DISABLE=1\nNCCL_DEBUG=INFO\n")
    more = {"NCCL_CONF_FILE": str(path)} if named else {}

    found = look(env=environment(NCCL_DEBUG="WARN", **more))

    assert keys(found) == [f"debug-left-on {path}:2: NCCL_P2P_DISABLE=1"]
    if named:
        (Path.home() / ".nccl.conf").write_text("NCCL_SHM_DISABLE=1\n")
        assert len(look(env=environment(**more))) == 2


def test_a_conf_file_that_is_no_file_is_passed_over() -> None:
    os.mkfifo(Path.home() / ".nccl.conf")

    assert look() == []


SECRETS = {
    "HF_TOKEN": f"hf_{'a' * 20}",
    "VLLM_API_KEY": SECRET,
    "NCCL_ALGO": SECRET,
    "MY_PASSWORD": "another-secret-1",
    "TORCH_LOGS": "another-secret-1",
    "http_proxy": "http://user:pa55word-xy@proxy:3128",
    "HF_ENDPOINT": "user:pa55word-xy@mirror:443",
    "HUGGING_FACE_HUB_TOKEN": "t1nY!",
}
SHOWN = ("a" * 20, SECRET, "another-secret-1", "pa55word-xy", "t1nY!")


@pytest.mark.parametrize("json_", [False, True])
@pytest.mark.parametrize("way", ["environment", "file"])
def test_no_secret_is_shown(tmp_path: Path, way: str, json_: bool) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}='{value}'\n" for name, value in SECRETS.items()))
    words = ["--json"] * json_ + (["--file", str(path)] if way == "file" else [])

    ran = guard(
        "env", "audit", *words, env=environment(**(SECRETS if way == "environment" else {}))
    )

    assert b"NCCL_ALGO" in ran.stdout
    assert b"HF_ENDPOINT=" in ran.stdout
    for secret in SHOWN:
        assert secret.encode() not in ran.stdout + ran.stderr


HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e\u2028\x9b31m"


def test_nothing_that_is_quoted_can_drive_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / f"x{HOSTILE}.env"
    path.write_text(f"NCCL_DEBUG='{HOSTILE}'\n")
    env = environment(NCCL_DEBUG=HOSTILE, NCCL_ALGO="a\nfail forged: x")
    env |= {f"VLLM_{HOSTILE}": "1", "CUDA_VISIBLE_DEVICES": f"{HOSTILE},{HOSTILE}"}

    for words in ((), ("--file", str(path))):
        text = guard("env", "audit", *words, env=env).stdout.decode()
        assert all(line.isprintable() for line in text.splitlines())
        assert r"\x1b" in text
        assert not any(line.startswith("fail forged") for line in text.split("\n"))
        document = guard("env", "audit", "--json", *words, env=env).stdout
        assert b"\x1b" not in document
        assert len(json.loads(document)["findings"]) >= 1


def test_bytes_that_are_no_text_are_shown_and_no_crash() -> None:
    env = {os.fsencode(name): os.fsencode(value) for name, value in environment().items()}
    env[b"NCCL_DEBUG"] = b"\xff\xfe"
    env[b"NCCL_\xff"] = b"\xff"

    text = guard("env", "audit", env=env)
    document = guard("env", "audit", "--json", env=env)

    assert (text.returncode, text.stderr) == (0, b"")
    assert rb"NCCL_DEBUG=\udcff\udcfe" in text.stdout
    assert json.loads(document.stdout)["findings"][0]["id"] == "variable-value"
