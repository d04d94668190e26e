"""What the hub says of a model: is it there, may this token have it, how large is it? Metadata only.

The addresses, headers and error codes are those of huggingface_hub 2.4: `HfApi.model_info`, `auth_check`, and
`utils/_http.py:hf_raise_for_status`. A gated model shows its metadata to everybody; only `auth-check` tells
who may download it.
"""

from __future__ import annotations

from vllm_guard import __version__, aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass
    from typing import Any
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector, Request
else:
    from vllm_guard.frozen import dataclass

NO_REPOSITORY, NO_REVISION, GATED = "RepoNotFound", "RevisionNotFound", "GatedRepo"
BAD_TOKEN = "Invalid credentials"  # noqa: S105  (it has no code, the hub says it in words)
_CODES = (NO_REPOSITORY, NO_REVISION, GATED)
_BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  (the hub's words)
_SIZE_MAX = 1 << 63  #: bytes; no file system has files so large
_ANSWER_MAX = 8 << 20  #: bytes; a model with 1000 files has 0.3 MB


@dataclass(frozen=True)
class Question:
    """One model at one hub."""

    endpoint: str
    repository: str
    revision: str
    token: str  #: empty for none


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    refusal: str = ""  #: NO_REPOSITORY, NO_REVISION, GATED or BAD_TOKEN, where the hub is definite
    problem: str = ""  #: why it is not known
    commit: str = ""
    sizes: Mapping[str, int] | None = None  #: file -> bytes; None where they are not told


_answers: dict[Question, Answer] = {}


class _Told(Exception):  # noqa: N818
    """There is an answer, or none: its one argument is `refusal` or `problem`, and the words."""


def ask(question: Question, env: Mapping[str, str], seconds: float) -> Answer:
    """Ask the hub, through the proxies of this environment; never longer than this, DNS included.

    In a process of its own: a resolver that hangs cannot be left behind in a thread, for the guard forks.
    """
    (told,) = aside.in_turn([lambda: _look(question, env, seconds)], [seconds])
    answer = Answer(problem=str(told)) if isinstance(told, Exception) else Answer(**told)
    _answers[question] = answer
    return answer


def known(question: Question) -> Answer:
    """What came of it when it was asked; nothing where it was not."""
    return _answers.get(question, Answer())


def _look(question: Question, env: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """In the forked process."""
    import os
    from urllib.parse import quote

    os.environ.clear()
    os.environ.update(env)  # urllib and OpenSSL read proxies and certificates from there
    model = f"{question.endpoint}/api/models/{quote(question.repository)}"
    revision = quote(question.revision, safe="")
    try:
        info = _object(_get(f"{model}/revision/{revision}?blobs=true", question, seconds))
        if info.get("gated"):
            _get(f"{model}/auth-check", question, seconds)
        sizes = _sizes(info.get("siblings"))
    except _Told as told:
        kind, words = told.args
        return {kind: words}
    return {"commit": info["sha"], "sizes": sizes}


def _sizes(rows: Any) -> dict[str, int] | None:
    """Bytes of each file, by the hub's `siblings`; None where it tells none. Raises _Told for other rows."""
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(map(_is_file, rows)):
        raise _Told("problem", "its list of files is damaged")
    return {row["rfilename"]: row["size"] for row in rows if row.get("size") is not None} or None


def _is_file(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("rfilename"), str):
        return False
    size = row.get("size")
    return size is None or (type(size) is int and 0 <= size < _SIZE_MAX)


def _object(text: bytes) -> dict[str, Any]:
    """What the hub says of a model. Raises _Told for anything else, such as the page of a captive portal."""
    import json

    try:
        info = json.loads(text)
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict) or not isinstance(info.get("sha"), str):
        raise _Told("problem", "what answers there is no hub")
    return info


def _get(url: str, question: Question, seconds: float) -> bytes:
    """The content at this address, of an answer that is no error. Raises _Told."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    if not url.startswith(("http://", "https://")):
        raise _Told("problem", "its address does not begin with https://")
    request = Request(url, headers={"User-Agent": f"vllm-guard/{__version__}"})  # noqa: S310
    try:
        with _opener(question).open(_signed(request, question), timeout=seconds) as answer:
            return bytes(answer.read(_ANSWER_MAX))
    except HTTPError as error:
        raise _refused(error) from None
    except URLError as error:
        raise _Told("problem", _plain(error.reason)) from None
    except (OSError, HTTPException, ValueError) as error:
        raise _Told("problem", _plain(error)) from None


def _refused(error: HTTPError) -> _Told:
    """By `hf_raise_for_status`: 401 without a code is a model that is not there, or not to be seen."""
    code, message = error.headers.get("X-Error-Code"), error.headers.get("X-Error-Message")
    if code in _CODES:
        return _Told("refusal", code)
    if error.code == 401 and message:
        return _Told("refusal", BAD_TOKEN if message == _BAD_TOKEN else NO_REPOSITORY)
    return _Told("problem", f"it answers with status {error.code}")


def _plain(error: object) -> str:
    """An error without what the other side may have put in it."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return type(error).__name__


def _signed(request: Request, question: Question) -> Request:
    """With the token, in a header that urllib does not hand on to where a redirection leads."""
    if question.token:
        request.add_unredirected_header("Authorization", f"Bearer {question.token}")
    return request


def _opener(question: Question) -> OpenerDirector:
    """Opens addresses; follows a redirection (a model that was renamed) on the same host only."""
    from urllib.parse import urlsplit
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener, getproxies

    class SameHost(HTTPRedirectHandler):
        def redirect_request(self, *arguments: Any) -> Request | None:
            there = arguments[-1]
            if urlsplit(there)[:2] != urlsplit(question.endpoint)[:2]:
                raise _Told("problem", f"it sends to another host, {urlsplit(there).hostname}")
            request = super().redirect_request(*arguments)
            return _signed(request, question) if request else None

        http_error_308 = HTTPRedirectHandler.http_error_302  # of its own only from Python 3.11 on

    proxies = getproxies()
    for scheme in ("http", "https"):
        if "all" in proxies:
            proxies.setdefault(scheme, proxies["all"])  # as httpx has it
    return build_opener(SameHost, ProxyHandler(proxies))
