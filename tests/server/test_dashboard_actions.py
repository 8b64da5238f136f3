"""What the dashboard changes, the API can change too: its pages call services, so no route is there by itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import lefleet_server

PACKAGE = "lefleet_server"
ROOT = Path(lefleet_server.__file__).parent
CHANGES = {f"{PACKAGE}.audit.service.audit", "sqlalchemy.insert", "sqlalchemy.update", "sqlalchemy.delete"}
"""Whoever reaches one of these changes something: each change leaves an entry of the audit log, or writes rows."""


def name_of(path: Path) -> str:
    return ".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {name_of(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str) -> dict[str, str]:
    """What the module's names stand for, by their whole name; its own functions and classes included."""
    found = {}
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom):
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    own = (
        node.name
        for node in MODULES[module].body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )
    return found | {name: f"{module}.{name}" for name in own}


def named(module: str, tree: ast.AST) -> Iterator[str]:
    """Whatever is named there, called or handed on."""
    known = imports(module)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name in known:
                yield known[name]
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in known:
                yield f"{known[name]}.{attribute}"


def body(name: str) -> tuple[str, ast.AST] | None:
    """Of a function or a class, with its module."""
    module, _, last = name.rpartition(".")
    for node in MODULES[module].body if module in MODULES else ():
        if getattr(node, "name", None) == last:
            return module, node
    return None


def reached(start: set[str]) -> set[str]:
    found, left = set(start), list(start)
    while left:
        if (here := body(left.pop())) is not None:
            new = set(named(*here)) - found
            found |= new
            left += new
    return found


def changes(modules: list[str]) -> set[str]:
    """The functions that change something and are reached from there."""
    found = reached({name for module in modules for name in named(module, MODULES[module])})
    return {name for name in found if (here := body(name)) is not None and CHANGES & set(named(*here))}


def test_whatever_the_dashboard_changes_a_route_of_the_api_changes_too():
    by_pages = changes([module for module in MODULES if module.startswith(f"{PACKAGE}.dashboard.")])
    routes = [module for module in MODULES if "APIRouter" in imports(module) and module != f"{PACKAGE}.app"]
    assert len(by_pages) > 20
    assert by_pages - changes(routes) == set(), "give it a route, and a command of lefleet"
