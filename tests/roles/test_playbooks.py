"""The playbooks, run on hosts that are folders of this machine, with roles that only write down that they ran."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lefleet_agent.host import parse

pytestmark = pytest.mark.timeout(900)  # a machine that is busy with hosts takes minutes for what takes seconds
REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CHOICE = yaml.safe_load((REPO / "ansible" / "group_vars" / "all.yml").read_text())
ROBOT, SERVER = CHOICE["fleet_robot_roles"], CHOICE["fleet_server_roles"]
ROLES = {"robots": ROBOT, "servers": SERVER}
FEW = ["base", "docker", "swap", "server", "agent"]
FEW_OF_ROBOTS = [role for role in FEW if role in ROBOT]

SPEC = """
argument_specs:
  main:
    options:
      {role}_size_mb: {{type: int, default: 1, description: Size of the thing.}}
      {role}_pin: {{type: int, default: 0, no_log: true, description: Its secret.}}
      {role}_asks: {{type: str, default: "", description: Host that it asks.}}
"""
MAIN = """
- name: Preflight | Check what was asked for
  ansible.builtin.import_tasks: preflight.yml
- name: Feature | Leave a trace
  ansible.builtin.copy:
    content: "{{{{ {role}_size_mb }}}}"
    dest: "{{{{ lab }}}}/{{{{ inventory_hostname }}}}/{role}"
    mode: "0644"
  tags: [{role}_trace]
- name: Feature | Write down the order
  ansible.builtin.shell: echo {role} >> {{{{ lab }}}}/{{{{ inventory_hostname }}}}/order
  changed_when: false
- name: Feature | Ask another host
  ansible.builtin.ping:
  delegate_to: "{{{{ {role}_asks | default(inventory_hostname, true) }}}}"
  when: {role}_asks | length > 0
- name: Verify | See that it is well
  ansible.builtin.assert:
    that: {role}_size_mb | int < item
    fail_msg: "{role} is unwell"
  loop: [1000, 100]
"""
PREFLIGHT = """
- name: Preflight | Check the size
  ansible.builtin.assert:
    that: {role}_size_mb | int > 0
    fail_msg: "{role}_size_mb={{{{ {role}_size_mb }}}} is no size; take one above 0"
"""


FILES = {"meta/argument_specs.yml": SPEC, "tasks/main.yml": MAIN, "tasks/preflight.yml": PREFLIGHT}


@dataclass(frozen=True, slots=True)
class Run:
    rc: int
    output: str
    report: dict[str, Any]

    def roles(self, host: str) -> dict[str, str]:
        return self.report["hosts"][host]["roles"]

    def result(self, host: str) -> str:
        return self.report["hosts"][host]["result"]

    def reasons(self, host: str) -> str:
        return "\n".join(failure["message"] for failure in self.report["hosts"][host]["failures"])


class Lab:
    """A fleet of folders: each host's holds a file for each role that ran there, and the order they ran in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[str]] = {"servers": [], "robots": []}
        for role in {*ROBOT, *SERVER}:
            for name, text in FILES.items():
                path = folder / "roles" / role / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.format(role=role))
            defaults = {f"{role}_size_mb": 1, f"{role}_pin": 0, f"{role}_asks": ""}
            (folder / "roles" / role / "defaults").mkdir()
            (folder / "roles" / role / "defaults" / "main.yml").write_text(yaml.safe_dump(defaults))

    def add(self, name: str, *groups: str, every_role: bool = False, **variables: Any) -> None:
        """A host; with a few roles, as each takes its time, unless it is to have every one of its groups'."""
        (self.folder / name).mkdir()
        few = [] if every_role else [role for role in FEW if any(role in ROLES[group] for group in groups)]
        self.hosts[name] = {**({"fleet_roles": few} if few else {}), **variables}
        for group in groups:
            self.groups[group].append(name)

    def ran(self, host: str) -> list[str]:
        order = self.folder / host / "order"
        return order.read_text().split() if order.exists() else []

    def run(self, playbook: str, *words: str, strategy: str = "mitogen_linear") -> Run:
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        groups = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in self.groups.items()}
        inventory = {"all": {"hosts": self.hosts, "vars": {**here, "lab": str(self.folder)}, "children": groups}}
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", self.folder / "hosts.yml", REPO / "ansible" / playbook, *words],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(self.folder / "roles"),
                "ANSIBLE_STRATEGY": strategy,
                "ANSIBLE_NOCOLOR": "1",
                "LEFLEET_REPORT_JSON": str(report),
                "COLUMNS": "100",
            },
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        print(done.stdout + done.stderr)
        return Run(
            done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.exists() else {}
        )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_every_host_gets_its_roles_in_order_and_a_second_run_changes_nothing(lab: Lab) -> None:
    lab.add("server-1", "servers", every_role=True)
    lab.add("robot-1", "robots", every_role=True)
    lab.add("both", "robots", "servers", every_role=True)
    first = lab.run("site.yml")
    assert first.rc == 0
    assert lab.ran("robot-1") == ROBOT
    assert lab.ran("server-1") == SERVER
    every = lab.ran("both")
    assert sorted(every) == sorted({*ROBOT, *SERVER})
    assert every.index("server") < every.index("agent")
    assert first.roles("robot-1") == dict.fromkeys(ROBOT, "changed")
    second = lab.run("site.yml")
    assert [host["changed"] for host in second.report["hosts"].values()] == [0, 0, 0]
    assert second.roles("server-1") == dict.fromkeys(SERVER, "ok")


def test_it_goes_without_mitogen(lab: Lab) -> None:
    lab.add("robot-1", "robots")
    run = lab.run("site.yml", "--tags", "base,agent", strategy="linear")
    assert run.rc == 0 and lab.ran("robot-1") == ["base", "agent"]


def test_mitogen_finds_a_modules_collection_without_looking_through_all(tmp_path: Path) -> None:
    """It would warn of one that has no version, in every run."""
    written = tmp_path / "x.ini"
    task = {"community.general.ini_file": {"path": str(written), "option": "a", "value": "1", "mode": "0644"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    words = ["-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", tmp_path / "play.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg")}
    done = subprocess.run(
        [BIN / "ansible-playbook", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and written.read_text().strip() == "a = 1"
    assert "cannot detect version" not in done.stdout + done.stderr


def test_a_host_with_wrong_variables_is_left_as_it_is_and_the_others_go_on(lab: Lab) -> None:
    lab.add("robot-1", "robots")
    lab.add("robot-2", "robots", swap_size_mb="much", docker_sise_mb=3, agent_pin="CHANGE-ME-agent")
    lab.add("robot-3", "robots", swap_size_mb=0, docker_size_mb=-1)
    run = lab.run("site.yml")
    assert run.rc != 0
    assert lab.ran("robot-1") == FEW_OF_ROBOTS
    assert lab.ran("robot-2") == lab.ran("robot-3") == []
    said = run.reasons("robot-2")
    assert "swap_size_mb=much: argument 'swap_size_mb' is of type str" in said and "Size of the thing." in said
    assert "docker_sise_mb is no variable of any role; did you mean docker_size_mb?" in said
    assert "agent_pin still holds the example's CHANGE-ME" in said
    # What two roles' preflights find is told together.
    assert "swap_size_mb=0 is no size; take one above 0" in run.reasons("robot-3")
    assert "docker_size_mb=-1 is no size" in run.reasons("robot-3")


def test_secrets_are_not_told(lab: Lab) -> None:
    lab.add("robot-1", "robots", agent_pin="hunter2", vault_x="CHANGE-ME-hunter2")
    run = lab.run("site.yml")
    assert "agent_pin must be of type int" in run.reasons("robot-1")
    assert "vault_x still holds the example's CHANGE-ME" in run.reasons("robot-1")
    assert "hunter2" not in run.output


def test_a_variable_that_cannot_be_worked_out_is_named(lab: Lab) -> None:
    lab.add("robot-1", "robots", agent_pin="{{ vault_agent_pin }}")
    assert "agent_pin cannot be worked out: 'vault_agent_pin' is undefined" in lab.run("site.yml").reasons("robot-1")


def test_a_variable_may_come_from_facts_and_is_judged_then(lab: Lab) -> None:
    lab.add("robot-1", "robots", fleet_roles=["base"], base_size_mb="{{ ansible_facts['processor_count'] }}")
    lab.add("robot-2", "robots", fleet_roles=["base"], base_size_mb="{{ ansible_facts['system'] }}")
    run = lab.run("site.yml")
    assert (lab.ran("robot-1"), lab.ran("robot-2")) == (["base"], [])
    assert "base_size_mb=Linux: argument" in run.reasons("robot-2")


def test_an_unreachable_and_a_failing_robot_stop_no_other(lab: Lab) -> None:
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9}
    lab.add("robot-1", "robots", **gone)
    lab.add("robot-2", "robots", swap_size_mb=100)
    lab.add("robot-3", "robots")
    lab.add("server-1", "servers", server_size_mb=100)
    run = lab.run("site.yml")
    assert run.rc != 0
    assert lab.ran("robot-3") == FEW_OF_ROBOTS
    assert lab.ran("robot-2") == ["base", "docker", "swap"]
    assert {host: run.result(host) for host in lab.hosts} == {
        "robot-1": "unreachable",
        "robot-2": "failed",
        "robot-3": "changed",
        "server-1": "failed",
    }
    assert run.roles("robot-2")["swap"] == "failed" and "agent" not in run.roles("robot-2")
    table = run.output.rpartition("What was done")[2]
    assert "swap · Verify | See that it is well" in table and "swap is unwell" in table
    assert "4 hosts: 1 changed, 1 unreachable, 2 failed" in table
    assert all(len(line) <= 100 for line in table.splitlines())


def test_a_server_that_does_not_answer_fails_the_robots_that_need_it_by_name(lab: Lab) -> None:
    lab.add("server-1", "servers", ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=9)
    lab.add("robot-1", "robots", agent_asks="server-1")
    lab.add("robot-2", "robots")
    run = lab.run("site.yml")
    assert run.rc != 0
    assert (run.result("server-1"), run.result("robot-1"), run.result("robot-2")) == (
        "unreachable",
        "failed",
        "changed",
    )
    assert "server-1, which this task needs, does not answer" in run.reasons("robot-1")


def test_tags_choose_a_role_or_a_feature_after_every_preflight(lab: Lab) -> None:
    lab.add("robot-1", "robots")
    assert lab.run("site.yml", "--tags", "swap").roles("robot-1") == {"swap": "changed"}
    assert lab.ran("robot-1") == ["swap"]
    lab.run("site.yml", "--tags", "docker_trace")
    assert (lab.folder / "robot-1" / "docker").exists() and lab.ran("robot-1") == ["swap"]
    # The agent's image is chosen by the role before it.
    lab.add("robot-3", "robots", every_role=True)
    assert set(lab.run("site.yml", "--tags", "agent", "--limit", "robot-3").roles("robot-3")) == {
        "jetson_containers",
        "agent",
    }
    lab.add("robot-2", "robots", agent_size_mb=0)
    assert "agent_size_mb=0 is no size" in lab.run("site.yml", "--tags", "swap").reasons("robot-2")


def test_the_inventory_may_choose_other_roles(lab: Lab) -> None:
    lab.add("server-1", "servers", fleet_roles=["nvme_storage", "docker", "server"])
    lab.add("robot-1", "robots", fleet_roles=["agent", "no_such"])
    run = lab.run("site.yml")
    assert lab.ran("server-1") == ["nvme_storage", "docker", "server"]
    assert lab.ran("robot-1") == [] and "fleet_roles holds 'no_such', which is no role" in run.reasons("robot-1")


def test_robots_and_server_have_playbooks_of_their_own(lab: Lab) -> None:
    lab.add("server-1", "servers")
    lab.add("robot-1", "robots")
    lab.run("robots.yml", "--tags", "base")
    assert (lab.ran("robot-1"), lab.ran("server-1")) == (["base"], [])
    lab.run("server.yml", "--tags", "base")
    assert (lab.ran("robot-1"), lab.ran("server-1")) == (["base"], ["base"])


def test_drift_names_the_roles_that_a_host_differs_from(lab: Lab, tmp_path: Path) -> None:
    lab.add("robot-1", "robots")
    lab.add("robot-2", "robots", ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=9)
    lab.run("site.yml", "--limit", "robot-1")
    (lab.folder / "robot-1" / "swap").write_text("other")
    (tmp_path / "textfiles").mkdir()
    run = lab.run("drift.yml", "--check", "-e", f"drift_textfile_dir={tmp_path}/textfiles")
    assert run.rc != 0  # robot-2 could not be asked
    assert run.report["check_mode"] and run.result("robot-2") == "unreachable"
    assert run.result("robot-1") == "differs"
    assert run.report["hosts"]["robot-1"]["drift"] == {**dict.fromkeys(FEW_OF_ROBOTS, False), "swap": True}
    assert (lab.folder / "robot-1" / "swap").read_text() == "other"
    metrics = (tmp_path / "textfiles" / "lefleet_drift.prom").read_text()
    assert 'lefleet_drift{role="swap"} 1\n' in metrics and 'lefleet_drift{role="docker"} 0\n' in metrics
    assert "lefleet_drift_checked_timestamp_seconds 1" in metrics
    told = parse(metrics)  # as the robot's courier reads it
    assert told.differs == {**dict.fromkeys(FEW_OF_ROBOTS, False), "swap": True} and told.checked_unix_s > 1_700_000_000


def test_a_comparison_of_a_part_leaves_the_metrics_alone(lab: Lab, tmp_path: Path) -> None:
    lab.add("robot-1", "robots")
    lab.run("drift.yml", "--check", "--tags", "swap", "-e", f"drift_textfile_dir={tmp_path}")
    assert not (tmp_path / "lefleet_drift.prom").exists()


def test_drift_refuses_to_run_outside_check_mode(lab: Lab) -> None:
    lab.add("robot-1", "robots")
    run = lab.run("drift.yml")
    assert run.rc != 0 and lab.ran("robot-1") == []
    assert "add --check" in run.reasons("robot-1")


def test_make_says_how_to_get_an_inventory(tmp_path: Path) -> None:
    words = ["make", "-C", str(REPO), "inventory", f"INVENTORY={tmp_path}/none"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "copy inventory/example to inventory/fleet" in done.stderr
