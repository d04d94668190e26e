"""Writes docs/signatures.md from vllm_guard/data/signatures.

python dev/signature_docs.py            write it
python dev/signature_docs.py --check    1 where it is not what the data say
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # it runs where vllm-guard is not installed, too

from vllm_guard import facts, signatures  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.signatures import Signature

PAGE = ROOT / "docs/signatures.md"
HEAD = """# Known failures

Made from `vllm_guard/data/signatures` by `python dev/signature_docs.py`; do not edit. `vllm-guard explain ID`
prints one of these, [explain.md](explain.md) says how they are found. What a log fills in stands in capitals.
"""


def main() -> int:
    """0, or 1 if with --check the page is another."""
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text() != page())
    PAGE.write_text(page())
    return 0


def page() -> str:
    """The whole page: an overview, then a section for each family and each signature."""
    known = sorted(signatures.parse(facts.signatures()), key=lambda s: (s.family, s.id))
    return "\n".join((HEAD, *_overview(known), *_families(known))) + "\n"


def _overview(known: list[Signature]) -> Iterator[str]:
    yield f"{len(known)} signatures:\n"
    for family, members in groupby(known, key=lambda s: s.family):
        yield f"- {family}: {', '.join(f'[{s.id}](#{s.id})' for s in members)}"


def _families(known: list[Signature]) -> Iterator[str]:
    for family, members in groupby(known, key=lambda s: s.family):
        yield f"\n## {family}"
        for signature in members:
            yield from _section(signature)


def _section(signature: Signature) -> Iterator[str]:
    yield f"\n### {signature.id}\n\n{_text(signature.title)}\n"
    for label, text in signatures.described(signature):
        yield f"- {label}: {_code(text) if label == 'says' else _text(text)}"


def _text(text: str) -> str:
    """What markdown would take for markup is none; an address is a link by itself."""
    return (
        "".join(f"\\{c}" if c in "\\`*_<>[]|" else c for c in text) if "://" not in text else text
    )


def _code(text: str) -> str:
    """In as many backticks as it takes."""
    fence = "`" * (max(map(len, _runs(text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _runs(text: str) -> list[str]:
    return ["".join(group) for char, group in groupby(text) if char == "`"]


if __name__ == "__main__":
    sys.exit(main())
