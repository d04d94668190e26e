"""Are the files there that flags name? vLLM opens some of them only when the model is loaded."""

from __future__ import annotations

import os
import stat

from vllm_guard.model import Finding
from vllm_guard.probes.server import _place
from vllm_guard.target import models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.model import Status
    from vllm_guard.probes import Context

TITLE = "the files that flags name"

_TEMPLATE = "--chat-template"
_OF_API = (_TEMPLATE, "--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs")  #: what it alone opens
_LOG = "--log-config-file"
_LOG_INSISTS = (
    b"pylogging_config_file"  #: in `logger.py` where it is opened early; before, it was passed over
)
_TOKENIZER = "--tokenizer"
_PATHS = ("/", "./", "../")  #: so begins what can be no name at Hugging Face
_JINJA = tuple("{}\n")  #: with one of these it is the template itself (`load_chat_template`)
_OWN_TEMPLATES = "transformers_utils/chat_templates"  #: vLLM's, which are named without a folder


def check(context: Context) -> Iterator[Finding]:
    for flag in (*(() if context.is_headless else _OF_API), _LOG, _TOKENIZER):
        path = context.flag(flag)
        if not path or not _is_path(flag, path, context):
            continue
        subject = f"{flag} {path}"
        kind = _kind(context.host.root + context.absolute(path))
        if not kind:
            fix = "check the path, or mount the volume"
            yield Finding("flag-file", _sure(flag, context), subject, "no such file", fix=fix)
        elif stat.S_ISDIR(kind) and flag != _TOKENIZER:
            fix = "name the file in it"
            yield Finding("flag-file", _sure(flag, context), subject, "is a folder", fix=fix)
        else:
            yield Finding("flag-file", "ok", subject, "is there")


def _kind(path: str) -> int:
    """The kind and mode of a file; 0 where there is none."""
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError):
        return 0


def _sure(flag: str, context: Context) -> Status:
    install = _place.install(context)
    insists = install is not None and models.says(install, _LOG_INSISTS, "logger.py")
    return "fail" if flag != _LOG or insists else "warn"


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
