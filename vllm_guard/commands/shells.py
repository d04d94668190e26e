"""`vllm-guard env activate | deactivate | clean`: code for the shell that calls, which evaluates it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

import click

from vllm_guard import environment, journal, report, shellcode, tree, voice
from vllm_guard.commands import audit, output, planned
from vllm_guard.errors import USAGE, GuardError
from vllm_guard.journal import Activation
from vllm_guard.model import OWN, Change, EnvPlan, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_guard.prepare import Prepared

_CALLED = {"dash": "sh", "ash": "sh", "ksh": "sh", "pwsh": "powershell"}

shell_option = click.option(
    "--shell",
    type=click.Choice(shellcode.SHELLS),
    help="Whose code is printed (default: that of the shell that calls).",
)


@click.command()
@click.option("-e", "--env", "pairs", multiple=True, metavar="NAME=VALUE", help="As for `run`.")
@click.option("--unset", multiple=True, metavar="NAME", help="As for `run`.")
@output.trust_option
@output.python_option
@shell_option
@click.argument("profiles", nargs=-1, metavar="PROFILE...")
def activate(  # noqa: PLR0913, PLR0917  (click passes one argument for each option)
    profiles: tuple[str, ...],
    pairs: tuple[str, ...],
    unset: tuple[str, ...],
    trust: tuple[str, ...],
    python: str | None,
    shell: str | None,
) -> int:
    """Print code that sets profiles in the shell that calls: eval "$(vllm-guard env activate debug)".

    In fish: vllm-guard env activate debug | source. `vllm-guard env deactivate` undoes it.
    """
    if not (profiles or pairs or unset):
        raise GuardError("no profile given", "see vllm-guard profile list", exit_code=USAGE)
    asked = {"profiles": profiles, "env": pairs, "unset": unset, "trust": trust, "python": python}
    prepared = planned.prepared_for(asked)
    findings = [*planned.findings_of(prepared), *planned.flags_apart(prepared)]
    activation = _activation(prepared)
    form = shell or caller()
    text = _code(form, activation.plan)
    _code(form, activation.plan.reverse())  # what cannot be undone is not done
    if not prepared.refused:
        journal.write(activation, activation.plan.apply(prepared.before))
        _say_how(form)
    return planned.emit(text, findings)


@click.command()
@shell_option
def deactivate(shell: str | None) -> int:
    """Print code that undoes the last `env activate` of the shell that calls.

    A variable that was changed since is left as it is.
    """
    env = environment.view(environment.inherited())
    activation = journal.read(env)
    if activation is None:
        raise GuardError(
            "nothing is active in this shell", "vllm-guard env activate PROFILE", exit_code=USAGE
        )
    undo = [c for c in activation.plan.reverse().changes if env.get(c.name) != c.after]
    ours = [c for c in undo if env.get(c.name) == c.before]
    changed = [c.name for c in undo if c not in ours]
    findings = [
        Finding("variable-changed", "note", name, "changed since it was set here: left as it is")
        for name in changed
    ]
    form = shell or caller()
    _say_how(form)
    return planned.emit(_code(form, EnvPlan(tuple(ours))), findings)


@click.command()
@shell_option
def clean(shell: str | None) -> int:
    """Print code that unsets what debugging left behind in the shell that calls.

    That is what `env audit` calls left on, and the variables that Kubernetes makes of a Service.
    """
    env = environment.view(environment.inherited())
    names = audit.residue(env)
    gone = [name for name in names if shellcode.can_name(name)]
    form = shell or caller()
    text = shellcode.written(form, [(name, None) for name in gone])
    if gone:
        _say_how(form)
        voice.say(f"unsets {report.count(len(gone), 'variable')}: {', '.join(gone)}")
    else:
        voice.say("nothing was left behind: nothing to unset")
    return planned.emit(text, list(_unnameable(names)))


def caller() -> str:
    """The shell that calls, else the user's, else sh."""
    try:
        with open(f"/proc/{os.getppid()}/comm", "rb") as file:
            parent = os.fsdecode(file.read().strip())
    except OSError:
        parent = ""
    for name in (parent, os.path.basename(os.environ.get("SHELL", ""))):
        form = _CALLED.get(name, name)
        if form in shellcode.SHELLS:
            return form
    return "sh"


def _code(form: str, plan: EnvPlan) -> bytes:
    return shellcode.written(form, [(c.name, c.after) for c in plan.changes])


def _activation(prepared: Prepared) -> Activation:
    new = journal.new_id()
    before = prepared.before.get(journal.SHELL)
    mark = Change(journal.SHELL, before, new, "names the journal", OWN)
    made = (c for c in planned.changes_of(prepared) if c.before != c.after)
    parent = os.getppid()
    info = tree.stat(parent)
    return Activation(
        id=new,
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        profiles=tuple(item.name for item in prepared.profiles),
        owner=(parent, info["start"] if info else ""),
        plan=EnvPlan((*made, mark)),
    )


def _unnameable(names: Sequence[str]) -> Iterator[Finding]:
    for name in names:
        if not shellcode.can_name(name):
            yield Finding(
                "variable-name", "note", name, "no shell can name it, so none can unset it"
            )


def _say_how(form: str) -> None:
    """On a terminal nobody evaluates what is printed."""
    if not sys.stdout.isatty():
        return
    command = f"vllm-guard {shlex.join(sys.argv[1:])}"
    words = {
        "fish": f"{command} | source",
        "powershell": f"{command} | Out-String | Invoke-Expression",
    }.get(form, f'eval "$({command})"')
    voice.say(f"hint: to apply it: {words}", "hint")
