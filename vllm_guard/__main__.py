"""`python -m vllm_guard`."""

from vllm_guard.cli import main

main()
