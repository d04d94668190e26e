"""Which names a statement binds, reads and changes when it runs at the top level of a module. Pure."""

import ast

from .tables import MUTATORS

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def binds(node):
    """The names that the statement or expression binds or deletes in its own scope, in order."""
    return list(dict.fromkeys(_binds(node)))


def _binds(node):
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, (ast.Constant, ast.Lambda)):
        return
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        return
    if isinstance(node, COMPREHENSIONS):  # its variables are its own; `:=` in it are not
        inner = (part for part in ast.walk(node) if isinstance(part, ast.NamedExpr))
        yield from (part.target.id for part in inner)
        return
    if type(node).__name__ in ("MatchAs", "MatchStar", "MatchMapping"):
        yield from filter(None, (getattr(node, "name", None), getattr(node, "rest", None)))
    for part in ast.iter_child_nodes(node):
        yield from _binds(part)


def mutates(node):
    """The names whose objects the statement changes: `x.a = `, `x[0] = `, `del x[0]`, `x.append()`."""
    found = {}
    for part in here(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)):
            changed = part if not isinstance(part.ctx, ast.Load) else None
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            changed = part.func if part.func.attr in MUTATORS else None
        else:
            continue
        if changed is not None and root(changed):
            found[root(changed)] = None
    return list(found)


def here(node):
    """The node and all below it but the bodies of functions: what runs when the statement runs."""
    yield node
    if isinstance(node, (ast.Constant, ast.Name)):
        return
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        parts = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        parts += getattr(node, "decorator_list", [])
    else:
        parts = ast.iter_child_nodes(node)
    for part in parts:
        yield from here(part)


def root(node):
    """`x` of `x.a[0].b`; empty where it does not begin with a name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def reads(node, lazy, bound=frozenset()):
    """The module's names that running this reads, in order; `lazy`: annotations are not evaluated.

    `bound` are names of scopes between the module and the node.
    """
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load) and node.id not in bound:
            yield node.id
    elif isinstance(node, FUNCTIONS):
        yield from _reads_all(_definition(node, lazy), lazy, bound | _type_parameters(node))
    elif isinstance(node, ast.Lambda):
        parts = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        yield from _reads_all(parts, lazy, bound)
    elif isinstance(node, ast.ClassDef):
        yield from _reads_of_class(node, lazy, bound)
    elif isinstance(node, COMPREHENSIONS):
        targets = (binds(generator.target) for generator in node.generators)
        inner = bound.union(*targets)
        yield from _reads_all(ast.iter_child_nodes(node), lazy, inner)
    elif isinstance(node, ast.AnnAssign):
        parts = [node.value] if node.value else []
        parts += [node.target] + ([] if lazy else [node.annotation])
        yield from _reads_all(parts, lazy, bound)
    elif type(node).__name__ != "TypeAlias":  # evaluated when it is asked for
        yield from _reads_all(ast.iter_child_nodes(node), lazy, bound)


def _reads_all(nodes, lazy, bound):
    for node in nodes:
        yield from reads(node, lazy, bound)


def _reads_of_class(node, lazy, bound):
    yield from _reads_all(node.decorator_list, lazy, bound)
    bound |= _type_parameters(node)
    yield from _reads_all([*node.bases, *node.keywords], lazy, bound)
    own = bound | {"__module__", "__qualname__"}
    for statement in node.body:
        yield from reads(statement, lazy, own)
        own |= set(binds(statement))


def _definition(node, lazy):
    """What defining a function evaluates."""
    given = node.args
    parts = [*node.decorator_list, *given.defaults, *filter(None, given.kw_defaults)]
    if not lazy:
        every = [*getattr(given, "posonlyargs", ()), *given.args, *given.kwonlyargs]
        every += filter(None, (given.vararg, given.kwarg))
        parts += [argument.annotation for argument in every if argument.annotation]
        parts += [node.returns] if node.returns else []
    return parts


def _type_parameters(node):
    return frozenset(parameter.name for parameter in getattr(node, "type_params", ()))
