"""What a launch's variables do beyond their purpose: tables."""

from __future__ import annotations

import pytest

from vllm_guard import effects, facts

KEY = ["VLLM_TRACE_FUNCTION", "VLLM_SKIP_P2P_CHECK"]
OLD = ["VLLM_", "NCCL_", "PYTHONHASHSEED"]  #: as vLLM 0.17.1 copies
RAY = ("vllm", "serve", "m", "--distributed-executor-backend", "ray")


def found(changed, words=("vllm", "serve", "m"), copied=None) -> dict[str, str]:
    findings = effects.find(changed, words, facts.variables(), KEY, copied)
    return {finding.id: finding.subject for finding in findings}


@pytest.mark.parametrize(
    ("changed", "words", "copied", "expected"),
    [
        ({"VLLM_LOGGING_LEVEL": "DEBUG", "NCCL_DEBUG": "TRACE"}, (), None, {}),
        ({"VLLM_TRACE_FUNCTION": "1", "A": ""}, (), None, {"cold-compile": "VLLM_TRACE_FUNCTION"}),
        ({"VLLM_TRACE_FUNCTION": "1"}, ("--enforce-eager",), None, {}),
        (
            {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"},
            (),
            None,
            {"cold-compile": "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"},
        ),
        ({"HF_DEBUG": "1"}, (), None, {"prompts-in-log": "HF_DEBUG"}),
        ({"HF_DEBUG": "0"}, (), None, {}),
        ({"VLLM_HOST_IP": "1.2.3.4"}, (), OLD, {}),
        ({"VLLM_HOST_IP": "1.2.3.4"}, RAY, OLD, {"ray-own": "VLLM_HOST_IP"}),
        (
            {"NCCL_DEBUG": "INFO", "CUDA_LAUNCH_BLOCKING": "1"},
            RAY,
            OLD,
            {"ray-not-copied": "CUDA_LAUNCH_BLOCKING"},
        ),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, RAY, None, {}),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, (), OLD, {}),
        ({"X": "1"}, ("--distributed_executor_backend=ray",), OLD, {"ray-not-copied": "X"}),
        ({"X": "1"}, ("--distributed-executor-backend", "mp"), OLD, {}),
    ],
)
def test_effects(changed, words, copied, expected) -> None:
    assert found(changed, words, copied) == expected
