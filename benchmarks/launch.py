"""What a launch through vllm-guard costs, side by side with its peers: wall, CPU and memory.

    python benchmarks/launch.py [--rounds N] [--json FILE]

Every command runs once a round (A B C, A B C, ...), so that a busy moment of the machine meets all of
them, and is compared with `python -c pass` of the same round. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("pyproject.toml", "vllm_guard", "profiles", "completions")  #: what goes into the wheel
PEERS = ("python-dotenv[cli]", "honcho", "uv", "dumb-init")
BASE = "python -c pass"
HEADLINE = "vllm-guard -p debug -- true"
GOAL = 2.0  #: times the base
AUDIT_GOAL = 0.2  #: times the base, on top of a launch whose target has a vLLM
KEPT_VENVS = 3

#: Starts a command and prints the peak RSS (KiB) of its largest process. Linux counts the starter's own
#: size to what it starts, so the starter is as small as a Python can be.
_STARTER = """import posix, sys
files = [(posix.POSIX_SPAWN_OPEN, fd, "/dev/null", posix.O_RDWR, 0) for fd in (0, 1, 2)]
pid = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ, file_actions=files)
print(posix.wait4(pid, 0)[2].ru_maxrss)
"""


#: A fresh launch's audit with its imports and caches; ARGV[1] is a folder with an `envs.py`. Prints ms.
_AUDIT = """import os, sys, time
from vllm_guard import launch, prepare, probes, record
from vllm_guard.target import Target
from vllm_guard.target.install import VllmInstall
found = Target(sys.executable, "vllm-cli", "serve", 2, vllm=VllmInstall("0.33.0", sys.argv[1]))
env = dict(os.environ)
context = probes.Context(("vllm", "serve", "m"), env, env, found, (), (), record.Shelf(env))
start = time.perf_counter()
findings = [finding.id for finding in probes.run_one("vllm", "environment", context)]
print((time.perf_counter() - start) * 1000)
assert findings == ["debug-left-on"], findings
"""


@dataclass
class Row:
    """A command, how it is shown, and what was measured."""

    label: str
    argv: list[str]
    python_peer: bool = False
    wall: list[float] = field(default_factory=list)  #: ms, each round
    cpu: list[float] = field(default_factory=list)  #: ms, each round
    rss: float = 0.0  #: MiB

    def ratios(self, base: Row) -> tuple[float, float]:
        """Medians of the ratios to the base in the same round: wall, CPU."""
        wall = median(mine / its for mine, its in zip(self.wall, base.wall, strict=True))
        return wall, median(mine / its for mine, its in zip(self.cpu, base.cpu, strict=True))


def main() -> int:
    """0 when both goals hold, 1 when one does not or nothing could be measured, 2 for usage."""
    parser = argparse.ArgumentParser(description="Measure what a launch costs, next to its peers.")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="default: 30")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every sample to it")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    programs = prepare_venv() / "bin"
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="launch-") as scratch:
        os.chdir(scratch)
        env = make_environment(Path(scratch), programs)
        rows = warm(commands(programs), env)
        audits = measure(rows, options.rounds, env, an_environment(Path(scratch)))
        for row in rows:
            row.rss = peak_rss(row.argv, env)
        smallest = peak_rss(["/bin/sh", "-c", ":"], env)
        os.chdir(here)
    print_table(rows, smallest)
    if options.json:
        options.json.write_text(as_json(rows), encoding="utf-8")
    return max(print_verdict(rows), print_audit(audits, rows[0]))


def prepare_venv() -> Path:
    """A venv with a wheel of this tree and the peers, made once for each content of the tree."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(root, "vllm-guard-benchmarks")
    venv = cache / f"{platform.python_version()}-{tree_digest()}"
    if (venv / "ready").exists():
        say(f"environment: {venv}")
        return venv
    say(f"environment: making {venv} (a minute, once for each content of the tree)")
    shutil.rmtree(venv, ignore_errors=True)
    run("a virtual environment", sys.executable, "-m", "venv", str(venv))
    pip = (str(venv / "bin" / "python"), "-m", "pip")
    run("an up-to-date pip", *pip, "install", "--upgrade", "pip")
    run("a wheel of the tree", *pip, "wheel", "--no-deps", "-w", str(venv / "wheel"), str(ROOT))
    wheel = next((venv / "wheel").glob("*.whl"))
    run(wheel.name, *pip, "install", str(wheel))
    for peer in PEERS:
        run(peer, *pip, "install", peer, optional=True)
    (venv / "ready").touch()
    for old in sorted(cache.iterdir(), key=lambda path: -path.stat().st_mtime)[KEPT_VENVS:]:
        shutil.rmtree(old, ignore_errors=True)
    return venv


def tree_digest() -> str:
    """A short digest of everything that goes into the wheel."""
    digest = hashlib.sha256()
    for top in MEASURED:
        below = sorted((ROOT / top).rglob("*")) if (ROOT / top).is_dir() else [ROOT / top]
        for path in below:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def run(what: str, *argv: str, optional: bool = False) -> None:
    """One step of the preparation, quiet unless it fails."""
    say(f"  {what} ...")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode and not optional:
        raise SystemExit(f"error: {what}: exit status {done.returncode}\n{done.stderr}")


def make_environment(scratch: Path, programs: Path) -> dict[str, str]:
    """Nothing of the caller's: a scratch home, and one variable to load for the peers that load some."""
    (scratch / ".env").write_text("ANSWER=42\n", encoding="utf-8")
    (scratch / ".envrc").write_text("export ANSWER=42\n", encoding="utf-8")
    kinds = ("CONFIG", "STATE", "CACHE", "DATA")
    xdg = {f"XDG_{kind}_HOME": str(scratch / kind.lower()) for kind in kinds}
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(scratch), "LANG": "C.UTF-8", **xdg}


def commands(programs: Path) -> list[Row]:
    """Everything that is measured where it is installed; the base first."""
    own = str(programs / "python")
    debug = ["-p", "debug", "--", "true"]
    return [
        Row(BASE, [own, "-c", "pass"]),
        Row(HEADLINE, ["vllm-guard", *debug]),
        Row("vllm-guard -- true", ["vllm-guard", "--", "true"]),
        Row("vllm-guard --exec -p debug -- true", ["vllm-guard", "--exec", *debug]),
        Row("dotenv run -- true", ["dotenv", "run", "--", "true"], python_peer=True),
        Row("honcho run true", ["honcho", "run", "true"], python_peer=True),
        Row("uv run", ["uv", "run", "--no-project", "--python", own, "--", "true"]),
        Row("direnv exec DIR true", ["direnv", "exec", ".", "true"]),
        Row("tini -s -- true", ["tini", "-s", "--", "true"]),
        Row("dumb-init true", ["dumb-init", "true"]),
    ]


def warm(rows: list[Row], env: dict[str, str]) -> list[Row]:
    """Run each once: caches are filled, and a peer that is missing or fails here is left out."""
    if direnv := shutil.which("direnv", path=env["PATH"]):
        subprocess.run([direnv, "allow", "."], env=env, capture_output=True, check=True)
    found = []
    for row in rows:
        program = shutil.which(row.argv[0], path=env["PATH"])
        if not program:
            say(f"left out: {row.label}: not installed")
            continue
        row.argv[0] = program
        done = subprocess.run(row.argv, env=env, capture_output=True, text=True, check=False)
        problem = f"{row.label}: exit status {done.returncode}: {done.stderr.strip()}"
        if done.returncode == 0:
            found.append(row)
        elif row.label in (BASE, HEADLINE):
            raise SystemExit(f"error: {problem}")
        else:
            say(f"left out: {problem}")
    return found


def an_environment(scratch: Path) -> dict[str, str]:
    """Sixty variables, as a shell on a GPU machine may have them; and an `envs.py` of 300 below `scratch`."""
    rows = (f'    "VLLM_N{n}": lambda: bool(int(os.getenv("VLLM_N{n}", "0"))),' for n in range(300))
    text = "\n".join(["import os", "environment_variables = {", *rows, "}", ""])
    (scratch / "envs.py").write_text(text, encoding="utf-8")
    names = [f"VLLM_N{n}" for n in range(10)] + [f"OTHER_{n}" for n in range(40)]
    nccl = {"NCCL_DEBUG": "INFO", "NCCL_IB_HCA": "mlx5", "NCCL_SOCKET_IFNAME": "eth0"}
    more = {"HF_HOME": "/data", "OMP_NUM_THREADS": "8", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {**dict.fromkeys(names, "1"), **nccl, **more}


def audited(python: str, env: dict[str, str]) -> float:
    """Milliseconds that the audit of `an_environment` takes in a launch of its own."""
    argv = [python, "-c", _AUDIT, str(Path.cwd())]
    return float(subprocess.run(argv, env=env, capture_output=True, check=True).stdout)


def measure(rows: list[Row], rounds: int, env: dict[str, str], more: dict[str, str]) -> list[float]:
    """Fill the rows, round by round; returns the milliseconds of the audit with `more` variables."""
    python = rows[0].argv[0]
    audited(python, {**env, **more})
    audits = []
    for number in range(rounds):
        audits.append(audited(python, {**env, **more}))
        for row in rows:
            wall, cpu = timed(row, env)
            row.wall.append(wall)
            row.cpu.append(cpu)
        if number % 5 == 4:
            say(f"round {number + 1} of {rounds}")
    return audits


def timed(row: Row, env: dict[str, str]) -> tuple[float, float]:
    """Milliseconds from start to end: wall, and CPU of the process and all that it waited for."""
    files = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    start = time.perf_counter()
    pid = os.posix_spawn(row.argv[0], row.argv, env, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"error: {row.label}: wait status {status}")
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def peak_rss(argv: list[str], env: dict[str, str]) -> float:
    """MiB of the largest process of the command."""
    starter = [sys.executable, "-I", "-S", "-c", _STARTER, *argv]
    done = subprocess.run(starter, env=env, capture_output=True, check=True)
    return int(done.stdout) / 1024


def print_table(rows: list[Row], smallest: float) -> None:
    """A table for people, which is also Markdown."""
    print(f"Python {platform.python_version()}, {len(rows[0].wall)} rounds\n")
    lines = [["command", "wall ms (p10-p90)", "CPU ms", "x wall", "x CPU", "peak RSS MiB"]]
    lines.append(["---", *["---:"] * 5])
    for row in rows:
        deciles = quantiles(row.wall, n=10, method="inclusive")
        wall, cpu = row.ratios(rows[0])
        spread = f"{median(row.wall):.1f} ({deciles[0]:.1f}-{deciles[-1]:.1f})"
        rss = f"{row.rss:.1f}" if row.rss > smallest + 0.3 else f"< {smallest + 0.3:.1f}"
        numbers = [f"{median(row.cpu):.1f}", f"{wall:.2f}", f"{cpu:.2f}", rss]
        lines.append([row.label, spread, *numbers])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for label, *cells in lines:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("| " + " | ".join([label.ljust(widths[0]), *right]) + " |")


def print_audit(audits: list[float], base: Row) -> int:
    """0 when the audit before a launch costs no more than its goal."""
    ratio = median(mine / its for mine, its in zip(audits, base.wall, strict=True))
    print(
        f"the audit of 60 variables, where the target has a vLLM: {median(audits):.2f} ms, "
        f"{ratio:.2f} x {base.label} (goal: at most {AUDIT_GOAL})"
    )
    return int(ratio > AUDIT_GOAL)


def print_verdict(rows: list[Row]) -> int:
    """The two goals with their numbers; 0 when both hold."""
    ratio = {row.label: row.ratios(rows[0])[0] for row in rows}
    peers = [(ratio[row.label], row.label) for row in rows if row.python_peer]
    least, peer = min(peers, default=(0.0, "none could be run"))
    print(f"\n{HEADLINE}: {ratio[HEADLINE]:.2f} x {BASE} (goal: at most {GOAL})")
    below = ratio[HEADLINE] < least
    print(f"below every Python peer: {'yes' if below else 'no'} (smallest: {peer}, {least:.2f} x)")
    return 0 if below and ratio[HEADLINE] <= GOAL else 1


def as_json(rows: list[Row]) -> str:
    """All samples, with what is needed to judge them."""
    about = {"python": platform.python_version(), "machine": platform.platform(), "goal": GOAL}
    document = {"schema_version": 1, **about, "rows": [asdict(row) for row in rows]}
    return json.dumps(document, indent=1) + "\n"


def say(line: str) -> None:
    """Progress, on stderr."""
    print(f"launch: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
