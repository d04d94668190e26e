"""Which nodes take part in one server, and where they meet: flags, Slurm, torchrun."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllm_guard.probes.parallel import MASTER_ADDRESS, MASTER_PORT, port_of, sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.probes import Context


@dataclass(frozen=True)
class Meeting:
    """Several nodes, and where they meet."""

    nodes: int
    rank: int  #: of this node
    address: str  #: of node 0
    port: int


def meeting(context: Context) -> Meeting | None:
    """What the command says of its nodes, else Slurm, else torchrun; None for one node."""
    if context.has("--nnodes", "-n"):
        size = sizes(context)
        address = context.flag("--master-addr") or MASTER_ADDRESS
        port = port_of(context.flag("--master-port") or "") or MASTER_PORT
        found = Meeting(size.nodes, size.rank, address, port) if size else None
    else:
        found = _of_slurm(context.env) or _of_torchrun(context.env)
    return found if found and found.nodes > 1 else None


def _of_slurm(env: Mapping[str, str]) -> Meeting | None:
    """What srun tells each task. A batch script has most of it, but is one process: no SLURM_STEP_ID."""
    nodes = env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES", "")
    rank = env.get("SLURM_NODEID", "")
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    if "SLURM_STEP_ID" not in env or not (nodes.isdecimal() and rank.isdecimal() and hosts):
        return None
    address = env.get("MASTER_ADDR") or first_host(hosts)
    port = port_of(env.get("MASTER_PORT", "")) or MASTER_PORT
    return Meeting(int(nodes), int(rank), address, port)


def _of_torchrun(env: Mapping[str, str]) -> Meeting | None:
    """What torchrun tells each process; at MASTER_PORT its own store listens."""
    nodes, rank = env.get("GROUP_WORLD_SIZE", ""), env.get("GROUP_RANK", "")
    address = env.get("MASTER_ADDR", "")
    if "TORCHELASTIC_RUN_ID" not in env or not (nodes.isdecimal() and rank.isdecimal()):
        return None
    return Meeting(int(nodes), int(rank), address, MASTER_PORT) if address else None


def task_of_node(env: Mapping[str, str]) -> int:
    """Which of the processes that torchrun or srun starts on this node this one is, from 0."""
    if "TORCHELASTIC_RUN_ID" in env:
        word = env.get("LOCAL_RANK", "")
    else:
        word = env.get("SLURM_LOCALID", "") if "SLURM_STEP_ID" in env else ""
    return int(word) if word.isdecimal() else 0


def first_host(hosts: str) -> str:
    """Of Slurm's list: `node[03-05,08],head` is node03. Ranges may stand in the middle of a name."""
    first = re.split(r",(?![^\[]*\])", hosts)[0]
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first)
