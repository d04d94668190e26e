"""`--dry-run`: the plan and the exact command."""

from __future__ import annotations

from vllm_guard import prepare, report, voice
from vllm_guard.errors import GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.prepare import Prepared


def show(prepared: Prepared) -> None:
    """Print them, also where the command is not there. Raises GuardError as its launch would."""
    try:
        path, problem = prepare.executable(prepared), prepared.refusal
    except GuardError as error:
        path, problem = "nothing", error
    for line in report.plan_lines(prepared.plan, prepared.redactor):
        voice.say(f"  {line}")
    voice.say(f"executes {path}:")
    voice.say(f"  {report.command_line(prepared.argv, prepared.redactor)}")
    if problem:
        raise problem
