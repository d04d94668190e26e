"""Secrets: a corpus of canaries in every place they come from, and none of them may come out."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from vllm_guard import paths
from vllm_guard.redact import MASK, Redactor

RULES: dict[str, Any] = tomli.loads((Path(paths.PACKAGE) / "data" / "redact.toml").read_text())
REDACTOR = Redactor(RULES)
HISTORY = Path(__file__).parent / "data" / "envs" / "history.txt"


def shapeless(seed: str) -> str:
    """A secret that no shape can know: only where it stands tells what it is."""
    return f"{seed[::-1]}Q9w8E7r6"


SECRET_NAMES = [
    *("VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "S3_SECRET_ACCESS_KEY"),
    *("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_CREDENTIALS"),
    *("WANDB_API_KEY", "NGC_API_KEY", "GITHUB_TOKEN", "PYPI_TOKEN", "TOKEN", "hf_token"),
    *("PGPASSWORD", "Db_Password", "MYSQL_PWD", "REDIS_PASS", "SSH_PASSPHRASE", "SENTRY_DSN"),
    *("DJANGO_SECRET_KEY", "TLS_PRIVATE_KEY", "PROXY_AUTH", "AUTHORIZATION", "SESSION_COOKIE"),
    *("MY_APIKEY", "PHPSESSION_ID", "DOCKER_AUTH_CONFIG"),
]
PUBLIC_NAMES = [
    *(
        "PATH",
        "HOME",
        "PWD",
        "OLDPWD",
        "SHELL",
        "TERM",
        "LANG",
        "SSH_AUTH_SOCK",
        "KEYBOARD",
        "MONKEY",
    ),
    *("HF_HOME", "HF_TOKEN_PATH", "SSL_KEY_FILE", "TOKENIZERS_PARALLELISM", "TRITON_CACHE_KEY"),
    *("VLLM_MAX_TOKENS_PER_REQUEST", "VLLM_LOGGING_LEVEL", "NCCL_DEBUG", "CUDA_VISIBLE_DEVICES"),
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_the_value_of_a_secret_variable_comes_out_nowhere(name: str) -> None:
    secret = shapeless(name)
    redactor = REDACTOR.knowing({name: secret, "OTHER": "shown"})

    assert redactor.is_secret(name)
    shown = [
        redactor.value(name, secret),
        redactor.value("OTHER", f"copied-{secret}-here"),
        redactor.text(f"ERROR 11-24 auth failed for {secret}, giving up\n{secret}"),
        *redactor.argv(["sh", "-c", f"echo {secret}", f"--weird={secret}"]),
    ]

    assert secret not in "\n".join(shown)
    assert all(MASK in text for text in (shown[0], shown[1], shown[2]))
    assert secret.encode() in redactor.known_bytes()


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_even_a_short_secret_is_not_shown_as_the_value_of_its_variable(name: str) -> None:
    assert REDACTOR.value(name, "pw1") == f"{MASK} (3 characters)"
    assert REDACTOR.value(name, "") == ""


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_what_is_no_secret_is_shown(name: str) -> None:
    assert not REDACTOR.is_secret(name)
    assert REDACTOR.knowing({name: "some-value-12"}).value(name, "some-value-12") == "some-value-12"


def test_of_the_variables_of_all_vllms_only_the_credentials_are_secret() -> None:
    names = set(re.findall(r"^[A-Z][A-Z0-9_]+", HISTORY.read_text(), re.MULTILINE))

    secret = {name for name in names if REDACTOR.is_secret(name)}

    assert len(names) > 400
    assert secret == {"VLLM_API_KEY", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"}


KEY = "s3cr3t-no-shape"
SECOND = "an0ther-no-shape"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["vllm", "serve", "--api-key", KEY], ["vllm", "serve", "--api-key", MASK]),
        (["vllm", "serve", f"--api-key={KEY}"], ["vllm", "serve", f"--api-key={MASK}"]),
        (["--api-key", "short"], ["--api-key", MASK]),
        (["--api-key="], [f"--api-key={MASK}"]),
        (["--api-key", KEY, "--port", "1"], ["--api-key", MASK, "--port", "1"]),
        (["--hf-token", KEY], ["--hf-token", MASK]),
        ([f"--hf-token={KEY}"], [f"--hf-token={MASK}"]),
        (["--ssl-keyfile-password", KEY], ["--ssl-keyfile-password", MASK]),
        (["--token", KEY, "x"], ["--token", MASK, "x"]),
        (["--password", f"x={KEY}"], ["--password", MASK]),
        (["-x", KEY, "--api-key", KEY], ["-x", MASK, "--api-key", MASK]),
        # vLLM takes `_` for `-` in every option
        (["--api_key", KEY], ["--api_key", MASK]),
        ([f"--api_key={KEY}"], [f"--api_key={MASK}"]),
        ([f"--hf_token={KEY}"], [f"--hf_token={MASK}"]),
        # `--api-key` is a list: several keys may follow
        (["--api-key", KEY, SECOND, "--port", "1"], ["--api-key", MASK, MASK, "--port", "1"]),
        # `--hf-token` needs no value: the next option is no secret
        (["--hf-token", "--enforce-eager"], ["--hf-token", "--enforce-eager"]),
        (["--hf-token", "--max-model-len=4096"], ["--hf-token", "--max-model-len=4096"]),
        # assignments, as for `env` and `docker run -e`
        (["env", f"VLLM_API_KEY={KEY}", "vllm"], ["env", f"VLLM_API_KEY={MASK}", "vllm"]),
        (["docker", "run", "-e", f"MY_TOKEN={KEY}"], ["docker", "run", "-e", f"MY_TOKEN={MASK}"]),
        (["docker", "run", f"-eMY_TOKEN={KEY}"], ["docker", "run", f"-eMY_TOKEN={MASK}"]),
        (["docker", "run", f"--env=MY_TOKEN={KEY}"], ["docker", "run", f"--env=MY_TOKEN={MASK}"]),
        (["-p", "8000:8000", "--env=A=b"], ["-p", "8000:8000", "--env=A=b"]),
        # argparse takes the start of an option; other programs have key options of their own
        (["--api-ke", KEY, SECOND], ["--api-ke", MASK, MASK]),
        ([f"--hf_tok={KEY}"], [f"--hf_tok={MASK}"]),
        (["--openai-api-key", KEY, "x"], ["--openai-api-key", MASK, "x"]),
        (
            ["--tokenizer", "gpt2", "--pad-token=<pad>"],
            ["--tokenizer", "gpt2", "--pad-token=<pad>"],
        ),
        (
            ["--model", "hf_hub", "--api-server-count", "2"],
            ["--model", "hf_hub", "--api-server-count", "2"],
        ),
    ],
    ids=str,
)
def test_a_command_line_is_shown_without_its_secrets_and_otherwise_whole(
    words: list[str], shown: list[str]
) -> None:
    redactor = REDACTOR.knowing({}, words)

    assert redactor.argv(words) == tuple(shown)
    assert redactor.argv(redactor.argv(words)) == tuple(shown)
    for word in words:
        if KEY in word or SECOND in word:
            logged = word if word.startswith("x=") else word.rpartition("=")[2]
            assert redactor.text(f"INFO non-default args: '{logged}'").endswith(f"'{MASK}'")


LOOSE = {  # secrets that nothing but their shape gives away
    "hugging face": "hf_" + "aBcDeFgHiJ" * 3,
    "openai": "sk-proj-0123456789abcdef0123",
    "anthropic": "sk-ant-api03-0123456789abcdef0123-AA",
    "aws key": "AKIAIOSFODNN7EXAMPLE",
    "aws temporary key": "ASIAIOSFODNN7EXAMPLE",
    "github classic": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github app": "ghs_0123456789abcdefghijABCDEFGHIJ012345",
    "github fine-grained": "github_pat_11AAAAAAA0123456789abcdef_0123456789",
    "gitlab": "glpat-0123456789abcdefghij",
    "slack": "xoxb-123456789012-123456789012-AbCdEfGhIjKl",
    "npm": "npm_0123456789abcdefghijABCDEFGHIJ012345",
    "pypi": "pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAwMDAwMDAwMDAwMDAw",
    "nvidia": "nvapi-0123456789abcdefghijABCDEFGHIJ0123456789",
    "json web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36P",
}
IN_TEXT = {  # (text, the secret in it)
    "bearer": ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
    "bearer, lower case": ("authorization: bearer abcdefgh12345678", "abcdefgh12345678"),
    "token": ("Authorization: Token xyz", "xyz"),
    "proxy": ("Proxy-Authorization: Basic dTpw", "dTpw"),
    "api key, short": ("{'X-Api-Key': 'vv1'}", "vv1"),
    "basic": ("Authorization: Basic dXNlcjpodW50ZXIy", "dXNlcjpodW50ZXIy"),
    "url": ("http_proxy=http://user:hunter22@proxy.example:3128", "hunter22"),
    "url without a user": ("redis://:hunter22@cache.example:6379/0", "hunter22"),
    "url, @ in the password": ("http://user:hun@ter22@proxy.example", "ter22"),
    "url in a list": ("ftp://a:first111@x,ftp://b:second22@y", "second22"),
    "url, database": ("postgresql+psycopg://u:hunter22@db/x?sslmode=on", "hunter22"),
    "base64 of JSON, no signature": ("auth: eyJhdXRocyI6eyJnaGNyLmlvIjp7fX19", "XRocyI6eyJnaGNy"),
    "header": ("curl -H 'X-Api-Key: hunter22' http://localhost", "hunter22"),
    "header, lower case": ("api-key: hunter22", "hunter22"),
    "option in a shell's word": ("cd /x; vllm serve m --api-key hunter22 --port 1", "hunter22"),
    "option in a shell's word, =": ("exec vllm serve m --api-key=hunter22", "hunter22"),
    "option in a shell's word, quoted": ("vllm serve m --hf-token 'hunter 22'", "hunter 22"),
    "assignment in a shell's word": ("A=1 HF_TOKEN=hunter22 vllm serve m", "hunter22"),
    "assignment, quoted": ('A=1; export VLLM_API_KEY="hunter 22"; vllm', "hunter 22"),
    "assignment, password": ("A=1 DB_PASSWORD=hunter22 x", "hunter22"),
    "assignment, AWS": ("A=1 AWS_SECRET_ACCESS_KEY=hunter22 x", "hunter22"),
    "pem": (
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    ),
}


@pytest.mark.parametrize("secret", LOOSE.values(), ids=LOOSE)
def test_a_secret_of_a_known_shape_is_masked_wherever_it_stands(secret: str) -> None:
    for text in ("{}", "key={}", '{{"key": "{}"}}', "a {} b", "({},{})", "x\n{}\n"):
        shown = REDACTOR.text(text.format(secret, secret))

        assert secret not in shown
        assert secret[8:] not in shown
        assert MASK in shown


@pytest.mark.parametrize(("text", "secret"), IN_TEXT.values(), ids=IN_TEXT)
def test_a_secret_that_its_neighbours_give_away_is_masked(text: str, secret: str) -> None:
    assert secret not in REDACTOR.text(text)
    assert secret not in REDACTOR.value("SOME_SETTING", text)
    assert secret not in "".join(REDACTOR.argv(["curl", text]))


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(SECRET_NAMES) + len(LOOSE) + len(IN_TEXT) >= 30


SHAPES = RULES["shape"]


@pytest.mark.parametrize("shape", SHAPES, ids=[shape["id"] for shape in SHAPES])
def test_every_shape_masks_its_examples_and_leaves_its_near_misses(shape: dict[str, Any]) -> None:
    alone = Redactor({**RULES, "shape": [shape]})

    assert shape["examples"]
    assert shape["near_misses"]
    for example in shape["examples"]:
        assert any(scan in example for scan in shape["scan"])
        assert MASK in alone.text(example)
        assert re.search(shape["regex"], alone.text(example)) is None
    for near in shape["near_misses"]:
        assert alone.text(near) == near
        assert REDACTOR.text(near) == near


def test_every_shape_has_its_own_id_and_no_key_that_nobody_reads() -> None:
    ids = [shape["id"] for shape in SHAPES]

    assert len(set(ids)) == len(ids)
    assert {key for shape in SHAPES for key in shape} == {
        *("id", "scan", "regex", "lines", "examples", "near_misses"),
    }
    assert set(RULES) == {"names", "flags", "shape"}


HOSTILE = {
    "colons": "://" + ":" * 16_000,
    "user and colon": "://" + "a:" * 8_000,
    "many urls": "://a:" * 3_200,
    "open tokens": "eyJ" * 5_300,
    "half tokens": "eyJaaaaaaaa." * 1_300,
    "prefixes": "hf_sk-ghp_" * 1_600,
    "bearers": "earer " * 2_600,
    "open options": " --api-key '" * 1_300,
    "open assignments": "_TOKEN='_TOKEN=\"" * 1_000,
    "headers": "api-key: " * 1_800,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_makes_the_rules_slow(text: str) -> None:
    """As much as the kernel lets one variable hold: 128 KiB."""
    text = (text * (131_072 // len(text) + 1))[:131_072]
    start = time.process_time()

    REDACTOR.text(text)

    assert time.process_time() - start < 0.25


SAFE = st.characters(exclude_characters="[]", exclude_categories=("Cs",))  # as from the system
SECRETS = st.lists(st.text(SAFE, min_size=8, max_size=12), min_size=1, max_size=4)
PIECES = st.sampled_from(
    [
        *(example for shape in SHAPES for example in shape["examples"] + shape["near_misses"]),
        *(MASK, "://", ":", "@", "/", " ", "=", "Bearer ", "sk-", "eyJ", ".", "\n"),
    ]
)


@given(SECRETS, st.lists(PIECES | st.text(SAFE, max_size=4) | st.integers(0, 3), max_size=8))
def test_no_known_secret_is_left_in_any_text_and_masking_twice_is_masking_once(
    secrets: list[str], pieces: list[str | int]
) -> None:
    redactor = REDACTOR.knowing({f"KEY_{n}_TOKEN": secret for n, secret in enumerate(secrets)})
    text = "".join(secrets[p % len(secrets)] if isinstance(p, int) else p for p in pieces)

    shown = redactor.text(text)

    assert not any(secret in shown for secret in secrets)
    assert redactor.text(shown) == shown


@given(SECRETS, st.lists(st.integers(0, 3), max_size=4))
def test_no_known_secret_is_left_in_any_command_line(secrets: list[str], chosen: list[int]) -> None:
    words = ["vllm"]
    for index, pick in enumerate(chosen):
        secret = secrets[pick % len(secrets)]
        words += ["--api-key", secret] if index % 2 else [f"--api-key={secret}"]
    redactor = REDACTOR.knowing({}, words)

    shown = redactor.argv([*words, *secrets[:1]])

    used = {secrets[pick % len(secrets)] for pick in chosen}
    assert not any(secret in word for secret in used for word in shown)


def test_the_longest_secret_is_masked_first_so_that_no_end_of_it_stays() -> None:
    short, long = "abcdefgh", "abcdefgh-and-more"
    redactor = REDACTOR.knowing({"A_TOKEN": short, "B_TOKEN": long})

    assert redactor.text(f"{long} {short}") == f"{MASK} {MASK}"
    lengths = [len(secret) for secret in redactor.known_bytes()]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("word", ["info", "debug", "8000", "7654321", "pw1", "::1"])
def test_words_of_a_log_are_not_masked_for_a_secret_that_is_short(word: str) -> None:
    redactor = REDACTOR.knowing({"A_TOKEN": word}, ["--api-key", word])

    assert redactor.text(f"info debug {word}") == f"info debug {word}"
    assert word.encode() not in redactor.known_bytes()


@pytest.mark.parametrize("secret", ["hunter2", "pw-1", "a1b2", "p ss"])
def test_a_short_value_that_is_no_word_and_no_number_is_masked(secret: str) -> None:
    for redactor in (
        REDACTOR.knowing({"A_PASSWORD": secret}),
        REDACTOR.knowing({}, ["--api-key", secret]),
    ):
        assert redactor.text(f"info debug '{secret}'") == f"info debug '{MASK}'"
        assert secret.encode() in redactor.known_bytes()


@pytest.mark.parametrize("secret", [*LOOSE.values(), "kn0wn-" * 100, "an=odd one"])
@pytest.mark.parametrize("kept", [1, 7, 12, 40, 500])
def test_of_a_secret_that_the_end_of_a_line_cuts_nothing_is_shown(secret: str, kept: int) -> None:
    redactor = REDACTOR.knowing({"A_TOKEN": secret})
    start = "INFO ".ljust(4096 - min(kept, len(secret)), ".")

    shown = redactor.line((start + secret)[:4096])

    assert start.startswith(shown)
    assert redactor.line("INFO " + "x" * 4000) == "INFO " + "x" * 4000


def test_secrets_that_are_no_utf8_are_masked_as_bytes() -> None:
    redactor = REDACTOR.knowing({"A_TOKEN": "\udcff\udc80secret"})

    assert b"\xff\x80secret" in redactor.known_bytes()
    assert redactor.text("x\udcff\udc80secret") == f"x{MASK}"


def test_knowing_more_leaves_the_first_redactor_as_it_was() -> None:
    first = REDACTOR.knowing({"A_TOKEN": "first-secret"})
    second = first.knowing({"B_TOKEN": "second-secret"})

    assert second.text("first-secret second-secret") == f"{MASK} {MASK}"
    assert first.text("second-secret") == "second-secret"
