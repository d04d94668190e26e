"""What vLLM's own source text says: its environment variables and its engine arguments.

The text is parsed, never imported or executed: an import of vLLM takes about ten seconds, has side
effects and belongs to another interpreter. Where the text does not say what is asked, the answer is
"computed" or "other", never a guess. Tested against releases 0.8.5 to 0.33.0 (tests/data/envs).
"""

from __future__ import annotations

import ast
import re
import warnings
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypedDict

    class EnvRow(TypedDict):
        """One variable of `vllm/envs.py`."""

        default: Any  # str, int, float, bool, None, or a list of them
        computed: bool
        choices: list[str] | None
        style: str
        ignore_case: bool
        many: bool

    class EngineField(TypedDict):
        """One field of EngineArgs: its annotation, and its options in the order of the source."""

        annotation: str
        options: list[str]


#: How a set value is read: the first of these shapes that is found, READ being the value.
_STYLES = (
    ("tristate", r"\bmaybe_convert_bool\(READ\)|\bbool\(int\(READ\)\) if .+ else None$"),
    ("int-bool", r"\bbool\(int\(READ\)"),
    ("int", r"\b(maybe_convert_)?int\(READ\)"),
    ("float", r"\bfloat\(READ\)"),
    ("one-true", r"READ(\.strip\(\))?\.lower\(\) in \(('1', 'true'|'true', '1')\)"),
    ("true", r"READ\.lower\(\) == 'true'"),
    ("one", r"READ == '1'|^\(READ or [^=]+\) == '1'$"),
    ("str", r"^(os\.path\.\w+\()*READ(\.(lower|upper|strip)\(\))*\)*( or '[^']*')?$"),
)
_SCALARS = (str, int, float, type(None))


def read_env_table(source: bytes) -> dict[str, EnvRow]:
    """The rows of the dict `environment_variables` in the text of `vllm/envs.py`, by name.

    `default`: what stands for an unset variable, as the source spells it: mostly text that the
    environment could hold ("0"), else a Python value (None, True, []). None if `computed`: the
    source has no literal for it.
    `style`: how a set value is read. "int-bool" and "tristate" are bool(int(...)), the second with
    None for unset; "one-true" takes 1 and true, "one" only 1, "true" only true; "choices", "int",
    "float" and "str" are what they say; "other" is anything else.
    `choices`: what is accepted, None if the source does not list it; `ignore_case`: in any case;
    `many`: separated by commas.

    All of it is plain data that `marshal` and `json` take. Raises ValueError, with one line, if the
    Python that runs this cannot parse the text (whose grammar may be newer) or has no such dict.
    """
    with one_line_errors("envs.py"):
        module = parse(source, "envs.py")
        functions = {n.name: n for n in module.body if isinstance(n, ast.FunctionDef)}
        table = _table(module)
        return {
            key.value: _row(key.value, entry, functions)
            for key, entry in zip(table.keys, table.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        }


def read_engine_args(source: bytes) -> dict[str, EngineField]:
    """The fields of EngineArgs and AsyncEngineArgs in the text of `vllm/engine/arg_utils.py`.

    A field's options are those of the `add_argument` call whose first long option is the field's
    name with dashes for underscores: argparse's own rule. A field without options is for callers
    from Python only. Raises ValueError, with one line, if this Python cannot parse the text or it
    has neither class.
    """
    with one_line_errors("arg_utils.py"):
        module = parse(source, "arg_utils.py")
        names = ("EngineArgs", "AsyncEngineArgs")
        classes = [n for n in module.body if isinstance(n, ast.ClassDef) and n.name in names]
        if not classes:
            raise ValueError("no class EngineArgs")
        options = _options(module)
        return {
            field.target.id: {
                "annotation": ast.unparse(field.annotation),
                "options": options.get(field.target.id, []),
            }
            for found in classes
            for field in found.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }


def read_compile_key(source: bytes) -> list[str]:
    """The variables in the key of torch.compile's cache, by the text of `vllm/envs.py`, sorted.

    From 0.12.0 on `compile_factors` takes all of the table but its `ignored_factors`; before, `compute_hash`
    takes those that it lists. Both add some of Ray's. Raises ValueError as `read_env_table`, and where
    there is no such function.
    """
    with one_line_errors("envs.py"):
        module = parse(source, "envs.py")
        functions = {n.name: n for n in module.body if isinstance(n, ast.FunctionDef)}
        function = functions.get("compile_factors") or functions.get("compute_hash")
        if function is None:
            raise ValueError("neither compile_factors nor compute_hash")
        listed = {name for node in ast.walk(function) for name in _names(node, ast.List)}
        ignored = {name for node in ast.walk(function) for name in _names(node, ast.Set)}
        keys = _table(module).keys if ignored else ()
        names = {key.value for key in keys if isinstance(key, ast.Constant)}
        return sorted(listed | {str(name) for name in names} - ignored)


def read_ray_prefixes(source: bytes) -> list[str]:
    """The prefixes and names of what Ray's workers get, in the text of `vllm/ray/ray_env.py` (0.17.1)."""
    with one_line_errors("ray_env.py"):
        module = parse(source, "ray_env.py")
        return sorted({name for node in ast.walk(module) for name in _names(node, ast.Set)})


def _names(node: ast.AST, kind: type[ast.List | ast.Set]) -> list[str]:
    """The variables that a literal list or set names."""
    items = node.elts if isinstance(node, kind) else []
    texts = [item.value for item in items if isinstance(item, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and text.isupper()]


@contextmanager
def one_line_errors(file: str) -> Iterator[None]:
    """Whatever goes wrong in reading this file is a ValueError with one line."""
    try:
        yield
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot read {file}: {reason}") from None


def parse(source: bytes, file: str) -> ast.Module:
    """The module, without the warnings that its text deserves."""
    with warnings.catch_warnings():
        # An invalid escape such as "\d" in vLLM's text is not the concern of the guard's user.
        warnings.simplefilter("ignore")
        return ast.parse(source, file)


def _table(module: ast.Module) -> ast.Dict:
    for statement in module.body:
        match statement:
            case ast.AnnAssign(
                target=ast.Name(id="environment_variables"), value=ast.Dict() as table
            ) | ast.Assign([ast.Name(id="environment_variables")], value=ast.Dict() as table):
                return table
    raise ValueError("no dict environment_variables")


def _row(name: str, entry: ast.expr, functions: dict[str, ast.FunctionDef]) -> EnvRow:
    match entry:
        case ast.Name(id=local) | ast.Lambda(body=ast.Call(func=ast.Name(id=local), args=[])) if (
            local in functions
        ):
            return _read_row(name, functions[local])
        case ast.Lambda(body=body):
            return _read_row(name, body)
        case ast.Call(func=ast.Name(id=maker)) if maker.endswith("_with_choices"):
            return _choices_row(maker, entry)
        case ast.Call(func=ast.Name(id="get_env_or_set_default")):
            return _make_row("str")
        case ast.Call(args=[*_, wrapped]):  # deprecated_env(name, version, advice, getter)
            return _row(name, wrapped, functions)
    return _make_row("other")


def _make_row(style: str, default: Any = None, *, computed: bool = True) -> EnvRow:
    return {
        "default": default,
        "computed": computed,
        "choices": None,
        "style": style,
        "ignore_case": False,
        "many": False,
    }


def _choices_row(maker: str, call: ast.Call) -> EnvRow:
    given = dict(zip(("env_name", "default", "choices", "case_sensitive"), call.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg})
    default, computed = _literal(given.get("default"))
    row = _make_row("choices", default, computed=computed)
    choices, _ = _literal(given.get("choices"))
    row["choices"] = choices if isinstance(choices, list) else None
    row["ignore_case"] = _literal(given.get("case_sensitive"))[0] is False
    row["many"] = maker in ("env_list_with_choices", "env_set_with_choices")
    return row


def _read_row(name: str, getter: ast.expr | ast.FunctionDef) -> EnvRow:
    """The row of a variable that `getter`, an expression or a function, reads."""
    nodes = list(ast.walk(getter))
    read = next((node for node in nodes if _is_read(node, name)), None)
    if read is None:
        return _make_row("other")
    given = read.args[1] if isinstance(read, ast.Call) and len(read.args) == 2 else None
    unset = next(filter(None, (_when_unset(node, name) for node in nodes)), given)
    default, computed = _literal(unset) if unset else (None, False)
    for node in nodes:
        match node:  # a falsy default lets `or` go on to its last value
            case ast.BoolOp(ast.Or(), [*_, ast.Constant() as last]) if not (default or computed):
                default, computed = _literal(last)
    return _make_row(_style(getter, read), default, computed=computed)


def _is_read(node: ast.AST, name: str) -> bool:
    match node:
        case (
            ast.Call(func=ast.Attribute(attr="getenv"), args=[key, *_])
            | ast.Call(func=ast.Attribute(ast.Attribute(attr="environ"), "get"), args=[key, *_])
            | ast.Subscript(value=ast.Attribute(attr="environ"), slice=key)
        ):
            return isinstance(key, ast.Constant) and key.value == name
    return False


def _when_unset(node: ast.AST, name: str) -> ast.expr | None:
    """What stands for an unset `name` if `node` asks whether `name` is in the environment."""
    match node:
        case (
            ast.IfExp(ast.Compare(ast.Constant(asked), [ast.In()]), orelse=unset)
            | ast.IfExp(ast.Compare(ast.Constant(asked), [ast.NotIn()]), body=unset)
            | ast.If(ast.Compare(ast.Constant(asked), [ast.NotIn()]), [ast.Return(unset)])
        ):
            return unset if asked == name else None
    return None


def _style(getter: ast.expr | ast.FunctionDef, read: ast.AST) -> str:
    text = ast.unparse(getter).replace(ast.unparse(read), "READ")
    if kept := re.search(r"^ *(\w+) = READ$", text, re.MULTILINE):
        text = re.sub(rf"\b{kept[1]}\b", "READ", text)
    return next((style for style, shape in _STYLES if re.search(shape, text)), "other")


def _literal(node: ast.expr | None) -> tuple[Any, bool]:
    """The value of a literal and False; None and True for anything else. A tuple becomes a list."""
    try:
        value = ast.literal_eval(node or "")
    except (ValueError, TypeError, SyntaxError):
        return None, True
    if isinstance(value, list | tuple):
        plain = all(isinstance(item, _SCALARS) for item in value)
        return (list(value), False) if plain else (None, True)
    return (value, False) if isinstance(value, _SCALARS) else (None, True)


def _options(module: ast.Module) -> dict[str, list[str]]:
    """The option strings of each `add_argument` call, by the name that argparse stores under."""
    found: dict[str, list[str]] = {}
    pending: list[ast.AST] = [module]
    while pending:  # through the statements only: the whole tree has many times as many nodes
        node = pending.pop()
        for block in ("body", "orelse", "finalbody", "handlers"):
            pending.extend(getattr(node, block, ()))
        match node:
            case ast.Expr(ast.Call(func=ast.Attribute(attr="add_argument"), args=args)):
                strings = [a.value for a in args if isinstance(a, ast.Constant)]
                options = [s for s in strings if isinstance(s, str) and s.startswith("-")]
                for long in [o for o in options if o.startswith("--")][:1]:
                    found.setdefault(long[2:].replace("-", "_"), []).extend(options)
    return found
