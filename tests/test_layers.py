"""The law of the house: imports go downwards only, never in a circle, and pure modules are pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vllm_guard

HOUSE = Path(vllm_guard.__file__).parent
PACKAGE = "vllm_guard"

#: Highest first: a module may import from its own layer and from those below.
LAYERS = (
    ("__main__", "cli", "commands", "ending"),
    (
        *("report", "prepare", "command", "checkup", "formats", "sarif", "kept", "trial"),
        *("closing", "reporting"),
    ),
    (
        *(
            "launch",
            "execute",
            "outlet",
            "keeper",
            "tree",
            "cgroup",
            "log",
            *("watch", "counters", "samples", "progress", "ready"),
            *("stall", "stacks", "dumps", "moving", "waiting"),
            *("gpu", "nvml", "oom", "proof", "sockets"),
            "terminal",
            "pump",
            "leftovers",
            "journal",
            "segments",
            "ledger",
            *("record", "marker", "folders"),
        ),
        *("probes", "target", "provenance"),
    ),
    (
        *("plan", "audit", "contradictions", "engine", "config_file", "profiles", "profile_schema"),
        *("removal", "effects", "diagnose", "servers", "causes", "signatures"),
        "phases",
        *("trust", "pins", "verifying", "defaults", "finding_ids"),
    ),
    (
        *(
            "facts",
            "redact",
            "spellings",
            "masking",
            "screen",
            "environment",
            "signals",
            "libc",
            "cache",
            "paths",
            "voice",
        ),
        "aside",
        "host",
        *("values", "vllm_source", "vllm_models", "vllm_flags", "assignments", "shellcode"),
        *("estimate", "hub", "hub_api", "model_files"),
        *("repository", "temporary", "vllm_names"),
        *("notebooks", "scripts", "unguarded"),
        *("guarding", "importers", "overwrite"),
        *("lines", "needles", "prefixes"),
    ),
    ("model", "errors", "frozen", "options", "schema", "shellwords", "flag_words", "__init__"),
)
RANKS = {name: len(LAYERS) - index for index, names in enumerate(LAYERS) for name in names}

PURE = (
    *("plan", "audit", "contradictions", "removal", "values", "assignments", "shellwords"),
    *("shellcode", "engine", "config_file", "redact", "screen", "estimate", "formats"),
    *("notebooks", "unguarded", "flag_words", "schema", "phases"),
    *("causes", "diagnose", "lines", "needles", "prefixes", "signatures"),
    *("reporting.charts", "reporting.markdown", "reporting.page"),
    *("moving", "waiting"),
    *("guarding", "guarding.escapes", "guarding.leaves", "guarding.outcomes", "guarding.placing"),
    *("guarding.recorder", "guarding.risks", "guarding.sinking", "guarding.table"),
    "guarding.wrapping",
)
IMPURE_IMPORTS = {
    *("subprocess", "signal", "_signal", "time", "datetime", "socket", "pathlib", "io", "tempfile"),
    *("shutil", "threading", "random", "secrets", "urllib", "psutil", "resource", "ctypes"),
}
IMPURE_NAMES = {
    "open",
    "input",
    "print",
    "exec",
    "eval",
    "__import__",
    "environ",
    "environb",
    "getenv",
}
NEVER = {"torch", "vllm", "numpy"}


def modules() -> list[str]:
    """Every module below the package, by its dotted name without the package's own."""
    paths = (path.relative_to(HOUSE).with_suffix("") for path in HOUSE.rglob("*.py"))
    names = (".".join(path.parts).removesuffix(".__init__") for path in paths)
    return sorted(name for name in names if not name.startswith(("inside.", "_profiles")))


MODULES = modules()


def path_of(module: str) -> Path:
    path = HOUSE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_bytes())


def imports(module: str, typing_too: bool = True) -> Iterator[str]:
    """Full dotted names of all that a module imports, in functions and under TYPE_CHECKING too."""
    skipped = set()
    for node in ast.walk(tree_of(module)):
        if (
            not typing_too
            and isinstance(node, ast.If)
            and ast.unparse(node.test).endswith("TYPE_CHECKING")
        ):
            skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(module: str, typing_too: bool = True) -> set[str]:
    """The modules of the house that a module imports."""
    found = set()
    for name in imports(module, typing_too):
        head, _, rest = name.partition(".")
        if head != PACKAGE:
            continue
        while rest and rest not in MODULES:  # `from vllm_guard.model import Finding`
            rest = rest.rpartition(".")[0]
        found.add(rest or "__init__")
    return found


def layer(module: str) -> int:
    return RANKS[module.partition(".")[0]]


def test_every_module_has_its_place_in_the_table() -> None:
    tops = {module.partition(".")[0] for module in MODULES}

    assert tops ^ set(RANKS) == set()
    assert len(RANKS) == sum(map(len, LAYERS)), "a name stands twice in the table"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards_only(module: str) -> None:
    upward = {name for name in own_imports(module) if layer(name) > layer(module)}

    assert upward == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: own_imports(module, typing_too=False) - {module} for module in MODULES}
    circles = []

    def walk(module: str, way: tuple[str, ...]) -> None:
        if module in way:
            circles.append(" -> ".join((*way[way.index(module) :], module)))
        elif module in graph:
            for below in sorted(graph[module]):
                walk(below, (*way, module))
            del graph[module]

    for module in MODULES:
        walk(module, ())

    assert circles == []


@pytest.mark.parametrize("module", MODULES)
def test_what_lives_in_the_targets_interpreter_is_never_imported(module: str) -> None:
    assert NEVER & {name.partition(".")[0] for name in imports(module)} == set()


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_take_environment_clock_and_files_as_arguments(module: str) -> None:
    imported = {name.partition(".")[0] for name in imports(module, typing_too=False)}
    nodes = list(ast.walk(tree_of(module)))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}

    assert imported & IMPURE_IMPORTS == set()
    assert named & IMPURE_NAMES == set()


def test_the_keeper_and_all_it_imports_use_the_standard_library_only() -> None:
    seen: set[str] = set()
    pending = ["keeper"]
    while pending:
        module = pending.pop()
        seen.add(module)
        pending += own_imports(module, typing_too=False) - seen
    outside = {
        name.partition(".")[0] for module in seen for name in imports(module, typing_too=False)
    }

    assert {"keeper", "tree", "signals"} <= seen
    assert outside - sys.stdlib_module_names - {PACKAGE} == set()


def test_the_reader_of_imports_sees_imports_wherever_they_stand() -> None:
    assert {"errors", "frozen"} <= own_imports("options")
    assert "audit" in own_imports("probes.vllm.profile_keys")
    assert "proof" in own_imports("commands.run"), "inside a function"
    assert "target" in own_imports("probes"), "under TYPE_CHECKING"
    assert "target" not in own_imports("probes", typing_too=False)
