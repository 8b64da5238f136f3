"""Every kind of change that the server's code notes can be chosen on the audit page."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lefleet_server
from lefleet_server.dashboard.audit_words import KINDS

SERVER = Path(lefleet_server.__file__).parent


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value


def noted(tree: ast.Module, named: dict[str, ast.expr]) -> Iterator[str]:
    """The actions that a module gives to `audit()`, or writes as entries of the log."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id == "audit":
            yield from texts(call.args[2], named)
        elif call.func.id == "AuditEntry":
            yield from (text for word in call.keywords if word.arg == "action" for text in texts(word.value, named))


def texts(value: ast.expr, named: dict[str, ast.expr]) -> Iterator[str]:
    for node in ast.walk(named.get(value.id, value) if isinstance(value, ast.Name) else value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value


def test_the_audit_page_offers_every_kind_that_the_code_notes_and_no_other():
    trees = [ast.parse(path.read_text()) for path in SERVER.rglob("*.py")]
    named = dict(each for tree in trees for each in constants(tree))
    found = {action for tree in trees for action in noted(tree, named)}
    assert {"user.added", "store.checked", "robot.estop"} <= found
    assert set(KINDS) == {action.partition(".")[0] for action in found}
