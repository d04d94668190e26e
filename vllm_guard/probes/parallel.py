"""How many processes and GPUs the command's own flags ask for, on how many nodes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass

    from vllm_guard.probes import Context
else:
    from vllm_guard.frozen import dataclass

MASTER_PORT = 29501  #: of vLLM, for --master-port
MASTER_ADDRESS = "127.0.0.1"  #: of vLLM, for --master-addr
_ELSEWHERE = ("external_launcher", "ray")  #: executors whose workers need not be on this node


@dataclass(frozen=True)
class Sizes:
    """The sizes of one server."""

    world: int  #: TP * PP: the workers of one engine
    total: int  #: of all engines, on all nodes
    here: int  #: GPUs that this node must have
    engines: int  #: the engines of this node (data parallel)
    nodes: int
    rank: int  #: of this node

    @property
    def is_distributed(self) -> bool:
        """Do processes talk to each other by NCCL or Gloo?"""
        return self.world > 1 or self.engines > 1 or self.nodes > 1


def sizes(context: Context) -> Sizes | None:
    """What the flags say; None where one cannot be."""
    try:
        tensor, pipeline, prefill = (
            int(context.flag(*names) or 1)
            for names in (
                ("--tensor-parallel-size", "-tp"),
                ("--pipeline-parallel-size", "-pp"),
                ("--prefill-context-parallel-size", "-pcp"),
            )
        )
        data = int(context.flag("--data-parallel-size", "-dp") or 1)
        engines = int(context.flag("--data-parallel-size-local", "-dpl") or data)
        nodes, rank = (
            int(context.flag("--nnodes", "-n") or 1),
            int(context.flag("--node-rank", "-r") or 0),
        )
    except ValueError:
        return None
    if min(tensor, pipeline, prefill, data, engines, nodes) < 1 or rank < 0:
        return None
    world = tensor * pipeline * prefill
    here = -(-world * data // nodes) if nodes > 1 else world * engines
    return Sizes(world, world * data, here, engines, nodes, rank)


def port_of(word: str) -> int | None:
    """The TCP port that a word is; None for none."""
    is_number = word.isascii() and word.isdigit() and len(word) < 6
    return int(word) if is_number and 0 < int(word) < 65536 else None


def on_this_node(context: Context) -> bool:
    """Must every worker be on this node, so far as flags and environment say?"""
    executor = context.flag("--distributed-executor-backend")
    ray = context.flag("--data-parallel-backend", "-dpb") == "ray"
    in_ray = any(name.startswith("RAY_") for name in context.env)
    return executor not in _ELSEWHERE and not ray and not in_ray
