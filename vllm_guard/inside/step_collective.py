"""collective: what tensor and pipeline parallelism need between ranks, each part with its own result.

Several nodes meet first, without torch (`nodes.py`, `reach.py`). torch is imported once; the ranks are forked
before anything initialises CUDA.
"""

import os
import re
import signal
import socket
import sys
import time

from __main__ import load

hub = load("hub")

IMPORT = 90.0  #: seconds that one node may take longer than another to import torch
FAILED = 3  #: the exit status of a rank that has said what failed
AFTER_FAILURE = (
    10.0  #: seconds that the others may take then: as a rule they wait for that one in vain
)
LATE = 5.0  #: seconds that one node may take longer than another to see that its ranks are over


#: What another node may say of one of its ranks.
_ROW = {
    "who": lambda value: isinstance(value, str) and re.fullmatch(r"rank \d{1,6}", value),
    "part": str,
    "state": lambda value: value in ("begin", "ok", "note", "fail", "skip"),
    "fact": str,
    "host": str,
    "node": int,
}


def run(report, ask):
    # torchrun's own: rank 0 would not host the store, but look for torchrun's.
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
    if ask["nodes"] < 2:
        _test(report, ask, _Alone())
        return
    nodes = load("nodes")
    try:
        meeting = nodes.Meeting(ask)
    except nodes.StoppedError as error:
        report.say("meet", "fail", error, fix=error.fix)
        return
    try:
        report.about = {"host": meeting.host, "node": ask["node"]}
        meeting.introduce()
        alike = _compare(report, meeting, nodes)
        if alike and _reach(report, load("reach").failures(meeting, ask["nccl"])):
            _test(report, ask, meeting)
    except nodes.StrangerError as error:
        report.say("meet", "unknown", error, fix=error.fix)
    except nodes.StoppedError as error:
        report.say("meet", "fail", error, fix=error.fix)
    finally:
        meeting.close()


class _Alone:
    """The meeting of one node."""

    def gather(self, value, *_):
        return [value]


def _compare(report, meeting, nodes):
    """Do the nodes differ in what must be alike? False where they cannot be tested together."""
    for name, fact in nodes.versions(meeting):
        fix = "the same version on every node"
        report.say("versions", "fail", f"{name}: {fact}", fix=fix)
    for name, fact in nodes.settings(meeting):
        fix = "one value for every node, or for none"
        report.say("settings", "warn", f"{name}: {fact}", fix=fix)
    worlds = sorted({other["world"] for other in meeting.known})
    if len(worlds) > 1:
        each = (f"{o['world']} on {meeting.name(n)}" for n, o in enumerate(meeting.known))
        fix = "the same --tensor-parallel-size and --pipeline-parallel-size on every node"
        report.say("world", "fail", f"ranks in all: {', '.join(each)}", fix=fix)
    return len(worlds) == 1


def _reach(report, failures):
    """Does every node reach every other? Where one does not, Gloo and NCCL would hang until the limit."""
    for fact, fix in failures:
        report.say("reach", "fail", fact, fix=fix)
    return not failures


def _test(report, ask, meeting):
    well = report.attempt("import", _import)
    gpus = _same_number_of_gpus(report, meeting, _gpus() if well else None)
    if gpus is None:
        return
    here = max(1, ask["world"] // ask["nodes"])
    if gpus and here > gpus:
        report.say("gpus", "note", f"{here} ranks here, {gpus} GPUs: tested with {gpus}")
        here = gpus
    at = dict(ask, here=here, world=here * ask["nodes"], gpus=gpus)
    at["port"] = at["port"] or _free_port()
    parts = load("parts")
    report.unwatch()
    ranks = {}
    for local in range(here):
        pid = os.fork()
        if pid == 0:
            _rank(report, at, local, parts)
        ranks[pid] = f"rank {at['node'] * here + local}"
    _wait(report, ranks, ask["limit"] + 1.0)
    _merge(report, ask, meeting)


def _gpus():
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # counting must not initialise CUDA
    import torch

    return torch.cuda.device_count()


def _same_number_of_gpus(report, meeting, mine):
    """The number that every node has; None where torch could not be imported everywhere."""
    counts = meeting.gather(mine, IMPORT, int)
    without = [number for number, count in enumerate(counts) if count is None]
    if mine is not None and without:
        names = ", ".join(map(meeting.name, without))
        fact = (
            f"torch was not imported on {names}, or the doctor there has ended: nothing was tested"
        )
        report.say("others", "fail", fact, fix="look at the report there")
    if without:
        return None
    if len(set(counts)) > 1:
        each = ", ".join(f"{count} on {meeting.name(n)}" for n, count in enumerate(counts))
        report.say("gpus", "note", f"GPUs: {each}; tested with {min(counts)}")
    return min(counts)


def _merge(report, ask, meeting):
    """Every node has the rows of every node: who looks at one report sees all ranks."""
    own = [row for row in report.told() if row["who"]]
    rows = meeting.gather(own, LATE, [_is_row])
    for number, theirs in enumerate(rows):
        if theirs is None:
            fact = (
                f"{meeting.name(number)} has not reported: its doctor or the connection has ended"
            )
            report.say("others", "fail", fact, fix="look at the report there")
        elif number != ask["node"]:
            for row in theirs:
                report.copy(row)


def _is_row(row):
    more = {"stack": [str]} if isinstance(row, dict) and row.get("hung") else {}
    return hub.fits(row, {**_ROW, **more}) and hub.fits(row.get("fix", ""), str)


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
    start = time.monotonic()
    end = start + seconds
    left = dict(ranks)
    while left and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in left:
            who = left.pop(pid)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAILED:
                end = min(end, time.monotonic() + AFTER_FAILURE)
            elif os.WIFEXITED(status) and status:
                fact = f"ended with status {os.WEXITSTATUS(status)}"
                report.say_of(who, "rank", "fail", fact)
            elif status:
                report.say_of(who, "rank", "fail", f"killed by signal {os.WTERMSIG(status)}")
        elif pid == 0:
            time.sleep(0.01)
    waited = time.monotonic() - start
    for pid, who in left.items():
        state = f"{_state(pid)} after {waited:.0f} s"
        report.say_of(who, "rank", "fail", state, hung=True, stack=_stack(report, pid, who))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _stack(report, pid, who):
    """Where the rank is; it is asked where it has not told at its limit."""
    if not report.stack(who):
        os.kill(pid, signal.SIGUSR1)
    limit = time.monotonic() + 1.0
    while not (lines := report.stack(who)) and time.monotonic() < limit:
        time.sleep(0.01)
    return lines


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        letter = file.read().rpartition(")")[2].split()[0]
    return "stopped by a signal" if letter == "T" else "has not ended"


def _rank(report, at, local, parts):
    """One rank, which never returns."""
    status = FAILED
    try:
        rank = at["node"] * at["here"] + local
        report.watch(f"rank {rank}", at["limit"])
        status = 0 if parts.run(report, at, rank, local) else FAILED
    except Exception as error:
        report.say("rank", "fail", f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # taking torch down takes longer than the test
