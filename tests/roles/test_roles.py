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
# Modules that look, decide or say, and change nothing.
LOOKS = {
    "assert",
    "fail",
    "debug",
    "stat",
    "slurp",
    "find",
    "getent",
    "setup",
    "set_fact",
    "service_facts",
    "package_facts",
}
LOOKS |= {"include_tasks", "import_tasks", "include_role", "import_role"}

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


CHOICE = read(REPO / "ansible" / "group_vars" / "all.yml")
CALLED = {*CHOICE["fleet_robot_roles"], *CHOICE["fleet_server_roles"]}


@each_role
def test_a_role_can_be_asked_before_and_proves_what_it_did_after(role: Path) -> None:
    assert (role / "tasks" / "preflight.yml").exists()
    assert role.name not in CALLED or (role / "tasks" / "verify.yml").exists()


@each_role
def test_a_preflight_changes_nothing(role: Path) -> None:
    """It looks and says: site.yml runs it on every host before anything changes on any."""
    for task in tasks(read(role / "tasks" / "preflight.yml")):
        module = next((key for key in task if "." in key), "")
        looks = module.rpartition(".")[2] in LOOKS or (
            task.get("changed_when") is False and task.get("check_mode") is False
        )
        assert looks or "block" in task, f"{role.name}: {task['name']} ({module})"


@each_role
def test_the_features_of_a_role_have_tags(role: Path) -> None:
    """`--tags swap_zram`: each carries the role's name."""
    given = {tag for task in tasks(read(role / "tasks" / "main.yml")) for tag in task.get("tags", [])}
    assert {tag for tag in given if tag != "always" and not tag.startswith(f"{role.name}_")} == set()
    assert given or role.name not in CALLED


def test_every_role_is_called_by_the_playbooks_or_by_another_role() -> None:
    included = {name for role in ROLES for file in task_files(role) for name in included_roles(file)}
    assert {role.name for role in ROLES} - CALLED - included == set()
    fleet = read(REPO / "ansible" / "fleet.yml")[1]["tasks"]
    called = [task["ansible.builtin.include_role"] for task in fleet if "ansible.builtin.include_role" in task]
    assert {role["name"] for role in called} == CALLED
    assert [role for role in called if role["name"] not in role["apply"]["tags"]] == []
    order = [role["name"] for role in called]
    for chosen in (CHOICE["fleet_robot_roles"], CHOICE["fleet_server_roles"]):
        assert sorted(chosen, key=order.index) == chosen


def included_roles(file: Path) -> list[str]:
    words = [task.get(f"ansible.builtin.{how}_role", {}) for task in tasks(read(file)) for how in ("include", "import")]
    return [word["name"] for word in words if "name" in word]
