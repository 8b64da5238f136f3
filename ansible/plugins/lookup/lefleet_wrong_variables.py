"""Which of a host's variables its roles would refuse: as sentences with the name, the value and what would be right."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible import constants
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: lefleet_wrong_variables
short_description: variables of the host that its roles would refuse
description:
  - Checks every variable that the inventory sets for a role against the role's argument spec.
  - Finds names that carry a role's name and that no role knows, and the example inventory's placeholders.
options:
  _terms:
    description: Names of the roles that the host gets.
    required: true
  facts_known:
    description: Whether the host's facts are there; without them a value that cannot be worked out yet is passed over.
    type: bool
    default: true
"""

PLACEHOLDER = "CHANGE-ME"

type Options = dict[str, dict[str, Any]]


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **options: Any) -> list[str]:
        self.set_options(var_options=variables, direct=options)
        given = variables or {}
        known = specs()
        wrong = [
            f"fleet_roles holds {role!r}, which is no role; there are {', '.join(known)}"
            for role in terms
            if role not in known
        ]
        wrong += unknown_names(given, known)
        for role in terms:
            for name, option in known.get(role, {}).items():
                wrong += self._wrong(name, option, given)
        for name in sorted(name for name in given if name.startswith("vault_")):
            wrong += self._wrong(name, {"type": "raw", "no_log": True}, given)
        return wrong

    def _wrong(self, name: str, option: dict[str, Any], given: dict[str, Any]) -> list[str]:
        if name not in given:
            return [f"{name} is not set; {one_line(option.get('description'))}"] if option.get("required") else []
        try:
            value = self._templar.template(given[name])
        except AnsibleError as error:
            return [f"{name} cannot be worked out: {error}"] if self.get_option("facts_known") else []
        return judge(name, option, value)


def judge(name: str, option: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with one variable's value."""
    meaning = one_line(option.get("description"))
    if PLACEHOLDER in str(value):
        return [f"{name} still holds the example's {PLACEHOLDER}; set your own value. {meaning}".rstrip()]
    found = ArgumentSpecValidator({name: option}).validate({name: value}, validate_role_argument_spec=True)
    if not found.error_messages:
        return []
    if secret(option):
        return [f"{name} must be of type {option.get('type', 'str')}"]
    return [f"{name}={value}: {'; '.join(found.error_messages)}. {meaning}".rstrip()]


def secret(option: dict[str, Any]) -> bool:
    """Whether an option, or one inside it, may not be shown."""
    return bool(option.get("no_log")) or any(secret(inner) for inner in option.get("options", {}).values())


def unknown_names(given: dict[str, Any], known: dict[str, Options]) -> list[str]:
    """Variables that are named like a role's and are none: a typing error that would otherwise be ignored."""
    names = {name for options in known.values() for name in options}
    stray = sorted(name for name in given if name not in names and any(name.startswith(f"{role}_") for role in known))
    sentences = []
    for name in stray:
        near = difflib.get_close_matches(name, names, n=1)
        what = f"did you mean {near[0]}?" if near else "the roles' README.md list theirs"
        sentences.append(f"{name} is no variable of any role; {what}")
    return sentences


def specs() -> dict[str, Options]:
    """Each role's options by its name."""
    folders = [Path(folder) for folder in constants.DEFAULT_ROLES_PATH]
    files = [file for folder in folders for file in sorted(folder.glob("*/meta/argument_specs.yml"))]
    if not files:
        raise AnsibleLookupError(f"no roles in {', '.join(map(str, folders))}; run ansible-playbook in ansible/")
    read = {file.parents[1].name: yaml.safe_load(file.read_text())["argument_specs"]["main"] for file in files}
    return {role: spec.get("options", {}) for role, spec in read.items()}


def one_line(description: Any) -> str:
    text = " ".join(description) if isinstance(description, list) else str(description or "")
    return " ".join(text.split())
