"""Arguments and environment reach the command byte for byte."""

from __future__ import annotations

import json
import os
import resource
import subprocess

import pytest

from tests.kit import GUARD, guard, guard_env, program

AWKWARD = [
    b"",
    b" ",
    b"--",
    b"\xff\xfe\x80",
    "naïve ☃".encode(),
    b"new\nline\ttab",
    b"$(touch x) `y` \"z\" 'w' \\",
    b"x" * 100_000,
    b"-n",
    b"=",
]


def state(words: list[bytes], env: dict[bytes, bytes]) -> dict[str, list[str]]:
    result = subprocess.run(
        words, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def as_bytes(env: dict[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(k): os.fsencode(v) for k, v in env.items()}


@pytest.mark.parametrize("mode", [b"auto", b"off"])
def test_arguments_arrive_byte_for_byte(mode: bytes) -> None:
    """Of a script, behind the harness of the main guard; where that is off, there is nothing else."""
    words = [os.fsencode(w) for w in program("show_state")] + AWKWARD
    guarded = [*map(os.fsencode, GUARD), b"--main-guard", mode, b"--", *words]

    found = [bytes.fromhex(word) for word in state(guarded, as_bytes(guard_env()))["argv"]]

    harness = [word for word in found if word.endswith(b"inside/harness.py")]
    assert len(harness) == (mode == b"auto")
    assert [word for word in found if word not in harness] == words


@pytest.mark.parametrize("locale", [b"C", b"C.UTF-8", b"POSIX"])
def test_the_environment_arrives_byte_for_byte(locale: bytes) -> None:
    odd = {
        b"EMPTY": b"",
        b"BYTES\xff": b"\xff\x80",
        b"BASH_FUNC_x%%": b"() { :\n}",
        b"LANG": locale,
    }
    env = {**as_bytes(guard_env(LC_ALL=None, LC_CTYPE=None)), **odd}

    found = state([*map(os.fsencode, GUARD), b"--", *map(os.fsencode, program("show_state"))], env)
    got = dict(bytes.fromhex(entry).split(b"=", 1) for entry in found["environ"])

    assert {k: v for k, v in got.items() if not k.startswith(b"VGUARD_")} == {
        k: v for k, v in env.items() if not k.startswith(b"VGUARD_")
    }
    assert {k for k in got if k.startswith(b"VGUARD_")} >= {b"VGUARD_RUN_ID", b"VGUARD_LEVEL"}


def test_ten_thousand_variables_arrive() -> None:
    extra = {f"V{index}": "x" * 40 for index in range(10_000)}

    result = guard("--", "sh", "-c", "env | grep -c ^V", env=guard_env(**extra))

    assert result.returncode == 0
    assert int(result.stdout) >= 10_000


def test_the_longest_value_that_the_kernel_takes_arrives() -> None:
    value = "x" * (131_071 - len("LONG="))  # one byte more could not even be given to the guard

    result = guard("-e", f"LONG={value}", "--", "sh", "-c", "printf %s $LONG")

    assert result.stdout.decode() == value


def test_values_too_long_for_the_kernel_are_125_before_the_start_and_named(tmp_path) -> None:
    profile = tmp_path / "long.toml"
    text = 'schema = 1\nsummary = "s"\n[env]\n'
    text += "".join(f'V{index} = "{"x" * 3000}"\n' for index in range(9))
    profile.write_text(text)
    env = guard_env(**{f"BIG{index}": "y" * 120_000 for index in range(16)})
    words = ["-p", str(profile), "--", "true"]
    used = sum(len(k) + len(v) + 10 for k, v in env.items()) + sum(len(w) + 9 for w in words)
    room = resource.getrlimit(resource.RLIMIT_STACK)[0] // 4 - used - 10_000
    pad = ["z" * (room // 3)] * 3  # what is left is less than the profile needs

    result = guard(*words, *pad, env=env)

    assert result.returncode == 125
    assert b"arguments and environment are" in result.stderr
    assert b"BIG0 (120000)" in result.stderr
