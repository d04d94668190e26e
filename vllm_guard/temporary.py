"""Where temporary files of a run go, and where they would have gone without it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SOCKET_DIR_MAX = 65  #: a Unix socket path has 107 bytes, of which vLLM's names take 37


def private_folder(run_id: str, env: Mapping[str, str]) -> str:
    """Where the run's sockets and temporary files go; short enough for a Unix socket."""
    root = folder(env)
    path = os.path.normpath(os.path.join(root, f"vg-{run_id}"))
    fits = os.path.isabs(path) and len(os.fsencode(path)) <= _SOCKET_DIR_MAX
    plain = ".." not in root.split("/") and "\n" not in path  # or a marker could not name it
    return path if fits and plain else f"/tmp/vg-{run_id}"  # noqa: S108


def folder(env: Mapping[str, str]) -> str:
    """`$TMPDIR`, or `/tmp` where one cannot write there, as Python's `tempfile` has it."""
    given = env.get("TMPDIR", "")
    usable = os.path.isdir(given) and os.access(given, os.W_OK | os.X_OK)
    return given if usable else "/tmp"  # noqa: S108  (what is made there will be private)


def user(env: Mapping[str, str]) -> str:
    """The user's name as Python's `getpass.getuser` finds it, which torch and vLLM call."""
    name = next((env[n] for n in ("LOGNAME", "USER", "LNAME", "USERNAME") if env.get(n)), "")
    if name:
        return name
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def inductor_cache(env: Mapping[str, str]) -> str:
    """`<tmp>/torchinductor_<user>`, by torch's `_inductor/runtime/cache_dir_utils.py`."""
    name = "".join("_" if c in '\\/:*?"<>|' else c for c in user(env))
    return os.path.join(folder(env), f"torchinductor_{name}")
