"""Probes for interpreters that have vLLM."""
