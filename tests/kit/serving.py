"""A real `vllm serve` of the tiny Llama under the guard, and what there is of it on the machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.kit import GUARD, children, environ_of, guard_env, is_alive, tree_of, wait_for

READY = 300.0  #: seconds that a start may take on two busy cores
ENDED = 60.0  #: seconds that an end may take
SHM = Path("/dev/shm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def vllm_env(**extra: str | None) -> dict[str, str]:
    """The guard's environment with the real vLLM first on PATH."""
    settings = {
        "PATH": f"{os.environ['VGUARD_TEST_VLLM']}/bin:{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return guard_env(**{**settings, **extra})


class Serving:
    """One `vllm serve` under the guard; its output goes to files that a failing test shows."""

    def __init__(self, world: Path, *flags: str, guard: tuple[str, ...] = (), model: str = ""):
        self.port = free_port()
        self.out, self.err = world / "out.log", world / "err.log"
        self.model = model or os.environ["VGUARD_TEST_MODEL"]
        serve = ["vllm", "serve", self.model, "--port", str(self.port), "--max-model-len", "128"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*GUARD, *guard, "--", *serve, "--enforce-eager", *flags],
                env=vllm_env(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pids: set[int] = set()

    def until(self, text: str, patience: float = READY) -> None:
        """Wait until the server has written this."""
        deadline = time.monotonic() + patience
        while text not in self.said():
            assert self.process.poll() is None, f"it ended before {text!r}\n{self.said()}"
            assert time.monotonic() < deadline, f"{text!r} did not come\n{self.said()}"
            time.sleep(0.05)
        self.note_pids()

    def until_ready(self) -> None:
        """Wait until it answers requests."""
        self.until("Application startup complete")
        self.note_pids()

    def note_pids(self) -> None:
        with contextlib.suppress(OSError):
            self.pids |= {self.process.pid, *tree_of(self.process.pid)}

    def complete(self, prompt: str) -> str:
        """One completion over HTTP."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": 4, "temperature": 0}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["choices"][0]["text"])

    def said(self) -> str:
        return (self.out.read_bytes() + self.err.read_bytes()).decode(errors="replace")

    def named(self, title: str) -> list[int]:
        """Processes of the run whose title (`VLLM::EngineCore`) begins so."""
        self.note_pids()
        return [pid for pid in sorted(self.pids) if _title(pid).startswith(title)]

    @property
    def keeper(self) -> int:
        """The pid of the guard's only child."""
        (found,) = children(self.process.pid)
        return found

    @property
    def api_server(self) -> int:
        """The pid of `vllm serve` itself: the keeper's first child."""
        return min(children(self.keeper))

    def until_it_imports_torch(self) -> None:
        """Wait until the server is in the middle of its imports."""

        def is_importing() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return "libtorch_cpu" in Path(f"/proc/{self.api_server}/maps").read_text()
            return False

        wait_for(is_importing, "libtorch is mapped", READY)
        self.note_pids()

    def ended(self) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(ENDED)

    def kill(self) -> None:
        """However the test went, nothing of it may stay."""
        self.note_pids()
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(ENDED)


class Machine:
    """What a run can leave on a machine, before and after it."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self.before = self._now()

    def left(self) -> dict[str, set[str]]:
        """What is there now and was not before; empty sets are left out."""
        now = self._now()
        new = {kind: now[kind] - self.before[kind] for kind in now}
        return {kind: found for kind, found in new.items() if found}

    def _now(self) -> dict[str, set[str]]:
        return {
            "/dev/shm": {path.name for path in SHM.iterdir()},
            "TMPDIR": {str(path.relative_to(self._temporary)) for path in self._files()},
            "/tmp": {run for run in self._runs() if Path("/tmp", f"vg-{run}").exists()},
        }

    def _runs(self) -> list[str]:
        """The ids of this test's runs: others have folders in /tmp, too."""
        shelf = Path(os.environ["HOME"], ".local/state/vllm-guard/runs")
        return os.listdir(shelf) if shelf.is_dir() else []

    def _files(self) -> Iterator[Path]:
        """All but torch's cache of compiled kernels, which is there to stay."""
        for path in self._temporary.rglob("*"):
            if not path.relative_to(self._temporary).parts[0].startswith("torchinductor_"):
                yield path


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def carriers(run_id: str) -> list[int]:
    """Living processes whose environment has this run id."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and environ_of(int(name)).get("VGUARD_RUN_ID") == run_id:
                found.append(int(name))
    return [pid for pid in found if is_alive(pid)]


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
