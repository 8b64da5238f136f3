"""Role server with an object store, and its workers' metrics: what it refuses, and what it writes for the containers.

Without Docker: the role's own checks and templates, run on this machine; what they write, read by the server itself.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lefleet_server.config import Settings, load
from lefleet_server.store_settings import read_credentials

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
S3 = {
    "server_store_url": "s3://lefleet/episodes",
    "server_store_endpoint": "https://s3.example.org",
    "server_store_region": "eu-central-1",
    "server_store_credentials": {"access_key_id": "the-key", "secret_access_key": "of: the #vault"},
}
CHECK = """
- name: Check
  hosts: all
  gather_facts: false
  tasks:
    - name: Check what was asked for
      ansible.builtin.include_role: {name: server, tasks_from: preflight}
"""
WRITE = """
- name: Write
  hosts: all
  gather_facts: false
  vars:
    role_path: "{{ role_folder }}"
    __server_image_refs: {server: a, postgres: b, caddy: c, registry: d}
  tasks:
    - name: Learn the role's variables
      ansible.builtin.include_role: {name: server, tasks_from: preflight, public: true}
    - name: Write a template
      ansible.builtin.template:
        src: "{{ role_folder }}/templates/{{ item }}.j2"
        dest: "{{ made }}/{{ item }}"
        mode: "0644"
      loop: [container.yml, env]
    - name: Write what has no template
      ansible.builtin.copy: {content: "{{ item.value }}", dest: "{{ made }}/{{ item.name }}", mode: "0644"}
      loop:
        - {name: backup.json, value: "{{ __server_backup | to_nice_json }}"}
        - {name: workers.json, value: "{{ __server_worker_targets | to_nice_json }}"}
"""
READ = """
- name: Read
  hosts: all
  gather_facts: false
  vars:
    role_path: "{{ role_folder | dirname }}/monitoring"
    __monitoring_workers_found: {content: "{{ listed | to_json | b64encode }}"}
    __monitoring_token_found: {stat: {}}
    __monitoring_ca_found: {stat: {}}
  tasks:
    - name: Learn the role's variables
      ansible.builtin.include_role: {name: monitoring, tasks_from: preflight, public: true}
    - name: Write what Prometheus would get
      ansible.builtin.copy:
        content: "{{ [__monitoring_config, __monitoring_workers, __monitoring_stamp] | to_json }}"
        dest: "{{ made }}/{{ inventory_hostname }}.json"
        mode: "0644"
"""
KEEP = """
- name: Keep
  hosts: all
  gather_facts: false
  tasks:
    - name: Have the secrets
      ansible.builtin.include_role: {name: server, tasks_from: secrets}
      vars:
        __server_secrets_dir: "{{ made }}"
        __server_before: {stat: {exists: true}}
"""


def play(folder: Path, text: str, hosts: dict[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "server_runtime": "container"}
    here |= {"made": str(folder), "role_folder": str(REPO / "roles" / "server")}
    inventory = {"all": {"hosts": {name: here | variables for name, variables in hosts.items()}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (folder / "play.yml").write_text(text)
    return subprocess.run(
        [BIN / "ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPO / "roles"),
            "ANSIBLE_STRATEGY": "linear",
            "ANSIBLE_NOCOLOR": "1",
            "LEFLEET_REPORT_JSON": str(folder / "report.json"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class Written:
    """What the role writes for a server with these variables."""

    def __init__(self, folder: Path, variables: dict[str, Any]) -> None:
        done = play(folder, WRITE, {"fleet-server": variables})
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (folder / "env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines if line[:1] not in ("#", ""))
        self.backup = json.loads((folder / "backup.json").read_text())
        self.workers = json.loads((folder / "workers.json").read_text())
        self.shown = "".join((folder / name).read_text() for name in ("container.yml", "env", "backup.json"))
        self.secrets = folder / "secrets"
        self.settings = self._read(folder)

    def _read(self, folder: Path) -> Settings:
        """What the server makes of the file that it gets; the secrets in a place that a test may have."""
        self.secrets.mkdir()
        for name in ("database_password", "metrics_token"):
            (self.secrets / name).write_text("secret\n")
        (self.secrets / "store_credentials").write_text(yaml.safe_dump(S3["server_store_credentials"]))
        text = (folder / "container.yml").read_text()
        (folder / "server.yml").write_text(text.replace("/run/secrets", str(self.secrets)))
        return load(folder / "server.yml", {})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("plain"), {})


@pytest.fixture(scope="module")
def with_store(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("store"), S3 | {"server_workers": 3})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"server_store_url": "file:///mnt/big"}, "server_store_url must look like s3://bucket/prefix"),
    (
        {"server_store_url": "s3://key:secret@lefleet"},
        "without credentials: those go into server_store_credentials",
    ),
    ({"server_store_url": ""}, "server_store_endpoint, server_store_region, server_store_credentials set, but no"),
    (
        {"server_store_endpoint": "s3.example.org"},
        "server_store_endpoint=s3.example.org must be http:// or https://",
    ),
    ({"server_store_endpoint": "https://key:secret@s3"}, "server_store_endpoint=https://...@s3 must be http://"),
    ({"server_store_url": "gs://lefleet"}, "server_store_region=eu-central-1 goes with s3://; leave it empty"),
    ({"server_store_url": "az://lefleet"}, "server_store_credentials lacks account_name, which az:// needs"),
    (
        {"server_store_credentials": {"access_key_id": "the-key"}},
        "server_store_credentials lacks secret_access_key, which s3:// needs; add it in the vault",
    ),
    (
        {"server_store_credentials": {"access_key_id": "the-key", "secret_access_key": {"of": "the-vault"}}},
        "server_store_credentials: secret_access_key must be text and not empty",
    ),
    ({"server_settings": {"downloads_by": "proxy"}}, "downloads_by=proxy goes with a folder"),
    ({"server_settings": {"store_url": "s3://lefleet"}}, "set server_store_url instead"),
    ({"server_settings": {"store_credentials_file": "/x"}}, "set server_store_credentials instead"),
    ({"server_runtime": "process"}, "server_store_url is for server_runtime=container"),
    ({"server_workers": 3, "server_worker_metrics_port": 65534}, "must leave room for the ports of 3 workers"),
    ({"server_workers": 3, "server_worker_metrics_port": 5442}, "meet 5443, 5444, which Caddy has"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """What each of WRONG is refused with, asked of as many hosts at once, and all that was printed."""
    folder = tmp_path_factory.mktemp("wrong")
    hosts = {f"case-{number}": S3 | wrong for number, (wrong, _) in enumerate(WRONG)}
    done = play(folder, CHECK, hosts)
    report = json.loads((folder / "report.json").read_text())["hosts"]
    said = [" ".join(failure["message"] for failure in report[host]["failures"]) for host in hosts]
    return said, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[said for _, said in WRONG])
def test_wrong_words_are_refused_with_a_sentence(refused: tuple[list[str], str], number: int) -> None:
    assert WRONG[number][1] in " ".join(refused[0][number].split())


@pytest.mark.parametrize("secret", ["the-key", "the-vault", "of: the #vault", "key:secret"])
def test_a_refusal_shows_no_secret(refused: tuple[list[str], str], secret: str) -> None:
    assert secret not in refused[1]
    assert all(refused[0]), "every host was refused"


def test_a_server_without_an_object_store_reads_none(plain: Written) -> None:
    assert plain.env["STORE_CREDENTIALS_FILE"] == "/dev/null"
    assert plain.backup["store_url"] == ""
    read = plain.settings
    assert (read.store_url, read.store_credentials_file, read.downloads_by) == (None, None, "proxy")


def test_the_server_takes_the_store_as_the_role_writes_it(with_store: Written) -> None:
    assert with_store.env["STORE_CREDENTIALS_FILE"] == "/etc/lefleet/server/secrets/store_credentials"
    assert with_store.backup["store_url"] == "s3://lefleet/episodes"
    read = with_store.settings
    assert (read.store_url, read.store_region) == ("s3://lefleet/episodes", "eu-central-1")
    assert (read.store_endpoint, read.downloads_by) == ("https://s3.example.org", "server")
    assert read.store_credentials_file == with_store.secrets / "store_credentials"
    assert "the-key" not in with_store.shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_the_credentials_are_a_file_of_the_servers_user_alone(tmp_path: Path) -> None:
    kept = tmp_path / "store_credentials"
    for changed in (True, False):
        done = play(tmp_path, KEEP, {"fleet-server": S3})
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("changed=0" not in done.stdout) == changed
        assert "the-key" not in done.stdout
    found = kept.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o400, 10002, 0)
    assert read_credentials(kept) == S3["server_store_credentials"]
    assert play(tmp_path, KEEP, {"fleet-server": {}}).returncode == 0
    assert not kept.exists()


def test_each_worker_has_a_port_of_this_host_on_which_prometheus_reads_it(plain: Written, with_store: Written) -> None:
    assert plain.env["WORKER_METRICS_PORTS"] == "18001"
    assert with_store.env["WORKER_METRICS_PORTS"] == "18001-18003"
    targets = ["127.0.0.1:18001", "127.0.0.1:18002", "127.0.0.1:18003"]
    assert with_store.workers == [{"targets": targets, "labels": {"host": "fleet-server"}}]
    assert plain.settings.worker_metrics_host == "0.0.0.0"  # noqa: S104 - inside its container
    compose = yaml.safe_load((REPO / "docker" / "compose.server.yml").read_text())
    assert [port.split(":")[0] for port in compose["services"]["worker"]["ports"]] == ["127.0.0.1"]


def test_prometheus_reads_the_workers_of_its_host_and_those_named(tmp_path: Path) -> None:
    here = [{"targets": ["127.0.0.1:18001"], "labels": {"host": "fleet-server"}}]
    more = [{"targets": ["gpu-1:18001"], "labels": {"host": "gpu-1"}}]
    hosts = {"few": {"listed": here}, "many": {"listed": here, "monitoring_workers": more}}
    done = play(tmp_path, READ, hosts)
    assert done.returncode == 0, done.stdout + done.stderr
    (config, few, stamp), (_, many, other) = (json.loads((tmp_path / f"{name}.json").read_text()) for name in hosts)
    assert (few, many) == (here, here + more)
    assert stamp != other, "the container keeps the file that it was started with"
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "workers"]
    (file,) = job["file_sd_configs"][0]["files"]
    mounted = yaml.safe_load((REPO / "docker" / "prometheus" / "compose.yml").read_text())["services"]["prometheus"]
    assert f"./workers.json:{file}:ro" in mounted["volumes"]


def test_only_who_needs_the_credentials_has_them_mounted() -> None:
    services = yaml.safe_load((REPO / "docker" / "compose.server.yml").read_text())["services"]
    assert {name for name, service in services.items() if "store_credentials" in service.get("secrets", [])} == {
        "migrate",
        "api",
        "worker",
    }
