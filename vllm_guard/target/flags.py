"""The subcommands of the installed vLLM, and the flags that its `serve` has: read as text, never imported."""

from __future__ import annotations

import os

from vllm_guard import flag_words
from vllm_guard.target.install import parsed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vllm_guard.target.install import VllmInstall

_CLI = "entrypoints/cli"
_ENGINE = "engine/arg_utils.py"
_COMMAND = "entrypoints/cli/serve.py"  #: of some versions it has a few, of 0.32 none
#: Those of the API server: of 0.32, and of versions before.
_SERVER = ("entrypoints/launchers/cli_args.py", "entrypoints/openai/cli_args.py")

_candidates: dict[tuple[VllmInstall, str], tuple[str, ...]] = {}  #: many probes ask for the words


def subcommands(install: VllmInstall) -> list[str]:
    """Those of `vllm`, and some of their own; none where they cannot be read."""

    def parse(source: bytes) -> list[str]:
        from vllm_guard.vllm_flags import read_names

        return read_names(source)

    folder = os.path.join(install.package, _CLI)
    files = [f"{folder}/{name}" for name in _list(folder) if name.endswith(".py")]
    files += [f"{folder}/{name}/main.py" for name in _list(folder)]
    found = {name for file in files for name in parsed(file, parse, "subcommands") or ()}
    return sorted(found) if "serve" in found else []


def flags(install: VllmInstall) -> list[str]:
    """`vllm_flags.read_flags` of all that defines them; none where that cannot be read."""

    def parse(source: bytes) -> list[str]:
        from vllm_guard.vllm_flags import read_flags

        return read_flags(source)

    def of(file: str) -> list[str]:
        return parsed(os.path.join(install.package, file), parse, "flags") or []

    engine, server = of(_ENGINE), next(filter(None, map(of, _SERVER)), [])
    return [*engine, *server, *of(_COMMAND)] if engine and server else []


def candidates(install: VllmInstall, name: str) -> tuple[str, ...]:
    """`flag_words.candidates` among the flags of this vLLM; none where they cannot be read."""
    key = (install, name)
    if key not in _candidates:
        _candidates[key] = flag_words.candidates(name, frozenset(flags(install)))
    return _candidates[key]


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
