"""`lefleet` offers what the API offers: every route has a command, and every command help with an example."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from lefleet_server import cli as package
from lefleet_server.cli.__main__ import cli

DOCUMENT = json.loads((Path(__file__).resolve().parents[3] / "docs" / "openapi.json").read_text())["paths"]
API = "/api/v1"
ASKS = {"get": "GET", "image": "GET", "stream": "GET", "Pages": "GET", "put": "PUT", "post": "POST", "patch": "PATCH"}
ASKS |= {"delete": "DELETE", "_send": "", "request": ""}
# Routes without a command, each with its reason.
FOR_ROBOTS = "a robot asks it, with its own credential"
EXEMPT = {
    "GET /healthz": "for supervisors; `lefleet status` asks /readyz, which says more",
    "GET /metrics": "for Prometheus",
    f"GET {API}/login/oidc": "for browsers: the provider's page is one",
    f"GET {API}/login/oidc/callback": "as above",
    f"GET {API}/metrics/robot": "for Prometheus",
    f"GET {API}/metrics/targets": "for Prometheus",
    f"GET {API}/episodes/{{episode_id}}/previews/{{camera}}/{{which}}.jpg": "for lists; `picture` has it whole",
    f"PUT {API}/episodes/{{episode_id}}/label": "`lefleet episodes label` sends many at once, by PATCH",
    f"POST {API}/robots/enrol": "the robot's half of `lefleet robots register`",
}


def routes() -> set[str]:
    return {f"{method.upper()} {path}" for path, item in DOCUMENT.items() for method in item}


def calls() -> Iterator[ast.Call]:
    for path in Path(package.__file__).parent.glob("*.py"):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def asked() -> set[str]:
    """The routes that the code asks, by the literal paths of its calls."""
    found = set()
    for call in calls():
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        texts += ["/login" for arg in call.args if ast.unparse(arg) == "f'{API}/login'"]
        paths = [text for text in texts if text.startswith("/")]
        if name in ASKS and paths:
            method = ASKS[name] or texts[0]
            found.add(f"{method} {paths[0] if paths[0] == '/readyz' else API + paths[0]}")
    return found


def test_every_route_has_a_command_or_a_reason_not_to():
    robots = {route for route in routes() if f" {API}/robot/" in route}
    assert asked() <= routes(), "a command asks what the API does not offer"
    assert routes() - asked() - robots == set(EXEMPT), f"give it a command, or a reason here ({FOR_ROBOTS})"


def parameters(path: str) -> set[str]:
    return {each["name"] for each in DOCUMENT[path]["get"]["parameters"] if each["in"] == "query"}


def options(*words: str) -> set[str]:
    command = get_command(cli)
    for word in words:
        command = command.commands[word]
    return {option.removeprefix("--").replace("-", "_") for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{API}/episodes", ["episodes", "list"]),
        (f"{API}/episodes", ["episodes", "download"]),
        (f"{API}/comparison", ["compare"]),
        (f"{API}/audit", ["audit"]),
    ],
)
def test_every_filter_of_a_list_is_an_option(path, words):
    assert parameters(path) - {"cursor"} - options(*words) == set()


def every_command(group, prefix: str = "lefleet") -> Iterator[tuple[str, object]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def test_every_command_shows_itself_in_an_example_of_its_help():
    offered = dict(every_command(get_command(cli)))
    assert len(offered) > 30
    assert [name for name, command in offered.items() if f"{name}" not in (command.epilog or "")] == []


def test_every_command_that_changes_or_shows_something_can_say_it_in_json():
    names = [name for name, _ in every_command(get_command(cli))]
    assert [name for name in names if "json" not in options(*name.split()[1:])] == []
