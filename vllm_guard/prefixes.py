"""What stands before a line's own text: who passed it on, which process wrote it, how bad it is. Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

_MOST = 8  #: prefixes before one text
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")  #: the lowest first
_ANY_LEVEL = "|".join(LEVELS)
#: Who passes lines on puts these before them; each may come once or twice.
_CARRIERS = (
    rf"{_TIME} (?:stdout|stderr) [FP] ",  # CRI: the kubelet's files
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ",  # NCCL_DEBUG_TIMESTAMP_LEVELS
    rf"{_TIME} ",  # docker logs -t, kubectl logs --timestamps, GitHub Actions
    r"\[pod/[^\]\s]+\] ",  # kubectl logs --prefix
    r"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d [\w.-]+ [\w./@-]+\[\d+\]: ",  # journald, syslog
    r"[\w.-]+ [\w./@-]+\[\d+\]: ",  # journalctl -o short-iso, behind the time
    r"[\w.-]+ *\| ",  # docker compose
    r" *\d+: ",  # srun --label
    r"##\[error\]",  # GitHub Actions
    rf"(?:{_ANY_LEVEL}) {_TIME} \[resource\.labels\.[^\]]+\] ",  # GKE's log explorer
)
_CARRIER = re.compile("|".join(_CARRIERS))
#: `(Worker_TP0 pid=12) `, Ray's `(RayWorkerWrapper pid=12, ip=192.0.2.1) `, `[rank0]: ` of torch, and NCCL's
#: `host:12:34 [0] `, which is the process, the thread and the GPU.
_PROCESS = re.compile(
    r"\((?P<name>[\w:.<>-]+(?: rank=\d+)?)? ?pid=(?P<pid>\d+)(?:, ip=[\w.:]+)?\) "
    r"|\((?P<ray>raylet)\) |\[(?P<rank>(?:rank|default)\d+)\]: ?"
    r"|[\w.-]+:(?P<nccl>\d+):\d+ \[\d+\] (?=(?:\S+ )?NCCL )"
)
#: vLLM's own, in 0.6 without the bracket; uvicorn's and `logging.basicConfig`'s; glog's of torch.
_LEVEL = re.compile(
    rf"(?P<level>{_ANY_LEVEL}) (?:\d{{4}}-)?\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? \[?[^\]\s]+:\d+\] ?"
    rf"|(?P<plain>{_ANY_LEVEL}):(?:[\w.]+:| +)"
    r"|\[?(?P<glog>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ (?:\d+ )?[\w./-]+:\d+\] ?"
)
_GLOG = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}


@dataclass(frozen=True)
class Line:
    """One line of a log, taken apart."""

    number: int
    process: str  #: `Worker_TP0 pid=12`, `EngineCore pid=7`, `rank0`; empty where it is not told
    level: str  #: DEBUG, INFO, WARNING, ERROR, CRITICAL; empty where there is none
    text: str


def parse(number: int, line: bytes) -> Line:
    """Take a line apart; of several processes the last is the one that wrote it."""
    text = line.decode("utf-8", "replace")
    process = level = ""
    position = 0
    for _ in range(_MOST):
        if found := _PROCESS.match(text, position):
            process = _process(found, process)
        elif found := _LEVEL.match(text, position):
            level = found["level"] or found["plain"] or _GLOG[found["glog"]]
        elif process or level or not (found := _CARRIER.match(text, position)):
            break
        position = found.end()
    return Line(number, process, level, text[position:])


def _process(found: re.Match[str], before: str) -> str:
    if found["nccl"]:  # in the output of a process that has been named already, it is that one
        return before or f"pid={found['nccl']}"
    if found["pid"] is None:
        return found["rank"] or found["ray"]
    return f"{found['name'] or ''} pid={found['pid']}".strip()
