"""Secrets in a log: whatever they look like, however they are written, wherever the output is cut."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
import time
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_redact import IN_TEXT, LOOSE, RULES, shapeless
from vllm_guard import log, masking, spellings
from vllm_guard.redact import MASK, Redactor

REDACTOR = Redactor(RULES)
KNOWN = ["s3cr3t+no/shape=", "p&ss w0rd'\"\\", "schlüssel-ohne-form", shapeless("plain")]
#: How a secret comes into an output.
CHANNELS = {
    "as it is": lambda s: s,
    "of a variable": lambda s: f"MY_SETTING={s}",
    "in a URL's password": lambda s: f"https://user:{urllib.parse.quote(s, safe='')}@example.com/",
    "in a URL's query": lambda s: f"https://example.com/?x={urllib.parse.quote_plus(s)}",
    "in a URL's path": lambda s: f"https://example.com/{urllib.parse.quote(s)}/x",
    "in JSON": lambda s: json.dumps({"x": s}),
    "in JSON, not ASCII": lambda s: json.dumps({"x": s}, ensure_ascii=False),
    "by repr": lambda s: repr({"x": [s]}),
    "for a shell": lambda s: f"run {shlex.quote(s)} now",
    "in base64": lambda s: base64.b64encode(s.encode()).decode(),
    "in base64, behind one byte": lambda s: base64.b64encode(b":" + s.encode()).decode(),
    "in base64, of a login": lambda s: base64.b64encode(b"us:" + s.encode() + b"\n").decode(),
    "in base64 of a URL": lambda s: base64.urlsafe_b64encode(b"user:" + s.encode()).decode(),
}


def logged(redactor: Redactor, folder: Path, data: bytes, *cuts: int) -> bytes:
    """What is in the log of a run that wrote `data`, in pieces."""
    for old in folder.iterdir():
        old.unlink()
    it = log.Log(redactor.known_bytes())
    it.open(str(folder))
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        it.keep(data[start:end])
    it.close()
    masking.mask_logs(str(folder), redactor.shapes, redactor.known_bytes())
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("secret", KNOWN)
def test_a_known_secret_is_masked_however_it_is_written_and_wherever_it_is_cut(
    secret: str, channel: str, tmp_path: Path
) -> None:
    redactor = REDACTOR.knowing({"A_TOKEN": secret})
    written = CHANNELS[channel](secret)
    line = f"before {written} behind\n".encode()

    for cut in range(len(line)):
        shown = logged(redactor, tmp_path, line, cut)
        assert secret.encode() not in shown
        assert written.encode() not in shown
        assert shown.startswith(b"before ")
        assert shown.endswith(b" behind\n")
    assert redactor.text(f"before {written} behind") != f"before {written} behind"


SHAPED = {**{name: (secret, secret) for name, secret in LOOSE.items()}, **IN_TEXT}


@pytest.mark.parametrize(("text", "secret"), SHAPED.values(), ids=SHAPED)
def test_a_secret_of_a_known_shape_is_masked_and_nothing_else(
    text: str, secret: str, tmp_path: Path
) -> None:
    data = f"INFO 11-12 first\n{text}\nINFO 11-12 last\n".encode()

    shown = logged(REDACTOR, tmp_path, data, len(data) // 2)

    assert secret.encode() not in shown
    assert len(shown) == len(data)
    assert shown.startswith(b"INFO 11-12 first\n")
    assert shown.endswith(b"\nINFO 11-12 last\n")


@pytest.mark.parametrize("shape", RULES["shape"], ids=lambda shape: shape["id"])
def test_a_log_masks_what_a_text_masks(shape: dict[str, Any], tmp_path: Path) -> None:
    for text in shape["near_misses"]:
        assert logged(REDACTOR, tmp_path, text.encode()) == text.encode()
    for text in shape["examples"]:
        shown = logged(REDACTOR, tmp_path, text.encode()).replace(b"\n", b"")
        expected = REDACTOR.text(text).replace(MASK, "").replace("\n", "")
        assert re.sub(rb"\[masked\]\**|\*+", b"", shown) == expected.encode()


ESCAPES = ["\x1b[0m", "\x1b[1;38;5;9m", "\x1b(B\x1b[m", "\x1b[K"]


@pytest.mark.parametrize("escape", ESCAPES, ids=repr)
@pytest.mark.parametrize(("text", "secret"), SHAPED.values(), ids=SHAPED)
def test_terminal_escapes_inside_hide_no_secret(
    escape: str, text: str, secret: str, tmp_path: Path
) -> None:
    middle = text.index(secret) + len(secret) // 2
    data = f"{escape}first\n{text[:middle]}{escape}{text[middle:]}\nlast{escape}\n".encode()

    shown = logged(REDACTOR, tmp_path, data)

    assert len(shown) == len(data)
    assert shown.startswith(f"{escape}first\n".encode())
    assert shown.endswith(f"\nlast{escape}\n".encode())
    assert text[middle - 2 : middle].encode() + escape.encode() not in shown
    assert secret.encode() not in shown.replace(escape.encode(), b"")


@pytest.mark.parametrize("secret", KNOWN)
def test_terminal_escapes_inside_hide_no_known_value(secret: str, tmp_path: Path) -> None:
    redactor = REDACTOR.knowing({"A_TOKEN": secret})
    data = f"before \x1b[1m{secret[:5]}\x1b[0m{secret[5:]}\x1b[0m behind\n".encode()

    shown = logged(redactor, tmp_path, data)

    assert re.fullmatch(rb"before \x1b\[1m\[masked\]\*+\x1b\[0m behind\n", shown)
    assert masking.mask_logs(str(tmp_path), REDACTOR.shapes, redactor.known_bytes()) == {}


KEY = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        *(f"MIIEvQIBADAN{n:04}" for n in range(30)),
        "-----END X-----",
    ]
)


@pytest.mark.parametrize(
    "before", [0, masking._BLOCK // 2, masking._BLOCK - 100, masking._BLOCK + 7]
)
@pytest.mark.parametrize("filler", [b"x", b"x" * 99 + b"\n"], ids=["one line", "lines"])
def test_a_secret_at_the_edge_of_a_block_is_masked_whole(
    before: int, filler: bytes, tmp_path: Path
) -> None:
    secrets = f"\nINFO a\n{KEY}\nINFO b {LOOSE['hugging face']}\nINFO c\n".encode()
    data = (filler * before)[:before] + secrets + filler * 30_000

    shown = logged(REDACTOR, tmp_path, data)

    assert len(shown) == len(data)
    assert b"MIIE" not in shown
    assert b"aBcDeFgHiJ" not in shown
    assert shown.count(b"\n") == data.count(b"\n")
    assert [line for line in shown.split(b"\n") if b"INFO" in line] == [
        *(b"INFO a", b"INFO b [masked]" + b"*" * 25, b"INFO c")
    ]


def test_the_masked_are_counted_by_shape(tmp_path: Path) -> None:
    tmp_path.joinpath("output.log").write_text(
        f"{LOOSE['hugging face']} x {LOOSE['hugging face']}\n"
    )
    tmp_path.joinpath("output.tail.log").write_text("Authorization: Bearer abcdefgh12345678")
    tmp_path.joinpath("run.json").write_text(LOOSE["hugging face"])

    assert masking.mask_logs(str(tmp_path), REDACTOR.shapes) == {
        "hugging-face-token": 2,
        "bearer": 1,
    }
    assert masking.mask_logs(str(tmp_path), REDACTOR.shapes) == {}
    assert tmp_path.joinpath("run.json").read_text() == LOOSE["hugging face"]


def test_where_one_file_of_a_log_ends_no_line_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "HEAD_LIMIT", 40)
    data = f"INFO a first line\nINFO {LOOSE['hugging face']} x\n".encode()

    shown = logged(REDACTOR, tmp_path, data)

    assert (tmp_path / "output.tail.log").exists()
    assert shown == b"INFO a first line\nINFO [masked]" + b"*" * 25 + b" x\n"


@given(st.text(min_size=8, max_size=40).filter(lambda s: s.isprintable()), st.binary(max_size=5))
def test_base64_of_a_secret_is_known_at_every_offset(secret: str, before: bytes) -> None:
    encoded = base64.b64encode(before + secret.encode() + b"??").decode()

    assert any(spelling in encoded for spelling in spellings.of(secret))


@pytest.mark.parametrize(
    "line",
    [
        "://a:b ",
        "@ ",
        "eyJ ",
        "gh",
        "-----BEGIN PRIVATE KEY-----\n-----END ",
        "token=a ",
        "api_key",
    ],
)
def test_no_output_makes_it_slow(line: str, tmp_path: Path) -> None:
    data = (line * (262_144 // len(line))).encode()
    start = time.process_time()

    logged(REDACTOR, tmp_path, data)

    assert time.process_time() - start < 1.0
