"""What is read from vLLM's source: fragments of every shape, and the tables of real releases."""

from __future__ import annotations

import ast
import contextlib
import json
import marshal
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vllm_guard.vllm_source import read_engine_args, read_env_table

if TYPE_CHECKING:
    from vllm_guard.vllm_source import EnvRow

DATA = Path(__file__).parent / "data"
TABLES = sorted((DATA / "envs").glob("*.json"))
STYLES = {
    *("int-bool", "tristate", "one-true", "one", "true"),
    *("choices", "int", "float", "str", "other"),
}

HELPERS = '''
import os

def read_port():
    """`X` as a number."""
    if "X" not in os.environ:
        return None
    port = os.getenv("X", "0")
    try:
        return int(port)
    except ValueError:
        raise ValueError(f"{port} is no port") from None

def compile_ahead():
    fallback = "1" if torch_is_new() else "0"
    return not os.getenv("OTHER") and os.environ.get("X", fallback) == "1"

def not_read():
    return None

def find_binary():
    raw = os.environ.get("X", "auto")
    if raw.lower() in ("auto", "1", "true"):
        return locate()
    return raw
'''


def table(entry: str, name: str = "X") -> dict[str, EnvRow]:
    return read_env_table(f"{HELPERS}\nenvironment_variables = {{{name!r}: {entry}}}\n".encode())


def row(entry: str) -> EnvRow:
    return table(entry)["X"]


@pytest.mark.parametrize(
    ("entry", "style", "default"),
    [
        ('lambda: bool(int(os.getenv("X", "0")))', "int-bool", "0"),
        ('lambda: bool(int(os.getenv("X", "1")) or int(os.getenv("Y", "0")))', "int-bool", "1"),
        ('lambda: bool(int(os.environ["X"])) if "X" in os.environ else True', "int-bool", True),
        ('lambda: bool(int(os.environ["X"])) if "X" in os.environ else None', "tristate", None),
        ('lambda: maybe_convert_bool(os.getenv("X"))', "tristate", None),
        ('lambda: maybe_convert_bool(os.environ.get("X", "1"))', "tristate", "1"),
        ('lambda: os.getenv("X", "0").lower() in ("1", "true")', "one-true", "0"),
        ('lambda: os.environ.get("X", "").strip().lower() in ("true", "1")', "one-true", ""),
        ('lambda: os.getenv("X", "").lower() in ("1", "true") or bool(os.getenv("Y"))',
         "one-true", ""),
        ('lambda: None if "X" not in os.environ else os.environ["X"].lower() in ("1", "true")',
         "one-true", None),
        ('lambda: os.environ.get("X", "0") == "1"', "one", "0"),
        ('lambda: (os.getenv("X", None) or os.getenv("Y", None) or "0") == "1"', "one", "0"),
        ('lambda: os.environ.get("X", "False").lower() == "true"', "true", "False"),
        ('lambda: int(os.getenv("X", "4"))', "int", "4"),
        ('lambda: int(int(os.getenv("X", 256)))', "int", 256),
        ('lambda: maybe_convert_int(os.environ.get("X", None))', "int", None),
        ('lambda: int(os.getenv("X", "0")) if "X" in os.environ else None', "int", None),
        ('lambda: float(os.getenv("X", "-1"))', "float", "-1"),
        ('lambda: v if (v := float(os.getenv("X", "10."))) > 0.0 else 10.0', "float", "10."),
        ('lambda: os.getenv("X")', "str", None),
        ('lambda: os.getenv("X", "INFO").upper()', "str", "INFO"),
        ('lambda: os.getenv("X", "").lower() or "13.0"', "str", "13.0"),
        ('lambda: os.getenv("X", "12.8").lower() or "13.0"', "str", "12.8"),
        ('lambda: os.path.expanduser(os.getenv("X", "."))', "str", "."),
        # A string is true unless it is empty: "0" is read as True.
        ('lambda: bool(os.getenv("X", "0"))', "other", "0"),
        ('lambda: os.getenv("X", "0") != "0"', "other", "0"),
        ('lambda: "a" in os.getenv("X", "").lower()', "other", ""),
        ('lambda: [] if "X" not in os.environ else os.environ["X"].split(",")', "other", []),
        ('lambda: {"1": True, "0": False}.get(os.getenv("X", "").strip())', "other", ""),
        ('lambda: json.loads(os.getenv("X", "{}"))', "other", "{}"),
        ("read_port", "int", None),
        ("lambda: read_port()", "int", None),
        ("find_binary", "other", "auto"),
        ('deprecated("X", "v9", "gone", lambda: bool(int(os.getenv("X", "0"))))', "int-bool", "0"),
    ],
)  # fmt: skip
def test_style_and_default(entry: str, style: str, default: object) -> None:
    assert row(entry) == {
        "default": default,
        "computed": False,
        "choices": None,
        "style": style,
        "ignore_case": False,
        "many": False,
    }


@pytest.mark.parametrize(
    ("entry", "style"),
    [
        ('lambda: os.getenv("X", tempfile.gettempdir())', "str"),
        ('lambda: os.path.expanduser(os.getenv("X", os.path.join(root(), "cache")))', "str"),
        ('lambda: int(os.getenv("X", str(16 * 1024)))', "int"),
        ('lambda: int(os.getenv("X", sys.modules[__name__].Y))', "int"),
        ('lambda: os.getenv("X", b"bytes")', "str"),
        ('lambda: os.getenv("X", {"a": 1})', "str"),
        ('lambda: os.getenv("X", [[1]])', "str"),
        ("compile_ahead", "one"),
        ("not_read", "other"),
        ("lambda: not_read()", "other"),
        ("lambda: 5", "other"),
        ("undefined_name", "other"),
        ('lambda: os.getenv("Y", "0")', "other"),  # the name is not the one that is read
        ('get_env_or_set_default("X", lambda: f"{uuid4()}")', "str"),
        ('some_new_maker("X", "0")', "other"),
    ],
)
def test_a_default_that_is_no_literal_is_computed(entry: str, style: str) -> None:
    found = row(entry)
    assert (found["style"], found["default"], found["computed"]) == (style, None, True)


def test_choices() -> None:
    assert row('env_with_choices("X", "fork", ["spawn", "fork"])') == {
        "default": "fork",
        "computed": False,
        "choices": ["spawn", "fork"],
        "style": "choices",
        "ignore_case": False,
        "many": False,
    }


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ('env_with_choices("X", None, ("a", "b"), case_sensitive=False)',
         {"default": None, "choices": ["a", "b"], "ignore_case": True}),
        ('env_with_choices("X", "a", ["a"], True)', {"choices": ["a"], "ignore_case": False}),
        ('env_with_choices("X", None, lambda: list(Enum))', {"choices": None, "computed": False}),
        ('env_with_choices("X", pick(), ["a"])', {"default": None, "computed": True}),
        ('env_set_with_choices("X", default=[], choices=["a", "b"])',
         {"default": [], "choices": ["a", "b"], "many": True}),
        ('env_list_with_choices("X", ["a"], ["a", "b"])', {"default": ["a"], "many": True}),
        ('deprecated("X", "v9", "gone", env_with_choices("X", "a", ["a"]))', {"choices": ["a"]}),
    ],
)  # fmt: skip
def test_other_choices(entry: str, expected: dict[str, object]) -> None:
    found = dict(row(entry))
    assert found["style"] == "choices"
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("head", ["environment_variables", "environment_variables: dict[str, Any]"])
def test_the_table_may_be_annotated(head: str) -> None:
    source = f'{head} = {{"A": lambda: os.getenv("A"), "B": lambda: os.getenv("B")}}'
    assert list(read_env_table(source.encode())) == ["A", "B"]


def test_what_has_no_literal_name_is_left_out() -> None:
    assert read_env_table(b'environment_variables = {**more, KEY: f, 1: f, "A": f}').keys() == {"A"}


def test_the_last_of_two_entries_counts_as_in_python() -> None:
    source = (
        'environment_variables = {"X": lambda: os.getenv("X", "1"), "X": lambda: os.getenv("X")}'
    )
    assert read_env_table(source.encode())["X"]["default"] is None


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"x = 1",
        b"environment_variables = make()",
        b"environment_variables: dict",
        b"def f():\n    environment_variables = {}",
        b"class EngineArgs",
        b"\x00",
        b"\xff\xfe\x00",
        b"# coding: no-such-codec\n",
        b"# coding: hex\n00",
        b"(" * 5000,
        b"environment_variables = {'X': lambda: " + b"(" * 150 + b"1" + b")" * 150,
        b"environment_variables = {'X': lambda: " + b"-" * 100_000 + b"1}",
    ],
)
@pytest.mark.parametrize("read", [read_env_table, read_engine_args])
def test_what_cannot_be_read_is_a_value_error_of_one_line(read: Any, source: bytes) -> None:
    with pytest.raises(ValueError, match=r"^cannot read (envs|arg_utils)\.py: .+") as caught:
        read(source)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
@example(b'environment_variables = {"\\ud800": f}')
@example(b'environment_variables = {"X": lambda: a' + b".b" * 100_000 + b"}")
@example(b'environment_variables = {"X": lambda: os.getenv("X")' + b".b" * 2_000 + b"}")
def test_any_bytes_are_read_or_a_value_error(source: bytes) -> None:
    for read in (read_env_table, read_engine_args):
        with contextlib.suppress(ValueError):
            read(source)


READS = st.sampled_from(['os.getenv("X")', 'os.environ["X"]', 'os.environ.get("X", "1")', "7", "X"])
EXPRESSIONS = st.recursive(
    READS,
    lambda inner: st.one_of(
        st.builds("{}({})".format, st.sampled_from(["bool", "int", "float", "f"]), inner),
        st.builds("({}).{}()".format, inner, st.sampled_from(["lower", "split", "strip"])),
        st.builds("({} {} {})".format, inner, st.sampled_from(["==", "in", "or", "<"]), inner),
        st.builds('({} if "X" in os.environ else {})'.format, inner, inner),
        st.builds("[not {}, ({}, {{}})]".format, inner, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(EXPRESSIONS, st.sampled_from(["lambda: {}", "f(1, {})", 'env_with_choices("X", {0}, {0})']))
def test_whatever_an_entry_is_its_row_is_plain_data(expression: str, shape: str) -> None:
    found = table(shape.format(expression))
    assert found["X"]["style"] in STYLES
    assert not (found["X"]["computed"] and found["X"]["default"] is not None)
    assert marshal.loads(marshal.dumps(found)) == found
    assert json.loads(json.dumps(found)) == found


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(), st.none() | st.integers())
def test_names_and_defaults_come_back_as_written(name: str, text: str, other: int | None) -> None:
    for default in (text, other):
        found = table(f"lambda: os.getenv({name!r}, {default!r})", name)
        assert found[name]["default"] == default


def test_a_warning_about_the_source_stays_silent(recwarn: pytest.WarningsRecorder) -> None:
    read_env_table(b'environment_variables = {"A": lambda: "\\d"}\nassert (1, "")')
    assert not recwarn.list


ENGINE_ARGS = b"""
class EngineArgs:
    model: str = "m"
    tensor_parallel_size: int = 1
    served_name: Optional[Union[str, List[str]]] = None
    _rank: int = 0
    memory: float = 0.9
    not_annotated = 1

    def add_cli_args(parser):
        if True:
            group = parser.add_argument_group("g")
            group.add_argument("--tensor-parallel-size", "-tp", **kwargs)
        group.add_argument("--memory", "--device-memory", dest="memory")
        parser.add_argument("-m", "--model")
        parser.add_argument("positional")
        parser.add_argument(computed)
        parser.add_argument("--no-such-field")

class AsyncEngineArgs(EngineArgs):
    log_requests: bool = False

    def add_cli_args(parser):
        for _ in ():
            try:
                parser.add_argument("--log-requests")
            finally:
                pass

class Other:
    field: int = 0
"""


def test_engine_args() -> None:
    assert read_engine_args(ENGINE_ARGS) == {
        "model": {"annotation": "str", "options": ["-m", "--model"]},
        "tensor_parallel_size": {"annotation": "int", "options": ["--tensor-parallel-size", "-tp"]},
        "served_name": {"annotation": "Optional[Union[str, List[str]]]", "options": []},
        "_rank": {"annotation": "int", "options": []},
        "memory": {"annotation": "float", "options": ["--memory", "--device-memory"]},
        "log_requests": {"annotation": "bool", "options": ["--log-requests"]},
    }


class Named(NamedTuple):
    """A row of history.txt: a name, and its default as source text in each release that has it."""

    name: str
    defaults: dict[str, str]


def read_history() -> list[Named]:
    first, *lines = (DATA / "envs" / "history.txt").read_text().splitlines()
    releases: list[str] = ast.literal_eval(first)
    return [parse_row(line, releases) for line in lines]


def parse_row(line: str, releases: list[str]) -> Named:
    shape = r"(\S+) \| first (\S+) \| (?:LIVE|GONE after (\S+)) \| (.*) \| gaps (.*)"
    found = re.fullmatch(shape, line)
    assert found, line
    name, begin, end, changes, gaps = found.groups()
    span = releases[releases.index(begin) : releases.index(end or releases[-1]) + 1]
    span = [release for release in span if release not in ast.literal_eval(gaps or "[]")]
    changed = dict(change.split(":", 1) for change in changes.split(" -> "))
    defaults: dict[str, str] = {}
    text = changed[begin]
    for release in span:
        text = changed.get(release, text)
        defaults[release] = text
    return Named(name, defaults)


HISTORY = read_history()


def stored(path: Path) -> Any:
    return json.loads(path.read_text())


def test_enough_releases_are_stored() -> None:
    assert len(TABLES) >= 8


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_release_has_the_names_of_the_history(path: Path) -> None:
    assert stored(path).keys() == {row.name for row in HISTORY if path.stem in row.defaults}


#: Where the history has the text inside `getenv(...)`, and that is not what stands for an unset
#: variable: these are read only if they are set, or the empty text is followed by `or "13.0"`.
NEVER_USED = {
    "VLLM_CPU_KVCACHE_SPACE": "0",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_LOGITS_PROCESSOR_THREADS": "0",
    "VLLM_MAIN_CUDA_VERSION": "",
    "VLLM_PORT": "0",
}


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_release_has_the_defaults_of_the_history(path: Path) -> None:
    compared = 0
    for name, found in stored(path).items():
        text = next(row.defaults[path.stem] for row in HISTORY if row.name == name)
        try:
            default = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            assert found["computed"], name
            continue
        # For the history None is also "not found", which the fragments above tell apart.
        if default is not None and NEVER_USED.get(name) != default:
            assert (found["default"], found["computed"]) == (default, False), name
            compared += 1
    assert compared > 60


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_stored_table_is_whole_and_has_one_name_per_line(path: Path) -> None:
    rows = stored(path)
    keys = {"default", "computed", "choices", "style", "ignore_case", "many"}
    assert all(row.keys() == keys and row["style"] in STYLES for row in rows.values())
    assert path.read_text().count("\n") == len(rows) + 2
    assert list(rows) == sorted(rows)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_facts_that_hold_in_every_release(path: Path) -> None:
    rows = stored(path)
    styles = {
        "VLLM_NO_USAGE_STATS": "one",
        "VLLM_SKIP_P2P_CHECK": "one",
        "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "true",
        "VLLM_TRACE_FUNCTION": "int",
        "VLLM_PORT": "int",
        "VLLM_LOGGING_LEVEL": "str",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "one-true",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "int-bool",
        "VLLM_LOG_BATCHSIZE_INTERVAL": "float",
        "VLLM_PLUGINS": "other",
    }
    assert {name: rows[name]["style"] for name in styles} == styles
    assert sum(row["computed"] for row in rows.values()) <= 0.1 * len(rows)


@pytest.mark.parametrize("version", ["0.8.5", "0.12.0", "0.20.2", "0.33.0"])
def test_stored_engine_arguments(version: str) -> None:
    fields = stored(DATA / "engine_args" / f"{version}.json")
    assert fields["tensor_parallel_size"] == ["--tensor-parallel-size", "-tp"]
    for name in ("enforce_eager", "load_format", "generation_config"):
        assert fields[name] == ["--" + name.replace("_", "-")]
    assert sum(not options for options in fields.values()) < 10
