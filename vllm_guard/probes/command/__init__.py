"""Probes for every launch."""
