"""Can the ranks talk: NCCL, Gloo, vLLM's own binding of NCCL, that in a CUDA graph, copies between GPUs?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_guard.frozen import replace
from vllm_guard.model import Finding
from vllm_guard.probes import full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context
    from vllm_guard.probes.full import Answer, Ask

TITLE = "communication between ranks: NCCL, Gloo, PyNccl, CUDA graph, GPU to GPU"
NEEDS = "the command's Python"
LIMIT = 180.0  #: of which one rank has a third: the rest is for the import of torch
why_not = full.no_python
_RANK = LIMIT / 3
_SIZES = (
    ("--tensor-parallel-size", "-tp"),
    ("--pipeline-parallel-size", "-pp"),
)
_MASTER_PORT = 29501  #: of vLLM
_GPU_PARTS = ("nccl", "pynccl", "pynccl-graph", "p2p", "rank")
_URI = "https://docs.vllm.ai/en/latest/usage/troubleshooting/#incorrect-hardwaredriver"


def check(context: Context, ask: Ask) -> Iterator[Finding]:
    asked = _asked(context)
    subject = f"{asked['world']} ranks"
    answer = ask("collective", asked, LIMIT)
    if answer.is_well:
        yield Finding("collective-works", "ok", subject, _summary(answer))
        return
    fix = _fix(answer, asked, ask)
    hung = tuple(_hung(answer))
    rest = tuple(row for row in answer.rows if not row.get("hung"))
    others = full.judged("collective", subject, replace(answer, rows=rest), fix)
    for finding in (*hung, *(other for other in others if other.status != "ok")):
        yield replace(finding, fix=fix if finding.status == "fail" else "", uri=_URI)


def _asked(context: Context) -> dict[str, Any]:
    nodes = _number(context.flag("--nnodes", "-n"), 1)
    sizes = [_number(context.flag(*names), 1) for names in _SIZES]
    world = sizes[0] * sizes[1]
    asked = world > 1 or any(context.has(*names) for names in _SIZES)
    return {
        "world": world if asked else 2 * nodes,
        "nodes": nodes,
        "node": _number(context.flag("--node-rank", "-r"), 0) if nodes > 1 else 0,
        "address": context.flag("--master-addr") or "127.0.0.1" if nodes > 1 else "127.0.0.1",
        "port": _number(context.flag("--master-port"), _MASTER_PORT) if nodes > 1 else 0,
        "pynccl": bool(context.target and context.target.vllm),
        "limit": _RANK,
    }


def _number(word: str | None, default: int) -> int:
    return int(word) if word and word.isascii() and word.isdecimal() else default


def _fix(answer: Answer, asked: dict[str, Any], ask: Ask) -> str:
    """Profile p2p-off is recommended only where NCCL fails and, tried again with it, does not."""
    bad = {str(row["part"]).partition(" ")[0] for row in (*answer.failed(), *answer.unfinished())}
    on_gpus = any(row["part"] == "nccl" for row in answer.rows)
    if not on_gpus or not bad.intersection(_GPU_PARTS) or asked["nodes"] > 1:
        return ""
    again = ask("collective", asked, LIMIT, ("p2p-off",))
    if again.is_well:
        return "with -p p2p-off all of it works: use that until the driver or topology is mended"
    return "with -p p2p-off it fails as well: NCCL_DEBUG=TRACE says more (-p nccl)"


def _hung(answer: Answer) -> Iterator[Finding]:
    """Every rank that was still there at the limit, where it was: one hangs, the others wait for it."""
    for row in answer.failed():
        if not row.get("hung"):
            continue
        who = row["of"]
        at = [other["part"] for other in answer.unfinished() if other["who"] == who]
        fact = f"{row['fact']}, in {', '.join(at)}" if at else row["fact"]
        stack = tuple(full.shown_stack(answer.stacks.get(who.replace(" ", "-"), ())))
        yield Finding("collective-hangs", "fail", who, fact, uri=_URI, evidence=stack)


def _summary(answer: Answer) -> str:
    """`nccl, gloo`, and what each copy between GPUs achieved."""
    parts = dict.fromkeys(row["part"] for row in answer.rows if row["state"] == "ok")
    copies = [f"{r['part']} {r['fact']}" for r in answer.rows if r["part"].startswith("p2p ")]
    names = [part for part in parts if not part.startswith("p2p ") and part != "import"]
    copies = [text for text in copies if not text.endswith(" ")]
    without = "" if "nccl" in parts else "; no GPU: NCCL, PyNccl and P2P were not tested"
    notes = [row["fact"] for row in answer.rows if row["state"] == "note"]
    return "; ".join([", ".join(names), *copies, *dict.fromkeys(notes)]) + without
