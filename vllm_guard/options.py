"""The run options: one table, read by the small launch parser here and by `cli` for click's help.

The launch form must not pay for click, so it is parsed by hand; a test feeds both parsers the same words.
"""

from __future__ import annotations

from vllm_guard.errors import USAGE, GuardError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from dataclasses import dataclass
    from typing import Any
else:
    from vllm_guard.frozen import dataclass


@dataclass(frozen=True)
class Option:
    """One run option. `field` names where its value goes in `RunOptions`."""

    field: str
    long: str
    help: str
    short: str = ""
    metavar: str = ""  #: empty: a flag
    many: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunOptions:
    """What the user asked of one launch."""

    command: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  #: "NAME=VALUE"
    unset: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()  #: "sha256:..."
    preflight: str = "quick"
    main_guard: str = "auto"
    exec: bool = False
    no_watch: bool = False
    allow_daemon: bool = False
    deadline: float | None = None  #: seconds
    stall: str = "report"
    stall_after: float | None = None  #: seconds
    python: str = ""
    json: str = ""
    on_ready: str = ""
    progress: bool = False
    quiet_child: bool = False
    dry_run: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def listens(self) -> bool:
        """Is the user to be told how it goes, and not only what is wrong?"""
        asked = (self.profiles, self.verbose, self.progress, self.quiet_child)
        return not self.quiet and any(asked)

    @property
    def watched(self) -> bool:
        """Is there an option that is about a vLLM, so that the command is taken for one?"""
        asked = self.stall == "kill" or self.stall_after is not None
        return asked or any(getattr(self, name) for name in _WATCHED)


OPTIONS = (
    Option(
        "profiles",
        "--profile",
        "Use this profile (a name, or a file); repeatable, later wins.",
        "-p",
        "NAME",
        many=True,
    ),
    Option("env", "--env", "Set this variable for the run.", "-e", "NAME=VALUE", many=True),
    Option("unset", "--unset", "Unset this variable for the run.", "", "NAME", many=True),
    Option("keep", "--keep", "No profile may touch this variable.", "", "NAME", many=True),
    Option(
        "preflight",
        "--preflight",
        "Which checks run first.",
        "",
        "TIER",
        choices=("off", "quick", "full"),
    ),
    Option(
        "ignore",
        "--ignore",
        "A failing finding with this id becomes a warning.",
        "",
        "ID",
        many=True,
    ),
    Option(
        "trust",
        "--trust",
        "A repository's profile with this digest may be used (for CI).",
        "",
        "sha256:DIGEST",
        many=True,
    ),
    Option(
        "main_guard",
        "--main-guard",
        "What child processes of an unguarded script run of it.",
        "",
        "MODE",
        choices=("auto", "definitions", "cutoff", "off"),
    ),
    Option("exec", "--exec", "Check, then replace this process: no supervision."),
    Option("no_watch", "--no-watch", "The command inherits stdout and stderr untouched."),
    Option("allow_daemon", "--allow-daemon", "What outlives the command may live on."),
    Option("deadline", "--deadline", "End the run after this time; exit 124.", "", "SECONDS"),
    Option(
        "stall",
        "--stall",
        "What to do when a vLLM that starts moves no more.",
        "",
        "WHAT",
        choices=("report", "kill", "off"),
    ),
    Option("stall_after", "--stall-after", "That is: no sign of life so long.", "", "SECONDS"),
    Option("python", "--python", "The interpreter that the command will use.", "", "PATH"),
    Option("json", "--json", "Write the record of the run to this file.", "", "FILE"),
    Option("on_ready", "--on-ready", "Run this shell command once vLLM is ready.", "", "CMD"),
    Option("progress", "--progress", "Phases of the start; on a terminal a live line as well."),
    Option("quiet_child", "--quiet-child", "What the command writes goes to the record only."),
    Option("dry_run", "--dry-run", "Print the plan and the exact command; start nothing.", "-n"),
    Option("quiet", "--quiet", "Only warnings and failures.", "-q"),
    Option("verbose", "--verbose", "More: every finding, with reasons and links.", "-v"),
)

_BY_WORD = {word: option for option in OPTIONS for word in (option.long, option.short) if word}
_OWN = "VGUARD_"
_WATCHED = ("on_ready", "progress", "quiet_child")  #: need the command's output
_STALLS = ("stall", "stall_after")
_TIMES = ("deadline", "stall_after")
_SUPERVISED = ("deadline", "allow_daemon", "json")
_ASKS_FOR_CLICK = ("--help", "-h", "--version")


def parse_launch(words: Sequence[str]) -> RunOptions | None:
    """The options of `[run] [OPTIONS] [--] COMMAND...`, or None when click should look at the words.

    Raises GuardError (status 2) for words that can only be a mistaken launch.
    """
    named_run = bool(words) and words[0] == "run"
    found: dict[str, Any] = {}
    rest = list(words[1:] if named_run else words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return _finish(found, rest)
        if not word.startswith("-") or word == "-":
            return _at_command(found, [word, *rest], named_run)
        if word in _ASKS_FOR_CLICK:
            return None
        _take(found, word, rest)
    if not words:
        return None
    raise _usage("no command given", "put it after `--`: vllm-guard -p debug -- vllm serve MODEL")


def finish_values(values: dict[str, Any]) -> RunOptions:
    """Options from parsed words, checked. Raises GuardError (status 2)."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    for option in _TIMES:
        if isinstance(fields.get(option), str):
            fields[option] = _seconds(_word(option), fields[option])
    for pair in fields.get("env", ()):
        _check_name(pair.partition("=")[0], "--env", bool("=" in pair))
    for option in ("unset", "keep"):
        for name in fields.get(option, ()):
            _check_name(name, f"--{option}", True)
    if "on_ready" in fields and not fields["on_ready"].strip():
        raise _usage("--on-ready has an empty command", "is a variable in your command line unset?")
    for word in fields.get("trust", ()):
        _check_digest(word)
    if not fields.get("command"):
        raise _usage("no command given", "put it after `--`")
    _check_together(fields)
    if fields["command"][0] == "":
        raise _usage("the command is an empty word", "is a variable in your command line unset?")
    return RunOptions(**fields)


def _check_together(fields: dict[str, Any]) -> None:
    """Raises GuardError for an option that another one leaves without effect."""
    nobody = "nobody is there to see to it"
    blind = "the output does not pass through vllm-guard then"
    for without, needs, hint in (
        ("exec", (*_SUPERVISED, *_WATCHED, *_STALLS), nobody),
        ("no_watch", (*_WATCHED, *_STALLS), blind),
        ("allow_daemon", (*_WATCHED, *_STALLS), blind),
    ):
        for option in needs if fields.get(without) else ():
            if fields.get(option):
                raise _usage(f"{_word(option)} has no effect with {_word(without)}", hint)
    if fields.get("stall") == "off" and fields.get("stall_after"):
        raise _usage("--stall-after has no effect with --stall off")


def _word(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _finish(found: dict[str, Any], command: list[str]) -> RunOptions:
    return finish_values({**found, "command": command})


def _at_command(found: dict[str, Any], rest: list[str], named_run: bool) -> RunOptions | None:
    if named_run:
        return _finish(found, rest)
    if not found:
        return None
    raise _usage(f"unexpected {rest[0]!r} before `--`", "put `--` before the command")


def _take(found: dict[str, Any], word: str, rest: list[str]) -> None:
    """Move the option at `word` (and its value, from `rest`) into `found`."""
    if not word.startswith("--") and len(word) > 2:  # -pdebug, -nv
        whole, tail, word = word, word[2:], word[:2]
        takes_value = word in _BY_WORD and _BY_WORD[word].metavar
        if word in _BY_WORD and tail.startswith("-") and not takes_value:
            _unknown(whole)
        rest.insert(0, tail if takes_value else f"-{tail}")
        attached = bool(takes_value)
    else:
        word, attached, value = (part for part in word.partition("="))  # type: ignore[assignment]
        if attached:
            rest.insert(0, str(value))
    option = _BY_WORD.get(word) or _unknown(word)
    if not option.metavar:
        if attached:
            raise _usage(f"{word} takes no value")
        found[option.field] = True
        return
    if not rest or (rest[0] == "--" and not attached):
        raise _usage(f"{word} needs a value: {word} {option.metavar}")
    value = rest.pop(0)
    if option.choices and value not in option.choices:
        choices = f"choose from {', '.join(option.choices)}"
        raise _usage(f"{word} {value!r}: {choices}", _near(value, option.choices))
    if option.many:
        found.setdefault(option.field, []).append(value)
    else:
        found[option.field] = value


def _unknown(word: str) -> Option:
    hint = _near(word, _BY_WORD) or "see vllm-guard run --help"
    raise _usage(f"no such option: {word}", hint)


def _near(word: str, known: Iterable[str]) -> str:
    """A hint, where one of these may have been meant."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}?" if near else ""


def _seconds(option: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise _usage(f"{option} {word!r} is not a time in seconds", f"for example {option} 600")
    return value


def _check_name(name: str, option: str, complete: bool) -> None:
    if not complete:
        raise _usage(f"{option} {name!r} has no value", f"write {option} {name}=VALUE")
    if not name or "=" in name:
        raise _usage(f"{option}: {name!r} is not a variable name")
    if name.startswith(_OWN):
        hint = "they tell which processes belong to a run; leave it out"
        raise _usage(f"{option}: {_OWN}* are vllm-guard's own: {name}", hint)


def _check_digest(word: str) -> None:
    digits = word.removeprefix("sha256:")
    if not word.startswith("sha256:") or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        hint = "vllm-guard profile show NAME prints it"
        raise _usage(f"--trust {word!r} is not sha256: and 64 hexadecimal digits", hint)


def _usage(message: str, hint: str = "") -> GuardError:
    return GuardError(message, hint, exit_code=USAGE)
