"""Pages that list what the programs offer, compared with the programs."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from typer.main import get_command

from lefleet_agent.__main__ import app
from lefleet_server.__main__ import cli
from lefleet_server.cli.__main__ import cli as fleet
from lefleet_server.metrics import Metrics

DOCS = Path(__file__).resolve().parents[1] / "docs"


def rows(page: str) -> list[str]:
    return [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]


def commands(group, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"| `{prefix} {name}` | {command.help.splitlines()[0]} |"


def test_every_command_is_documented_with_what_it_does_and_no_other():
    programs = {"lefleet-agent": app, "lefleet-server": cli, "lefleet": fleet}
    offered = [row for name, program in programs.items() for row in commands(get_command(program), name)]
    assert rows("commands.md") == offered


def test_every_metric_of_the_server_is_documented_and_no_other():
    registry = Metrics().registry
    assert isinstance(registry, CollectorRegistry)
    families = [family for family in registry.collect() if family.name.startswith("lefleet_")]
    offered = [
        f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {family.documentation} |"
        for family in families
    ]
    assert rows("server-metrics.md") == offered


def test_the_readme_links_every_page():
    readme = (DOCS.parent / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.*") if f"docs/{page.name}" not in readme] == []
