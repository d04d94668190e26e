"""How a script's main module is read and loaded. Standard library only, Python 3.8 or later.

The harness loads this package in the target's interpreter under a private name; `vllm-guard check`
imports it as `vllm_guard.inside.mainguard`.
"""
