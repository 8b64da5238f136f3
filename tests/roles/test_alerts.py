"""The rules of role monitoring, tried by Prometheus' own promtool, and what the role makes of its variables."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lefleet_agent.metrics import CourierMetrics, HostMetrics, RecorderMetrics, new_registry
from lefleet_server.metrics import Metrics
from lefleet_server.robots import exposition

REPO = Path(__file__).resolve().parents[2]
ROLE = REPO / "roles" / "monitoring"
RULES = ROLE / "files" / "lefleet.yml"
TRIED = Path(__file__).with_name("alerts.yml")
OWN = "- {name: lab, rules: [{alert: Own, expr: vector(1), annotations: {summary: !unsafe '{{ $value }} of ours'}}]}"
WRITE = """
- name: Write
  hosts: all
  gather_facts: false
  vars:
    role_path: "{{ role_folder }}"
    __monitoring_token_found: {stat: {}}
    __monitoring_ca_found: {stat: {}}
  tasks:
    - name: Learn the role's variables
      ansible.builtin.include_role: {name: monitoring, tasks_from: preflight, public: true}
    - name: Write what Prometheus gets
      ansible.builtin.copy: {content: "{{ item.value }}", dest: "{{ made }}/{{ item.name }}", mode: "0644"}
      loop:
        - {name: prometheus.yml, value: "{{ __monitoring_config | to_nice_yaml }}"}
        - {name: rules/lefleet.yml, value: "{{ __monitoring_rules['lefleet.yml'] }}"}
        - {name: rules/own.yml, value: "{{ __monitoring_rules['own.yml'] }}"}
        - {name: stamp, value: "{{ __monitoring_stamp }}"}
"""


def rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool(prometheus: Any) -> str:
    del prometheus  # it brings promtool, or skips
    return "promtool"


def run(*words: object, folder: Path) -> str:
    done = subprocess.run(list(map(str, words)), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def write(tmp_path: Path):
    """What the role gives to Prometheus, with these variables: YAML."""

    def play(name: str, variables: str) -> Path:
        folder = tmp_path / name
        (folder / "rules").mkdir(parents=True)
        (folder / "play.yml").write_text(WRITE)
        (folder / "variables.yml").write_text(variables)
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        here |= {"made": str(folder), "role_folder": str(ROLE), "monitoring_server_url": "https://fleet.example.org"}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"fleet-server": here}}}))
        environment = {
            "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPO / "roles"),
            "ANSIBLE_STRATEGY": "linear",
            "LEFLEET_REPORT_JSON": str(folder / "report.json"),
        }
        playbook = Path(sys.executable).parent / "ansible-playbook"
        command = [playbook, "-i", "hosts.yml", "-e", "@variables.yml", "play.yml"]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return play


def test_each_alert_fires_when_it_should_and_not_before(promtool: str, tmp_path: Path) -> None:
    run(promtool, "check", "rules", RULES, folder=tmp_path)
    (tmp_path / "alerts.yml").write_text(TRIED.read_text().replace("[RULES]", json.dumps([str(RULES)])))
    run(promtool, "test", "rules", "alerts.yml", folder=tmp_path)


def test_no_alert_is_left_out_of_tests_and_readme() -> None:
    names = {rule["alert"] for rule in rules(RULES.read_text())}
    tried = [case for test in yaml.safe_load(TRIED.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in tried if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in tried if not case.get("exp_alerts")} >= names
    readme = (ROLE / "README.md").read_text().partition("## Alerts")[2]
    assert names <= set(re.findall(r"`(\w+)`", readme))


def test_alerts_ask_for_metrics_that_there_are() -> None:
    registry = new_registry()
    for make in (RecorderMetrics, CourierMetrics):
        make(registry)
    families = [*registry.collect(), *HostMetrics(dict, lambda: None).collect(), *Metrics().registry.collect()]
    known = {family.name for family in families} | {exposition.UNREADABLE}
    known |= {"lefleet_drift", "lefleet_backup_last_success_timestamp_seconds"}
    asked = {name for rule in rules(RULES.read_text()) for name in re.findall(r"lefleet_\w+", rule["expr"])}
    assert {re.sub("_(total|bucket)$", "", name) for name in asked} - known == set()


def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do() -> None:
    for rule in rules(RULES.read_text()):
        assert rule["labels"]["severity"] in {"critical", "warning"}, rule["alert"]
        assert rule["annotations"].keys() == {"summary", "help"}, rule["alert"]


def test_prometheus_gets_our_rules_and_those_of_the_inventory(promtool: str, write) -> None:
    plain, own = write("plain", "{}"), write("own", f"monitoring_alerts: false\nmonitoring_rules:\n  {OWN}\n")
    assert (plain / "rules" / "lefleet.yml").read_text() == RULES.read_text()
    assert rules((plain / "rules" / "own.yml").read_text()) == rules((own / "rules" / "lefleet.yml").read_text()) == []
    (rule,) = rules((own / "rules" / "own.yml").read_text())
    assert rule["annotations"]["summary"] == "{{ $value }} of ours"
    assert (plain / "stamp").read_text() != (own / "stamp").read_text(), "the container keeps the rules it began with"
    mounted = yaml.safe_load((REPO / "docker" / "prometheus" / "compose.yml").read_text())["services"]["prometheus"]
    assert "./rules:/etc/prometheus/rules:ro" in mounted["volumes"]
    for folder in (plain, own):
        config = (folder / "prometheus.yml").read_text()
        (folder / "prometheus.yml").write_text(re.sub(r"/etc/prometheus|/run/secrets", str(folder), config))
        for name in ("metrics_token", "ca.crt", "nodes.json", "workers.json"):
            (folder / name).write_text("[]")
        told = run(promtool, "check", "config", "prometheus.yml", folder=folder)
        assert "rules/lefleet.yml" in told and "rules/own.yml" in told
