"""Writes vllm_guard/data/vllm_names.toml: which vLLM knows which variable and engine argument.

    python dev/vllm_names.py            write it
    python dev/vllm_names.py --check    compare, write nothing

From the samples in tests/data, which dev/extract_envs.py writes.
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "vllm_guard/data/vllm_names.toml"
DATA = ROOT / "tests/data"
HEAD = """\
# Written by dev/vllm_names.py: the first and the last sampled release that knows a name.
# Source: vllm/envs.py and vllm/engine/arg_utils.py of these releases.
"""


def variables() -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The sampled releases, oldest first, and of each variable of vLLM's own the first and the last."""
    first, *rows = (DATA / "envs/history.txt").read_text().splitlines()
    releases: list[str] = ast.literal_eval(first)
    known = {}
    for row in rows:
        name, since, status, *_ = row.split(" | ")
        last = status.removeprefix("GONE after ") if status != "LIVE" else releases[-1]
        if name.startswith("VLLM_"):
            known[name] = since.removeprefix("first "), last
    return releases, known


def engine_arguments() -> tuple[list[str], dict[str, tuple[str, str]]]:
    """The same of engine arguments, of which fewer releases were sampled."""
    paths = {path.stem: path for path in (DATA / "engine_args").glob("*.json")}
    releases = sorted(paths, key=lambda text: [int(part) for part in text.split(".")])
    known: dict[str, tuple[str, str]] = {}
    for release in releases:
        for name in json.loads(paths[release].read_text()):
            known[name] = known.get(name, (release, ""))[0], release
    return releases, known


def _section(
    name: str, releases: Sequence[str], known: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    yield f"\n[{name}]\nreleases = {json.dumps(releases)}\n\n[{name}.known]\n"
    for one, ends in sorted(known.items()):
        yield f"{one} = {json.dumps(ends)}\n"


def text() -> str:
    """The whole file."""
    sections = (
        _section("variables", *variables()),
        _section("engine", *engine_arguments()),
    )
    return HEAD + "".join(line for section in sections for line in section)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        return int(FILE.read_text() != text())
    FILE.write_text(text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
