"""Probes for commands whose Python interpreter is known."""
