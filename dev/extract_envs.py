"""Writes the variables of vLLM releases, read from their source distributions, to tests/data/envs.

    python dev/extract_envs.py 0.32.0 0.33.0           write VERSION.json for each
    python dev/extract_envs.py 0.32.0 --engine-args    also tests/data/engine_args/VERSION.json
    python dev/extract_envs.py 0.32.0 --check          compare with what is stored, write nothing

pip has no way to say "unpack only": it wants metadata, and vLLM's needs torch. With `--no-clean`
the unpacked tree stays behind when that step fails, which is expected; nothing is installed. A
release (a download of 10 to 30 MB) is unpacked in a temporary directory and removed, one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # it runs where vllm-guard is not installed, too

from vllm_guard import vllm_source  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = ROOT / "tests" / "data"


def main() -> int:
    """0, or 1 if with --check a stored table differs from the release or is missing."""
    parser = argparse.ArgumentParser(description="Extract the variables of vLLM releases.")
    parser.add_argument("versions", nargs="+", metavar="VERSION")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--engine-args", action="store_true", help="also the engine arguments")
    options = parser.parse_args()
    different = 0
    for version in options.versions:
        for file, text in extract(version, engine_args=options.engine_args).items():
            same = file.exists() and file.read_text() == text
            if not options.check:
                file.write_text(text)
            different += options.check and not same
            state = "unchanged" if same else "differs" if options.check else "written"
            print(f"{file.relative_to(ROOT)}: {state}, {text.count(chr(10)) - 2} names")
    return 1 if different else 0


def extract(version: str, *, engine_args: bool) -> dict[Path, str]:
    """The files to store for a release, with their text. Raises ValueError if it is unreadable."""
    with tempfile.TemporaryDirectory(prefix="vllm-sdist-") as scratch:
        package = unpack(version, Path(scratch))
        table = vllm_source.read_env_table((package / "envs.py").read_bytes())
        fields = vllm_source.read_engine_args((package / "engine" / "arg_utils.py").read_bytes())
    files = {DATA / "envs" / f"{version}.json": one_name_per_line(table)}
    if engine_args:
        by_option = {name: field["options"] for name, field in fields.items()}
        files[DATA / "engine_args" / f"{version}.json"] = one_name_per_line(by_option)
    return files


def unpack(version: str, scratch: Path) -> Path:
    """The package directory of a release, below `scratch`. Raises SystemExit if none came."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-clean", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary", "vllm", f"--dest={scratch}"]
    done = subprocess.run(
        [*command, f"vllm=={version}"],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(scratch.glob("pip-*/vllm_*/vllm/envs.py"))
    if not found:
        raise SystemExit(f"error: pip gave no source of vllm {version}:\n{done.stderr}")
    return found[0].parent


def one_name_per_line(table: Mapping[str, object]) -> str:
    """JSON, sorted, in which a change of one name is a change of one line."""
    rows = (
        f"{json.dumps(name)}: {json.dumps(table[name], sort_keys=True)}" for name in sorted(table)
    )
    return "{\n" + ",\n".join(rows) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
