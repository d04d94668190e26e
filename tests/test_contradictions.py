"""Variables against each other, the command and the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import contradictions

SERVE = ("vllm", "serve", "m")


def ids(env: dict[str, str], words: tuple[str, ...] = SERVE, gpus: int | None = None) -> list[str]:
    return [finding.id for finding in contradictions.find(env, words, gpus)]


@pytest.mark.parametrize(
    ("value", "gpus", "fact"),
    [
        ("0", 1, ""),
        ("0,1", 2, ""),
        ("0, 1", 2, ""),
        ("1", 1, "this host has 1, numbered from 0: CUDA ignores 1 and all behind it"),
        ("0,2,1", 2, "CUDA ignores 2 and all behind it"),
        ("7", None, ""),
        ("7", 0, ""),
        ("0,0", None, "0 is there twice"),
        ("GPU-a,GPU-a", 2, "GPU-a is there twice"),
        ("1,0,1,0", 1, "0, 1 is there twice"),
        ("GPU-8c7c9c30,MIG-377e0049", 1, ""),
        ("", 2, "hides the 2 GPUs of this host"),
        (" ", 2, "hides the 2 GPUs"),
        ("-1", 2, "hides the 2 GPUs"),
        ("none", 2, "hides the 2 GPUs"),
        ("NoDevFiles", 2, "hides the 2 GPUs"),
        ("", 0, ""),
        ("", None, ""),
        ("-1", None, ""),
        ("0,", 1, ""),
        ("0,-1,1", 2, ""),
        ("all", 2, ""),
    ],
)
@pytest.mark.parametrize(
    "name", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
)
def test_which_devices_are_visible(name: str, value: str, gpus: int | None, fact: str) -> None:
    found = list(contradictions.find({name: value}, SERVE, gpus))

    assert [(f.id, f.status, f.subject) for f in found] == (
        [("visible-devices", "warn", f"{name}={value}")] if fact else []
    )
    assert all(fact in f.fact and f.fix for f in found)


@pytest.mark.parametrize(
    ("env", "words", "found"),
    [
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "2"), True),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp=8",), True),
        ({"NCCL_P2P_DISABLE": "1"}, ("--tensor-parallel-size", "2"), True),
        ({"NCCL_P2P_DISABLE": "1"}, ("--tensor-parallel-size=2",), True),
        ({"NCCL_P2P_DISABLE": "1"}, ("--tensor_parallel_size", "2"), True),
        ({"NCCL_P2P_LEVEL": "LOC"}, ("-tp", "2"), True),
        ({"NCCL_P2P_LEVEL": "loc"}, ("-tp", "2"), True),
        ({"NCCL_P2P_LEVEL": "0"}, ("-tp", "2"), True),
        ({"NCCL_P2P_LEVEL": "NVL"}, ("-tp", "2"), False),
        ({"NCCL_P2P_DISABLE": "0"}, ("-tp", "2"), False),
        ({"NCCL_P2P_DISABLE": "0", "NCCL_P2P_LEVEL": "LOC"}, ("-tp", "2"), True),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "1"), False),
        ({"NCCL_P2P_DISABLE": "1"}, (), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp",), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "two"), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-pp", "2"), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "2", "--disable-custom-all-reduce"), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "2", "--disable_custom_all_reduce"), False),
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "1", "-tp", "2"), True),  # argparse: the last counts
        ({"NCCL_P2P_DISABLE": "1"}, ("-tp", "2", "-tp", "1"), False),
        ({}, ("-tp", "2"), False),
    ],
)
def test_p2p_is_off_in_both_or_in_neither(
    env: dict[str, str], words: tuple[str, ...], found: bool
) -> None:
    assert ids(env, (*SERVE, *words)) == ["p2p-half-off"] * found


def test_p2p_names_the_variable_that_turns_it_off() -> None:
    env = {"NCCL_P2P_DISABLE": "0", "NCCL_P2P_LEVEL": "LOC"}

    (finding,) = contradictions.find(env, (*SERVE, "-tp", "2"), None)

    assert finding.subject == "NCCL_P2P_LEVEL=LOC"


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({"http_proxy": "http://p:1"}, True),
        ({"HTTP_PROXY": "http://p:1"}, True),
        ({"all_proxy": "socks5://p:1"}, True),
        ({"ALL_PROXY": "socks5://p:1"}, True),
        ({"https_proxy": "http://p:1"}, False),  # the server itself speaks plain HTTP
        ({"http_proxy": ""}, False),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost"}, False),
        ({"http_proxy": "http://p:1", "NO_PROXY": "corp, 127.0.0.1"}, False),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, False),
        ({"http_proxy": "http://p:1", "no_proxy": "corp.example"}, True),
        ({"http_proxy": "http://p:1", "no_proxy": "notlocalhost"}, True),
        ({"no_proxy": "localhost"}, False),
    ],
)
def test_a_proxy_is_not_for_this_host(env: dict[str, str], found: bool) -> None:
    assert ids(env) == ["proxy-local"] * found


EXPANDABLE = "expandable_segments:True"


@pytest.mark.parametrize(
    ("value", "words", "found"),
    [
        (EXPANDABLE, ("--kv-transfer-config", "{}"), True),
        (EXPANDABLE, ("--kv-transfer-config={}",), True),
        (EXPANDABLE, ("--kv_transfer_config", "{}"), True),
        (f"max_split_size_mb:128, {EXPANDABLE}", ("--kv-transfer-config", "{}"), True),
        ("expandable_segments:False", ("--kv-transfer-config", "{}"), False),
        (f"{EXPANDABLE},expandable_segments:False", ("--kv-transfer-config", "{}"), False),
        (f"expandable_segments:False,{EXPANDABLE}", ("--kv-transfer-config", "{}"), True),
        (EXPANDABLE, (), False),
        (EXPANDABLE, ("--kv-transfer-config", "{}", "--enable-sleep-mode"), False),
        (EXPANDABLE, ("--kv-transfer-config", "{}", "--enable-cumem-allocator"), False),
        ("", ("--kv-transfer-config", "{}"), False),
    ],
)
@pytest.mark.parametrize(
    "name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"]
)
def test_expandable_segments_and_a_connector(
    name: str, value: str, words: tuple[str, ...], found: bool
) -> None:
    assert ids({name: value}, (*SERVE, *words)) == ["allocator-conflict"] * found


NAMES = [
    *(
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "NCCL_P2P_DISABLE",
        "NCCL_P2P_LEVEL",
        "http_proxy",
    ),
    *("no_proxy", "PYTORCH_ALLOC_CONF", "PATH"),
]
TEXT = st.text(max_size=8) | st.sampled_from(["1", "0,0", "LOC", EXPANDABLE, "-1"])
WORDS = st.lists(TEXT | st.sampled_from(["-tp", "2", "--kv-transfer-config"]), max_size=5).map(
    tuple
)


@given(st.dictionaries(st.sampled_from(NAMES), TEXT), WORDS, st.none() | st.integers(0, 9))
def test_every_finding_is_of_a_variable_that_is_set_and_can_be_acted_upon(env, words, gpus) -> None:
    for finding in contradictions.find(env, words, gpus):
        name, equals, value = finding.subject.partition("=")
        assert name in env
        assert not equals or value == env[name]
        assert finding.fact
        assert finding.fix
        assert finding.status in ("warn", "note")
