"""Probes for commands that start an API server."""
