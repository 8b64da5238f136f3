"""inventory/example, which an operator copies: it names only variables that exist, and is refused unchanged."""

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
EXAMPLE = REPO / "inventory" / "example"
BIN = Path(sys.executable).parent
# Without a connection: what is asked here is known before any host is.
ASK = """
- name: Ask
  hosts: all
  gather_facts: false
  vars_files: ["{vars}"]
  tasks:
    - name: Say what is wrong
      ansible.builtin.debug:
        msg: "WRONG {{{{ inventory_hostname }}}} {{{{ query('lefleet_wrong_variables', *fleet_chosen) | to_json }}}}"
"""


def ansible(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    command = [BIN / program, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def wrong(inventory: Path, folder: Path) -> dict[str, list[str]]:
    """What each host's variables are refused for."""
    (folder / "ask.yml").write_text(ASK.format(vars=REPO / "ansible" / "group_vars" / "all.yml"))
    words = ["-i", inventory, folder / "ask.yml", "-e", "ansible_connection=local"]
    done = ansible("ansible-playbook", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    results = re.findall(r"^ok: \[(\S+)\] => \n +msg: (.+(?:\n {6,}.+)*)", done.stdout, re.MULTILINE)
    said = {host: yaml.safe_load(f"msg: {message}")["msg"] for host, message in results}
    return {host: json.loads(message.partition(f"WRONG {host} ")[2]) for host, message in said.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the operator has after copying the folder and the vault's example."""
    made = tmp_path / "inventory" / "fleet"
    shutil.copytree(EXAMPLE, made)
    shared = made / "group_vars" / "all"
    shutil.copy(shared / "vault.yml.example", shared / "vault.yml")
    return made


def variables(text: str) -> set[str]:
    """Names that a file sets, those in comments that show another choice included."""
    return set(re.findall(r"^(?:# )?([a-z][a-z0-9_]*): ?(?=\S|$)", text, re.MULTILINE))


def known() -> set[str]:
    files = [*REPO.glob("roles/*/defaults/main.yml"), REPO / "ansible" / "group_vars" / "all.yml"]
    return {name for file in files for name in yaml.safe_load(file.read_text()) or {}} | {"fleet_roles"}


def test_it_lists_ten_robots_and_a_server_without_a_warning() -> None:
    done = ansible("ansible-inventory", "-i", EXAMPLE, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    listed: dict[str, Any] = json.loads(done.stdout)
    assert len(listed["robots"]["hosts"]) == 10 and len(listed["servers"]["hosts"]) == 1


def test_certificates_and_calibrations_beside_the_hosts_are_not_taken_for_hosts(copy: Path) -> None:
    (copy / "fleet.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (copy / "calibration").mkdir()
    (copy / "calibration" / "robot-03.json").write_text('{"gripper": {"id": 6, "range_min": 0}}')
    done = ansible("ansible-inventory", "-i", copy, "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gripper" not in done.stdout


def test_its_addresses_are_for_documentation() -> None:
    text = (EXAMPLE / "hosts.yml").read_text()
    addresses = re.findall(r"ansible_host: ([\d.]+)", text)
    assert addresses and all(
        ipaddress.ip_address(address) in ipaddress.ip_network("192.0.2.0/24") for address in addresses
    )


def test_every_variable_in_it_is_one_of_a_role() -> None:
    files = [*EXAMPLE.glob("group_vars/**/*.yml"), *EXAMPLE.glob("host_vars/*.yml")]
    named = {name for file in files for name in variables(file.read_text())}
    assert {name for name in named - known() if not name.startswith(("ansible_", "vault_"))} == set()


def test_every_secret_it_asks_for_is_in_the_vault_example() -> None:
    offered = variables((EXAMPLE / "group_vars" / "all" / "vault.yml.example").read_text())
    files = [*EXAMPLE.glob("group_vars/**/*.yml"), *EXAMPLE.glob("host_vars/*.yml")]
    asked = {name for file in files for name in re.findall(r"\bvault_\w+", file.read_text())}
    assert asked == offered


def test_without_a_vault_it_says_which_secret_is_missing() -> None:
    done = ansible("ansible-playbook", "-i", EXAMPLE, REPO / "ansible" / "site.yml", "--limit", "fleet-server")
    assert done.returncode != 0
    assert "'vault_become_password' is undefined" in done.stdout


def test_it_is_refused_unchanged(copy: Path, tmp_path: Path) -> None:
    found = wrong(copy, tmp_path)
    assert len(found) == 11 and all(found.values())
    assert any(sentence.startswith("vault_become_password still holds") for sentence in found["robot-01"])
    assert any(sentence.startswith("base_operators still holds") for sentence in found["robot-01"])


def test_with_its_placeholders_filled_in_nothing_is_wrong(copy: Path, tmp_path: Path) -> None:
    for file in copy.rglob("*.yml"):
        file.write_text(file.read_text().replace("CHANGE-ME", "AAAAC3NzaC1lZDI1NTE5AAAAIH"))
    found = wrong(copy, tmp_path)
    assert len(found) == 11 and {host: sentences for host, sentences in found.items() if sentences} == {}
