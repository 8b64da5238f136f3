"""A role's variables are said four times (defaults, argument_specs, README, use): these agree."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (REPO / "roles").iterdir() if path.is_dir())
GROUPS = {"servers", "robots"}

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def defaults(role: Path) -> dict[str, Any]:
    return read(role / "defaults" / "main.yml") or {}


def options(role: Path) -> dict[str, Any]:
    return read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})


def task_files(role: Path) -> list[Path]:
    return sorted([*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")])


def tasks(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks, those inside blocks included."""
    inner = [block.get(part, []) for block in blocks for part in ("block", "rescue", "always")]
    return [*blocks, *(task for part in inner for task in tasks(part))]


@each_role
def test_defaults_and_argument_specs_say_the_same(role: Path) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert specified == defaults(role)
    required = {name for name, option in options(role).items() if option.get("required")}
    assert set(options(role)) == set(specified) | required


@each_role
def test_every_default_has_a_comment(role: Path) -> None:
    lines = (role / "defaults" / "main.yml").read_text().splitlines()
    bare = [line for before, line in pairwise(lines) if line[:1].isalpha() and before[:1] != "#"]
    assert bare == []


@each_role
def test_the_readme_lists_every_variable_in_the_order_of_the_defaults(role: Path) -> None:
    assert re.findall(r"^\| `(\w+)` \|", (role / "README.md").read_text(), re.MULTILINE) == list(defaults(role))


@each_role
def test_variables_carry_the_name_of_their_role(role: Path) -> None:
    internal = read(role / "vars" / "main.yml") if (role / "vars" / "main.yml").exists() else {}
    registered = [task["register"] for file in task_files(role) for task in tasks(read(file)) if "register" in task]
    assert [name for name in defaults(role) if not name.startswith(f"{role.name}_")] == []
    assert [name for name in [*internal, *registered] if not name.startswith(f"__{role.name}_")] == []


@each_role
def test_tasks_are_named_after_their_feature(role: Path) -> None:
    named = re.compile(r"[A-Z]\w+ \| [A-Z]")
    for file in sorted(role.glob("tasks/*.yml")):
        assert [task.get("name") for task in tasks(read(file)) if not named.match(task.get("name", ""))] == []


@each_role
def test_a_role_names_no_inventory_group(role: Path) -> None:
    for file in [*task_files(role), *role.glob("templates/*"), *role.glob("defaults/*"), *role.glob("vars/*")]:
        text = file.read_text()
        assert "groups[" not in text and "group_names" not in text, file
        assert not re.search(rf"(hosts|delegate_to): *({'|'.join(GROUPS)})\b", text), file


@each_role
def test_templates_hold_no_dates(role: Path) -> None:
    """A date in a template would make every run a change."""
    for template in role.glob("templates/*"):
        assert not re.search(r"ansible_date_time|strftime|now\(|template_run_date", template.read_text()), template


@each_role
def test_secrets_are_kept_out_of_the_log(role: Path) -> None:
    for file in task_files(role):
        for task in tasks(read(file)):
            if re.search(r"enrol-code|enrolment_command|--code|password", str(task)):
                assert task.get("no_log"), f"{file}: {task['name']}"
