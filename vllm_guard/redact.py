"""Secrets out of everything printed or stored. Pure: rules and text come in, masked text goes out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, AnyStr

MASK = "[masked]"
_SHORTEST = 8  #: shorter secrets could be ordinary words of a log, or numbers
_SHORTEST_MIXED = 4  #: these are neither: they hold a letter and something else
_LINE = 4096  #: bytes of a longer line are kept (`lines.LIMIT`)
_UNSURE = 256  #: characters at the end of a line that was cut, where a secret can have begun
_SHORTEST_FLAG = 6  #: shorter starts of an option are those of many


class Redactor:
    """Masks by the rules of `data/redact.toml` and by the very values that are secret in this run."""

    def __init__(self, rules: Mapping[str, Any], known: Iterable[str] = ()) -> None:
        self._rules = rules
        self._known = sorted({k for k in known if _is_telling(k)}, key=len, reverse=True)
        self.shapes: Sequence[dict[str, Any]] = rules["shape"]
        self.masked: dict[str, int] = {}  #: what `text` has masked so far, by what it was known by

    def knowing(self, env: Mapping[str, str], argv: Sequence[str] = ()) -> Redactor:
        """The same rules, with the values of `env`'s and `argv`'s secrets known."""
        values = [value for name, value in env.items() if self.is_secret(name)]
        values += [secret for _, secret in self._flagged(argv) if secret]
        known = [*self._known]
        if values:
            from vllm_guard import spellings

            known += values
            known += [s for value in values for s in spellings.of(value) if len(s) >= _SHORTEST]
        return Redactor(self._rules, known)

    def is_secret(self, name: str) -> bool:
        """Does a variable of this name hold a secret?"""
        names = self._rules["names"]
        upper = name.upper()
        return any(_like(upper, pattern) for pattern in names["secret"]) and not any(
            _like(upper, pattern) for pattern in names["public"]
        )

    def value(self, name: str, value: str) -> str:
        """The value of a variable, as it may be shown."""
        if value and self.is_secret(name):
            return f"{MASK} ({len(value)} characters)"
        return self.text(value)

    def argv(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words of a command line, as they may be shown."""
        return tuple(self.text(_hidden(word, secret)) for word, secret in self._flagged(words))

    def text(self, text: str) -> str:
        """The text with known secrets and secret shapes masked."""
        for secret in self._known:
            if found := text.count(secret):
                text = text.replace(secret, MASK)
                self._count("known value", found)
        for shape in self.shapes:
            if any(scan in text for scan in shape["scan"]):
                import re

                text, found = re.subn(shape["regex"], hidden, text)
                self._count(shape["id"], found)
        return text

    def line(self, text: str) -> str:
        """A line of a log, masked. Of one that was cut, the end is left out: it can be half a secret."""
        shown = self.text(text)
        if len(text) > _LINE // 4 and len(text.encode("utf-8", "surrogatepass")) >= _LINE - 3:
            unsure = max(_UNSURE, len(self._known[0]) if self._known else 0)
            return shown[:-unsure]
        return shown

    def _count(self, known_by: str, times: int) -> None:
        if times:
            self.masked[known_by] = self.masked.get(known_by, 0) + times

    def known_bytes(self) -> tuple[bytes, ...]:
        """The known secrets as bytes, longest first, for masking a stream."""
        import os

        return tuple(os.fsencode(secret) for secret in self._known)

    def _flagged(self, words: Sequence[str]) -> list[tuple[str, str | None]]:
        """Each word, and its end that is a secret: of `--flag=value`, or of an assignment.

        A word is all secret behind a flag that takes one, or several (`--api-key A B`).
        """
        flags = self._rules["flags"]
        result: list[tuple[str, str | None]] = []
        flag = ""
        for word in words:
            name, equals, value = word.partition("=")
            if word.startswith("-"):
                flag = name.replace("_", "-")
                inline = equals and _is_flag(flag, flags["secret"])
                result.append((word, value if inline else self._assigned(word)))
            elif _is_flag(flag, flags["secret"]):
                result.append((word, word))
                flag = flag if _is_flag(flag, flags["several"]) else ""
            else:
                result.append((word, self._assigned(word)))
                flag = ""
        return result

    def _assigned(self, word: str) -> str | None:
        """The secret value in `NAME=value`, `-eNAME=value` or `--env=NAME=value`."""
        if word.startswith("--"):
            word = word.partition("=")[2]
        elif word.startswith("-"):
            word = word[2:]
        name, equals, value = word.partition("=")
        return value if equals and self.is_secret(name) else None


def hidden(match: re.Match[AnyStr]) -> AnyStr:
    """What a shape matched, masked: all of it, or the part that its group `mask` names."""
    whole = match[0]
    mask = MASK if isinstance(whole, str) else MASK.encode()
    if "mask" not in match.re.groupindex:
        return mask
    start, end = (place - match.start() for place in match.span("mask"))
    return whole[:start] + mask + whole[end:]


def _is_telling(secret: str) -> bool:
    """Can it be masked wherever it stands, without masking what is none? `hunter2`, not `debug` or `8000`."""
    is_mixed = any(c.isalpha() for c in secret) and not secret.isalpha()
    return len(secret) >= (_SHORTEST_MIXED if is_mixed else _SHORTEST)


def _hidden(word: str, secret: str | None) -> str:
    return word if secret is None else word.removesuffix(secret) + MASK


def _is_flag(flag: str, patterns: Sequence[str]) -> bool:
    """Is it one of these, or so much of one that argparse takes it for it (`--api-k`)?"""
    known = any(_like(flag, pattern) for pattern in patterns)
    return known or (
        len(flag) >= _SHORTEST_FLAG and any(pattern.startswith(flag) for pattern in patterns)
    )


def _like(name: str, pattern: str) -> bool:
    starts, ends = pattern.startswith("*"), pattern.endswith("*")
    core = pattern.strip("*")
    if starts and ends:
        return core in name
    if starts:
        return name.endswith(core)
    return name.startswith(core) if ends else name == core
