"""The documentation and the program say the same: commands, options, ids, pages, manual, translation."""

from __future__ import annotations

import ast
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import click
import pytest
import tomli
import yaml

from dev import cli_docs, docs_site
from tests.kit import ROOT, pages
from vllm_guard import checkup, facts, finding_ids, probes
from vllm_guard.model import SEVERITY

PAGE_FILES = {page.relative_to(ROOT).as_posix(): page for page in pages.PAGES}
TRANSLATED = {
    "README.md": "README.zh-CN.md",
    "docs/quickstart.md": "docs/quickstart.zh-CN.md",
}
EXAMPLES = {"team", "ci"}  #: profiles that readers may have
#: What a name in capitals stands for in an id of docs/checks.md.
CAPITALS = {
    "probe-NAME": r"probe-[a-z0-9-]+",
    "NAME": f"({'|'.join(finding_ids.FULL)})",
    "PART": r"[a-z0-9-]+",
}


def test_the_page_of_commands_and_the_manual_are_what_the_program_says() -> None:
    done = subprocess.run([sys.executable, "dev/cli_docs.py", "--check"], cwd=ROOT, check=False)

    assert done.returncode == 0, "run `make reference`"


def test_every_command_and_option_is_on_the_page_and_in_the_manual() -> None:
    page, manual = cli_docs.PAGE.read_text(), cli_docs.MANUAL.read_text().replace("\\-", "-")

    for context in cli_docs.contexts():
        part = page.partition(f"## {context.command_path}\n")[2].partition("\n## ")[0]
        options = [p for p in context.command.params if isinstance(p, click.Option)]
        words = {word for option in options for word in option.opts}
        assert [word for word in words if word not in part] == [], context.command_path
        if not isinstance(context.command, click.Group):
            head = ".SH OPTIONS" if context.info_name == "run" else f".SS {context.command_path} "
            part = manual.partition(f"\n{head}")[2].partition("\n.S")[0]
            assert [word for word in words if word not in part] == [], context.command_path


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff here")
def test_the_manual_is_sound() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", cli_docs.MANUAL], capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"EXIT STATUS" in re.sub(rb".\x08|\x1b\[[0-9;]*m", b"", done.stdout)


@pytest.mark.parametrize("name", PAGE_FILES)
def test_every_command_on_a_page_is_one(name) -> None:
    told = list(pages.own_words(PAGE_FILES[name].read_text()))

    assert [(words, why) for words in told if (why := pages.problem(words))] == []


@pytest.mark.parametrize("name", PAGE_FILES)
def test_every_block_is_what_it_says_it_is(name) -> None:
    text = PAGE_FILES[name].read_text()

    for language, read in READERS.items():
        for block in pages.fenced(text, language):
            read(block)


def test_blocks_that_are_not_what_they_say_are_seen() -> None:
    for language, read in READERS.items():
        with pytest.raises(Exception, match=r"\S"):
            read("'{\n")
        assert any(pages.fenced(file.read_text(), language) for file in pages.PAGES), language


def _sound_bash(block: str) -> None:
    subprocess.run(["bash", "-n", "-c", block], check=True, capture_output=True)


#: How a block of each language is read; each raises where it cannot.
READERS: dict[str, Callable[[str], object]] = {
    "bash": _sound_bash,
    "python": ast.parse,
    "toml": tomli.loads,
    "yaml": lambda block: list(yaml.safe_load_all(block)),
}


def test_the_examples_of_the_action_have_its_inputs() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    blocks = (b for page in pages.PAGES for b in pages.fenced(page.read_text(), "yaml"))
    steps = [step for block in blocks if "/vllm-guard@" in block for step in yaml.safe_load(block)]
    ours = [step["with"] for step in steps if "/vllm-guard@" in step["uses"]]

    assert {name: row["default"] for name, row in inputs.items()} in ours
    assert [name for given in ours for name in given if name not in inputs] == []


@pytest.mark.parametrize("name", PAGE_FILES)
def test_every_check_and_profile_on_a_page_is_one(name) -> None:
    checks = {check.id for check in checkup.catalogue()}
    profiles = {path.stem for path in (ROOT / "profiles").glob("*.toml")} | EXAMPLES
    known = dict.fromkeys(("--only", "--skip"), checks) | dict.fromkeys(
        ("-p", "--profile"), profiles
    )

    for words in pages.own_words(PAGE_FILES[name].read_text()):
        for option, value in itertools.pairwise(words[: [*words, "--"].index("--")]):
            a_name = value.islower() and not value.endswith(".toml")
            assert not a_name or value in known.get(option, {value}), words


def test_what_is_no_command_is_seen() -> None:
    text = (
        "    vllm-guard doctor --nope\n\n`vllm-guard nope`\n\n```\n$ vllm-guard --nope -- x\n```\n"
    )

    told = list(pages.own_words(text))

    assert told == [["doctor", "--nope"], ["nope"], ["--nope", "--", "x"]]
    assert all(pages.problem(words) for words in told)


def test_every_page_is_in_the_navigation() -> None:
    # `!!python/...` of the settings is for mkdocs only
    text = (ROOT / "mkdocs.yml").read_text().replace("!!python/object/apply:", "!!str ")
    text = re.sub(r"slugify:.*", "", text)
    named = set(re.findall(r"[\w./-]+\.md", str(yaml.safe_load(text)["nav"])))
    written = {name.removeprefix("docs/") for name in PAGE_FILES if name.startswith("docs/")}

    assert written - named == set(), "add it to `nav` in mkdocs.yml"
    assert named - written - {uri for uri in docs_site.made() if uri.endswith(".md")} == set()


def test_the_full_checks_whose_parts_have_ids_are_all_of_them() -> None:
    assert sorted(finding_ids.FULL) == sorted(map(probes.id_of, probes.names(probes.FULL)))


def test_every_id_has_a_page() -> None:
    known = [name.partition("/")[2].removesuffix(".md") for name in docs_site.id_pages()]
    shapes = [re.compile(_shape(name)) for name in known]

    told = sorted(set(ids_in_the_source()))
    assert len(told) > 100
    missing = [name for name in told if not any(shape.fullmatch(name) for shape in shapes)]
    assert missing == [], "add a row to docs/checks.md"


def test_every_signature_has_a_page() -> None:
    assert [
        name for name in facts.signatures() if f"ids/{name}.md" not in docs_site.id_pages()
    ] == []


def _shape(name: str) -> str:
    for word, stands_for in CAPITALS.items():
        name = name.replace(word, stands_for)
    return name


def ids_in_the_source() -> Iterator[str]:
    """Each id of a finding that is written down where the finding is made."""
    for path in (ROOT / "vllm_guard").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and node.args and "inside" not in path.parts:
                words = [arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant)]
                called = isinstance(node.func, ast.Name)
                direct = ast.unparse(node.func).endswith("Finding")
                if (
                    words
                    and words[0] not in SEVERITY
                    and (direct or (called and words[-1] in SEVERITY))
                ):
                    yield str(words[0])


@pytest.mark.parametrize(
    ("uri", "link", "wanted"),
    [
        ("index.md", "docs/run.md#a", "run.md#a"),
        ("run.md", "doctor.md", "doctor.md"),
        ("check.md", "../vllm_guard/data/schema/check.json", "schema/check.json"),
        ("profiles.md", "../profiles", "builtin-profiles.md"),
        ("index.md", "benchmarks/README.md#x", "benchmarks.md#x"),
        ("how-it-works.md", "../CONTRIBUTING.md", "contributing.md"),
        ("recipes/ray.md", "../checks.md", "../checks.md"),
        ("ids/shm-size.md", "doctor.md", "../doctor.md"),
        ("ids/index.md", "shm-size.md", "shm-size.md"),
        ("run.md", "https://x.org/a", "https://x.org/a"),
        ("run.md", "#here", "#here"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(uri, link, wanted) -> None:
    assert docs_site.linked(f"[a]({link})", uri) == f"[a]({wanted})"


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_same_commands(name) -> None:
    original, other = ((ROOT / file).read_text() for file in (name, TRANSLATED[name]))

    assert pages.indented(other) == pages.indented(original)
    assert pages.consoles(other) == pages.consoles(original)
    assert sorted(pages.inline(other)) == sorted(pages.inline(original))
