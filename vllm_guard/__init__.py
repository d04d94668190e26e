"""vllm-guard: run a vLLM command under debug settings that exist for that one run only."""

__version__ = "0.1.0"
