"""The pages of the site that are made, not written; mkdocs calls the `on_...` functions (its `hooks`).

README, CHANGELOG and others stay where they are and become pages; each id of a finding or signature gets a
page, from the tables and sections that docs/ has of it; profiles and JSON schemas are shown as they are.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
#: Page of the site -> the file of the repository that it is.
ELSEWHERE = {
    "index.md": "README.md",
    "readme.zh-CN.md": "README.zh-CN.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
}
BUILT_IN = "builtin-profiles.md"
IDS = "ids"
CHECKS, SIGNATURES = "docs/checks.md", "docs/signatures.md"
SCHEMAS = "vllm_guard/data/schema"

_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")
_ROW = re.compile(r"^\| (`.+?) \| ([a-z, ]+) \| (.+) \|$")
_SECTION = re.compile(r"^### ([a-z0-9-]+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(.+?)\1")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""
    from mkdocs.structure.files import File

    for uri, text in made().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site needs them, whatever the repository says."""
    del config, files
    uri = page.file.src_uri
    return "\n".join(_cells(line) for line in linked(markdown, uri).split("\n"))


def made() -> dict[str, str]:
    """Path in the site -> content, of all that is not in docs/."""
    pages = {uri: _read(source) for uri, source in ELSEWHERE.items()}
    schemas = sorted((ROOT / SCHEMAS).glob("*.json"))
    return {
        **pages,
        BUILT_IN: built_in(),
        **{f"schema/{file.name}": file.read_text() for file in schemas},
        **id_pages(),
    }


def built_in() -> str:
    """The built-in profiles, file by file."""
    files = sorted((ROOT / "profiles").glob("*.toml"))
    sections = (f"## {file.stem}\n\n```toml\n{file.read_text()}```" for file in files)
    intro = "What a profile is and how to write one: [profiles.md](profiles.md)."
    return "\n\n".join(("# Built-in profiles", intro, *sections)) + "\n"


def id_pages() -> dict[str, str]:
    """A page for each id of docs/checks.md and docs/signatures.md, and one that lists them."""
    groups = {"Findings": list(_findings()), "Failures": list(_signatures())}
    pages: dict[str, str] = {}
    for name, text in (row for rows in groups.values() for row in rows):
        uri = f"{IDS}/{name}.md"
        pages[uri] = f"{pages.get(uri, f'# {name}')}\n\n{text}\n"
    lists = (f"## {title}\n\n{_listed(rows)}" for title, rows in groups.items())
    return {f"{IDS}/index.md": "\n\n".join(("# Every id", *lists)) + "\n", **pages}


def _listed(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"- [{name}]({name}.md)" for name in sorted({name for name, _ in rows}))


def linked(markdown: str, uri: str) -> str:
    """The text with its links, which are those of its file in the repository, as links of the site."""
    made_of_rows = uri.startswith(f"{IDS}/") and uri != f"{IDS}/index.md"
    source = CHECKS if made_of_rows else ELSEWHERE.get(uri, f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        return f"]({posixpath.relpath(_place(path), posixpath.dirname(uri) or '.')}"

    return _LINK.sub(link, markdown)


def _place(path: str) -> str:
    """Where the site has a file of the repository."""
    pages = {source: uri for uri, source in ELSEWHERE.items()}
    pages |= {"profiles": BUILT_IN, "benchmarks": pages["benchmarks/README.md"]}
    if path in pages:
        return pages[path]
    if path.startswith(f"{SCHEMAS}/"):
        return f"schema/{posixpath.basename(path)}"
    return path.removeprefix("docs/")


def _findings() -> Iterator[tuple[str, str]]:
    """(id, text) for each id in a table of docs/checks.md."""
    for line in _read(CHECKS).splitlines():
        if found := _ROW.match(line):
            ids, statuses, meaning = found.groups()
            names = [name for word in re.findall(r"`([\w-]+)`", ids) for name in _real(word)]
            for name in names:
                yield name, _finding(names, name, statuses, meaning.replace(r"\|", "|"))


def _real(name: str) -> list[str]:
    """`NAME-works` stands for an id of each full check; the parts of `NAME-PART` are written down nowhere."""
    if not name.startswith("NAME-") or name.endswith("-PART"):
        return [name]
    full = sorted((ROOT / "vllm_guard/probes/full").glob("[a-z]*.py"))
    return [name.replace("NAME", path.stem) for path in full]


def _finding(names: list[str], name: str, statuses: str, meaning: str) -> str:
    others = ", ".join(f"[{other}](ids/{other}.md)" for other in names if other != name)
    beside = f"\n\nTold in one row with {others}." if others else ""
    text = f"A finding: {statuses}.\n\n{meaning[0].upper()}{meaning[1:]}."
    return f"{text}{beside}\n\nAll findings: [checks.md](checks.md)."


def _signatures() -> Iterator[tuple[str, str]]:
    """The same for each section of docs/signatures.md, which is made from the data."""
    for name, text in _SECTION.findall(_read(SIGNATURES)):
        parts = (
            "A failure that a log tells.",
            text.strip(),
            "All: [signatures.md](signatures.md).",
        )
        yield name, "\n\n".join(parts)


def _cells(line: str) -> str:
    """In code in a table GitHub wants a backslash before `|`, and this markdown wants none."""
    if not line.startswith("|"):
        return line
    return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), line)


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
