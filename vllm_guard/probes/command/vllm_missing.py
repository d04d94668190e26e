"""Is there a `vllm`, or at least a Python, where the doctor is given no command?"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "vLLM, where no command is given"


def check(context: Context) -> Iterator[Finding]:
    if context.is_bare and context.target is None:
        fix = "activate the environment that has it, or name its Python with --python"
        yield Finding("vllm-not-found", "warn", "vllm", "is not on PATH, nor is python", fix=fix)
