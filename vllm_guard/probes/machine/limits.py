"""What the kernel lets the server have: open files, locked memory, processes, a look by debuggers."""

from __future__ import annotations

from vllm_guard.model import Finding
from vllm_guard.probes import parallel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.host import Host
    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "limits of the kernel"

_FILES = 65535  #: vLLM raises its soft limit to this one, or not at all (`set_ulimit`)
_FEW_FILES = 8192  #: each request is one, each worker has hundreds
_THREADS = 512  #: what an engine and one worker together may have, each counted by pids.max
_ADMIN_ONLY = 2  #: /proc/sys/kernel/yama/ptrace_scope
_URI = "https://docs.vllm.ai/en/latest/serving/parallelism_scaling/"


def check(context: Context) -> Iterator[Finding]:
    yield from _open_files(context.host)
    yield from _locked(context)
    yield from _processes(context)
    scope = context.host.word("/proc/sys/kernel/yama/ptrace_scope")
    if scope.isdigit() and int(scope) >= _ADMIN_ONLY:
        fact = f"{scope}: py-spy and gdb cannot show where a hanging server stands"
        fix = "sysctl -w kernel.yama.ptrace_scope=1"
        yield Finding("ptrace-scope", "note", "ptrace_scope", fact, fix=fix)


def _open_files(host: Host) -> Iterator[Finding]:
    limits = host.limits("Max open files")
    if limits is None:
        yield Finding("nofile", "unknown", "open files", "/proc/self/limits does not tell")
        return
    soft, hard = limits
    if hard is not None and hard < _FILES:
        few = soft is not None and soft < _FEW_FILES
        status: Status = "warn" if few else "note"
        fact = f"{soft}, and at most {hard}: vLLM cannot raise it to {_FILES}, and leaves it so"
        fix = f"ulimit -n {_FILES}; in a container: --ulimit nofile={_FILES}:{_FILES}"
        yield Finding("nofile", status, "open files", fact, fix=fix)
    else:
        yield Finding(
            "nofile", "ok", "open files", f"up to {'unlimited' if hard is None else hard}"
        )


def _locked(context: Context) -> Iterator[Finding]:
    """RDMA pins memory; without RDMA nothing of vLLM needs it."""
    sizes = parallel.sizes(context)
    far = (sizes is not None and sizes.nodes > 1) or context.has("--kv-transfer-config")
    devices = sorted({port.device for port in context.host.rdma()})
    if not far or not devices or context.env.get("NCCL_IB_DISABLE") == "1":
        return
    subject, limits = "locked memory", context.host.limits("Max locked memory")
    if context.host.may_lock():
        yield Finding("memlock", "ok", subject, "CAP_IPC_LOCK")
    elif limits is None:
        yield Finding("memlock", "unknown", subject, "/proc/self/limits does not tell")
    elif limits[0] is None:
        yield Finding("memlock", "ok", subject, "unlimited")
    else:
        fact = f"at most {limits[0] >> 10} KiB, and {', '.join(devices)} pins the buffers of NCCL"
        fix = "ulimit -l unlimited; in a container: --cap-add IPC_LOCK --ulimit memlock=-1"
        yield Finding("memlock", "warn", subject, fact, fix=fix, uri=_URI)


def _processes(context: Context) -> Iterator[Finding]:
    limit, sizes = context.host.pids_limit(), parallel.sizes(context)
    if limit is None or sizes is None:
        return
    wanted = _THREADS * max(1, sizes.here)
    fact = f"{limit.used} of {limit.limit} processes and threads in use"
    if limit.left < wanted:
        fact += f"; vLLM may need {wanted}"
        fix = "docker run --pids-limit=-1; systemd: TasksMax=infinity; Kubernetes: podPidsLimit"
        yield Finding("cgroup-pids", "warn", limit.path, fact, fix=fix)
    else:
        yield Finding("cgroup-pids", "ok", limit.path, fact)
