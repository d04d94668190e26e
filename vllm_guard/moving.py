"""Does a vLLM move? By what its processes did since the last look, and by limits. Pure."""

from __future__ import annotations

from vllm_guard.counters import Counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_guard.watch import Moment

IMPORT = "import"
_NEVER = {"quiet": float("inf"), "busy": float("inf")}
_STOPPED = 30.0  #: seconds that a process may be stopped while others are not
_BUSIER = 10  #: times the user's limit that busy processes may be silent
#: Less between two looks is no sign of progress: threads that look every second whether there is something to
#: do, and pipes and pages that those need.
_CPUS, _BYTES, _FAULTS = 0.2, 1 << 20, 10


class Movement:
    """Fed with every moment, in their order."""

    def __init__(
        self, limits: Mapping[str, Mapping[str, float]], after: float | None, script: bool
    ) -> None:
        """`after`: the user's limit, in seconds. A script may do anything between its imports."""
        self._limits = {phase: limits[phase] for phase in limits if phase != IMPORT or not script}
        self._after = after
        self._seconds = 0.0  #: at the last look
        self._counters = Counters({})
        self._cpus = 0.0  #: in use since then
        self._since = 0.0  #: nothing before it counts
        self._moved = 0.0  #: when something last did
        self._stopped: dict[int, float] = {}  #: pid -> when it was first seen stopped
        self._kind = ""  #: of the stall under way
        self._began = 0.0  #: when that was said
        self._patience = 1  #: times the limits: twice as much after each stall that ended
        self.stall = ""  #: what does not move, in words; empty while all does

    def look(self, moment: Moment) -> bool:
        """Has a stall begun, or the one under way ended?"""
        self._note(moment)
        if self._kind:
            return self._ends(moment)
        self._kind, self.stall = self._judged(moment)
        self._began = moment.seconds
        return bool(self._kind)

    def _note(self, moment: Moment) -> None:
        now, before = moment.counters, self._counters
        passed = moment.seconds - self._seconds
        self._cpus = (now.cpu - before.cpu) / passed if passed else 0.0
        if (
            moment.idle < passed
            or self._cpus >= _CPUS
            or moment.gpu_busy
            or now.asked - before.asked >= _BYTES
            or now.faults - before.faults >= _FAULTS
            or set(now.processes) != set(before.processes)
        ):
            self._moved = moment.seconds
        stopped = now.stopped
        if moment.late or len(stopped) == len(now.processes):  # a suspended machine, or a job
            self._since, stopped = moment.seconds, set()
        self._stopped = {pid: self._stopped.get(pid, moment.seconds) for pid in stopped}
        self._seconds, self._counters = moment.seconds, now

    def _judged(self, moment: Moment) -> tuple[str, str]:
        """The kind of a stall, and the words; two empty ones for none."""
        silent = min(moment.idle, moment.seconds - self._since)
        still = min(silent, moment.seconds - self._moved)
        limit = self._limit(moment.phase)
        stopped = moment.seconds - min(self._stopped.values(), default=moment.seconds)
        if stopped >= limit["stopped"]:
            return "stopped", f"a process is stopped, for {stopped:.0f} s"
        if still >= limit["quiet"]:
            return "quiet", f"no output, reading, CPU or GPU use for {still:.0f} s"
        if silent >= limit["busy"]:
            used = f"{self._cpus:.1f} CPUs" if self._cpus >= _CPUS else "CPU or GPU"
            return "busy", f"no output or reading for {silent:.0f} s, with {used} in use"
        return "", ""

    def _limit(self, phase: str) -> Mapping[str, float]:
        known = self._limits.get(phase, _NEVER)
        limit = {"stopped": _STOPPED, **known}
        if self._after is not None:
            given = {"quiet": self._after, "busy": _BUSIER * self._after}
            limit = {"stopped": self._after, **(given if known is not _NEVER else _NEVER)}
        return {kind: seconds * self._patience for kind, seconds in limit.items()}

    def _ends(self, moment: Moment) -> bool:
        ended = {
            "stopped": not self._stopped,
            "quiet": self._moved > self._began,
            "busy": moment.idle < moment.seconds - self._began,
        }[self._kind]
        if ended:
            self._kind = self.stall = ""
            self._patience *= 2
        return ended

    @property
    def seconds(self) -> float:
        """How long ago the last stall was found."""
        return self._seconds - self._began
