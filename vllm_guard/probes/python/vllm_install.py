"""Is there a vLLM in the interpreter that the command will use?"""

from __future__ import annotations

import os

from vllm_guard import paths
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context
    from vllm_guard.target import Target

#: What may bring a vLLM that only the script knows of: a folder, another interpreter.
_FINDS_ITS_OWN = (b"sys.path", b"addsitedir", b"os.exec", b"# /// script")
_LIMIT = 1 << 20  #: bytes of a script

TITLE = "vLLM in the command's interpreter"


def check(context: Context) -> Iterator[Finding]:
    target = context.target
    assert target is not None
    if target.problem:
        yield Finding("interpreter-unusable", "warn", target.interpreter, target.problem)
    vllm = target.vllm
    if vllm is None:
        yield from _missing(context, target)
        return
    yield Finding("vllm-found", "ok", target.interpreter, f"vLLM {vllm.version} in {vllm.package}")
    if vllm.shadows:
        yield Finding(
            "vllm-shadowed",
            "warn",
            vllm.package,
            f"comes first on the import path and hides {vllm.shadows}",
            fix="start the command from another folder, or unset PYTHONPATH",
        )
    if not vllm.distribution:
        fact = "no installed package is called vllm, and vLLM asks for its version"
        yield Finding("vllm-metadata", "warn", vllm.package, fact, fix="reinstall vLLM there")
    elif vllm.distribution != "vllm" and target.kind == "vllm-cli":
        yield Finding(
            "vllm-metadata",
            "warn",
            vllm.package,
            f"it is installed as {vllm.distribution}, and the command `vllm` asks for the version of vllm",
            fix=f"{target.interpreter} -m vllm.entrypoints.openai.api_server --model MODEL",
        )


def _missing(context: Context, target: Target) -> Iterator[Finding]:
    fact = "no vLLM is installed there"
    status: Status = "warn"
    if not target.kind.startswith("vllm") and not context.is_bare:
        source = _source(target.file)
        line = _line_that_imports(source)
        if not line:
            return
        fact += f", and line {line} of {os.path.basename(target.file)} imports it"
        status = "note" if any(word in source for word in _FINDS_ITS_OWN) else "warn"
    fix = f"{target.interpreter} -m pip install vllm, or name another with --python"
    yield Finding("vllm-not-found", status, target.interpreter, fact, fix=fix)


def _source(file: str) -> bytes:
    try:
        return paths.peek(file, _LIMIT) if file else b""
    except OSError:
        return b""


def _line_that_imports(source: bytes) -> int:
    """The line that imports vLLM with no `try` or function around it; 0 for none."""
    for number, line in enumerate(source.splitlines(), 1):
        word, _, what = line.partition(b" ")
        name = what.replace(b",", b" ").replace(b".", b" ").split(maxsplit=1)[:1]
        if word in (b"import", b"from") and name == [b"vllm"]:
            return number
    return 0
