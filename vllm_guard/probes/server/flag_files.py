"""Are the files there that flags name? vLLM opens some of them only when the model is loaded."""

from __future__ import annotations

import os

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the files that flags name"

_TEMPLATE = "--chat-template"
_FLAGS = (_TEMPLATE, "--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--log-config-file")
_TOKENIZER = "--tokenizer"
_PATHS = ("/", "./", "../")  #: so begins what can be no name at Hugging Face
_JINJA = tuple("{}\n")  #: with one of these it is the template itself (`load_chat_template`)
_OWN_TEMPLATES = "transformers_utils/chat_templates"  #: vLLM's, which are named without a folder


def check(context: Context) -> Iterator[Finding]:
    for flag in (*_FLAGS, _TOKENIZER):
        path = context.flag(flag)
        if not path or not _is_path(flag, path, context):
            continue
        subject = f"{flag} {path}"
        if context.host.exists(context.absolute(path)):
            yield Finding("flag-file", "ok", subject, "is there")
        else:
            fix = "check the path, or mount the volume"
            yield Finding("flag-file", "fail", subject, "no such file", fix=fix)


def _is_path(flag: str, word: str, context: Context) -> bool:
    """Is it a file or folder that vLLM will open? A template may be given itself, a tokenizer by a name."""
    if flag == _TEMPLATE:
        return not _is_template(word, context)
    if flag == _TOKENIZER:
        return word.startswith(_PATHS) and not context.has("--skip-tokenizer-init")
    return True


def _is_template(word: str, context: Context) -> bool:
    install = _place.install(context)
    own = f"{install.package}/{_OWN_TEMPLATES}/{word}" if install and "/" not in word else ""
    return os.path.exists(own) or any(mark in word for mark in _JINJA)
