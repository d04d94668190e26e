"""What a child runs of `if`, `try`, `with` and `for`: their heads, and of their bodies what it may. Pure."""

import ast
import copy

from .expressions import Expressions, calls
from .judge import CHILD, INHERITED_ALREADY, MAIN, PARTLY, Judge, Judged
from .names import binds
from .scope import VALUE
from .starts import guard_test
from .tables import CONTEXTS

GUARD = "the main guard's"


class Blocks(Judge):
    """A judge that looks into blocks."""

    def _body(self, statements):
        """(all that was judged, what is kept of it) of the statements of one block."""
        judged = [self.statement(statement) for statement in statements]
        return judged, [kept for one in judged for kept in one.kept]

    def _branch(self, before, statements):
        """The same with the names as they were `before`; `scope` stays what it is after this branch."""
        self.scope = before.branch()
        return self._body(statements)

    def _if(self, node):
        if guard_test(node):
            return self._guard(node)
        why, environment = self._why_not(node.test)
        if why:
            return self._main(node, why)
        before, outer = self.scope.branch(), self.scope
        judged, body = self._branch(before, node.body)
        then = self.scope
        others, orelse = self._branch(before, node.orelse)
        outer.join([then, self.scope])
        self.scope = outer
        self._from_environment(node, environment)
        return _block(node, [*judged, *others], body=body or [ast.Pass()], orelse=orelse)

    def _guard(self, node):
        """Its body is for the main process; the rest is judged as if it were not there."""
        lost = []
        for statement in node.body:
            lost += self._main(statement, GUARD, guarded=True).lost
        others, orelse = self._body(node.orelse)
        guard = Judged(MAIN, "the main guard", (), tuple(lost))
        return _block(node, [guard, *others], body=[ast.Pass()], orelse=orelse)

    def _try(self, node):
        outer = self.scope
        self.scope = outer.branch()
        judged, body = self._body(node.body)
        if any(one.verdict in (MAIN, PARTLY) for one in judged):
            # Nobody can tell which of the other parts will run in a child: it has none of them.
            return self._only_body(node, outer, judged, body)
        after_body = self.scope.branch()
        more, orelse = self._branch(after_body, node.orelse)
        judged += more
        ways = [self.scope]
        handlers = []
        for handler in node.handlers:
            if handler.type is not None and self._why_not(handler.type)[0]:
                return self._whole(node, outer, self._why_not(handler.type)[0])
            more, kept = self._handler(after_body, handler)
            judged += more
            ways.append(self.scope)
            handlers.append(_with_parts(handler, body=kept or [ast.Pass()]))
        outer.join(ways)
        self.scope = outer
        more, final = self._body(node.finalbody)
        judged += more
        body = body or [ast.Pass()]
        return _block(node, judged, body=body, handlers=handlers, orelse=orelse, finalbody=final)

    _trystar = _try

    def _handler(self, before, handler):
        self.scope = before.branch()
        if handler.name:
            self.scope.bind(handler.name, VALUE)
        judged = self._body(handler.body)
        self.scope.forget(handler.name)
        return judged

    def _only_body(self, node, outer, judged, body):
        """A `try` of whose body a part is kept: only that; what else it binds is lost."""
        outer.join([self.scope])
        self.scope = outer
        reason = next(one.reason for one in judged if one.verdict in (MAIN, PARTLY))
        handled = [statement for handler in node.handlers for statement in handler.body]
        more = [self._main(s, reason) for s in (*handled, *node.orelse, *node.finalbody)]
        judged += more
        quiet = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
        handlers = [ast.fix_missing_locations(ast.copy_location(quiet, node))]
        body = body or [ast.Pass()]
        whole = _block(node, judged, body=body, handlers=handlers, orelse=[], finalbody=[])
        return whole._replace(kept=(*whole.kept, *(kept for one in more for kept in one.kept)))

    def _whole(self, node, outer, reason):
        self.scope = outer
        return self._main(node, reason)

    def _with(self, node):
        calls = [item.context_expr for item in node.items]
        why = next(filter(None, (self._why_not_context(call) for call in calls)), "")
        if why:
            return self._main(node, why)
        for item in node.items:
            for name in binds(item.optional_vars) if item.optional_vars else ():
                self.scope.bind(name, VALUE)
        judged, body = self._body(node.body)
        return _block(node, judged, body=body or [ast.Pass()])

    def _why_not_context(self, node):
        known = isinstance(node, ast.Call) and Expressions(self.scope).dotted(node.func) in CONTEXTS
        if not known:
            return calls(node) if isinstance(node, ast.Call) else "a with statement"
        return self._why_not(*node.args, *node.keywords)[0]

    def _for(self, node):
        """All of it or nothing: a loop that does a part of its work is another loop."""
        why, environment = self._why_not(node.iter)
        if why:
            return self._main(node, why)
        outer, self.scope = self.scope, self.scope.branch()
        for name in binds(node.target):
            self.scope.bind(name, VALUE)
        judged, _ = self._body([*node.body, *node.orelse])
        verdicts = {one.verdict for one in judged}
        if not verdicts <= {CHILD, INHERITED_ALREADY}:
            lacking = next(one for one in judged if one.verdict not in (CHILD, INHERITED_ALREADY))
            return self._whole(node, outer, f"its body {lacking.reason}")
        outer.join([self.scope])
        self.scope = outer
        self._from_environment(node, environment)
        if CHILD not in verdicts:
            lost = self._main(node, "children inherit what its body does").lost
            return Judged(INHERITED_ALREADY, "children inherit what its body does", (), lost)
        return Judged(CHILD, "a loop over a constant", (node,))

    def _from_environment(self, node, environment):
        """What a condition that may differ between processes leads to may differ, too."""
        if environment:
            self.scope.from_environment(binds(node))


def _block(node, judged, **parts):
    """The block with these parts for its own, and the verdict on it."""
    verdicts = {one.verdict for one in judged if one.kept or one.verdict != CHILD}
    lost = tuple(dict.fromkeys(name for one in judged for name in one.lost))
    reason = next((one.reason for one in judged if one.verdict in (MAIN, PARTLY)), "")
    if not verdicts & {CHILD, PARTLY}:
        if MAIN in verdicts:
            return Judged(MAIN, reason, (), lost)
        if verdicts:
            return Judged(INHERITED_ALREADY, "children inherit what it does")
    kept = (_with_parts(node, **parts),)
    if verdicts & {MAIN, PARTLY}:
        return Judged(PARTLY, reason, kept, lost)
    return Judged(CHILD, "a block of such statements", kept)


def _with_parts(node, **parts):
    """A copy of the node with other parts, every statement at a place in the file."""
    changed = copy.copy(node)
    for name, nodes in parts.items():
        for added in nodes:
            if not hasattr(added, "lineno"):
                ast.copy_location(added, node)
        setattr(changed, name, nodes)
    return changed
