"""What one rank of `step_collective` does together with the others; each part has its own result."""

import time
from datetime import timedelta


def run(report, at, rank, local):
    """All parts in their order, up to the first that fails; True where all went well.

    `local`: the number of the rank on this node. Gloo comes before NCCL: it is there on every machine, and
    tells apart what is the network's fault.
    """
    import torch.distributed as dist

    # Longer than our own limit: a hang is to be seen where it is, not where torch gives up.
    limit = timedelta(seconds=at["limit"] + 60)
    host = f"[{at['address']}]" if ":" in at["address"] else at["address"]
    where = f"tcp://{host}:{at['port']}"
    join = {"world_size": at["world"], "rank": rank, "timeout": limit}
    return (
        report.attempt("join", lambda: dist.init_process_group("gloo", where, **join) or where)
        and report.attempt("gloo", lambda: _all_reduce("cpu", None))
        and (not at["gpus"] or _on_gpus(report, at, limit, local))
    )


def _on_gpus(report, at, limit, local):
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(local)
    group = dist.new_group(backend="nccl", timeout=limit)

    def graph():
        return _captured(lambda data, _: dist.all_reduce(data, group=group))

    if not report.attempt("nccl", lambda: _all_reduce("cuda", group)):
        return False
    if not report.attempt("nccl-graph", graph):
        return False
    if at["pynccl"] and not _pynccl(report, dist.group.WORLD, local):
        return False
    dist.barrier()
    return local != 0 or _p2p(report, at["here"])


def _all_reduce(device, group):
    import torch
    import torch.distributed as dist

    data = torch.ones(1 << 20, device=device)
    start = time.monotonic()
    dist.all_reduce(data, group=group)
    if device == "cuda":
        torch.cuda.synchronize()
    took = (time.monotonic() - start) * 1e3
    _expect(data, dist.get_world_size())
    return f"4 MiB in {took:.1f} ms"


def _expect(data, wanted):
    found = data.mean().item()
    if found != wanted:
        raise ArithmeticError(f"the sum over all ranks is {found!r} instead of {wanted!r}")


def _pynccl(report, group, local):
    """PyNccl, vLLM's own binding of NCCL, plainly and replayed from a CUDA graph."""
    import torch
    import torch.distributed as dist

    try:
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator

        communicator = PyNcclCommunicator(group=group, device=local)
    except Exception as error:
        report.say("pynccl", "fail", f"{type(error).__name__}: {error}")
        return False
    if communicator.disabled:
        if local == 0:
            _without_pynccl(report, dist.get_world_size(group))
        return True

    def plain():
        data = torch.ones(1 << 20, device="cuda")
        out = communicator.all_reduce(data)
        torch.cuda.synchronize()
        _expect(data if out is None else out, dist.get_world_size(group))
        return "4 MiB"

    def graph():
        return _captured(lambda data, stream: communicator.all_reduce(data, stream=stream))

    return report.attempt("pynccl", plain) and report.attempt("pynccl-graph", graph)


def _without_pynccl(report, ranks):
    """Of which vLLM says nothing: it was told to, or cannot use the NCCL that is there."""
    from vllm import envs
    from vllm.distributed.device_communicators.pynccl_wrapper import NCCLLibrary

    if ranks == 1 or envs.VLLM_DISABLE_PYNCCL:
        why = "one rank" if ranks == 1 else "VLLM_DISABLE_PYNCCL"
        report.say("pynccl", "note", f"PyNccl is not used by vLLM here: {why}")
        return
    try:
        NCCLLibrary()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        fact = f"vLLM cannot use this NCCL, and does without PyNccl: {why}"
        report.say("pynccl", "warn", fact, fix="install the torch that this vLLM requires")


def _captured(reduce):
    """`reduce(data, stream)`, captured in a CUDA graph and replayed."""
    import torch
    import torch.distributed as dist

    data = torch.ones(1024, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        reduce(data, stream)  # NCCL sets itself up outside of the capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        out = reduce(data, stream)
    data.fill_(1)
    graph.replay()
    torch.cuda.synchronize()
    _expect(data if out is None else out, dist.get_world_size())
    return "captured and replayed"


def _p2p(report, gpus):
    """Copies between each pair of GPUs: right, and how fast. True where all went well."""
    pairs = [(one, other) for one in range(gpus) for other in range(gpus) if one != other]
    well = [
        report.attempt(f"p2p {one} to {other}", lambda a=one, b=other: _copy(a, b))
        for one, other in pairs
    ]
    return all(well)


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
