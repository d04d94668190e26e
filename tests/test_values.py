"""What the programs of the stack make of a value: C's integers, each dialect of booleans, lists, ranges."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import facts, values

ROWS = facts.variables()["rows"]


def read(style: str, **more: Any) -> dict[str, Any]:
    base = {"default": None, "computed": True, "choices": None, "ignore_case": False, "many": False}
    return {**base, "style": style, **more}


def wrong(value: str, name: str, row: dict[str, Any] | None = None) -> tuple[str, str] | None:
    return values.problem(value, ROWS[name], row)


@pytest.mark.parametrize(
    ("name", "value", "status", "text"),
    [
        ("NCCL_P2P_DISABLE", "1", "", ""),
        ("NCCL_P2P_DISABLE", "0x1", "", ""),
        ("NCCL_P2P_DISABLE", "true", "warn", "'true' is neither 0 nor 1"),
        ("NCCL_P2P_DISABLE", "", "", ""),
        ("NCCL_IB_TIMEOUT", "31", "", ""),
        ("NCCL_IB_TIMEOUT", "32", "warn", "32 is out of range: 0 to 31"),
        ("NCCL_IB_TIMEOUT", "-1", "warn", "-1 is out of range: 0 to 31"),
        ("NCCL_IB_GID_INDEX", "-1", "", ""),
        ("NCCL_IB_GID_INDEX", "-2", "warn", "-2 < -1"),
        ("NCCL_BUFFSIZE", "4MB", "warn", "'4MB' is not an integer"),
        ("NCCL_BUFFSIZE", "0x400000", "", ""),
        ("NCCL_NTHREADS", "512", "", ""),
        ("NCCL_NTHREADS", "100", "warn", "'100' is none of 64, 128, 256, 512"),
        ("NCCL_DEBUG", "info", "", ""),
        ("NCCL_DEBUG", "DEBUG", "warn", "'DEBUG' is none of"),
        ("NCCL_DEBUG_SUBSYS", "INIT,net", "", ""),
        ("NCCL_DEBUG_SUBSYS", "^INIT,ENV", "", ""),
        ("NCCL_DEBUG_SUBSYS", "INIT,FOO", "warn", "'FOO' is none of"),
        ("NCCL_CTA_POLICY", "EFFICIENCY|ZERO", "", ""),
        ("NCCL_CTA_POLICY", "EFFICIENCY,ZERO", "warn", "'EFFICIENCY,ZERO' is none of"),
        ("NCCL_ALGO", "Ring", "", ""),
        ("NCCL_ALGO", "ring,TREE", "", ""),
        ("NCCL_ALGO", "allreduce:tree,ring;allgather:ring", "", ""),
        ("NCCL_ALGO", "^NVLS,NVLSTree", "", ""),
        ("NCCL_ALGO", "Rong", "fail", "'Rong' is none of"),
        ("NCCL_ALGO", "allreduce:Rong", "fail", "NCCL fails"),
        ("NCCL_PROTO", "simple", "", ""),
        ("NCCL_PROTO", "^LL128", "", ""),
        ("TORCH_DISTRIBUTED_DEBUG", "detail", "", ""),
        ("TORCH_DISTRIBUTED_DEBUG", "1", "fail", "torch stops"),
        ("TORCH_NCCL_BLOCKING_WAIT", "True", "", ""),
        ("TORCH_NCCL_BLOCKING_WAIT", "on", "fail", "is neither 1 y yes t true nor 0 n no f false"),
        ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "4", "warn", "4 is out of range: 0 to 3"),
        ("TRITON_INTERPRET", "yes", "", ""),
        ("TRITON_INTERPRET", "2", "warn", "would be read as false"),
        ("HF_HUB_OFFLINE", "Yes", "", ""),
        ("HF_HUB_OFFLINE", "y", "warn", "would be read as false"),
        ("HF_ENDPOINT", "hf-mirror.com", "warn", "'hf-mirror.com' is not a URL"),
        ("HF_ENDPOINT", "https://hf-mirror.com", "", ""),
        ("http_proxy", "proxy:3128", "", ""),  # requests, httpx and curl take it
        ("LOCAL_RANK", "0", "", ""),
        ("LOCAL_RANK", "zero", "fail", "vLLM stops"),
        ("PYTHONMALLOC", "debug", "", ""),
        ("PYTHONMALLOC", "tcmalloc", "fail", "Python stops"),
        ("RANK", "-1", "warn", "-1 < 0"),
        ("CUDA_MODULE_LOADING", "eager", "warn", "'eager' is none of"),
    ],
)
def test_what_is_wrong_with_a_value(name: str, value: str, status: str, text: str) -> None:
    found = wrong(value, name)

    assert (found or ("", ""))[0] == status
    assert text in (found or ("", ""))[1]
    assert found is None or found[1]


@pytest.mark.parametrize(
    ("name", "value", "row", "expected"),
    [
        ("NCCL_DEBUG", "WARN", None, False),
        ("NCCL_DEBUG", "info", None, True),
        ("NCCL_DEBUG", "VERSION", None, False),
        ("NCCL_P2P_DISABLE", "0", None, False),
        ("NCCL_P2P_DISABLE", "2", None, True),
        ("NCCL_P2P_DISABLE", "true", None, False),  # strtoll(3): 0
        ("NCCL_P2P_LEVEL", "loc", None, True),
        ("NCCL_P2P_LEVEL", "0x0", None, True),
        ("NCCL_P2P_LEVEL", "NVL", None, False),
        ("NCCL_PROTO", "LL128", None, True),
        ("NCCL_PROTO", "LL,LL128,Simple", None, True),  # https://github.com/NVIDIA/nccl/pull/1081
        ("NCCL_PROTO", "allreduce:LL128", None, True),
        ("NCCL_PROTO", "^LL128", None, False),
        ("NCCL_PROTO", "allreduce:^LL128", None, False),
        ("NCCL_PROTO", "LL,Simple", None, False),
        ("TORCH_NCCL_BLOCKING_WAIT", "true", None, True),
        ("TORCH_NCCL_BLOCKING_WAIT", "F", None, False),
        ("TORCH_NCCL_ENABLE_MONITORING", "no", None, True),
        ("TORCH_DISTRIBUTED_DEBUG", "Detail", None, True),
        ("TORCH_DISTRIBUTED_DEBUG", "INFO", None, False),
        ("TRITON_INTERPRET", "on", None, True),
        ("TRITON_INTERPRET", "t", None, False),
        ("HF_DEBUG", "true", None, True),
        ("HF_DEBUG", "0", None, False),
        ("TORCH_LOGS", "+dynamo", None, True),
        ("TORCH_LOGS", "0", None, False),
        ("PYTHONVERBOSE", "0", None, False),
        ("PYTHONVERBOSE", "false", None, True),
        ("PYTHONDEVMODE", "0", None, True),
        ("PYTHONTRACEMALLOC", "0", None, False),
        ("PYTHONTRACEMALLOC", "25", None, True),
        ("LD_BIND_NOW", "0", None, True),
        ("VLLM_TRACE_FUNCTION", "2", read("int-bool"), True),
        ("VLLM_TRACE_FUNCTION", "0", read("int-bool"), False),
        ("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "1", read("true"), False),
        ("VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "True", read("true"), True),
        ("VLLM_SERVER_DEV_MODE", "true", read("one-true"), True),
        ("VLLM_SERVER_DEV_MODE", "true", read("one"), False),
        ("VLLM_LOGGING_LEVEL", "debug", read("str"), True),
        ("VLLM_LOGGING_LEVEL", "INFO", read("str"), False),
        ("VLLM_SKIP_P2P_CHECK", "0", read("one", default="1"), True),
        ("VLLM_SKIP_P2P_CHECK", "0", read("one", default="0"), False),  # 0.8.5 to 0.10.0
        ("VLLM_SKIP_P2P_CHECK", "yes", read("one", default="0"), False),
        ("VLLM_MLA_DISABLE", "1", None, True),
    ],
)
def test_what_is_left_on(name: str, value: str, row: dict[str, Any] | None, expected: bool) -> None:
    assert values.is_left_on(value, ROWS[name], row) is expected


def test_what_vllms_source_says_of_a_value_comes_before_the_facts() -> None:
    level = ROWS["VLLM_LOGGING_LEVEL"]

    assert values.problem("TRACE", level, read("int")) == (
        "fail",
        "'TRACE' is not an integer: vLLM would stop with ValueError",
    )
    assert values.problem("TRACE", level, read("str"))[1].endswith("vLLM stops with ValueError")
    assert values.problem("debug", level, read("str")) is None
    assert values.problem("anything", None, None) is None


C = ctypes.CDLL(None)
C.strtoll.restype = ctypes.c_longlong
INTEGERS = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.integers(0, 2**40).map(hex),
    st.integers(0, 2**40).map(lambda number: f"0{number:o}"),
    st.text("0123456789abcdefxob+- _\t.", max_size=6),
    st.sampled_from(["08", "0o7", "0b1", "1_0", "", " ", "0x", "00", "-0x10", " 7", "\u0661"]),
)


@given(INTEGERS)
def test_an_integer_is_read_as_strtoll_does_or_not_at_all(value: str) -> None:
    """Through a fact of type int; what strtoll(3) takes only a part of is no integer."""
    text = value.encode()
    end = ctypes.c_char_p()
    number = C.strtoll(text, ctypes.byref(end), 0)
    whole = bool(text.strip()) and end.value == b"" and text[-1:].strip() != b""

    for limit in (number - 1, number):
        found = values.problem(value, {"type": "int", "max": limit, "min": -(2**50)}, None)
        if whole:
            assert bool(found) is (limit < number)
        elif value.strip() and not value[-1].isspace():
            assert found is not None
            assert "not an integer" in found[1]


BOOLEANS = sorted({row["type"] for row in ROWS.values() if row.get("type", "").endswith("-bool")})


@given(
    st.sampled_from(BOOLEANS), st.text(max_size=5) | st.sampled_from(["1", "YES", "off", "t", "n"])
)
def test_no_value_of_a_boolean_is_both_true_and_refused(kind: str, value: str) -> None:
    fact = {"type": kind, "left_on": ["1"], "cost": "x"}
    negated = {"type": kind, "left_on": ["0"], "cost": "x"}

    if values.is_left_on(value, fact, None):
        assert values.problem(value, fact, None) is None
    assert values.is_left_on(value, fact, None) is not values.is_left_on(value, negated, None)


def hub_reads(value: str) -> bool:
    """huggingface_hub's `_is_true`."""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


@given(st.sampled_from(["1", "on", "ON", "Yes", "True", "0", "Off", "NO", "false", "y", "t", "2"]))
def test_the_hubs_booleans_are_read_as_the_hub_does(value: str) -> None:
    assert values.is_left_on(value, ROWS["HF_DEBUG"], None) is hub_reads(value)
    assert (values.problem(value, ROWS["HF_DEBUG"], None) is None) is (
        hub_reads(value) or value.lower() in ("0", "off", "no", "false")
    )


WORDS = st.sampled_from(["LL", "LL128", "Simple", "simple", "bad"])


@given(st.lists(WORDS, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_list_is_wrong_when_one_of_its_words_is(
    words: list[str], negated: bool, for_one: bool
) -> None:
    value = ("allreduce:" if for_one else "") + ("^" if negated else "") + ",".join(words)

    assert (wrong(value, "NCCL_PROTO") is not None) is ("bad" in words)
    assert values.is_left_on(value, ROWS["NCCL_PROTO"], None) is ("LL128" in words and not negated)


FLAGS = {
    "PYTHONVERBOSE": "verbose",
    "PYTHONINSPECT": "inspect",
    "PYTHONDEBUG": "debug",
    "PYTHONDEVMODE": "dev_mode",
}


@pytest.mark.parametrize("value", ["0", "1", "text"])
@pytest.mark.parametrize("name", FLAGS)
def test_pythons_own_flags_are_read_as_python_does(name: str, value: str) -> None:
    code = f"import sys; sys.stdout.write(str(int(sys.flags.{FLAGS[name]})))"
    env = {**os.environ, name: value}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=env,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    fact = {**ROWS[name], "left_on": True, "cost": "x"}

    assert values.is_left_on(value, fact, None) is (int(ran.stdout) > 0)


def test_what_a_platform_may_spare_is_no_certain_failure() -> None:
    """On the CPU vLLM starts with it: seen."""
    row = read("choice", choices=("spawn", "fork"))

    assert wrong("spawn", "VLLM_WORKER_MULTIPROC_METHOD", row) is None
    status, text = wrong("forkserver", "VLLM_WORKER_MULTIPROC_METHOD", row) or ("", "")
    assert status == "warn"
    assert text.endswith("; not where the platform is the CPU, which overwrites it with spawn")


FORK = {"style": "str", "choices": ["spawn", "fork"]}


@pytest.mark.parametrize(
    ("value", "fact", "row", "expected"),
    [
        ("frok", None, FORK, "fork"),
        ("FORK", None, FORK, "fork"),
        ("thread", None, FORK, ""),
        ("fork,spwan", None, FORK, "spawn"),
        ("40GB", {"unit": "GiB"}, {"style": "int", "choices": None}, "40"),
        ("GB", None, {"style": "int", "choices": None}, ""),
        ("yes", None, {"style": "one", "choices": None}, "1"),
        ("YES", None, {"style": "true", "choices": None}, "true"),
        ("off", None, {"style": "one-true", "choices": None}, "0"),
        ("maybe", None, {"style": "one", "choices": None}, ""),
        ("true", {"type": "flag"}, None, "1"),
        ("Rinf", {"type": "algorithms", "values": ["Ring", "Tree"]}, None, "Ring"),
        ("8x", {"type": "int"}, None, "8"),
        ("x", {"type": "url"}, None, ""),
        ("x", None, None, ""),
    ],
)
def test_what_was_meant(value: str, fact: Any, row: Any, expected: str) -> None:
    assert values.nearest(value, fact, row) == expected
