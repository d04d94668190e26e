"""Which variables a file sets, with the line: each kind of file, and what a shell itself says of a script."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import assignments
from vllm_guard.assignments import Assignment

DATA = Path(__file__).parent / "data"
Rows = list[tuple[str, str | None, int]]


def rows(found: list[Assignment]) -> Rows:
    return [(item.name, item.value, item.line) for item in found]


def read(path: str, text: str) -> Rows:
    return rows(assignments.read(path, text))


FILES = tomli.loads((DATA / "assignments.toml").read_text())["files"]


@pytest.mark.parametrize(("path", "text", "expected"), FILES)
def test_what_a_file_sets(path: str, text: str, expected: list[str]) -> None:
    found = read(path, text)

    assert [f"{n} {name}" + ("" if v is None else f"={v}") for name, v, n in found] == expected


MANIFESTS = {
    "k8s.yaml": (
        """apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  template:
    spec:
      initContainers:
      - name: fetch
        env:
        - {name: HF_HUB_OFFLINE, value: "0"}
      containers:
      - name: server
        image: vllm/vllm-openai
        env:
        - name: NCCL_DEBUG
          value: INFO
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef: {name: hf, key: token}
        - value: "1"
          name: CUDA_LAUNCH_BLOCKING
        - name: POD
          value: $(POD_NAME)
---
kind: ConfigMap
data: {A: "1"}
""",
        [
            ("HF_HUB_OFFLINE", "0", 10, "fetch"),
            ("NCCL_DEBUG", "INFO", 15, "server"),
            ("HF_TOKEN", None, 17, "server"),
            ("CUDA_LAUNCH_BLOCKING", "1", 20, "server"),
            ("POD", None, 22, "server"),
        ],
    ),
    "compose.yml": (
        """services:
  one:
    environment:
      A: 1
      B: true
      C:
      D: ${X}
  two:
    environment:
    - E=5
    - F
    - G=$X
""",
        [
            ("A", "1", 4, "one"),
            ("B", "true", 5, "one"),
            ("C", None, 6, "one"),
            ("D", None, 7, "one"),
            ("E", "5", 10, "two"),
            ("F", None, 11, "two"),
            ("G", None, 12, "two"),
        ],
    ),
    "workflow.yaml": (
        """on: push
env: {A: x}
jobs:
  test:
    env:
      B: y
    steps:
    - run: x
      env: {C: z}
""",
        [("A", "x", 2, ""), ("B", "y", 6, "test"), ("C", "z", 9, "test")],
    ),
    "anchors.yaml": (
        """x: &e
  A: 1
services:
  one:
    environment: *e
  two:
    environment:
      <<: *e
      B: 2
""",
        [("A", "1", 2, "one"), ("A", "1", 2, "two"), ("B", "2", 9, "two")],
    ),
    "empty.yaml": ("", []),
    "scalar.yaml": ("just text\n", []),
    "list.yaml": ("- env: {A: 1}\n- [x]\n", [("A", "1", 1, "")]),
    "odd.yaml": ("env: text\nenvironment: [1, [2], {value: 3}, {name: [4]}]\n? [a, b]\n: c\n", []),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_what_a_manifest_sets_and_for_whom(name: str) -> None:
    text, expected = MANIFESTS[name]

    found = assignments.read(name, text)

    assert [(f.name, f.value, f.line, f.scope) for f in found] == expected


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c\n", "\ta: 1\n", "a: &x\nb: *y\n", "%YAML 9\n---\n!<", "\x00"]
)
def test_a_broken_manifest_is_a_value_error_of_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        assignments.read("a.yaml", text)


def test_a_manifest_whose_aliases_multiply_is_read_at_once() -> None:
    """A "billion laughs" of nine levels: two thousand million paths to one env."""
    lines = ["a0: &a0 [env: {A: 1}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 11)}]" for n in range(1, 10)]

    assert set(rows(assignments.read("a.yaml", "\n".join(lines)))) == {("A", "1", 1)}


def test_a_manifest_that_refers_to_itself_ends() -> None:
    assert rows(assignments.read("a.yaml", "x: &x\n  y: *x\n  env: {A: 1}\n")) == [("A", "1", 3)]


KINDS = [
    "x.sh",
    ".env",
    "Dockerfile",
    "a.fish",
    ".cshrc",
    "v.service",
    "fish_variables",
    "unknown",
    "x.conf",
]
LINES = st.text("ABx12 =;&|'\"\\$#`\n\t:-{}()[]<>*!", max_size=60)


@given(st.sampled_from(KINDS), LINES)
def test_no_text_makes_reading_fail_and_every_line_is_one_of_the_file(path: str, text: str) -> None:
    for item in assignments.read(path, text):
        assert item.name.isidentifier()
        assert 1 <= item.line <= text.count("\n") + 1


@given(LINES)
def test_a_manifest_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        for item in assignments.read("x.yaml", text):
            assert 1 <= item.line <= text.count("\n") + 1


NAMES = st.sampled_from(["VLLM_A", "B", "_c", "LD_X"])
VALUES = st.text(st.characters(codec="ascii", exclude_characters="\0\r\n"), max_size=12)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4))
def test_quoted_values_come_back_as_they_were(wanted: list[tuple[str, str]]) -> None:
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in wanted)

    assert read("x.sh", script) == [(n, v, line) for line, (n, v) in enumerate(wanted, 1)]


SCRIPT = """export A=1 B='x y' C="z"
if true; then export D=4; fi
[ -e / ] && export E=5
export F=\\
6
export G=a\\ b H=$((1 + 1)) I=~/x J=$HOME
K=11; export K
export L="it's" M='say "x"' N='$HOME'
export O=a#b # P=1
true; export Q=1 R= S="$A"
"""


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_what_is_told_of_a_script_is_what_the_shell_makes_of_it(shell: str, tmp_path: Path) -> None:
    """No value is told wrongly; None is an honest answer, and only for what needs running."""
    if not (program := shutil.which(shell)):
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / "x.sh"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [program, "-c", f". {script} && env -0"],
        env={"PATH": os.environ["PATH"], "HOME": "/h"},
        capture_output=True,
        check=True,
    )
    real = dict(item.split("=", 1) for item in ran.stdout.decode().split("\0") if item)
    told = {item.name: item.value for item in assignments.read(str(script), SCRIPT)}

    assert {name for name in real if len(name) == 1 and name != "_"} == set(told)
    assert {name for name, value in told.items() if value is None} == {"H", "I", "J", "S"}
    assert {n: v for n, v in told.items() if v is not None} == {
        n: real[n] for n in told if told[n] is not None
    }
