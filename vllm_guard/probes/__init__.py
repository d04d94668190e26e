"""The quick probes: what would make the run fail, said before it starts. No torch, no import of vLLM.

A probe is one file, with `TITLE` (what it looks at) and `check(context)`, which yields findings: `fail`
only where the run is certain to fail. The folder says when it applies: `command` for every launch,
`python` when the command's interpreter is known, `vllm` when that has vLLM, `machine` when it will use the
GPUs, so far as its words tell, `server` for an API server.
"""

from __future__ import annotations

import os

from vllm_guard.frozen import replace
from vllm_guard.host import Host
from vllm_guard.model import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from dataclasses import dataclass
    from typing import Any, Protocol

    from vllm_guard.model import Part, Profile
    from vllm_guard.probes.full import FullProbe
    from vllm_guard.record import Shelf
    from vllm_guard.target import Target

    class Probe(Protocol):
        TITLE: str

        def check(self, context: Context, /) -> Iterable[Finding]: ...

else:
    from vllm_guard.frozen import dataclass

BARE = (("vllm",), ("python",))
_DEFAULT_PORT = 8000  #: of vLLM
FOLDERS = ("command", "python", "vllm", "machine", "server")
_SAID = 300  #: characters of an error; what a file holds may be in it
_OF_FLAGS = ("machine", "server")  #: whose probes go by the command's options
FULL = "full"  #: the folder of those that run code of the target, on request only


@dataclass(frozen=True)
class Context:
    """What the probes may look at: the run as planned."""

    argv: tuple[str, ...]
    env: Mapping[str, str]  #: as the command will get it, and `env NAME=V` in its words has it
    before: Mapping[str, str]  #: as the caller has it
    target: Target | None
    profiles: tuple[Profile, ...]
    parts: Sequence[tuple[str, Part]]  #: what of them applies to this vLLM
    shelf: Shelf
    dry_run: bool = False  #: nothing may be ended or removed
    own: tuple[str, ...] = ()  #: variables that the guard sets for itself
    host: Host = Host()  #: the machine
    cwd: str = ""  #: where the command will run; empty for the current folder

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of probes that apply to this run."""
        python = self.target is not None
        vllm = self.target is not None and self.target.vllm is not None
        when = (
            True,
            python,
            vllm,
            self.is_server or self.is_bare or self.is_script,
            self.is_server,
        )
        return tuple(folder for folder, applies in zip(FOLDERS, when, strict=True) if applies)

    @property
    def is_bare(self) -> bool:
        """Does the command say nothing of what will run? So it is where the doctor is given none."""
        return self.argv in BARE

    @property
    def is_script(self) -> bool:
        """Is it a Python script whose Python has vLLM?"""
        target = self.target
        return target is not None and target.vllm is not None and target.kind == "script"

    @property
    def is_server(self) -> bool:
        """Does this command start an API server, and not only tell how?"""
        target = self.target
        if target is None or any(word == "-h" or word.startswith("--help") for word in self.argv):
            return False
        serves = target.kind == "vllm-cli" and target.subcommand == "serve"
        return serves or target.kind == "vllm-server"

    @property
    def given_words(self) -> tuple[str, ...]:
        """The arguments of the API server, as they are written."""
        return self.argv[self.target.args_at :] if self.target and self.is_server else ()

    @property
    def server_words(self) -> tuple[str, ...]:
        """The arguments of the API server, their names in full; those of a `--config` stand in its place."""
        return self._resolved[0]

    @property
    def unclear(self) -> tuple[str, ...]:
        """The abbreviated options of which the source of this vLLM does not tell what they stand for."""
        return self._resolved[1]

    @property
    def _resolved(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        words = self.given_words
        words = self._with_file(words) if "--config" in words else words
        install = self.target.vllm if self.target else None
        if install is None or not any(word.startswith("--") for word in words):
            return words, ()
        from vllm_guard import flag_words
        from vllm_guard.target.flags import candidates

        return flag_words.resolved(words, lambda name: candidates(install, name))

    def _with_file(self, words: tuple[str, ...]) -> tuple[str, ...]:
        from vllm_guard import config_file
        from vllm_guard.probes import options_file

        path = config_file.named(words)
        if path is None:
            return words
        try:
            return config_file.merged(words, options_file.read(self, path))
        except (ValueError, config_file.Unread):  # the probe of that name says it
            return words

    @property
    def has_port(self) -> bool:
        """Does the command listen on a TCP port?"""
        return self.is_server and not self.is_headless and not self.has("--uds")

    @property
    def is_headless(self) -> bool:
        """Is it an engine whose API server runs elsewhere?"""
        return self.has("--headless") or self.flag("--api-server-count", "-asc") == "0"

    @property
    def port(self) -> int | None:
        """The API server's TCP port; None where a `--config` that was not read may tell it, or it is none."""
        word = self.flag("--port")
        if not self.has_port or (word is None and self.has("--config")):
            return None
        try:
            port = _DEFAULT_PORT if word is None else int(word)
        except ValueError:
            return None
        return port if 0 <= port < 65536 else None

    def absolute(self, path: str) -> str:
        """The path as the command will take it."""
        return os.path.abspath(os.path.join(self.cwd, path))

    def flag(self, *names: str) -> str | None:
        """The last value given to one of these options of the server."""
        from vllm_guard import flag_words

        return flag_words.value(self.server_words, names)

    def has(self, *names: str) -> bool:
        """Is one of these options of the server given, and not taken back by a later `--no-...`?"""
        from vllm_guard import flag_words

        return flag_words.given(self.server_words, names)


def run_all(context: Context) -> list[Finding]:
    """The findings of every probe that applies, and of every one that a profile asks for in vain."""
    findings: list[Finding] = []
    for folder in context.folders:
        for name in names(folder):
            findings += run_one(folder, name, context)
    return findings + unknown(context.parts)


def unknown(parts: Iterable[tuple[str, Part]]) -> list[Finding]:
    """A finding for each probe that a profile asks for and that there is not."""
    asked = dict.fromkeys((origin, probe) for origin, part in parts for probe in part.probes)
    known = ids() if asked else ()
    return [_unknown(probe, origin) for origin, probe in asked if probe not in known]


def run_one(folder: str, name: str, context: Context) -> Iterator[Finding]:
    """The findings of one probe; where it breaks, even on its import, is a finding and no crash."""
    title = name
    try:
        probe = load(folder, name)
        title = probe.TITLE
        for finding in probe.check(context):
            yield _doubted(finding) if folder in _OF_FLAGS and context.unclear else finding
    except Exception as error:  # noqa: BLE001  (whatever it is, it must not stop a launch)
        text = f"could not look: {type(error).__name__}: {error}"[:_SAID]
        yield Finding(f"probe-{id_of(name)}", "unknown", title, text)


def load(folder: str, name: str) -> Probe:
    """The module of one probe; `importlib` and `pkgutil` cost more than the probes."""
    module: Any = __import__(f"{__name__}.{folder}.{name}", fromlist=("check",))
    return module  # type: ignore[no-any-return]


def load_full(name: str) -> FullProbe:
    """The module of one full probe."""
    module: Any = load(FULL, name)
    return module  # type: ignore[no-any-return]


def names(folder: str) -> list[str]:
    """The probes of a folder, by their files' names."""
    files = os.listdir(os.path.join(os.path.dirname(__file__), folder))
    stems = (file.removesuffix(".py") for file in sorted(files) if file.endswith(".py"))
    return [stem for stem in stems if not stem.startswith("_")]


def ids() -> set[str]:
    """What a profile may ask for."""
    return {id_of(name) for folder in (*FOLDERS, FULL) for name in names(folder)}


def id_of(name: str) -> str:
    """What a probe is called, by the name of its file."""
    return name.replace("_", "-")


def _doubted(finding: Finding) -> Finding:
    """Of a command with an option that may be another than it seems: nothing is certain."""
    doubted: Finding = replace(finding, status="warn") if finding.status == "fail" else finding
    return doubted


def _unknown(probe: str, origin: str) -> Finding:
    import difflib

    near = difflib.get_close_matches(probe, ids(), 1)
    fix = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(ids()))}"
    fact = f"asks for the probe {probe}, which this vllm-guard does not have"
    return Finding("probe-unknown", "warn", origin, fact, fix=fix)
