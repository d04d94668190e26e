"""Is the script there that Python is to run?"""

from __future__ import annotations

import os

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the script that Python is to run"


def check(context: Context) -> Iterator[Finding]:
    assert context.target is not None
    file = context.target.file
    if file and not os.path.exists(file):
        fix = "check the path, or mount the volume"
        yield Finding("script-missing", "fail", file, "no such file", fix=fix)
