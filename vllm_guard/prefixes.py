"""What stands before a line's own text: who passed it on, which process wrote it, how bad it is. Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from vllm_guard.frozen import dataclass

_MOST = 8  #: prefixes before one text
_MOST_COLUMNS = 64  #: that are learnt
_TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")  #: the lowest first
_ANY_LEVEL = "|".join(LEVELS)
#: Who passes lines on puts these before them; each may come once or twice. A group is what names a source.
_CARRIERS = (
    "\ufeff",  # at the start of a file from Windows
    r"<\d{1,3}>",  # syslog's priority
    rf"{_TIME} (?:stdout|stderr) [FP] ",  # CRI: the kubelet's files
    rf"\[{_TIME}\] ?",  # NCCL_DEBUG_TIMESTAMP_LEVELS, `ts`, dmesg -T and others
    rf"{_TIME} ",  # docker logs -t, kubectl logs --timestamps, GitHub Actions
    rf"[^\t]{{1,80}}\t[^\t]{{1,80}}\t(?={_TIME} )",  # gh run view --log
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?=\d{4}-\d\d-\d\d )",  # journalctl -o short-full, before the time
    r"\[ *\d+\.\d+\] |\d{10}\.\d+ ",  # dmesg, journalctl -o short-monotonic and short-unix
    r"\[(?P<pod>pod/[^\]\s]+)\] ",  # kubectl logs --prefix
    r"[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)? ",  # journald and syslog, before the host
    r"(?P<host>[\w.-]+) (?:[\w./@-]+\[\d+\]|kernel): ",  # the same
    r"(?P<container>[\w.-]+) *\| ",  # docker compose
    r" *\d+: ",  # srun --label
    r"\[\d+,\d+\]<std\w+>: ?|\[\d+\] (?!NCCL )",  # mpirun --tag-output; mpiexec -l of Hydra
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
#: What stands before vLLM's own prefix is a column of who passes it on, whatever it looks like: the host of
#: pdsh and clush (`node1: `), the pod and the container of stern (`vllm-0 server `).
_COLUMN = re.compile(
    r"(?P<column>[a-z\d][a-z\d._-]*(?: +[a-z\d][a-z\d._-]*)?:? +)"
    rf"(?=(?:\(\w+ pid=\d+\) )?(?:{_ANY_LEVEL}) \d\d-\d\d \d\d:\d\d:\d\d )"
)
_GLOG = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}


@dataclass(frozen=True)
class Line:
    """One line of a log, taken apart."""

    number: int
    process: str  #: `Worker_TP0 pid=12`, `EngineCore pid=7`, `rank0`; empty where it is not told
    level: str  #: DEBUG, INFO, WARNING, ERROR, CRITICAL; empty where there is none
    text: str
    source: str = ""  #: the pod, container or host that passed it on; empty where that is not told

    @property
    def speaker(self) -> tuple[str, str]:
        """Who wrote it: the process, and where."""
        return self.source, self.process


class Parser:
    """Takes lines apart. It learns the columns of a log from lines that hold vLLM's own prefix."""

    def __init__(self) -> None:
        self._columns: dict[str, None] = {}

    def parse(self, number: int, line: bytes) -> Line:
        """Take a line apart; of several processes the last is the one that wrote it."""
        text = line.decode("utf-8", "replace")
        process = level = source = ""
        position = 0
        for _ in range(_MOST):
            if found := _PROCESS.match(text, position):
                process = _process(found, process)
            elif found := _LEVEL.match(text, position):
                level = found["level"] or found["plain"] or _GLOG[found["glog"]]
            elif process or level:
                break
            elif found := _CARRIER.match(text, position):
                source = found[found.lastgroup] if found.lastgroup else source
            elif column := self._column(text, position):
                source = column.strip(" :")
                position += len(column)
                continue
            else:
                break
            position = found.end()
        return Line(number, process, level, text[position:], source)

    def _column(self, text: str, position: int) -> str:
        """What is known to stand there before a line's own text; empty for nothing."""
        if found := _COLUMN.match(text, position):
            if len(self._columns) < _MOST_COLUMNS:
                self._columns[found["column"]] = None
            return found["column"]
        return next((one for one in self._columns if text.startswith(one, position)), "")


def _process(found: re.Match[str], before: str) -> str:
    if found["nccl"]:  # in the output of a process that has been named already, it is that one
        return before or f"pid={found['nccl']}"
    if found["pid"] is None:
        return found["rank"] or found["ray"]
    return f"{found['name'] or ''} pid={found['pid']}".strip()
