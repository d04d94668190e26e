"""What a prepared launch asks of the keeper: the command as bytes, within the kernel's limits."""

from __future__ import annotations

import os

from vllm_guard import cgroup, command, segments
from vllm_guard.environment import too_big
from vllm_guard.errors import GuardError
from vllm_guard.model import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.prepare import Prepared

#: Seconds for vLLM to end its workers, beyond its own --shutdown-timeout: it takes 1 to 3, and while it loads
#: a model it answers SIGTERM not at all. Docker and Kubernetes wait for 10 and 30 before they kill.
_VLLM_GRACE = 8.0


def order_of(prepared: Prepared, path: str) -> Launch:
    """The launch as bytes, within the kernel's limits. Raises GuardError 125 for what is too big."""
    argv = tuple(os.fsencode(word) for word in prepared.argv)
    problem = too_big(argv, prepared.entries)
    if problem:
        raise GuardError(problem, "the kernel would refuse to start it (E2BIG)")
    options = prepared.options
    if options.quiet_child and not prepared.shelf.open(prepared.run_id):
        why = prepared.shelf.problem or "no record is kept"
        raise GuardError(
            f"--quiet-child: the output would be lost: {why}", "leave --quiet-child out"
        )
    return Launch(
        run_id=prepared.run_id,
        path=os.fsencode(path),
        argv=argv,
        env=prepared.entries,
        private=prepared.private,
        cgroup="" if options.allow_daemon else cgroup.place(prepared.run_id),
        watch=not (options.no_watch or options.allow_daemon),  # a daemon goes on writing
        allow_daemon=options.allow_daemon,
        deadline=options.deadline,
        grace=_VLLM_GRACE + command.shutdown_timeout(prepared.argv),
        interrupt_ends=prepared.is_server,  # what it means to a script or a REPL, nobody knows
        present=segments.present(),
        quiet=options.quiet_child,
    )
