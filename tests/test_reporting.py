"""Reports: what they tell, what they never tell, and that nothing in them can act."""

from __future__ import annotations

import html.parser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import Lines, guard, start, wait_for
from tests.kit.browser import browser, program
from tests.test_masking import CHANNELS, KNOWN
from tests.test_redact import IN_TEXT, LOOSE
from tests.test_supervision import _state, finish
from vllm_guard.reporting import Excerpt, Report, Sample, charts, gathering, markdown, page

FORMS = ("markdown", "json", "html")
ASSETS = Path(page.__file__).parent.parent / "data" / "report"
STYLE, SCRIPT = ((ASSETS / name).read_text() for name in ("style.css", "script.js"))
GIB = 1 << 30

INCIDENT = {
    "id": "gpu-memory-taken",
    "title": "another process holds GPU memory",
    "status": "known",
    "process": "EngineCore pid=7",
    "line": 3,
    "lines": ["ValueError: Free memory on device (1.0/80.0 GiB)"],
    "cause": "1.0 of 80.0 GiB free",
    "fix": "--gpu-memory-utilization 0.01",
    "confirm": ["nvidia-smi lists another process"],
    "refute": ["the GPU is empty"],
    "next": ["doctor --only gpu-memory"],
}


def sample_report(text: str = "plain", **changes: Any) -> Report:
    """A report of everything, in which every text is `text`."""
    finding = dict.fromkeys(("id", "subject", "fact", "fix", "why", "uri"), text)
    change = {"name": text, "before": None, "after": text, "why": text, "origin": text}
    run = {
        "id": text,
        "command": ["vllm", text],
        "command_line": f"vllm {text}",
        "cwd": text,
        "profiles": [text],
        "interpreter": text,
        "vllm": text,
        "started": text,
        "plan": {"changes": [change]},
        "findings": [{**finding, "status": "warn"}, {**finding, "status": "ok"}],
        "leftovers": [{**finding, "status": "note"}],
        "incidents": [
            {k: (text if isinstance(v, str) else v) for k, v in INCIDENT.items()}
            | {"lines": [text], "confirm": [text], "refute": [text], "next": [text]}
        ],
        "phases": [
            {"name": text, "started": 0.0, "seconds": 1.5},
            {"name": "load", "started": 1.5, "seconds": 8.5},
        ],
        "environment": [["VLLM_X", text], [text, text]],
    }
    samples = (
        Sample(1.0, text, GIB, (2 * GIB, 0)),
        Sample(5.0, text, 3 * GIB, (60 * GIB, 5 * GIB)),
        Sample(10.0, "load", 2 * GIB, (70 * GIB, 9 * GIB)),
    )
    excerpts = (Excerpt("Log", 1, ("first", text, f"  {text} end"), 2),)
    return Report(
        **{
            "run": run,
            "outcome": text,
            "machine": (("GPU 0", text),),
            "samples": samples,
            "excerpts": excerpts,
            "masked": {text: 2},
            **changes,
        }
    )


#: Sequences that drive terminals, and markup that drives readers of text, markdown and HTML.
HOSTILE = [
    *(
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x1b\\",
        "\x1b[2J\x1b[H",
        "\x1b[6n",
        "\x1bc",
    ),
    *(
        "\x9b31m",
        "\x90q\x9c",
        "\u202eevil",
        "\u2066x\u2069",
        "\r\nforged: line",
        "a\bb",
        "\x7f",
        "\x00",
    ),
    *(
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "&lt;b&gt;",
        "</details></pre>",
    ),
    *("```\n# heading", "````", "`code`", "![x](http://x/y.png)", "[x](javascript:alert(1))"),
    *("@someone #1 GH-1", "| a | b |", "<!-- -->", "*b* _i_ ~~s~~", "</style><b>", "]]>", "\udcff"),
]


class Elements(html.parser.HTMLParser):
    """The tags of a page, its attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}


PLAIN = Elements(page.page(sample_report(), STYLE, SCRIPT))


def check_page(text: str) -> None:
    """It has the elements of a harmless page, and nothing that is no text."""
    written = page.page(sample_report(text), STYLE, SCRIPT)
    found = Elements(written)

    assert found.tags == PLAIN.tags
    assert found.names == PLAIN.names
    assert written.replace("\n", "").isprintable()
    written.encode()


def check_markdown(text: str) -> None:
    """Outside of code it has no markup that is not ours, and nothing that is no text."""
    written = markdown.markdown(sample_report(text))
    outside = "".join(_outside_code(written))

    assert written.replace("\n", "").isprintable()
    assert outside.count("<") == outside.count("<details>") + outside.count("</details>") + (
        outside.count("summary>") + outside.count("code>")
    )
    for markup in ("](", "![", "@someone", "<script", "<img", "# heading", "<!--"):
        assert markup not in outside
    written.encode()


@pytest.mark.parametrize("text", [*HOSTILE, *map(chr, range(256))], ids=repr)
def test_nothing_quoted_can_act(text: str) -> None:
    check_page(text)
    check_markdown(text)


def _outside_code(written: str) -> list[str]:
    """The lines outside of fences, without their code spans."""
    kept, fence = [], ""
    for line in written.splitlines():
        ticks = re.match("`{3,}", line)
        if ticks and not fence:
            fence = ticks[0]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            kept.append(re.sub(r"(?<![`\\])(`+)(?!`).*?(?<!`)\1(?!`)", "", line) + "\n")
    assert not fence
    return kept


@given(st.text(min_size=1, max_size=60))
def test_no_text_at_all_can_act(text: str) -> None:
    check_page(text)
    check_markdown(text)


def test_markdown_fits_into_an_issue_and_keeps_the_end_of_the_log() -> None:
    lines = tuple(f"line {n} {'x' * 300}" for n in range(1, 1001))
    report = sample_report(excerpts=(Excerpt("Log, its end", 1, lines),))

    written = markdown.markdown(report)

    assert markdown.LIMIT - 1000 < len(written) <= markdown.LIMIT
    assert "line 1000 " in written
    first = re.search(r"Log, its end \(from line (\d+)\)", written)
    assert first
    assert f"line {first[1]} " in written
    assert "Masked as secret" in written


def test_markdown_fills_the_form_of_vllm() -> None:
    written = markdown.markdown(sample_report())

    headings = [line for line in written.splitlines() if line.startswith("#")]
    assert headings == ["### Your current environment", "### 🐛 Describe the bug"]


def test_the_charts_show_each_phase_and_each_gpu() -> None:
    report = sample_report()

    timeline = charts.timeline(report.run["phases"])
    memory = charts.memory(report.samples)

    assert timeline.count("<rect") == 2
    assert [float(width) for width in re.findall(r'width="([\d.]+)" height', timeline)] == [
        150,
        850,
    ]
    assert memory.count("<polyline") == 3
    assert "GPU 0: at most 70.00 GiB" in memory
    assert charts.timeline([]) == charts.memory(report.samples[:1]) == ""


def test_small_memory_is_not_told_as_nothing() -> None:
    samples = (Sample(0.0, "a", 20 << 20, ()), Sample(1.0, "a", 40 << 20, ()))

    assert "40 MiB" in charts.memory(samples)
    assert "20 MiB" in charts.memory(samples)
    assert "0.0 GiB" not in charts.memory(samples)


def test_each_form_tells_all_of_the_first_cause_and_how_much_was_masked() -> None:
    report = sample_report()
    report.run["incidents"][0].update(confirm=["c"], refute=["r"], next=["n"], uri="https://u")

    text, html_page = markdown.markdown(report), page.page(report, STYLE, SCRIPT)

    for label, said in (("confirmed by", "c"), ("refuted by", "r"), ("next", "n")):
        assert f"- {label}: `{said}`\n" in text
        assert f"<dt>{label}</dt><dd>{said}</dd>" in html_page
    assert "- see: `https://u`" in text
    assert "<dt>see</dt><dd>https://u</dd>" in html_page
    assert "2 secrets masked</footer>" in html_page


def test_of_the_environment_the_noise_is_only_counted() -> None:
    report = sample_report()
    report.run["environment"] += [["PIP_CERT", "/a"], ["LS_COLORS", "x"], ["VLLM_PORT", "1"]]

    for text in (markdown.markdown(report), page.page(report, STYLE, SCRIPT)):
        assert "VLLM_PORT" in text
        assert "PIP_CERT" not in text
        assert "and 2 variables of " in text


def test_steps_are_commands_that_can_be_pasted_and_are_said_once() -> None:
    first = "vllm-guard doctor --only gpu-memory -- COMMAND: it names who"
    row = {"confirm": [first], "next": ["doctor --only gpu-memory", "-p debug"]}

    assert gathering._with_steps(row, "vllm serve 'a b'") == {
        "confirm": ["vllm-guard doctor --only gpu-memory -- vllm serve 'a b': it names who"],
        "next": ["vllm-guard -p debug -- vllm serve 'a b'"],
    }


@pytest.fixture(scope="module")
def a_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    report = sample_report(f"vllm serve /models/llama --port 8000, <b>not bold</b> {'x' * 200}")
    path.write_text(page.page(report, STYLE, SCRIPT))
    return path


def _visible(selector: str) -> str:
    box = f"document.querySelector({selector!r}).getBoundingClientRect()"
    return f"(() => {{ const b = {box}; return b.width > 0 && b.height > 0; }})()"


@pytest.mark.skipif(
    program() is None and os.environ.get("CI") != "true",
    reason="there is no Chromium here (Debian: apt-get install chromium)",
)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_the_page_is_usable_in_a_browser(
    size: tuple[int, int], dark: bool, a_page: Path, tmp_path: Path
) -> None:
    with browser(tmp_path) as chromium:
        chromium.open(f"file://{a_page}", *size, dark=dark)

        assert chromium.complaints == []
        for selector in (
            "#timeline svg",
            "#timeline table",
            "#memory svg",
            "#environment td",
            ".log li",
        ):
            assert chromium.evaluate(_visible(selector)), selector
        assert chromium.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        if size[0] < 640:  # nothing is to be scrolled to the side, not even inside the page
            boxes = "[...document.querySelectorAll('.wide, pre, ol')]"
            assert not chromium.evaluate(f"{boxes}.some(e => e.scrollWidth > e.clientWidth)")
        assert chromium.evaluate("document.querySelectorAll('main b').length") == 0
        background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(20, 24, 31)") == dark

        chromium.evaluate("search.value = 'gpu 0'; search.dispatchEvent(new Event('input')); 1")
        assert chromium.evaluate(_visible("#machine td"))
        assert not chromium.evaluate(_visible("#environment td"))
        assert chromium.evaluate("found.textContent").startswith("1 of ")
        assert chromium.complaints == []


def test_the_newest_run_is_reported_in_every_form(tmp_path: Path) -> None:
    guard("-p", "debug", "--", "sh", "-c", "echo first; echo last; exit 3")

    text = guard("report").stdout.decode()
    document = json.loads(guard("report", "--json").stdout)
    target = tmp_path / "report.html"
    result = guard("report", "-f", "html", "-o", str(target))

    assert "It `exited 3 after " in text
    assert "Log, its end (from line 1):\n\n```text\nfirst\nlast\n```\n" in text
    assert "VLLM_LOGGING_LEVEL: unset -> DEBUG (profile debug)" in text
    assert document["run"]["command"][:2] == ["sh", "-c"]
    assert document["excerpts"][0]["lines"] == ["first", "last"]
    assert dict(document["run"]["environment"])["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert result.stderr.startswith(f"{target}: ".encode())
    assert target.stat().st_mode & 0o777 == 0o600
    assert Elements(target.read_text()).tags[:2] == ["html", "head"]


def test_without_a_run_that_is_an_error() -> None:
    result = guard("report")

    assert (result.returncode, result.stdout) == (2, b"")
    assert b"error: no runs are recorded" in result.stderr


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    guard("--", "true")

    result = guard("report", "-o", str(tmp_path / "none" / "x.md"))

    assert result.returncode == 125
    assert b"error: cannot write " in result.stderr


DAMAGE = {
    "plan": None,
    "phases": [{"name": 1}],
    "profiles": [1],
    "findings": [{"status": "odd"}],
    "incidents": [{}],
    "environment": 3,
    "outcome": {"kind": 1},
}


def test_a_damaged_record_is_a_line_and_no_crash(tmp_path: Path) -> None:
    guard("--", "sh", "-c", "exit 3")
    (record,) = _state().rglob("run.json")
    whole = json.loads(record.read_text())
    damaged = [json.dumps({**whole, key: value}) for key, value in DAMAGE.items()]

    for text in (*damaged, "", record.read_text()[:300], "[]", "{}"):
        record.write_text(text)
        done = guard("report", "-f", "html", "-o", str(tmp_path / "x"))
        assert (done.returncode, done.stdout) == (2, b""), text
        assert b"error: the record of " in done.stderr

    assert not (tmp_path / "x").exists()


def test_a_run_whose_log_is_gone_is_reported_without_it() -> None:
    guard("--", "echo", "hello")
    for path in _state().rglob("output*"):
        path.unlink()

    done = guard("report", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["excerpts"] == []


def test_a_link_is_replaced_and_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    guard("--", "true")
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)

    status = {
        path: guard("report", "-o", path).returncode
        for path in (str(link), str(tmp_path), "/dev/null", "")
    }

    assert list(status.values()) == [0, 125, 0, 2]
    assert target.read_text() == "mine"
    assert not link.is_symlink()
    assert "### Your current environment" in link.read_text()
    assert guard("report", "-o", "-").stdout.startswith(b"### Your current environment")


@pytest.mark.parametrize("path", ["/dev/fd/1", "/proc/self/fd/1"])
def test_a_descriptor_that_is_a_file_is_added_to(path: str, tmp_path: Path) -> None:
    guard("--", "true")
    redirected = tmp_path / "redirected"
    command = f'"$0" -m vllm_guard report -o {path}'
    with redirected.open("wb") as file:
        done = subprocess.run(
            ["sh", "-c", f"echo before; {command}", sys.executable],
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert redirected.read_text().startswith("before\n### Your current environment")


CANARIES = {
    **{
        f"{name}, {channel}": (write(secret), secret)
        for name, secret in enumerate(KNOWN)
        for channel, write in CHANNELS.items()
    },
    **{name: (secret, secret) for name, secret in LOOSE.items()},
    **IN_TEXT,
}


def test_no_canary_is_in_any_artefact(tmp_path: Path) -> None:
    """Secrets of 30 shapes and more, in the environment, the arguments and the output of one run."""
    output = tmp_path / "output"
    output.write_text("\n".join(text for text, _ in CANARIES.values()) + "\n")
    known = [
        word for n, secret in enumerate(KNOWN) for word in ("-e", f"CANARY_{n}_TOKEN={secret}")
    ]
    loose = [f"--note={text}" for text, _ in CANARIES.values() if "\n" not in text]
    command = ("sh", "-c", f"cat {output}; exit 1", "sh", *loose)
    json_file = tmp_path / "run.json"

    said = guard("-p", "debug", "-v", "--json", str(json_file), *known, "--", *command)
    state = _state()
    artefacts = {
        "what the guard says": said.stderr.replace(said.stdout, b""),
        "--json": json_file.read_bytes(),
        **{form: guard("report", "-f", form).stdout for form in FORMS},
        **{str(path): path.read_bytes() for path in state.rglob("*") if path.is_file()},
    }
    seen = {
        (where, name)
        for where, content in artefacts.items()
        for name, (text, secret) in CANARIES.items()
        if secret.encode() in content
    }

    assert len(CANARIES) > 80
    assert sum(b"[masked]" in content for content in artefacts.values()) >= 5
    assert seen == set()


def test_a_run_that_is_under_way_is_reported_without_the_keys_that_it_wrote() -> None:
    key = (
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----"
    )
    process = start("--", "sh", "-c", f"echo '{key}'; echo ready; read end", stdin=subprocess.PIPE)
    assert process.stdout is not None
    Lines(process.stdout.fileno()).until(b"ready\n")
    wait_for(lambda: b"ready" in guard("report").stdout, "the log has it")

    told = {form: guard("report", "-f", form).stdout for form in FORMS}

    finish(process)
    assert {form for form, text in told.items() if b"MIIE" in text or b"hkiG" in text} == set()
    assert all(b"PRIVATE KEY" in text for text in told.values())


def test_a_script_is_reported_as_it_was_started(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("raise SystemExit(1)\n")
    guard("--", sys.executable, str(script), "a b")

    run = json.loads(guard("report", "--json").stdout)["run"]

    assert run["command_line"] == f"{sys.executable} {script} 'a b'"
