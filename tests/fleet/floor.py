"""Three robots and a server, and what tests ask of them."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet
import yaml
from images import build

REPO = Path(__file__).resolve().parents[2]
REGISTRY_PORT = 5443
DRIVE_MB = 16_000
EXAMPLE = REPO / "inventory" / "example"
ROBOTS = ("robot-1", "robot-2", "robot-3")


@dataclass(frozen=True, slots=True)
class Floor:
    """The hosts, their inventory, and a way to run playbooks on them."""

    server: Any
    robots: list[Any]
    inventory: Path
    playbook: Callable[..., Any]

    @property
    def hosts(self) -> list[Any]:
        return [self.server, *self.robots]

    def play(self, name: str, *words: str, **options: Any) -> Any:
        return self.playbook(name, self.inventory, *words, **options)

    def play_killed(self, name: str, after_task: str) -> None:
        """Start a playbook and kill it with its workers as soon as a task of that name has begun."""
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", self.inventory, name]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, cwd=REPO / "ansible", env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as run:
            assert run.stdout
            for line in run.stdout:
                if line.startswith("TASK [") and after_task in line:
                    time.sleep(2)
                    os.killpg(run.pid, signal.SIGKILL)
                    break
            else:
                raise AssertionError(f"{name} ended before a task {after_task!r} began")
            run.wait()

    def make(self, target: str, *words: str) -> str:
        """Call make as an operator does. Returns what it printed."""
        command = ["make", target, f"INVENTORY={self.inventory}", f"VENV={Path(sys.executable).parents[1]}", *words]
        # Not the variables of the make that runs these tests: it would hand them on.
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
        done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr)
        assert done.returncode == 0
        return done.stdout

    def drift(self) -> dict[str, dict[str, bool]]:
        """What `make drift` reports: host -> role -> whether it differs."""
        path = self.inventory.parent / "drift.json"
        self.make("drift", f"JSON={path}")
        report = json.loads(path.read_text())
        return {name: values["drift"] for name, values in report["hosts"].items()}

    def measured(self, host: Any) -> str:
        """What the host's node exporter tells Prometheus."""
        ask = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:9100/metrics').read().decode())"
        return str(host.run(f'python3 -c "{ask}"').stdout)

    def state(self, host: Any) -> str:
        """What a host is made of, as far as a dry run could disturb it."""
        look = (
            "find /etc /opt /usr/local /mnt -xdev -type f -not -name '*.pid' -newermt '@%d' 2>/dev/null | sort;"
            " dpkg-query -W | sha256sum; lsblk -rno NAME,SIZE; cat /etc/fstab; systemctl get-default; id -Gn operator"
        )
        return str(host.run(look % 2**31).stdout)

    def wait(self, ready: Callable[[], bool], timeout_s: float, why: str) -> None:
        end = time.monotonic() + timeout_s
        while not ready():
            assert time.monotonic() < end, f"{why} within {timeout_s:.0f} s"
            time.sleep(2)

    def episodes(self, robot: str) -> int:
        """Episodes of a robot in the server's PostgreSQL container."""
        query = f"select count(*) from episodes where robot_id = '{robot}'"  # noqa: S608 - a name of ours
        psql = f'docker exec lefleet-postgres-1 psql -U lefleet -d lefleet -Atc "{query}"'
        done = self.server.run(psql, check=False)
        return int(done.stdout.strip() or 0) if done.returncode == 0 else -1

    def waiting(self, robot: Any) -> int:
        """Episodes on the robot for which it has no receipt."""
        ask = (
            "import sqlite3; spool = sqlite3.connect('file:/mnt/lefleet/agent/spool/index.sqlite3?mode=ro', uri=True); "
            "print(spool.execute(\"SELECT count(*) FROM episodes WHERE state = 'waiting'\").fetchone()[0])"
        )
        return int(robot.run(f"python3 -c {shlex.quote(ask)}").stdout)

    def agent_image(self, robot: Any) -> str:
        return str(robot.run("docker inspect -f '{{.Config.Image}}' lefleet-control").stdout.strip())

    def https(self, path: str, port: int = 443, trusted: bool = True) -> str:
        """Status and body of a page, from outside, with the fleet's authority or with none that would do."""
        authority = self.inventory / "ca.crt"
        if not authority.exists():
            authority.write_text(self.server.read("/opt/lefleet/server/ca.crt"))
        domain = self.server.domain
        words = ["curl", "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"]
        words += ["--cacert", str(authority)] if trusted else []
        words += ["--resolve", f"{domain}:{port}:{self.server.address}", f"https://{domain}:{port}{path}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return f"{status} {body}{done.stderr}"


def bring_up(made: Any, playbook: Callable[..., Any], folder: Path) -> Floor:
    """Bare hosts and their inventory."""
    server = made.host("server", kind="server")
    robots = [made.host(name, drives=[(DRIVE_MB, f"NVME{name[-1]}")]) for name in ROBOTS]
    return Floor(server, robots, describe(folder / "inventory", server, robots), playbook)


def describe(inventory: Path, server: Any, robots: Sequence[Any]) -> Path:
    """inventory/example with these hosts, and with what differs from real Jetsons. `server` may be a robot too."""
    shutil.copytree(EXAMPLE, inventory, ignore=shutil.ignore_patterns("vault.yml.example", "host_vars"))
    hosts: dict[str, Any] = {
        "servers": {"hosts": {server.name: {"ansible_host": server.address}}},
        "robots": {"hosts": {robot.name: {"ansible_host": robot.address} for robot in robots}},
    }
    if server in robots:
        hosts["servers"]["hosts"][server.name] |= on_one_host()
    write(inventory / "hosts.yml", hosts)
    write(inventory / "group_vars" / "all" / "vault.yml", {"vault_registry_password": "only-for-this-test-1"})
    change(inventory / "group_vars" / "all" / "main.yml", everywhere(server), leave_out=["ansible_become_password"])
    change(inventory / "group_vars" / "robots.yml", on_robots(robots[0]), leave_out=["jetson_containers_l4t_image"])
    change(inventory / "group_vars" / "servers.yml", on_server(server))
    return inventory


def elsewhere(floor: Floor, robot: Any) -> Floor:
    """The robot alone, its server being in nobody's inventory: with the lines that the example has for that."""
    inventory = floor.inventory.parent / "elsewhere"
    shutil.copytree(floor.inventory, inventory)
    write(inventory / "hosts.yml", {"robots": {"hosts": {robot.name: {"ansible_host": robot.address}}}})
    (inventory / "group_vars" / "servers.yml").unlink()
    (inventory / "fleet.crt").write_text(floor.server.read("/opt/lefleet/server/ca.crt"))
    text = (EXAMPLE / "group_vars" / "robots.yml").read_text().partition("# Robots of a server elsewhere")[2]
    shown = re.search(r"(?:^# (?:[a-z_]+:|  - ).*\n)+", text, re.MULTILINE)
    assert shown
    lines = yaml.safe_load(re.sub("^# ", "", shown[0], flags=re.MULTILINE))
    change(inventory / "group_vars" / "robots.yml", {**lines, "jetson_containers_builder": robot.name})
    return Floor(floor.server, [robot], inventory, floor.playbook)


def on_one_host() -> dict[str, Any]:
    """What the example's comment sets where robot and server are one host."""
    text = (EXAMPLE / "hosts.yml").read_text().partition("# All on one Jetson")[2]
    shown = re.search(r"(?:^# +[a-z0-9_-]+:.*\n)+", text, re.MULTILINE)
    assert shown
    (host,) = yaml.safe_load(re.sub("^# ", "", shown[0], flags=re.MULTILINE))["servers"]["hosts"].values()
    return {name: value for name, value in host.items() if name != "ansible_host"}


def everywhere(server: Any) -> dict[str, Any]:
    key = fleet.ssh_key()
    return {
        **fleet.inventory([])["all"]["vars"],
        "base_operators": [{"name": "alex", "keys": [key.with_suffix(".pub").read_text().strip()], "sudo": True}],
        "server_hostname": server.domain,
        "base_jetson_distributions": ["Debian 12"],
        "docker_packages": ["docker.io"],  # the compose plugin is there
    }


def on_robots(builder: Any) -> dict[str, Any]:
    return {
        "nvme_storage_min_gb": 10,
        "swap_size_mb": 256,
        "pulseaudio_sink": "null",
        "jetson_containers_builder": builder.name,
        "jetson_containers_base_source": "archive",
        "jetson_containers_base_archive": str(build.archive("agent-base")),
        "jetson_containers_require_cuda": False,
        "jetson_containers_checkout": False,  # tried by itself in test_jetson_containers.py
        "agent_devices": False,
        "agent_settings": {"pause_s": 2, "courier": {"retry_max_s": 5}},
        "agent_control_oom_score_adj": 0,  # less needs a capability that a simulated host has not
        "agent_control_rtprio": 0,
        "agent_environment": {"OMP_NUM_THREADS": "1"},  # three robots share this machine's processor
    }


def on_server(server: Any) -> dict[str, Any]:
    def loaded(name: str) -> dict[str, str]:
        return {"source": "archive", "archive": str(build.archive(name))}

    return {
        "server_other_names": [server.address],
        "server_images": {name: loaded(name) for name in ("server", "postgres", "caddy", "registry")},
        "monitoring_prometheus_image": loaded("prometheus"),
    }


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def change(path: Path, values: dict[str, Any], leave_out: Sequence[str] = ()) -> None:
    """Change an inventory file as an operator would, keeping the rest."""
    kept = {name: value for name, value in yaml.safe_load(path.read_text()).items() if name not in leave_out}
    write(path, {**kept, **values})
