"""Probes of the machine: for a server, a script that may use vLLM, and where no command is given."""
