"""The pieces of a script that a guard can be written around, and what is known of each. Pure."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllm_guard.guarding.resolving import DEFINITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_guard.guarding.resolving import Resolver
    from vllm_guard.inside.mainguard.starts import Start

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Leaf:
    """One piece: a statement, or the head of a block that is cut further."""

    node: ast.stmt
    first: int  #: line
    binds: frozenset[str]
    reads: frozenset[str]  #: names that running it reads
    deep: frozenset[str]  #: the same, and those that functions in it read when they are called
    heads: tuple[Leaf, ...]  #: of the blocks around it, outermost first
    chained: bool  #: `elif`, or a head before one: goes with the head around it
    acts: bool = False  #: it is for the main process only
    starts: tuple[Start, ...] = ()  #: what it starts
    pinned: str = (
        ""  #: "inside" (a guard that is there), "outside" (marked, or for children) or empty
    )
    marked: tuple[tuple[str, int], ...] = ()  #: markers on it and in it, with their lines
    reason: str = ""
    mutates: frozenset[str] = _NONE  #: names whose objects it changes
    touches: frozenset[str] = _NONE  #: names whose objects its call of a method may change
    stirs: Mapping[str, str] = field(default_factory=dict)  #: name -> own function that changes it
    lends: Mapping[str, str] = field(
        default_factory=dict
    )  #: name -> other function that is given it
    unknown: str = ""  #: what may set any name: `exec()`
    calls: frozenset[str] = _NONE  #: names of what running it calls, decorators included

    @property
    def defines(self) -> bool:
        """Is it a function or a class?"""
        return isinstance(self.node, DEFINITIONS)

    @property
    def imports(self) -> bool:
        """Is it an import?"""
        return isinstance(self.node, (ast.Import, ast.ImportFrom))


@dataclass(frozen=True, eq=False)
class Block:
    """A block that is cut further; `suites` in the order of the file."""

    head: Leaf
    suites: tuple[tuple[Part, ...], ...]


Part = Leaf | Block


@dataclass(frozen=True)
class Script:
    """A script, cut."""

    tree: ast.Module
    names: Resolver
    parts: tuple[Part, ...]
    starts: tuple[Start, ...]  #: those that need a guard and have none
    spawns: (
        bool  #: are all the processes that it starts those of spawn or forkserver, and none vLLM's?
    )
    ended: int  #: line at which a child that it starts ends before its work; 0 for none

    @property
    def leaves(self) -> list[Leaf]:
        """All pieces in the order of the file."""
        return list(_flat(self.parts))


def _flat(parts: Iterable[Part]) -> Iterator[Leaf]:
    for part in parts:
        if isinstance(part, Block):
            yield part.head
            for suite in part.suites:
                yield from _flat(suite)
        else:
            yield part
