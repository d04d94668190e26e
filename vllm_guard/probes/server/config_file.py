"""Can vLLM read the file of `--config`?"""

from __future__ import annotations

from vllm_guard import config_file
from vllm_guard.model import Finding
from vllm_guard.probes import options_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_guard.probes import Context

TITLE = "the file of --config"

_ID = "config-file"
_NAMED = 5  #: options named in one line


def check(context: Context) -> Iterator[Finding]:
    words = context.given_words
    if any(word.startswith("--config=") for word in words):
        fact = "--config=FILE is passed over by vLLM: nothing in the file counts"
        yield Finding(_ID, "warn", "--config", fact, fix="write it in two words: --config FILE")
    if words.count(config_file.OPTION) > 1:
        yield Finding(_ID, "fail", "--config", "is given twice", fix="put it all in one file")
    elif words and words[-1] == config_file.OPTION:
        yield Finding(_ID, "fail", "--config", "names no file", fix="--config FILE.yaml")
    elif path := config_file.named(words):
        yield _read(context, path)


def _read(context: Context, path: str) -> Finding:
    try:
        found = options_file.read(context, path)
    except config_file.Unread as error:
        return _unread(path, str(error))
    except ValueError as error:
        fact, fix = str(error), "a YAML file with `option: value` rows"
        if fact == config_file.UNREADABLE:
            is_there = context.host.exists(context.absolute(path))
            fact, fix = fact if is_there else "no such file", "check the path, or mount the volume"
        return Finding(_ID, "fail", path, fact, fix=fix)
    if "--model" not in found and _names_no_model(context):
        fact = "names no model, and vLLM takes no other word for it than the first"
        return Finding(_ID, "fail", path, fact, fix=f"vllm serve MODEL --config {path}")
    names = [word for word in found if word.startswith("--")]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return Finding(_ID, "ok", path, f"{', '.join(names[:_NAMED]) or 'no option'}{more}")


def _unread(path: str, why: str) -> Finding:
    if why == config_file.NO_UTF8:
        return Finding(_ID, "warn", path, why, fix=f"iconv -f latin1 -t utf8 {path}")
    fix = "pip install pyyaml" if "PyYAML" in why else ""
    fact = f"not read: {why}; port, sizes and model may be in it"
    return Finding(_ID, "skip", path, fact, fix=fix)


def _names_no_model(context: Context) -> bool:
    """Has `vllm serve` no model on the command line, as vLLM looks for it before it reads the file?"""
    words = context.given_words
    given = any(word.partition("=")[0] == "--model" for word in words)
    of_cli = context.target is not None and context.target.kind == "vllm-cli"
    return of_cli and words[0].startswith("-") and not given
