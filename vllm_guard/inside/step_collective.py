"""collective: what tensor and pipeline parallelism need between ranks, each part with its own result.

torch is imported once; the ranks are forked before anything initialises CUDA.
"""

import os
import signal
import socket
import sys
import time
from datetime import timedelta

PARTS = ("nccl", "gloo", "pynccl", "pynccl-graph")


def run(report, ask):
    if not report.attempt("import", _import):
        return
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # counting must not initialise CUDA
    import torch

    gpus = torch.cuda.device_count()
    here = max(1, ask["world"] // ask["nodes"])
    if gpus and here > gpus:
        report.say("gpus", "note", f"{here} ranks here, {gpus} GPUs: tested with {gpus}")
        here = gpus
    at = dict(ask, here=here, world=here * ask["nodes"], gpus=gpus)
    at["port"] = at["port"] or _free_port()
    report.unwatch()
    ranks = {}
    for local in range(here):
        pid = os.fork()
        if pid == 0:
            _rank(report, at, local)
        ranks[pid] = f"rank {at['node'] * here + local}"
    _wait(report, ranks, ask["limit"] + 1.0)


def _import():
    import torch
    import torch.distributed

    if not torch.distributed.is_available():
        raise RuntimeError("this torch is built without torch.distributed")
    return torch.__version__


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(report, ranks, seconds):
    """Until every rank has ended; who has not by then is named and killed."""
    end = time.monotonic() + seconds
    left = dict(ranks)
    while left and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in left:
            who = left.pop(pid)
            if os.WIFSIGNALED(status):
                report.say("rank", "fail", f"killed by signal {os.WTERMSIG(status)}", of=who)
        elif pid == 0:
            time.sleep(0.01)
    for pid, who in left.items():
        report.say("rank", "fail", f"{_state(pid)} after {seconds - 1.0:.0f} s", of=who, hung=True)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        letter = file.read().rpartition(")")[2].split()[0]
    return "stopped by a signal" if letter == "T" else "has not ended"


def _rank(report, at, local):
    """One rank, which never returns."""
    status = 1
    try:
        rank = at["node"] * at["here"] + local
        report.watch(f"rank {rank}", at["limit"])
        _parts(report, at, rank, local)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # taking torch down takes longer than the test


def _parts(report, at, rank, local):
    import torch
    import torch.distributed as dist

    # Longer than our own limit: a hang is to be seen where it is, not where torch gives up.
    limit = timedelta(seconds=at["limit"] + 60)
    where = f"tcp://{at['address']}:{at['port']}"
    backend = "nccl" if at["gpus"] else "gloo"
    if at["gpus"]:
        torch.cuda.set_device(local)
    join = {"world_size": at["world"], "rank": rank, "timeout": limit}
    if not report.attempt("join", lambda: dist.init_process_group(backend, where, **join) or where):
        return
    if at["gpus"]:
        report.attempt("nccl", lambda: _all_reduce("cuda", None))
    gloo = dist.new_group(backend="gloo", timeout=limit) if at["gpus"] else None
    report.attempt("gloo", lambda: _all_reduce("cpu", gloo))
    if at["nodes"] > 1:
        report.attempt("nodes", lambda: _compare(gloo))
    if not at["gpus"]:
        return
    if at["pynccl"]:
        _pynccl(report, gloo or dist.group.WORLD, local)
    dist.barrier(gloo)
    if local == 0:
        _p2p(report, at["here"])


def _all_reduce(device, group):
    import torch
    import torch.distributed as dist

    data = torch.ones(1 << 20, device=device)
    dist.all_reduce(data, group=group)
    if device == "cuda":
        torch.cuda.synchronize()
    _expect(data, dist.get_world_size())
    return "4 MiB"


def _expect(data, wanted):
    found = data.mean().item()
    if found != wanted:
        raise ArithmeticError(f"the sum over all ranks is {found!r} instead of {wanted!r}")


def _pynccl(report, group, local):
    """PyNccl, vLLM's own binding of NCCL, plainly and replayed from a CUDA graph."""
    import torch

    try:
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator
    except Exception as error:
        report.say("pynccl", "fail", f"{type(error).__name__}: {error}")
        return
    made = []

    def plain():
        made.append(PyNcclCommunicator(group=group, device=local))
        if made[0].disabled:
            return "not used by vLLM here: one rank, or VLLM_DISABLE_PYNCCL"
        data = torch.ones(1 << 20, device="cuda")
        out = made[0].all_reduce(data)
        torch.cuda.synchronize()
        _expect(data if out is None else out, made[0].world_size)
        return "4 MiB"

    def graph():
        return _captured(made[0])

    if report.attempt("pynccl", plain) and not made[0].disabled:
        report.attempt("pynccl-graph", graph)


def _captured(communicator):
    import torch

    data = torch.ones(1024, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        communicator.all_reduce(data, stream=stream)  # NCCL sets itself up outside of the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        out = communicator.all_reduce(data, stream=stream)
    data.fill_(1)
    graph.replay()
    torch.cuda.synchronize()
    _expect(data if out is None else out, communicator.world_size)
    return "captured and replayed"


def _p2p(report, gpus):
    """Copies between each pair of GPUs: right, and how fast."""
    for one in range(gpus):
        for other in range(gpus):
            if one != other:
                report.attempt(f"p2p {one} to {other}", lambda a=one, b=other: _copy(a, b))


def _copy(one, other):
    import torch

    size = 256 << 20
    source = torch.arange(size // 4, dtype=torch.int32, device=f"cuda:{one}")
    target = torch.empty_like(source, device=f"cuda:{other}")
    target.copy_(source)
    torch.cuda.synchronize(one)
    torch.cuda.synchronize(other)
    start = time.monotonic()
    target.copy_(source)
    torch.cuda.synchronize(one)
    torch.cuda.synchronize(other)
    rate = size / (time.monotonic() - start) / 1e9
    if not torch.equal(target.cpu(), source.cpu()):
        raise ArithmeticError("what arrives is not what was sent")
    direct = torch.cuda.can_device_access_peer(one, other)
    return f"{rate:.1f} GB/s, {'peer access' if direct else 'through host memory'}"


def _compare(group):
    """Every node's settings of NCCL, Gloo and vLLM: they must not differ."""
    import torch.distributed as dist

    kinds = ("NCCL_", "GLOO_", "VLLM_", "TP_")
    own = {"VLLM_HOST_IP", "VLLM_RPC_BASE_PATH"}
    mine = {k: v for k, v in os.environ.items() if k.startswith(kinds) and k not in own}
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, (socket.gethostname(), mine), group=group)
    first = every[0][1]
    names = sorted({n for _, env in every for n in {*env, *first} if env.get(n) != first.get(n)})
    if names:
        raise ValueError(f"the nodes differ in {', '.join(names)}")
    return f"{len({host for host, _ in every})} nodes with the same settings"
