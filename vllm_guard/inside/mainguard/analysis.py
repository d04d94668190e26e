"""The script, looked at once, when its first process is started: what its children will be told to run."""

import gc
import os

from . import starts, underway
from .errors import say
from .markers import misspelt
from .needs import compiled, read
from .sending import CUTOFF, DEFINITIONS, STANDARD


def order(script):
    """What is sent to every child, as a table that `marshal` takes; None where that is beyond us.

    mode       "standard", "definitions" or "cutoff"
    path, name, doc, source   the script's `__file__`, its module's name (of `-m`), docstring and text
    engine     name -> value, as `engine.set_defaults` takes it
    statements (line, names that it binds, code, holes) of each that a child runs; holes: (place, why the
               statement is lost where that is not sent, or empty)
    lost       name -> (line, reason), of the names that a child lacks
    wanted     the names whose values are sent
    fresh      those of them that a child sets by itself, but perhaps to another value: name -> row of
               `statements` that sets it last
    early      those of `fresh` that have the value of the main process from their statement on
    last       code: what of modules and classes a child is to be given once more, after all statements
    places     place -> (line, kind as in `places`), of what else is sent, of definitions and imports;
               line 0: nothing is to be said where it is not
    stacks     is the child to write its stacks when it is asked?
    marked     may a marker have a child run what reads names that it lacks?
    """
    collecting = gc.isenabled()
    gc.disable()  # a third of the time: trees are many objects, and no garbage
    try:
        return _order(script)
    except RecursionError:  # as deep as this, only generated code is nested
        say(
            f"{script.path} is nested too deeply to be looked at: children import it as under plain Python"
        )
        return None
    finally:
        if collecting:
            gc.enable()


def _order(script):
    doc = script.module().__doc__
    order = {
        "mode": CUTOFF,
        "path": script.path,
        "name": script.spec.name if script.spec else "",
        "doc": doc if isinstance(doc, str) else None,
        "source": script.source,
        "engine": script.engine,
        "stacks": script.stacks,
        "marked": b"vllm-guard" in script.source,
        "lost": {},
        "wanted": [],
        "fresh": {},
        "early": [],
        "last": None,
        "places": {},
    }
    if script.mode == CUTOFF:
        return {**order, "statements": [(1, [], compiled(script.source, script.path), [])]}
    for line, text in misspelt(script.source):
        place = f"line {line} of {os.path.basename(script.path)}"
        say(f"{place} has no effect: {text!r} is not 'child', 'main' or 'ignore'")
    needs = read(script.source, script.path)
    found = needs.found
    safe = script.mode == "auto" and _is_safe(found, script.module())
    mode = STANDARD if safe else DEFINITIONS
    return {
        **order,
        "mode": mode,
        "statements": needs.statements,
        "lost": found.lost,
        "wanted": sorted(needs.wanted),
        "fresh": needs.fresh,
        "early": sorted(needs.early),
        "last": needs.last,
        "places": found.places,
    }


def _is_safe(classified, module):
    """Can a child import the script as Python does? Guarded, or with nothing in it that it must not do."""
    if all(statement.verdict == "child" for statement in classified.statements):
        return True
    found = starts.read(classified.whole)
    return found.is_safe or (not found.ends[0] and underway.is_guarded(classified.whole, module))
