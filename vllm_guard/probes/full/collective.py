"""Can the ranks talk: NCCL, Gloo, vLLM's own binding of NCCL, that in a CUDA graph, copies between GPUs?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import vllm_guard
from vllm_guard import facts
from vllm_guard.frozen import replace
from vllm_guard.model import Finding
from vllm_guard.probes import full, meeting, net
from vllm_guard.probes.server import network_picks
from vllm_guard.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Answer, Ask

TITLE = "communication between ranks: NCCL, Gloo, PyNccl, CUDA graph, GPU to GPU"
NEEDS = "the command's Python"
LIMIT = 240.0  #: for all of it: the nodes meet, torch is imported, the ranks run
_RANK = 60.0  #: seconds that the ranks may take
_MEET = 60.0  #: seconds that one node waits for the others
_SIZES = (
    ("--tensor-parallel-size", "-tp"),
    ("--pipeline-parallel-size", "-pp"),
    ("--data-parallel-size", "-dp"),
)
_GPU_PARTS = ("nccl", "nccl-graph", "pynccl", "pynccl-graph", "p2p", "rank")
_FAMILIES = ("NCCL_", "GLOO_", "VLLM_", "TP_")
#: Those that each node has for itself; the interfaces are tried.
_OWN = (
    *("VLLM_HOST_IP", "VLLM_RPC_BASE_PATH", "VLLM_LOOPBACK_IP", "VLLM_DP_RANK"),
    *("VLLM_DP_RANK_LOCAL", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"),
)
_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#incorrect-hardwaredriver"
_NETWORK = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#incorrect-network-setup"


def why_not(context: Context) -> str:
    reason = full.no_python(context)
    if not reason and meeting.meeting(context) and meeting.task_of_node(context.env):
        return "the first process of this node does it"
    return reason


def is_shared(context: Context) -> bool:
    """Do other nodes take part? They would wait in vain for one that only remembers."""
    return meeting.meeting(context) is not None


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    asked = _asked(context)
    nodes = f" on {asked['nodes']} nodes" if asked["nodes"] > 1 else ""
    ranks = "1 rank" if asked["world"] == 1 else f"{asked['world']} ranks"
    subject = f"{ranks}{nodes}"
    if "SLURM_NNODES" in context.env and asked["nodes"] == 1:
        yield from _slurm(context)
    answer = ask("collective", asked, LIMIT)
    if answer.is_well:
        where = tuple(_each(answer)) if asked["nodes"] > 1 else ()
        yield Finding("collective-works", "ok", subject, _summary(answer), evidence=where)
        yield from full.remarks("collective", subject, answer, ("warn",))
        return
    fix = _fix(answer, asked, ask)
    hung = tuple(_hung(answer))
    rest = tuple(row for row in answer.rows if not row.get("hung"))
    others = full.judged("collective", subject, replace(answer, rows=rest), fix)
    for finding in (*hung, *(other for other in others if other.status != "ok")):
        mend = finding.fix or (fix if finding.status == "fail" else "")
        of_network = finding.id in ("collective-meet", "collective-reach")
        yield replace(finding, fix=mend, uri=_NETWORK if of_network else _URI)


def _asked(context: Context) -> dict[str, Any]:
    """What the step is told."""
    met = meeting.meeting(context)
    nodes = met.nodes if met else 1
    common = {
        "world": _world(context, nodes),
        "nodes": nodes,
        "pynccl": bool(context.target and context.target.vllm),
        "limit": _RANK,
    }
    if met is None:
        return {**common, "node": 0, "address": "127.0.0.1", "port": 0}
    here = net.interfaces(context.host)
    vllm = context.target.vllm if context.target else None
    return {
        **common,
        "node": met.rank,
        "address": met.address,
        "port": met.port,
        "meet": _MEET,
        "interfaces": {interface.name: interface.addresses for interface in here},
        "nccl": _nccl(context, here),
        "versions": {
            "vLLM": vllm.version if vllm else "none",
            "vllm-guard": vllm_guard.__version__,
        },
        "settings": _settings(context),
    }


def _world(context: Context, nodes: int) -> int:
    """How many ranks in all: TP x PP, on several nodes times DP; two a node where none are named."""
    flags = _SIZES if nodes > 1 else _SIZES[:2]
    sizes = [_number(context.flag(*names), 1) for names in flags]
    return math.prod(sizes) if any(context.has(*names) for names in flags) else 2 * nodes


def _nccl(context: Context, here: tuple[net.Interface, ...]) -> str:
    """The address that NCCL listens at; empty where no NCCL is to be expected."""
    given = network_picks.nccl_ifname(context)
    found = network_picks.nccl_interfaces(given, here)
    expected = given or context.host.exists("/dev/nvidiactl")
    return found[0].addresses[0] if expected and found else ""


def _settings(context: Context) -> dict[str, str]:
    """The variables that must be alike on all nodes. Secrets are not told to anybody."""
    redactor = Redactor(facts.load("redact"))
    return {
        name: redactor.text(value)
        for name, value in context.env.items()
        if name.startswith(_FAMILIES)
        and name not in (*_OWN, *context.own)
        and not redactor.is_secret(name)
    }


def _slurm(context: Context) -> Iterator[Finding]:
    """A batch script, or one task of several nodes."""
    nodes = context.env["SLURM_NNODES"]
    if _number(nodes, 1) > 1 and not context.has("--nnodes", "-n"):
        fact = f"the job has {nodes} nodes, and only this one is tested"
        fix = "srun --ntasks-per-node=1 vllm-guard doctor ... in the job's script"
        yield Finding("collective-slurm", "note", "Slurm", fact, fix=fix)


def _number(word: str | None, default: int) -> int:
    return int(word) if word and word.isascii() and word.isdecimal() else default


def _fix(answer: Answer, asked: dict[str, Any], ask: Ask) -> str:
    """Profile p2p-off is recommended only where NCCL fails and, tried again with it, does not.

    Every node has the rows of all, so that all try again, or none.
    """
    bad = {str(row["part"]).partition(" ")[0] for row in (*answer.failed(), *answer.unfinished())}
    on_gpus = {row["who"] for row in answer.rows if row["part"] == "nccl"}
    if len(on_gpus) < 2 or not bad.intersection(_GPU_PARTS):
        return ""
    again = ask("collective", asked, LIMIT, ("p2p-off",))
    if again.is_well:
        return "with -p p2p-off all of it works: use that until the driver or topology is mended"
    return "with -p p2p-off it fails as well: NCCL_DEBUG=TRACE says more (-p nccl)"


def _hung(answer: Answer) -> Iterator[Finding]:
    """Every rank that was still there at the limit, where it was: one hangs, the others wait for it."""
    hung = [row for row in answer.failed() if row.get("hung")]
    hung.sort(key=lambda row: _rank_number(row["who"]))
    waiting = [row for row in hung if _waits(row)]
    for row in hung:
        at = [part["part"] for part in answer.unfinished() if part["who"] == row["who"]]
        fact = f"{row['fact']}, in {', '.join(at)}" if at else row["fact"]
        if waiting and row not in waiting:
            one = f"{full.who_of(waiting[0])} waits"
            others = one if len(waiting) == 1 else f"{len(waiting)} ranks wait"
            fact += f"; it did not arrive: {others} for it"
        stack = tuple(full.shown_stack(row["stack"]))
        yield Finding("collective-hangs", "fail", full.who_of(row), fact, uri=_URI, evidence=stack)


def _rank_number(who: str) -> int:
    return int(who.split()[1])


def _waits(row: Mapping[str, Any]) -> bool:
    """Is the rank inside torch's communication? Then it waits for others."""
    return any("/torch/distributed/" in line for line in row["stack"])


def _each(answer: Answer) -> Iterator[str]:
    """One line for each rank: where it ran, and what each part took."""
    ranks: dict[str, list[str]] = {}
    for row in answer.rows:
        if row["state"] == "ok" and row["who"]:
            told = f"{row['part']} {row['fact']}" if row["fact"] else row["part"]
            ranks.setdefault(full.who_of(row), []).append(told)
    for who in sorted(ranks, key=_rank_number):
        yield f"{who}: {', '.join(ranks[who])}"


def _summary(answer: Answer) -> str:
    """`nccl, gloo`, and what each copy between GPUs achieved."""
    parts = dict.fromkeys(row["part"] for row in answer.rows if row["state"] == "ok")
    alone = (row for row in answer.rows if "host" not in row)  # for others each rank has a line
    copies = [f"{row['part']} {row['fact']}" for row in alone if row["part"].startswith("p2p ")]
    names = [part for part in parts if not part.startswith("p2p ") and part != "import"]
    copies = [text for text in copies if not text.endswith(" ")]
    without = "" if "nccl" in parts else "; no GPU: NCCL, PyNccl and P2P were not tested"
    notes = [row["fact"] for row in answer.rows if row["state"] == "note"]
    where = [f"on {', '.join(hosts)}"] if (hosts := _hosts(answer)) else []
    return "; ".join([", ".join(names), *where, *copies, *dict.fromkeys(notes)]) + without


def _hosts(answer: Answer) -> list[str]:
    """The nodes of several, each once."""
    known = {row["node"]: row["host"] for row in answer.rows if row["who"] and "host" in row}
    return [f"{known[number]} (node {number})" for number in sorted(known)]
