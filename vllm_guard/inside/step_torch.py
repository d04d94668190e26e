"""torch: import it, see which devices it can use, multiply on each."""


def run(report, ask):
    if report.attempt("import", _import):
        _devices(report)


def _import():
    import torch

    built = torch.version.cuda or getattr(torch.version, "hip", None)
    return f"torch {torch.__version__}, built for {'CUDA ' + built if built else 'CPU'}"


def _devices(report):
    import torch

    if torch.version.cuda or getattr(torch.version, "hip", None):
        if not report.attempt("cuda", _cuda):
            return
        for index in range(torch.cuda.device_count()):
            report.attempt(f"matmul cuda:{index}", lambda at=index: _matmul(f"cuda:{at}"))
    if not torch.cuda.is_available():
        report.attempt("matmul cpu", lambda: _matmul("cpu"))


def _cuda():
    import torch

    torch.cuda.init()  # raises with the reason, where `is_available` only says no
    return f"{torch.cuda.device_count()} GPUs"


def _matmul(device):
    import torch

    ones = torch.ones(64, 64, device=device)
    found = (ones @ ones).sum().item()
    if found != 64.0**3:
        raise ArithmeticError(f"a product of ones sums to {found!r} instead of {64.0**3!r}")
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "right"
