"""Values as code: the shells that are here evaluate it and must hold the very bytes afterwards.

PowerShell is not among them: its code is held against a table only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dotenv
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit import PATIENCE
from vllm_guard import assignments, shellcode
from vllm_guard.errors import USAGE, GuardError

#: What evaluates the code in a file, as people do it, and then writes its environment.
EVALUATE = {
    "bash": ["bash", "--norc", "--noprofile", "-c", 'eval "$(cat "$1")"; env -0', "bash"],
    "zsh": ["zsh", "-fc", 'eval "$(cat "$1")"; env -0', "zsh"],
    "zsh with rcquotes": ["zsh", "-f", "-o", "rcquotes", "-c", 'eval "$(cat "$1")"; env -0', "zsh"],
    "sh": ["dash", "-c", 'eval "$(cat "$1")"; env -0', "dash"],
    "sh in bash": ["bash", "--posix", "-c", 'eval "$(cat "$1")"; env -0', "bash"],
    "sh in zsh": ["zsh", "-fc", 'eval "$(cat "$1")"; env -0', "zsh"],
    "fish": ["fish", "--no-config", "-c", "cat $argv[1] | source; env -0"],
    "slurm": ["bash", "--norc", "--noprofile", "-c", '. "$1"; env -0', "bash"],
}
LOCALES = ("C", "C.UTF-8")

NASTY = [
    *(
        "",
        " ",
        "'",
        '"',
        "''",
        "\\",
        "\\\\",
        "\\'",
        "'\\",
        "\n",
        "a\n",
        "\n\na",
        "\r\n",
        "\t",
        "-n",
        "-",
    ),
    *(
        "--",
        "$HOME",
        "${HOME}",
        "$(id)",
        "`id`",
        "!",
        "!!",
        "a!b",
        "*",
        "~",
        "~root",
        "{a,b}",
        "a;b",
        "#",
    ),
    *(
        "# x",
        "a #b",
        "=",
        "a=b",
        "%s",
        "\x01",
        "\x7f",
        "\x1b[2J",
        "\x81",
        "\u00e9",
        "\u2019",
        "\u2028",
    ),
    *(
        "\ufdd0",
        "\uf600",
        "\uf6ff",
        "\U0010ffff",
        "\ufeff",
        "\udcff",
        "\udcc3",
        "a\udc80\udc81b",
        "\udc83",
    ),
    *(
        "^",
        "a^b",
        "(a)",
        "[x]",
        "?",
        "<",
        ">",
        "|",
        "&",
        "\\x41",
        "\\101",
        "\\n",
        "a:b",
        "a::b",
        ":",
    ),
    *("x" * 5000, "'" * 50, "\\" * 51, '"$(', "\\\n", "'\n'", "$'a'", "\x80", "\udcce\udcb1"),
]
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.binary().map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
    st.text("ab'\"\\$`!\n\r -~*#;&|(){}[]<>?^%=:@,."),
)


def needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


def held(form: str, code: bytes, tmp_path: Path, env: Mapping[str, str]) -> dict[bytes, bytes]:
    """The environment of a shell that has evaluated the code."""
    file = tmp_path / "code"
    file.write_bytes(code)
    done = subprocess.run(
        [*EVALUATE[form], str(file)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stderr == b""
    pairs = (entry.partition(b"=") for entry in done.stdout.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


def names(values: list[str]) -> dict[str, str]:
    """Names for values; fish treats those that end in PATH in its own way."""
    return {f"V{i}{'_PATH' * (i % 2)}": value for i, value in enumerate(values)}


def check_that_the_shell_holds(
    form: str, locale: str, wanted: dict[str, str], tmp_path: Path
) -> None:
    code = shellcode.written(form.partition(" ")[0], list(wanted.items()))
    got = held(form, code, tmp_path, {"LC_ALL": locale})

    assert {n: got[n.encode()] for n in wanted} == {n: os.fsencode(v) for n, v in wanted.items()}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("form", EVALUATE)
def test_the_shell_holds_the_very_bytes(form: str, locale: str, tmp_path: Path) -> None:
    needs(EVALUATE[form][0])

    for shift in (0, 1):  # each value under both kinds of names
        check_that_the_shell_holds(form, locale, names([*NASTY[shift:], *NASTY[:shift]]), tmp_path)


@pytest.mark.parametrize("form", EVALUATE)
def test_any_value_survives_any_shell(form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    needs(EVALUATE[form][0])
    folder = tmp_path_factory.mktemp(form)

    @settings(max_examples=25)
    @given(st.lists(VALUES, min_size=40, max_size=60), st.sampled_from(LOCALES))
    def check(values: list[str], locale: str) -> None:
        check_that_the_shell_holds(form, locale, names(values), folder)

    check()


@pytest.mark.parametrize("form", EVALUATE)
def test_unset_is_not_empty(form: str, tmp_path: Path) -> None:
    needs(EVALUATE[form][0])
    code = shellcode.written(form.partition(" ")[0], [("A", None), ("B", ""), ("NEVER_SET", None)])

    got = held(form, code, tmp_path, {"A": "1", "B": "2", "C": "3"})

    assert got.keys() & {b"A", b"B", b"C", b"NEVER_SET"} == {b"B", b"C"}
    assert got[b"B"] == b""


def test_a_function_of_that_name_stays(tmp_path: Path) -> None:
    code = shellcode.written("bash", [("ls", None)])
    script = 'ls() { echo mine; }; eval "$(cat "$1")"; ls'

    done = subprocess.run(
        ["bash", "-c", script, "bash", _file(tmp_path, code)], capture_output=True, check=True
    )

    assert done.stdout == b"mine\n"


def test_a_universal_variable_of_fish_is_said_and_not_erased(tmp_path: Path) -> None:
    needs("fish")
    file = _file(tmp_path, shellcode.written("fish", [("DEBUGGING", None)]))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def fish(code: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["fish", "-c", code, file], env=env, capture_output=True, check=True)

    fish("set -Ux DEBUGGING 1")
    said = fish("source $argv[1]").stderr

    assert said == b"vllm-guard: DEBUGGING is universal: set -eU DEBUGGING\n"
    assert b"DEBUGGING=1\n" in fish("env").stdout


def _file(folder: Path, content: bytes) -> str:
    path = folder / "code"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(
    ("form", "value", "written"),
    [
        ("bash", "it's", rb"export A='it'\''s'"),
        ("bash", "a\n\udcff'\\", rb"export A=$'a\012\377\047\134'"),
        ("zsh", "\u00e9", rb"export A=$'\303\251'"),
        ("sh", "$(id)", b"export A='$(id)'"),
        ("bash", None, b"unset -v A"),
        ("fish", "it's \\", rb"set -gx A 'it\'s \\'"),
        ("fish", "a\n\udcffb", rb"set -gx A 'a'\X0a\Xff'b'"),
        ("fish", "", b"set -gx A ''"),
        (
            "fish",
            None,
            b"set -eg A; set -q A; and echo 'vllm-guard: A is universal: set -eU A' >&2",
        ),
        ("powershell", "1", b"$env:A = '1'"),
        ("powershell", "it's $x `n", b"$env:A = 'it''s $x `n'"),
        ("powershell", "\u2019$(a)\r\n", b'$env:A = "`u{2019}`u{24}`u{28}a`u{29}`u{d}`u{a}"'),
        ("powershell", "\U0001f600", b'$env:A = "`u{1f600}"'),
        ("powershell", None, b"$env:A = $null"),
        ("slurm", "a b", b"export A='a b'"),
        ("slurm", None, b"unset -v A"),
        ("dotenv", "plain/1.0", b"A=plain/1.0"),
        ("dotenv", "it's", rb"A='it\'s'"),
        ("dotenv", None, b"# unset A"),
        ("docker", "a b", b"-e A='a b'"),
        ("docker", "1", b"-e A=1"),
        ("k8s", "1", b'env:\n  - name: "A"\n    value: "1"'),
        ("k8s", "$(B)\x7f\u2028", b'env:\n  - name: "A"\n    value: "$$(B)\\u007f\\u2028"'),
        ("k8s", None, b"env:\n  # unset A"),
    ],
)
def test_the_code_is_this(form: str, value: str | None, written: bytes) -> None:
    assert shellcode.written(form, [("A", value)]) == written + b"\n"


def test_several_are_lines_and_words_of_docker_one_line() -> None:
    pairs = [("A", "1"), ("B", None), ("C", "x y")]

    assert shellcode.written("sh", pairs) == b"export A='1'\nunset -v B\nexport C='x y'\n"
    assert shellcode.written("docker", pairs) == b"-e A=1 -e C='x y'\n"
    assert json.loads(shellcode.written("json", pairs)) == {"A": "1", "B": None, "C": "x y"}


@pytest.mark.parametrize("form", [*shellcode.SHELLS, *shellcode.EXPORTS])
def test_nothing_to_say_is_nothing(form: str) -> None:
    assert shellcode.written(form, []) == (b"{}\n" if form == "json" else b"")


@pytest.mark.parametrize(
    "name", ["", "1A", "A-B", "A B", "A;id", "$(id)", "A\n", "\u00e9", "A.B", "\udcff"]
)
def test_a_name_that_is_none_is_never_code(name: str) -> None:
    assert not shellcode.can_name(name)
    for form in {*shellcode.SHELLS, *shellcode.EXPORTS} - {"json"}:
        for value in ("x", None):
            with pytest.raises(GuardError, match="cannot name the variable") as caught:
                shellcode.written(form, [(name, value)])
            assert caught.value.exit_code == USAGE
    assert json.loads(shellcode.written("json", [(name, "x")])) == {name: "x"}


@pytest.mark.parametrize("form", ["powershell", "dotenv", "docker", "k8s"])
def test_bytes_that_are_no_text_are_refused_where_only_text_can_be(form: str) -> None:
    with pytest.raises(GuardError, match=f"{form} cannot hold the value of A: it is not text"):
        shellcode.written(form, [("A", "a\udcff")])


# ---- the formats, by those who read them


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


@given(st.lists(TEXTS | st.sampled_from([v for v in NASTY if v.isprintable()]), max_size=20))
def test_dotenv_is_read_back_by_python_dotenv_or_refused(values: list[str]) -> None:
    wanted = {}
    for index, value in enumerate(values):
        try:
            shellcode.written("dotenv", [("A", value)])
        except GuardError:
            assert any(part in value for part in ("${", "\\\\", "\\'", "\r")) or value[-1:] == "\\"
        else:
            wanted[f"V{index}"] = value
    text = shellcode.written("dotenv", [*wanted.items(), ("GONE", None)]).decode()

    assert dotenv.dotenv_values(stream=_Lines(text)) == wanted


class _Lines:
    """Text as `dotenv` wants it: something with `read`."""

    def __init__(self, text: str) -> None:
        self.read = lambda: text


@given(st.lists(VALUES, max_size=30))
def test_json_holds_every_value(values: list[str]) -> None:
    document = json.loads(shellcode.written("json", list(names(values).items())))

    assert document == names(values)


@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_k8s_is_read_back_as_yaml_and_kubernetes_finds_no_reference(values: list[str]) -> None:
    text = shellcode.written("k8s", [*names(values).items(), ("GONE", None)]).decode()

    rows = yaml.safe_load(text)["env"]

    assert {row["name"]: row["value"].replace("$$", "$") for row in rows} == names(values)
    assert all("$" not in row["value"].replace("$$", "") for row in rows)


def test_k8s_is_what_the_audit_reads_in_a_manifest() -> None:
    text = shellcode.written("k8s", [("NCCL_DEBUG", "TRACE"), ("NO", "1")]).decode()

    found = assignments.read("pod.yaml", text)

    assert [(item.name, item.value) for item in found] == [("NCCL_DEBUG", "TRACE"), ("NO", "1")]


@given(st.lists(VALUES.filter(lambda v: v.isprintable()), min_size=1, max_size=20))
def test_docker_gets_one_word_for_each_value(values: list[str]) -> None:
    code = shellcode.written("docker", list(names(values).items()))

    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {os.fsdecode(code)}"], capture_output=True, check=True
    )

    words = [word for item in names(values).items() for word in ("-e", "=".join(item))]
    assert os.fsdecode(done.stdout).split("\0")[:-1] == words
