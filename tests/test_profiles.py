"""Profiles: the schema, the lookup, the built-in ones against released vLLMs, and a corpus of bad files."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import ROOT, guard, guard_env
from vllm_guard import facts, frozen, profile_schema, profiles, removal, screen
from vllm_guard.audit import check_parts
from vllm_guard.errors import GUARD_FAILED, USAGE, GuardError
from vllm_guard.model import EnvPlan, Part, Profile, Setting
from vllm_guard.plan import make_plan

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in (ROOT / "profiles").glob("*.toml"))
VERSIONS = sorted(path.stem for path in (DATA / "envs").glob("*.json"))
BUILT_IN = {
    *("clean", "debug", "dummy-weights", "eager", "nccl", "network", "p2p-off"),
    *("single-process", "stats", "trace", "vllm-sampling"),
}
HEAD = 'schema = 1\nsummary = "s"\n'


def load(name: str) -> Profile:
    return profiles.load_profile(name, os.environ)


def settings_of(profile: Profile) -> dict[str, Setting]:
    return {s.name: s for part in profile.parts for s in part.settings}


@pytest.fixture
def write(tmp_path):
    """Write a profile; returns its path."""

    def write(text: str | bytes, name: str = "mine.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.fixture
def user(monkeypatch) -> Path:
    """The folder of the user's own profiles."""
    folder = Path(os.environ["HOME"], ".config/vllm-guard/profiles")
    folder.mkdir(parents=True)
    return folder


# ---- the built-in ones


def test_the_built_in_profiles_are_those_of_the_design() -> None:
    assert set(NAMES) == BUILT_IN


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_profile_says_what_it_is_for_what_it_costs_and_why(name: str) -> None:
    profile = load(name)

    assert profile.origin == "builtin"
    assert profile.summary
    assert profile.cost
    assert profile.uri.startswith("https://")
    for setting in settings_of(profile).values():
        assert setting.why or setting.kind == "unset", f"{setting.name} has no why"


def engine_table(path: Path) -> dict[str, Any] | None:
    """The options of one release, where they were sampled; annotations were not."""
    if not path.exists():
        return None
    fields = json.loads(path.read_text())
    return {name: {"annotation": "", "options": options} for name, options in fields.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_vllm_that_a_built_in_profile_is_meant_for_knows_all_it_sets(name, version) -> None:
    profile = load(name)
    if not profiles.meant_for(profile, version):
        assert profile.vllm
        return
    variables = json.loads((DATA / "envs" / f"{version}.json").read_text())
    engine = engine_table(DATA / "engine_args" / f"{version}.json")
    parts = profiles.settings_for([profile], version)

    assert list(check_parts(parts, variables, engine, facts.variables())) == []


@given(st.data())
def test_a_built_in_profile_can_be_undone(data: st.DataObject) -> None:
    profile = load(data.draw(st.sampled_from(NAMES)))
    version = data.draw(st.sampled_from([*VERSIONS, "0.32.0+cpu", None]))
    variables = st.sampled_from([*settings_of(profile), "A"])
    env = data.draw(st.dictionaries(variables, st.text() | st.sampled_from(["0", "1"])))
    plan, _ = make_plan(env, profiles.settings_for([profile], version))

    assert plan.reverse().apply(plan.apply(env)) == env


def test_trace_is_debug_and_more() -> None:
    debug, trace = settings_of(load("debug")), settings_of(load("trace"))

    assert set(trace) - set(debug) == {"VLLM_TRACE_FUNCTION"}
    assert set(debug) <= set(trace)


def test_clean_removes_what_the_debugging_profiles_set() -> None:
    left_on = set()
    for name in BUILT_IN - {"clean"}:
        left_on |= {s.name for s in settings_of(load(name)).values() if s.kind != "unset"}

    assert cleaned(dict.fromkeys(left_on, "1")) == {}


#: What `clean` named before it asked the facts.
ONCE_NAMED = (ROOT / "tests/data/clean.txt").read_text().split()


def cleaned(env: dict[str, str]) -> dict[str, str]:
    """What `-p clean` leaves of an environment."""
    parts = profiles.settings_for([load("clean")], None)
    plan, _ = make_plan(env, removal.expanded(parts, env, facts.variables()))
    return plan.apply(env)


def test_clean_removes_all_that_it_ever_removed_and_nothing_else() -> None:
    links = {"VLLM_SERVICE_HOST": "10.0.0.1", "VLLM_PORT": "tcp://10.0.0.1:80"}
    others = {"HOME": "/", "NCCL_SOCKET_IFNAME": "eth0", "VLLM_CACHE_ROOT": "/x", "HF_TOKEN": "t"}

    assert len(ONCE_NAMED) == 123
    assert cleaned({**dict.fromkeys(ONCE_NAMED, "1"), **links, **others}) == others


def test_a_launch_with_clean_has_none_of_them() -> None:
    env = guard_env(NCCL_DEBUG="TRACE", VLLM_SERVICE_HOST="10.0.0.1", CUDA_HOME="/x")

    done = guard("-p", "clean", "--keep", "NCCL_P2P_DISABLE", "--", "env", env=env)

    held = {line.partition(b"=")[0] for line in done.stdout.splitlines()}
    assert held & {b"NCCL_DEBUG", b"VLLM_SERVICE_HOST", b"CUDA_HOME"} == {b"CUDA_HOME"}
    assert b"profile clean, this run only: unset NCCL_DEBUG (was TRACE), unset VLLM_" in done.stderr


def test_remove_unsets_what_is_set_here_or_by_an_earlier_profile_and_not_what_its_own_says() -> (
    None
):
    own = Part("", (Setting("NCCL_DEBUG", "set", "WARN"),), (), (), ("debugging",))
    earlier = Part("", (Setting("NCCL_P2P_DISABLE", "set", "1"),), (), ())
    env = {"NCCL_DEBUG": "TRACE", "CUDA_LAUNCH_BLOCKING": "1", "A": "b"}

    expanded = removal.expanded([("a", earlier), ("b", own)], env, facts.variables())
    plan, findings = make_plan(env, expanded)

    assert plan.apply(env) == {"NCCL_DEBUG": "WARN", "A": "b"}
    assert [finding.subject for finding in findings] == ["NCCL_P2P_DISABLE"]


def test_remove_comes_with_what_is_extended(write) -> None:
    parts = load(write(HEAD + 'extends = ["clean"]\n[env]\nNCCL_DEBUG = "WARN"\n')).parts

    assert [part.remove for part in parts] == [("debugging", "service-links"), ()]


# ---- the schema


EVERYTHING = """
schema  = 1
summary = "all there is"
cost    = "slow"
uri     = "https://example.org/"
vllm    = ">=0.8"
extends = ["debug"]
remove  = ["debugging"]

[env]
PLAIN = "x"
EMPTY = ""
REASON = { value = "y", why = "because" }
MAYBE = { default = "4", why = "a guess" }
NEEDED = { required = "get one" }
GONE = false
GONE_TOO = { value = false, why = "harmful" }
LINES = "a\\nb"

[engine]
enforce_eager = true
seed = 0
gpu_memory_utilization = 0.5
load_format = "dummy"
served_model_name = ["a", "b"]
compilation_config = { mode = 0, pass_config = { fuse = false } }

[preflight]
probes = ["collective"]

[[when]]
vllm = ">=0.10.2"
env.LATER = "1"
engine.max_model_len = 128
preflight.probes = ["shm"]
"""


def test_everything_that_the_design_has_is_read(write) -> None:
    profile = load(write(EVERYTHING))
    *_, own, later = profile.parts

    assert (profile.name, profile.origin) == ("mine", "path")
    assert (profile.summary, profile.cost, profile.uri) == (
        "all there is",
        "slow",
        "https://example.org/",
    )
    assert own.settings == (
        Setting("PLAIN", "set", "x"),
        Setting("EMPTY", "set", ""),
        Setting("REASON", "set", "y", "because"),
        Setting("MAYBE", "default", "4", "a guess"),
        Setting("NEEDED", "required", "get one"),
        Setting("GONE", "unset"),
        Setting("GONE_TOO", "unset", "", "harmful"),
        Setting("LINES", "set", "a\nb"),
    )
    assert dict(own.engine)["compilation_config"] == {"mode": 0, "pass_config": {"fuse": False}}
    assert own.probes == ("collective",)
    assert (own.remove, later.remove) == (("debugging",), ())
    assert later.vllm == ">=0.10.2"
    assert later.settings == (Setting("LATER", "set", "1"),)
    assert dict(later.engine) == {"max_model_len": 128}
    assert later.probes == ("shm",)


def test_the_digest_is_that_of_the_files_bytes(write) -> None:
    import hashlib

    path = write(HEAD)

    assert load(path).digest == hashlib.sha256(HEAD.encode()).hexdigest()


def test_a_changed_file_is_read_anew(write) -> None:
    assert "A" in settings_of(load(write(HEAD + '[env]\nA = "1"\n')))
    assert settings_of(load(write(HEAD + '[env]\nA = "2"\n')))["A"].value == "2"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "`schema` is missing or not 1", "schema = 1"),
        ('schema = 2\nsummary = "s"\n', "`schema` is missing or not 1", "schema = 1"),
        ('schema = true\nsummary = "s"\n', "`schema` is missing or not 1", ""),
        ("schema = 1\n", "`summary` is missing", "one line"),
        ('schema = 1\nsummary = ""\n', "`summary` is missing", ""),
        ("schema = 1\nsummary = 5\n", "summary is a number, not text", ""),
        ('schema = 1\nsummary = "a\\nb"\n', "summary has a line break", "one line"),
        ('schema = 1\nsummary = "a\\u001b[2J"\n', "control character", ""),
        (HEAD + "cost = []\n", "cost is a list, not text", ""),
        (HEAD + 'uri = "ftp://x"\n', "`uri` is no web address", "https://"),
        (HEAD + 'vllm = "0.8 or so"\n', "no version specifier", ">=0.10.2"),
        (HEAD + "vllm = 0.8\n", "vllm is a number, not text", ""),
        (HEAD + 'extends = "debug"\n', "extends is text, not a list", "["),
        (HEAD + "extends = [1]\n", "extends is a number, not text", ""),
        (HEAD + 'extends = ["a", "b", "c", "d", "e"]\n', "at most 4", ""),
        (HEAD + 'remove = "debugging"\n', "remove is text, not a list", "["),
        (HEAD + 'remove = ["debug"]\n', "remove: 'debug' is unknown", "debugging, service-links"),
        (HEAD + '[[when]]\nvllm = ">=1"\nremove = []\n', "unknown key 'when.remove'", ""),
        (HEAD + "trust = true\n", "unknown key 'trust'", "known keys: schema"),
        (HEAD + "sumary = 1\n", "unknown key 'sumary'", "did you mean summary?"),
        (HEAD + "[enviroment]\n", "unknown key 'enviroment'", "known keys: schema"),
        (HEAD + "[envs]\n", "unknown key 'envs'", "did you mean env?"),
        (HEAD + 'env = "x"\n', "env is text, not a table", "[env]"),
        (HEAD + "[env]\nA = 1\n", "env.A is a number, not text", 'write it in quotes: "1"'),
        (HEAD + "[env]\nA = 1.5\n", "env.A is a number, not text", '"1.5"'),
        (HEAD + "[env]\nA = true\n", "env.A is true, which is not text", 'reads "1" as true'),
        (HEAD + "[env]\nA = []\n", "env.A is a list, not text", "false unsets it"),
        (HEAD + "[env]\nA = 2026-01-01\n", "env.A is a date or time, not text", ""),
        (HEAD + "[env]\nA = {}\n", "env.A needs one of value, default, required", ""),
        (HEAD + '[env]\nA = { why = "x" }\n', "it has none", ""),
        (HEAD + '[env]\nA = { value = "x", default = "y" }\n', "value and default", ""),
        (HEAD + '[env]\nA = { valu = "x" }\n', "unknown key 'env.A.valu'", "value?"),
        (HEAD + '[env]\nA = { value = "x", why = 1 }\n', "env.A.why is a number", ""),
        (HEAD + "[env]\nA = { default = false }\n", "env.A.default is false", 'reads "0" as false'),
        (HEAD + "[env]\nA = nan\n", "env.A is a number, not text", "write it in quotes"),
        (HEAD + f"[env]\nA = 0x{'f' * 4000}\n", "env.A is a number", "write it in quotes"),
        (HEAD + f"[engine]\na = 0x{'f' * 4000}\n", "engine.a is a number", "no flag takes that"),
        (HEAD + "[engine]\na = inf\n", "engine.a is a number", "no flag takes that"),
        (HEAD + "[engine]\na = [1, { b = -nan }]\n", "engine.a is a list", "no flag takes that"),
        (HEAD + "[env]\nA = { required = true }\n", "env.A.required is a boolean", ""),
        (HEAD + '[env]\nA = "a\\u0000b"\n', "env.A holds a NUL character", ""),
        (HEAD + '[env]\n"A=B" = "x"\n', "'A=B' is not a variable name", "letters"),
        (HEAD + '[env]\n"A\\nB" = "x"\n', "'A\\nB' is not a variable name", ""),
        (HEAD + '[env]\n"" = "x"\n', "'' is not a variable name", ""),
        (HEAD + '[env]\n"1A" = "x"\n', "'1A' is not a variable name", ""),
        (HEAD + '[env]\nVGUARD_RUN_ID = "x"\n', "vllm-guard's own", "leave it out"),
        (HEAD + "[engine]\nenforce-eager = true\n", "not a Python name", "write enforce_eager"),
        (HEAD + "[engine]\na = 2026-01-01\n", "engine.a is a date or time", ""),
        (HEAD + '[engine]\na = "x\\u0000"\n', "engine.a is text", ""),
        (HEAD + "[preflight]\nprobe = []\n", "unknown key 'preflight.probe'", "probes?"),
        (HEAD + '[preflight]\nprobes = "x"\n', "preflight.probes is text, not a list", ""),
        (HEAD + '[preflight]\nprobes = ["../x"]\n', "no name of a probe", ""),
        (HEAD + "[when]\n", "`when` is not a list of tables", "two brackets"),
        (HEAD + "when = [1]\n", "`when` is not a list of tables", ""),
        (HEAD + '[[when]]\nenv.A = "1"\n', "[[when]] names no versions", ">="),
        (HEAD + '[[when]]\nvllm = "new"\n', "when.vllm: 'new' is no version", ""),
        (HEAD + '[[when]]\nvllm = ">1"\nsummary = "x"\n', "unknown key 'when.summary'", ""),
        (HEAD + '[[when]]\nvllm = ">1"\nenv.A = 1\n', "when.env.A is a number", '"1"'),
    ],
)
def test_what_the_schema_does_not_have_is_refused_with_a_hint(text, message, hint) -> None:
    with pytest.raises(GuardError) as caught:
        profile_schema.parse(text.encode())

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()


KEYS = (
    *("schema", "summary", "cost", "uri", "vllm", "extends", "env", "engine", "preflight", "when"),
    *("value", "default", "required", "why", "probes", "A", "VGUARD_A", "a_b", "a-b", "A=B"),
)
ODD = (
    *(
        '"x"',
        '">=0.8"',
        '""',
        "'''\n'''",
        '"\\u0000"',
        '"\\u202e"',
        '"\x1b"',
        "[]",
        "{}",
        '["x"]',
        "[[1]]",
    ),
    *("1", "-0", "1e999", "0x" + "f" * 4000, "9" * 4299, "nan", "-inf", "true", "false", "[nan]"),
    *(
        "1979-05-27T07:32:00Z",
        "24:00:00",
        "{ value = 1 }",
        '{ default = "x", why = "y" }',
        "{ a.b = 1 }",
    ),
)
#: Pieces of TOML: from these, most mistakes that a file can hold arise.
PIECES = (
    *KEYS,
    *ODD,
    *("[", "]", "[[", "]]", "{", "}", "=", ".", ",", "\n", "\r\n", "\r", "\0", "#", " ", "\ufeff"),
    *('"', "'", '"""', "'''", "\\", "\\ud800", "\\e", "\x1b[2J", "\u202e", "\u00a0"),
)
PATHS = st.lists(st.sampled_from(KEYS).map(json.dumps), min_size=1, max_size=3).map(".".join)
LINES = (
    st.builds("{} = {}\n".format, PATHS, st.sampled_from(ODD))
    | st.builds("[{}]\n".format, PATHS)
    | st.builds("[[{}]]\n".format, PATHS)
)


@given(
    st.sampled_from([b"", HEAD.encode()]),
    st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.lists(st.sampled_from(PIECES) | LINES, max_size=40).map("".join).map(str.encode)
    | st.lists(LINES, max_size=5).map("".join).map(str.encode),
)
def test_no_bytes_do_anything_but_parse_or_be_refused(head: bytes, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "any.toml")
        Path(path).write_bytes(head + content)
        refusal, profile = tried(path)
    if profile is not None:
        assert json.dumps(frozen.plain(profile), allow_nan=False)
        return
    assert refusal.exit_code == GUARD_FAILED
    said = refusal.message.removeprefix(f"profile {path}: ") + refusal.hint
    assert screen.printable(said).isprintable()
    assert len(said) < 450


def tried(path: str) -> tuple[Any, Profile | None]:
    """The refusal, or the profile."""
    try:
        return None, load(path)
    except GuardError as error:
        return error, None


VALUES: dict[str, Any] = {
    "text": '"x"',
    "a number": "5",
    "a fraction": "0.5",
    "true": "true",
    "false": "false",
    "a list": "[1]",
    "a table": "{ q = 1 }",
    "a date": "2026-01-01",
}
#: What each place takes; everything else there is refused.
PLACES = {
    "schema = {}": set(),
    "schema = 1\nsummary = {}": {"text"},
    HEAD + "cost = {}": {"text"},
    HEAD + "uri = {}": set(),
    HEAD + "vllm = {}": set(),
    HEAD + "extends = {}": set(),
    HEAD + "env = {}": set(),
    HEAD + "engine = {}": {"a table"},
    HEAD + "preflight = {}": set(),
    HEAD + "when = {}": set(),
    HEAD + "preflight.probes = {}": set(),
    HEAD + "env.A = {}": {"text", "false"},
    HEAD + "env.A.value = {}": {"text", "false"},
    HEAD + "env.A.default = {}": {"text"},
    HEAD + "env.A.required = {}": {"text"},
    HEAD + 'env.A = {{ value = "x", why = {} }}': {"text"},
    HEAD + "engine.a = {}": set(VALUES) - {"a date"},
    HEAD + "[[when]]\nvllm = {}": set(),
    HEAD + '[[when]]\nvllm = ">1"\nenv = {}': set(),
    HEAD + '[[when]]\nvllm = ">1"\nengine = {}': {"a table"},
    HEAD + '[[when]]\nvllm = ">1"\nenv.A = {}': {"text", "false"},
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", PLACES)
def test_each_key_takes_its_own_type_and_no_other(place: str, value: str) -> None:
    text = place.format(VALUES[value])
    try:
        profile_schema.parse(text.encode())
    except GuardError:
        taken = False
    else:
        taken = True

    assert taken == (value in PLACES[place])


_MANY = "9" * 4000 + "\\\n" + "9" * 4000  #: more digits than Python reads, on two lines
HOSTILE = (
    *(f'"""{start}{_MANY}"""' for start in ("", "==", "==1.", "==1!", "==1+", ">=1.0.post")),
    *("9" * 4000, "0x" + "f" * 4000, "inf", "-nan", "07:32:00", '"\\u0000"', '"\\uD800"'),
    *("[" * 14 + "]" * 14, "{a={a={a={a=1}}}}", '"' + ">=1," * 900 + '"'),
)


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_is_too_odd_for_an_error_of_one_line(value: str, write) -> None:
    for place in (*PLACES, '[[when]]\nvllm = ">1"\nengine.a = [{}]'):
        path = write(place.format(value))
        with contextlib.suppress(GuardError):
            profiles.settings_for([load(path)], "0.33.0")


# ---- lookup, extends, versions


def test_a_users_profile_hides_a_built_in_one_and_a_file_is_named_by_its_path(user, write) -> None:
    (user / "debug.toml").write_text(HEAD + '[env]\nMINE = "1"\n')
    rows = {(r.name, r.origin): r.shadowed for r in profiles.list_profiles(os.environ)}

    assert load("debug").origin == "user"
    assert rows["debug", "user"] is False
    assert rows["debug", "builtin"] is True
    assert rows["trace", "builtin"] is False
    assert load(write(HEAD, "debug.toml")).origin == "path"


def test_an_unknown_name_is_a_usage_error_with_the_nearest_one() -> None:
    for name, hint in (("debgu", "did you mean debug?"), ("zzzz", "profile list"), ("", "list")):
        with pytest.raises(GuardError) as caught:
            load(name)
        assert (caught.value.exit_code, hint in caught.value.hint) == (USAGE, True)


def test_a_file_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(GuardError, match=r"no such profile: \./nowhere\.toml") as caught:
        load("./nowhere.toml")

    assert caught.value.exit_code == USAGE


def test_what_a_shell_or_an_editor_hides_is_no_profile(user) -> None:
    for name in (".toml", ".#mine.toml", ".mine.toml.swp"):
        (user / name).write_text(HEAD)

    assert {row.name for row in profiles.list_profiles(os.environ)} == BUILT_IN


def test_a_name_that_is_not_utf8_is_a_file_like_any_other(tmp_path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.toml"
    Path(os.fsdecode(path)).write_text(HEAD + '[env]\nA = "1"\n')

    for _ in range(2):
        result = guard("-p", path, "--", "sh", "-c", 'printf %s "$A"')
        assert (result.returncode, result.stdout) == (0, b"1")


def test_the_widest_family_of_files_is_read_at_once(write) -> None:
    for depth in range(3, -1, -1):
        for number in range(4**depth):
            bases = [f"./{depth + 1}-{4 * number + each}.toml" for each in range(4)]
            extends = json.dumps(bases if depth < 3 else [])
            top = write(HEAD + f"extends = {extends}\n", f"{depth}-{number}.toml")

    def seconds() -> float:
        start = time.process_time()
        assert len(load(top).parts) == 1 + 4 + 16 + 64
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.2


def test_bases_come_first_in_their_order_and_a_relative_one_lies_beside(write) -> None:
    write(HEAD + 'cost = "much"\nvllm = ">=0.9"\n[env]\nA = "base"\nB = "base"\n', "sub/base.toml")
    path = write(HEAD + 'extends = ["stats", "./base.toml"]\n[env]\nA = "own"\n', "sub/own.toml")
    profile = load(path)
    plan, _ = make_plan({}, profiles.settings_for([profile], "0.32.0"))

    assert plan.apply({}) == {"VLLM_LOG_STATS_INTERVAL": "1", "A": "own", "B": "base"}
    assert {change.origin for change in plan.changes} == {"profile own"}
    assert profile.cost.endswith("much")
    assert profile.vllm == ">=0.10.2,>=0.9"


def test_what_a_profile_makes_of_what_it_extends_is_no_override(write) -> None:
    write(HEAD + '[env]\nA = "1"\n', "base.toml")
    path = write(HEAD + 'extends = ["./base.toml"]\n[env]\nA = "2"\n', "team.toml")
    other = write(HEAD + '[env]\nA = "3"\n', "other.toml")

    _, alone = make_plan({}, profiles.settings_for([load(path)], None))
    _, both = make_plan({}, profiles.settings_for([load(path), load(other)], None))

    assert alone == []
    assert [finding.fact for finding in both] == [
        "profile other (set) overrides profile team (set)"
    ]


def test_what_several_extend_counts_once_where_it_comes_first(write) -> None:
    for name, bases in (("d", []), ("c", ["d"]), ("b", ["d", "d"]), ("a", ["b", "b", "c"])):
        extends = json.dumps([f"./{base}.toml" for base in bases])
        path = write(f'{HEAD}extends = {extends}\n[env]\nORDER = "{name}"\n', f"{name}.toml")

    profile = load(path)

    assert [setting.value for part in profile.parts for setting in part.settings] == list("dbca")
    assert [Path(source.path).stem for source in profile.sources] == list("dbca")


def test_circles_missing_bases_and_long_chains_are_refused(write) -> None:
    a = write(HEAD + 'extends = ["./b.toml"]\n', "a.toml")
    write(HEAD + 'extends = ["./a.toml"]\n', "b.toml")
    with pytest.raises(GuardError, match="extends itself"):
        load(a)
    missing = write(HEAD + 'extends = ["no-such"]\n', "c.toml")
    with pytest.raises(GuardError, match="extends 'no-such': none") as caught:
        load(missing)
    assert caught.value.exit_code == GUARD_FAILED
    for index in range(6):
        write(HEAD + f'extends = ["./{index + 1}.toml"]\n', f"{index}.toml")
    write(HEAD, "6.toml")
    with pytest.raises(GuardError, match="more than 4 files in a row"):
        load(str(Path(a).parent / "0.toml"))


@pytest.mark.parametrize(
    ("specifier", "version", "applies"),
    [
        (">=0.10.2", "0.10.2", True),
        (">=0.10.2", "0.10.1", False),
        (">=0.10.2", "0.32.0+cpu", True),
        ("==0.32.0", "0.32.0+cpu", True),
        (">=0.10.2", "0.33.0rc1", True),
        (">=0.10.2", "0.33.1.dev7+g0123abc", True),
        ("<0.10", "0.9.2", True),
        (">=0.8,<0.10", "0.10.0", False),
        (">=0.8", "unknown", False),
        (">=0.8", None, False),
    ],
)
def test_a_when_applies_to_its_versions_only(specifier, version, applies, write) -> None:
    path = write(HEAD + f'[env]\nA = "1"\n[[when]]\nvllm = "{specifier}"\nenv.B = "2"\n')

    plan, _ = make_plan({}, profiles.settings_for([load(path)], version))

    assert plan.apply({}) == ({"A": "1", "B": "2"} if applies else {"A": "1"})


# ---- a corpus of files that must do no harm


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    target = path.with_name("target.toml")
    target.write_text(HEAD)
    path.symlink_to(target)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def anybodys(path: Path) -> None:
    path.write_text(HEAD)
    path.chmod(0o666)


def folder(path: Path) -> None:
    path.mkdir()


CORPUS: dict[str, Any] = {
    "dotted keys": HEAD + "a." * 15_000 + "a = 1\n",
    "dotted keys, many lines": HEAD + "".join(f"k{i}.{'a.' * 1900}a = 1\n" for i in range(7)),
    "dotted header": HEAD + "[" + "a." * 1900 + "a]\n",
    "deep arrays": HEAD + "a = " + "[" * 2000 + "]" * 2000 + "\n",
    "deep arrays over lines": HEAD + "a = " + "[\n" * 8000 + "]\n" * 8000,
    "deep inline tables": HEAD + "a = " + "{a = " * 900 + "1" + "}" * 900 + "\n",
    "a huge integer": HEAD + "a = " + "9" * 30_000 + "\n",
    "integers": HEAD + "".join(f"a{i} = {'9' * 4000}\n" for i in range(7)),
    "ten thousand tables": HEAD + "[[when]]\n" * 10_000,
    "three thousand tables": HEAD + "[[when]]\n" * 3_000,
    "a huge hexadecimal": HEAD + f"[engine]\na = 0x{'f' * 4000}\n",
    "a huge value": HEAD + f"[env]\nA = {'9' * 4000}\n",
    "a long key": HEAD + "k" * 4000 + " = 1\n",
    "a long name": HEAD + "[env]\n" + "k" * 4000 + " = 1\n",
    "a long base": HEAD + f'extends = ["{"b" * 4000}"]\n',
    "a long key twice": HEAD + f"{'k.' * 1900}a = 1\n{'k.' * 1900}a = 1\n",
    "not a number": HEAD + "[engine]\na = nan\n",
    "a long string": HEAD + '[env]\nA = "' + "x" * 40_000 + '"\n',
    "not closed": HEAD + '[env\nA = "x"\n',
    "a raw line break in a string": HEAD + '[env]\nA = "a\nb"\n',
    "a line break in a name": HEAD + '[env]\n"A\\nB" = "x"\n',
    "an equals sign in a name": HEAD + '[env]\n"A=B" = "x"\n',
    "a NUL byte": HEAD.encode() + b'[env]\nA = "a\0b"\n',
    "an escaped NUL": HEAD + '[env]\nA = "a\\u0000b"\n',
    "not UTF-8": HEAD.encode() + b'[env]\nA = "\xff"\n',
    "UTF-16": HEAD.encode("utf-16"),
    "a key twice": HEAD + '[env]\nA = "1"\nA = "2"\n',
    "a number": HEAD + "[env]\nA = 1\n",
    "an unknown key": HEAD + "trusted = true\n",
    "the guard's own": HEAD + '[env]\nVGUARD_LEVEL = "9"\n',
    "extends itself": HEAD + 'extends = ["./bad.toml"]\n',
    "extends nothing": HEAD + 'extends = ["/no/such.toml"]\n',
    "an escape sequence": HEAD.replace('"s"', '"\\u001b]0;x\\u0007"'),
    "empty": "",
    "random": bytes(range(256)) * 20,
    "huge": huge,
    "a symbolic link": link,
    "a fifo": fifo,
    "a folder": folder,
    "a socket": listening,
    "writable by everybody": anybodys,
}


@pytest.mark.parametrize("make", CORPUS.values(), ids=CORPUS)
def test_a_bad_file_is_one_line_and_125_at_once(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    if callable(make):
        make(path)
    else:
        path.write_bytes(make if isinstance(make, bytes) else make.encode())
        path.chmod(0o644)

    result = guard("-p", str(path), "--", "true", cwd=tmp_path)
    lines = result.stderr.decode().splitlines()

    assert result.returncode == 125
    assert lines[0].startswith("vllm-guard: error: ")
    assert [line for line in lines[1:] if not line.startswith("vllm-guard: hint: ")] == []
    assert len(lines) <= 2
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert min(seconds_to_refuse(path) for _ in range(3)) < 0.2


def seconds_to_refuse(path: Path) -> float:
    start = time.process_time()
    with pytest.raises(GuardError):
        load(str(path))
    return time.process_time() - start


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/proc/self/fd/0", "/proc/self/mem"])
def test_devices_are_no_profiles(device: str) -> None:
    result = guard("-p", device, "--", "true", env=guard_env())

    assert result.returncode == 125
    assert result.stderr.count(b"\n") <= 2


def test_windows_line_ends_and_a_byte_order_mark_are_no_reason_to_refuse(write) -> None:
    text = "\ufeff" + (HEAD + '[env]\nA = "1"\n').replace("\n", "\r\n")

    assert settings_of(load(write(text)))["A"].value == "1"


def test_values_arrive_without_any_expansion(write) -> None:
    value = "$HOME `id` %s ~ ../x"
    path = write(HEAD + f"[env]\nA = '{value}'\n")

    result = guard("-p", path, "--", "sh", "-c", 'printf %s "$A"')

    assert result.stdout.decode() == value


def test_nothing_is_left_over_from_an_empty_plan() -> None:
    assert make_plan({}, profiles.settings_for([], "0.32.0")) == (EnvPlan(), [])
