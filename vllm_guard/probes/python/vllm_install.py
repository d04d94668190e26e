"""Is there a vLLM in the interpreter that the command will use?"""

from __future__ import annotations

from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "vLLM in the command's interpreter"


def check(context: Context) -> Iterator[Finding]:
    target = context.target
    assert target is not None
    if target.problem:
        yield Finding("interpreter-unusable", "warn", target.interpreter, target.problem)
    vllm = target.vllm
    if vllm is None:
        if target.kind.startswith("vllm") or context.is_bare:
            yield Finding(
                "vllm-not-found",
                "warn",
                target.interpreter,
                "no vLLM is installed there",
                fix=f"{target.interpreter} -m pip install vllm, or name another with --python",
            )
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
