"""The analysis of the main guard, for statements at every depth. Pure."""

from __future__ import annotations

import ast
from typing import Any

from vllm_guard.inside.mainguard.blocks import Blocks
from vllm_guard.inside.mainguard.expressions import Expressions
from vllm_guard.inside.mainguard.judge import INHERITED_ALREADY, MAIN
from vllm_guard.inside.mainguard.names import root
from vllm_guard.inside.mainguard.tables import Table

#: What children inherit and may do once more; in all else that they inherit, twice is not once.
_REPEATABLE = Table(
    """
    dotenv.load_dotenv os.environ.setdefault os.environ.update os.putenv site.addsitedir
    sys.path.append sys.path.extend sys.path.insert
    """
)
#: A parent may set these for one child only: done again there, that is undone.
_OF_ONE_CHILD = "VISIBLE_DEVICES"


class Recorder(Blocks):
    """The analysis, which remembers what it said of every statement, those in blocks included."""

    def __init__(self, scope: Any, markers: Any, lazy: bool) -> None:
        super().__init__(scope, markers, lazy)
        self.lazy = lazy
        self.judged: dict[ast.stmt, Any] = {}
        self.marked = markers.of

    def statement(self, node: ast.stmt) -> Any:
        """As the analysis has it, but what children inherit is done again only where that is harmless."""
        judged = super().statement(node)
        simple = isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete, ast.Expr))
        if judged.verdict == INHERITED_ALREADY and simple and not self._is_repeatable(node):
            judged = judged._replace(verdict=MAIN)
        self.judged[node] = judged
        return judged

    def _is_repeatable(self, node: ast.stmt) -> bool:
        if _OF_ONE_CHILD in ast.unparse(node):
            return False
        if isinstance(node, ast.Assign):
            keyed = all(isinstance(t, ast.Subscript) and root(t) != "sys" for t in node.targets)
            why, environment = self._why_not(node.value)
            return keyed and not why and not environment
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
            return False
        name = Expressions(self.scope).dotted(node.value.func)
        why, _ = self._why_not(*node.value.args, *node.value.keywords)
        return name in _REPEATABLE and not why
