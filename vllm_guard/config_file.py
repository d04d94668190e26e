"""The file of `vllm serve --config`, read as vLLM reads it. Pure.

vLLM puts what the file says before the other words, where the command line wins, and takes `--config FILE`
out (`FlexibleArgumentParser._pull_args_from_config` in its `utils/argparse_utils.py`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OPTION = "--config"
UNREADABLE = "cannot be read"
NO_UTF8 = "is not UTF-8: vLLM cannot read it, unless the locale has another encoding"
_ENDINGS = ("yaml", "yml")
_ENDLESS = float("inf")
_MOST = 4 << 20  #: characters, with all aliases written out
_known: dict[str, tuple[str, ...] | Exception] = {}  #: by the file's text: many probes ask


class Unread(Exception):  # noqa: N818  (it is no error of the file)
    """Why it is not read, though vLLM may: no YAML for this Python, too large."""


def named(words: Sequence[str]) -> str | None:
    """The file that the words name; `--config=FILE` names none, vLLM passes it over."""
    at = words.index(OPTION) if OPTION in words else -1
    return words[at + 1] if 0 <= at < len(words) - 1 else None


def options(path: str, text: str | None) -> tuple[str, ...]:
    """The words that the file stands for: `port: 80` is `--port 80`; a list is several words, a table JSON.

    `text` is None for a file that cannot be read. Raises ValueError, with one line, for what vLLM refuses,
    and Unread.
    """
    if path.rpartition(".")[2] not in _ENDINGS:
        raise ValueError("is not called .yaml or .yml")
    if text is None:
        raise ValueError(UNREADABLE)
    if text not in _known:
        try:
            rows = _rows(text)
            _refuse_endless(rows)
            _known[text] = tuple(word for row in rows.items() for word in _words(*row))
        except (ValueError, Unread) as error:
            _known[text] = error
    found = _known[text]
    if isinstance(found, Exception):
        raise found
    return found


def merged(words: Sequence[str], found: Sequence[str]) -> tuple[str, ...]:
    """The command line with the words of the file; the model, where it is the first word, stays it."""
    at = words.index(OPTION)
    first = 0 if words[0].startswith("-") else 1
    return (*words[:first], *found, *words[first:at], *words[at + 2 :])


def _rows(text: str) -> dict[Any, Any]:
    try:
        import yaml
    except ImportError:
        raise Unread("there is no PyYAML beside vllm-guard") from None
    try:
        rows = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f", line {line + 1}"
        raise ValueError(f"is no YAML{where}") from None
    if not isinstance(rows, dict):
        raise ValueError("holds no `option: value`")  # noqa: TRY004  (what vLLM refuses)
    return rows


def _refuse_endless(rows: dict[Any, Any]) -> None:
    """A few lines of YAML with aliases can stand for gigabytes of words."""
    sizes: dict[int, float] = {}
    for name, value in rows.items():
        if isinstance(value, dict) and _size(value, sizes) == _ENDLESS:
            raise ValueError(f"{name}: cannot be written as JSON")
    if sum(_size(value, sizes) for value in rows.values()) > _MOST:
        raise Unread(f"stands for more than {_MOST} characters, its aliases written out")


def _size(value: Any, known: dict[int, float]) -> float:
    """About how many characters a value has; `known` has those of tables and lists, by their `id`."""
    if not isinstance(value, (dict, list)):
        return len(str(value))
    if id(value) not in known:
        known[id(value)] = _ENDLESS  # unless it is left again, it holds itself
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 2 + sum(_size(one, known) for one in inner)
    return known[id(value)]


def _words(name: Any, value: Any) -> list[str]:
    if not isinstance(name, str):
        raise ValueError(f"{name}: is no name of an option")  # noqa: TRY004
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)] if value else []
    if isinstance(value, dict):
        import json

        try:
            return [f"--{name}", json.dumps(value)]
        except (TypeError, ValueError, RecursionError):  # a date, or a table that holds itself
            raise ValueError(f"{name}: cannot be written as JSON") from None
    return [f"--{name}", str(value)]
