"""compile: torch.compile of a small function, with nothing in its cache."""

import os
import time


def run(report, ask):
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(ask["folder"], "inductor")
    os.environ["TRITON_CACHE_DIR"] = os.path.join(ask["folder"], "triton")
    if report.attempt("import", _import):
        report.attempt("compile", _compile)


def _import():
    import torch

    return torch.__version__


def _compile():
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def shifted(x):
        return torch.nn.functional.relu(x * 2 + 1).sum(dim=-1)

    start = time.monotonic()
    given = torch.arange(-32.0, 32.0, device=device).reshape(8, 8)
    compiled = torch.compile(shifted, fullgraph=True)(given)
    if not torch.allclose(compiled, shifted(given)):
        raise ArithmeticError("the compiled function gives another result than the plain one")
    return f"on {device} in {time.monotonic() - start:.1f} s"
