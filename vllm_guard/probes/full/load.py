"""Does the very command become ready, with made-up weights and a port of its own?"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Finding
    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Ask

TITLE = "the command with dummy weights, until it answers"
NEEDS = "a `vllm serve` command with a port"
LIMIT = 600.0


def why_not(context: Context) -> str:
    other = "the command listens on no port of its own"
    several = "the command is one of several nodes"
    reason = full.no_server(context)
    reason = reason or ("" if context.has_port else other)
    return reason or (several if (context.flag("--nnodes") or "1") != "1" else "")


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    port = _free_port()
    mine = ("--load-format", "dummy", "--host", "127.0.0.1", "--port", str(port))
    asked = {"argv": (*context.argv, *mine), "port": port}  # of several, the last counts
    answer = ask("load", asked, LIMIT)
    for finding in full.judged("load", context.argv[0], answer):
        yield full.with_words(finding, answer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
