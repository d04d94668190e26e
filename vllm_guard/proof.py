"""What of the host must be, after a run, as it was before: the server's port, and the GPUs' memory; and
whether it ran out of memory.

Processes, shared memory and files are the keeper's work (`leftovers`); by now none of the run's is alive.
"""

from __future__ import annotations

from vllm_guard import gpu, oom, sockets
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_FREED_AFTER = 5.0  #: seconds; an H100 with 8.8 GB of a killed process took up to 0.5 s
_HOLDERS = "nvidia-smi --query-compute-apps=gpu_bus_id,pid,process_name,used_memory --format=csv"


class Before:
    """The host as it is before the start."""

    def __init__(self, port: int | None) -> None:
        free = port is not None and not sockets.is_listening(port)
        self._port = port if free else None
        self._gpus = gpu.read()
        self._kills = oom.read()

    @property
    def looked_at(self) -> tuple[str, ...]:
        """What `differences` looks at, in words."""
        port = () if self._port is None else (f"port {self._port}",)
        count = len(self._gpus)
        memory = (f"memory of {count} GPU{'s' * (count > 1)}",) if count else ()
        return (*port, *memory)

    def incidents(self) -> Iterator[Finding]:
        """What befell the run that no process of it can tell."""
        kills = self._kills
        if kills is None or kills.since < 1:
            return
        limit = f", whose limit is {kills.limit >> 20} MiB" if kills.limit is not None else ""
        yield Finding(
            "host-oom-kill",
            "warn",
            "memory",
            f"the kernel's out-of-memory killer struck meanwhile: {kills.since} in {kills.path}{limit}",
            fix="`dmesg | grep -i oom` names the process; let it need less, or raise the limit",
        )

    def differences(self) -> Iterator[Finding]:
        """A finding for each thing that is not as it was."""
        if self._port is not None and sockets.is_listening(self._port):
            yield Finding(
                "left-behind",
                "note",
                f"port {self._port}",
                "somebody listens there now; no process of the run is alive",
                fix=f"`ss -ltnp sport = :{self._port}` names the process",
            )
        for device, size in self._unexplained():
            yield Finding(
                "left-behind",
                "note",
                f"GPU {device.index}",
                f"{size >> 20} MiB more in use than before the run, and no process that lives here has them",
                fix=_HOLDERS,
            )

    def _unexplained(self) -> list[tuple[gpu.Gpu, int]]:
        """The driver takes its time: look until nothing is left, for some seconds at most."""
        import time

        deadline = time.monotonic() + _FREED_AFTER
        while self._gpus:
            left = list(gpu.unexplained(self._gpus, gpu.read()))
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(0.1)
        return []
