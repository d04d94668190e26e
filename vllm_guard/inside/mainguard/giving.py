"""Statements and expressions that give a child what it is sent. Pure."""

import ast
import copy

from .places import ATTRIBUTES, CONTENTS, GONE, HELD, VALUE
from .tables import MUTATORS


def hole(place, reason=""):
    """The value sent for a place; `reason`: why the statement is lost without it (empty: it is not)."""
    node = ast.Subscript(ast.Name(HELD, ast.Load()), ast.Constant(place), ast.Load())
    node.hole = (place, reason)
    return node


def is_sent(place):
    """The test for that."""
    return ast.Compare(ast.Constant(place), [ast.In()], [ast.Name(HELD, ast.Load())])


def stored(node):
    """(what of something it sets or changes, what of that is to be sent); (None, "") where it does not."""
    if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        return _part(node)
    if not isinstance(node, ast.Call):
        return None, ""
    if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return node.func.value, CONTENTS
    function = getattr(node.func, "id", "")
    if len(node.args) != {"setattr": 3, "delattr": 2}.get(function):
        return None, ""
    owner, name, *_ = node.args
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        return ast.Attribute(owner, name.value), VALUE if function == "setattr" else GONE
    return owner, ATTRIBUTES


def _part(node):
    """As `stored`, of an attribute or item that is set or deleted."""
    owner = node.value
    is_store = isinstance(node.ctx, ast.Store)
    if isinstance(node, ast.Attribute):
        return node, VALUE if is_store else GONE
    of_vars = isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "vars" and owner.args
    if of_vars and isinstance(getattr(node.slice, "value", None), str):
        return ast.Attribute(owner.args[0], node.slice.value), VALUE if is_store else GONE
    return (node, VALUE) if is_store else (owner, CONTENTS)


def store(kind, text, place):
    """The statement that gives a child this place of this kind as it is in the main process."""
    if kind == VALUE:
        return ast.Assign([changed(place, ctx=ast.Store())], hole(text))
    name = "refill" if kind == CONTENTS else "assign"
    method = ast.Attribute(ast.Name(HELD, ast.Load()), name, ast.Load())
    return ast.Expr(ast.Call(method, [ast.Constant(text), changed(place, ctx=ast.Load())], []))


def quietly(statement, node):
    """Where a child has not what is changed, nobody there can miss the change."""
    quiet = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
    return at(ast.Try([statement], [quiet], [], []), node)


def at(node, place):
    """The node, all of it at the place of another one."""
    for part in ast.walk(node):
        if "lineno" in part._attributes and not hasattr(part, "lineno"):
            ast.copy_location(part, place)
    return node


def changed(node, **parts):
    """A copy of the node with other parts."""
    copied = copy.copy(node)
    for name, value in parts.items():
        setattr(copied, name, value)
    return copied
