"""The arguments of a call in a script. Pure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from .catalog import UNKNOWN
from .things import NOTHING, Thing, Things, constant_text, possible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .things import World


class Given(NamedTuple):
    """The arguments of a call, as things."""

    positional: tuple[Things[Thing], ...] = ()
    keywords: tuple[tuple[str, Things[Thing]], ...] = ()

    def all(self) -> Things[Thing]:
        """Everything that is passed."""
        return NOTHING.union(*self.positional, *(things for _, things in self.keywords))

    def text(self, index: int, keyword: str = "") -> str:
        """A constant string among them; empty where there is none."""
        things = dict(self.keywords).get(keyword, NOTHING)
        if not things and index < len(self.positional):
            things = self.positional[index]
        texts = [thing.name for thing in things if thing.kind == "text"]
        return texts[0] if len(texts) == 1 else ""


def bound(
    args: ast.arguments, function: Thing, given: Given, world: World
) -> Iterator[tuple[str, Things[Thing]]]:
    """The parameters of a function that is called, each with what it is."""
    names = [arg.arg for arg in (*getattr(args, "posonlyargs", ()), *args.args)]
    defaults: dict[str, ast.expr | None] = dict(zip(reversed(names), reversed(args.defaults)))
    names += [arg.arg for arg in args.kwonlyargs]
    defaults.update(zip((arg.arg for arg in args.kwonlyargs), args.kw_defaults))
    owner = () if function.owner is None else (frozenset({function.owner}),)
    values = {**dict(zip(names, (*owner, *given.positional))), **dict(given.keywords)}
    for name in names:
        value = values.get(name)
        if value is None and function.scope is not None:
            value = world.things(defaults.get(name), function.scope)
        yield name, value or NOTHING
    for rest in filter(None, (args.vararg, args.kwarg)):
        yield rest.arg, possible(given.all())


def constants(node: ast.Call, given: Given) -> dict[str, object]:
    """Its keyword arguments, as far as their values are known."""
    values: dict[str, object] = {}
    for keyword in node.keywords:
        name = keyword.arg or "**"
        text = given.text(len(given.positional), name)
        if isinstance(keyword.value, ast.Constant):
            values[name] = keyword.value.value
        else:
            values[name] = text or UNKNOWN
    return values


def names_cuda(node: ast.Call, given: Given) -> bool:
    """`.cuda()`, `.to("cuda:0")`, `device="cuda"`."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    keywords = dict(given.keywords)
    places = keywords.get("device", NOTHING)
    if name == "to":
        places = places.union(*given.positional[:1])
    return (name == "cuda" and not given.all()) or any(map(_is_cuda, places))


def _is_cuda(thing: Thing) -> bool:
    if thing.kind == "text":
        return thing.name.startswith("cuda")
    if thing.name != "torch.device()" or not isinstance(thing.node, ast.Call):
        return False
    return any(constant_text(arg).startswith("cuda") for arg in thing.node.args)
