"""Role `agent` with containers on a simulated Jetson, its robot at work with a real server over TLS.

The tests go on where the one before them ended, from a bare host to one that left the fleet: hosts are dear.
"""

import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from lefleet_server.app import create_app
from lefleet_server.config import load

REPO = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.executable)
HERE = "172.29.77.1"  # this machine, as the hosts see it
PORT = 18444
IMAGE = "lefleet-test/agent:current"
STATE = "/mnt/lefleet/agent"


def wait_until(holds: Callable[[], object], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.5)


class Server:
    """LeFleet's server on this machine: real PostgreSQL, TLS from an authority of its own; it can be switched off."""

    def __init__(self, folder: Path, authority: Any) -> None:
        self.folder = folder
        self.authority = authority
        self.config = folder / "server.yml"
        values = {"state_dir": f"{folder}/state", "postgres_dir": f"{folder}/postgres", "port": PORT}
        values |= {"min_free_bytes": 0, "log_format": "console", "heartbeat_interval_s": 1}
        self.config.write_text(yaml.safe_dump(values))
        self._web: uvicorn.Server | None = None
        self._thread = threading.Thread()

    def command(self, *words: str) -> list[str]:
        return [str(PYTHON), "-m", "lefleet_server", *words, "--config", str(self.config)]

    def ask(self, *words: str) -> Any:
        done = subprocess.run(self.command(*words, "--json"), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def robot(self, name: str) -> dict[str, Any]:
        return next((robot for robot in self.ask("robots")["items"] if robot["id"] == name), {"state": "unknown"})

    @contextmanager
    def person(self) -> Iterator[httpx.Client]:
        """An operator who is logged in."""
        with suppress(subprocess.CalledProcessError):  # the one of a test before
            subprocess.run(self.command("users", "add", "ada", "--role", "operator"), check=True, capture_output=True)
        link = subprocess.run(self.command("login-link", "--user", "ada"), check=True, capture_output=True, text=True)
        trusted = ssl.create_default_context(cafile=str(self.authority.pem))
        with httpx.Client(base_url=f"https://{HERE}:{PORT}", verify=trusted, timeout=30) as http:
            code = link.stdout.split("code=")[1].strip()
            http.post("/api/v1/login", json={"code": code}).raise_for_status()
            yield http

    def on(self) -> None:
        certificate, key = self.authority.issue(HERE)
        app = create_app(load(self.config), dashboard=False)
        options = {"host": HERE, "port": PORT, "log_config": None, "access_log": False}
        self._web = uvicorn.Server(uvicorn.Config(app, ssl_certfile=certificate, ssl_keyfile=key, **options))
        self._thread = threading.Thread(target=self._web.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._web and self._web.started, 30)

    def off(self) -> None:
        if self._web:
            self._web.should_exit = True
            self._thread.join(20)
            self._web = None


@pytest.fixture(scope="module")
def server(make_authority, fleet) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="lefleet-fleet-") as folder:
        Path(folder).chmod(0o755)
        made = Server(Path(folder), make_authority(Path(folder) / "authority"))
        with (Path(folder) / "postgres.log").open("wb") as log:
            postgres = subprocess.Popen(made.command("postgres"), stdout=log, stderr=log)
        try:
            made.ask("migrate")
            yield made
        finally:
            made.off()
            postgres.send_signal(signal.SIGINT)
            postgres.wait(30)
            subprocess.run(made.command("postgres", "--erase"), check=False, capture_output=True)


class Robot:
    """The simulated Jetson, and what a person would look at."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.name = host.name

    def run(self, words: str, check: bool = True) -> str:
        return self.host.run(words, check=check).stdout.strip()

    def says(self) -> dict[str, Any]:
        """The newest words of control."""
        text = self.run("cat /run/lefleet/agent/control.json", check=False)
        return json.loads(text) if text else {}

    def state(self) -> str:
        return str(self.says().get("state", ""))

    def unit(self, name: str) -> dict[str, str]:
        lines = self.run(f"systemctl show {name} --property=ActiveState,NRestarts,Result,InvocationID").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def episodes(self) -> list[dict[str, Any]]:
        """The spool's index, newest last."""
        with tempfile.TemporaryDirectory() as folder:
            for name in ("index.sqlite3", "index.sqlite3-wal"):
                source = f"{self.host.container}:{STATE}/spool/{name}"
                subprocess.run(["docker", "cp", source, folder], check=False, capture_output=True)
            database = sqlite3.connect(Path(folder) / "index.sqlite3")
            database.row_factory = sqlite3.Row
            rows = database.execute("SELECT * FROM episodes ORDER BY ended_wall_ns").fetchall()
            database.close()
        return [dict(row) for row in rows]

    def waiting(self) -> int:
        return sum(episode["state"] == "waiting" for episode in self.episodes())


@pytest.fixture(scope="module")
def robot(fleet) -> Robot:
    return Robot(fleet.host("agent-robot"))


@pytest.fixture(scope="module")
def image() -> str:
    """The agent's image, built when it is not there; its id."""
    build = [PYTHON, REPO / "tests" / "fleet" / "images" / "build.py", "agent"]
    subprocess.run(build, check=True, capture_output=True, text=True)
    inspect = ["docker", "image", "inspect", "--format", "{{.Id}}", IMAGE]
    return subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def variables(server: Server, image: str) -> dict[str, Any]:
    return {
        "agent_runtime": "container",
        "agent_image": image,
        "agent_server_url": f"https://{HERE}:{PORT}",
        "agent_ca_source": str(server.authority.pem),
        "agent_state_dir": STATE,
        "agent_enrolment_host": "here",
        "agent_enrolment_command": [*server.command("enrol-code"), "--json"],
        "agent_revocation_command": [*server.command("revoke"), "--json"],
        "agent_robots_command": [*server.command("robots"), "--json"],
        "agent_release_dir": "/opt/lefleet/demo/checkpoint",
        "agent_release_source": "image",
        "agent_release_repo": "lefleet/act-so101-demo",
        "agent_control_oom_score_adj": 0,  # a simulated host has no CAP_SYS_RESOURCE
        "agent_control_rtprio": 0,
        "agent_settings": {"pause_s": 1, "hung_after_s": 20},
        "agent_decommission_wait_s": 60,
    }


@pytest.fixture
def apply(playbook, robot: Robot, variables: dict[str, Any]) -> Callable[..., Any]:
    """`apply(*words, **changes)` runs the role on the robot, or another playbook."""

    def run(*words: str, plays: Any = None, **changes: Any) -> Any:
        hosts = {robot.name: {"ansible_host": robot.host.address, **variables, **changes}}
        shared = {
            "ansible_user": "operator",
            "ansible_ssh_private_key_file": str(
                Path(os.environ.get("LEFLEET_FLEET_CACHE") or Path.home() / ".cache" / "lefleet-fleet") / "id_ed25519"
            ),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": str(PYTHON)}
        inventory = {"all": {"hosts": {"here": here}, "children": {"robots": {"hosts": hosts, "vars": shared}}}}
        role = [{"name": "Test", "hosts": "robots", "become": True, "gather_facts": True, "roles": ["agent"]}]
        return playbook(plays or role, inventory, *words, environment={"ANSIBLE_HOST_KEY_CHECKING": "False"})

    return run


def test_check_mode_on_a_bare_host_says_what_it_would_do(apply, robot):
    done = apply("--check", "--diff")
    assert done.rc == 0 and done.changed[robot.name] > 5
    assert "lefleet-control would be (re)started" in done.output
    assert not robot.host.exists("/etc/lefleet")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent_image": "lefleet/agent:latest"}, "agent_image=lefleet/agent:latest may be another image tomorrow"),
        ({"agent_robot_id": "Robot 1"}, "agent_robot_id=Robot 1 is no name for a robot"),
        ({"agent_control_memory": "5 GB"}, "agent_control_memory=5 GB is no size"),
        ({"agent_server_url": "10.0.0.1"}, "agent_server_url=10.0.0.1 is no address of a server"),
        ({"agent_settings": {"state_dir": "/x"}}, "set agent_state_dir instead"),
        ({"agent_ca_pem": "MIIB"}, "it must hold a certificate in PEM form"),
    ],
)
def test_wrong_variables_are_refused_before_anything_changes(apply, robot, changes, said):
    done = apply(**changes)
    assert done.rc != 0 and done.changed[robot.name] == 0
    assert said in " ".join(done.output.split())
    assert not robot.host.exists("/etc/lefleet")


def test_a_bare_host_becomes_a_robot_whose_episodes_arrive(apply, robot, server, image):
    server.on()
    robot.run("apt-get install --yes --no-install-recommends docker.io")
    load = f"docker save {IMAGE} | docker exec -i {robot.host.container} docker load"
    subprocess.run(load, shell=True, check=True, capture_output=True)  # noqa: S602
    done = apply()
    assert done.rc == 0
    wait_until(lambda: any(episode["state"] == "acknowledged" for episode in robot.episodes()))
    assert server.robot(robot.name)["online"]


def test_the_containers_may_do_little(robot, image):
    for name in ("lefleet-control", "lefleet-courier"):
        (found,) = json.loads(robot.run(f"docker container inspect {name}"))
        limits = found["HostConfig"]
        assert found["Image"] == image
        assert (limits["Privileged"], limits["ReadonlyRootfs"], limits["CapDrop"]) == (False, True, ["ALL"])
        assert limits["SecurityOpt"] == ["no-new-privileges"] and limits["Memory"] > 0
        assert not any("docker.sock" in mount["Source"] for mount in found["Mounts"])
        process = robot.run(f"docker exec {name} cat /proc/self/status")
        assert "Uid:\t10001" in process and "CapEff:\t0000000000000000" in process
    assert robot.run(f"stat -c '%a %u' {STATE}/credential.json") == "600 10001"
    assert "token" not in robot.run("journalctl -u lefleet-control -u lefleet-courier")


def test_a_second_run_changes_nothing_and_check_mode_agrees(apply, robot):
    before = robot.run("docker ps --quiet --no-trunc")
    assert apply().changed[robot.name] == 0
    assert apply("--check", "--diff").changed[robot.name] == 0
    assert robot.run("docker ps --quiet --no-trunc") == before


def test_the_command_line_works_on_the_host(robot):
    assert "control is alive" in robot.run("lefleet-agent health")
    assert "active and intact" in robot.run("lefleet-agent release status")


def test_verify_fails_when_a_service_is_gone_and_the_next_run_mends_it(apply, robot):
    robot.run("systemctl stop lefleet-courier")
    done = apply("--tags=agent_verify")
    assert done.rc != 0 and "lefleet-courier.service is inactive" in done.output
    mended = apply()
    assert mended.rc == 0 and mended.changed[robot.name] == 1
    robot.run("systemctl disable lefleet-control")
    assert apply("--tags=agent_verify").rc != 0
    assert apply().changed[robot.name] == 1


def test_a_control_that_hangs_is_killed_and_started_again(robot):
    before = robot.unit("lefleet-control")
    pid = robot.run("docker top lefleet-control -o pid,args | awk '/python.*lefleet-agent run/ {print $1; exit}'")
    robot.run(f"kill -STOP {pid}")
    wait_until(lambda: robot.unit("lefleet-control")["InvocationID"] != before["InvocationID"])
    assert "Watchdog timeout" in robot.run("journalctl -u lefleet-control")
    wait_until(lambda: robot.state() == "running")
    wait_until(lambda: any("recover" in line for line in robot.run("journalctl -u lefleet-control").splitlines()))


def test_a_restart_waits_for_the_end_of_the_episode_and_finds_the_folders_of_other_roles(robot):
    interrupted = sum(episode["interrupted"] for episode in robot.episodes())
    robot.run("mkdir -p /etc/lefleet/calibration /run/lefleet-pulse")
    for _ in range(3):
        wait_until(lambda: robot.state() == "running")
        robot.run("systemctl restart lefleet-control")
    wait_until(lambda: robot.state() == "running")
    assert sum(episode["interrupted"] for episode in robot.episodes()) == interrupted
    (found,) = json.loads(robot.run("docker container inspect lefleet-control"))
    mounts = {mount["Destination"]: mount["RW"] for mount in found["Mounts"]}
    assert (mounts["/etc/lefleet/calibration"], mounts["/run/lefleet-pulse"]) == (False, True)
    assert "PULSE_SERVER=unix:/run/lefleet-pulse/native" in found["Config"]["Env"]


def test_a_robot_at_rest_stays_so_through_restarts_and_a_change_of_its_settings(apply, robot, server, variables):
    robot.run("lefleet-agent drain --wait 120")
    assert robot.state() == "drained"
    wait_until(lambda: server.robot(robot.name)["state"] == "drained")
    robot.run("systemctl restart lefleet-control")
    wait_until(lambda: robot.state() == "drained")
    done = apply(agent_settings={**variables["agent_settings"], "pause_s": 2})
    assert done.rc == 0 and done.changed[robot.name] > 0
    assert robot.state() == "drained"
    robot.run("lefleet-agent resume")
    wait_until(lambda: robot.state() == "running")


def test_a_new_setting_restarts_between_episodes_and_goes_on(apply, robot):
    interrupted = sum(episode["interrupted"] for episode in robot.episodes())
    wait_until(lambda: robot.state() == "running")
    done = apply()  # back to a pause of 1 s
    assert done.rc == 0 and done.changed[robot.name] > 0
    wait_until(lambda: robot.state() == "running")
    assert sum(episode["interrupted"] for episode in robot.episodes()) == interrupted


def test_a_restart_of_docker_and_a_reboot_bring_the_robot_back(robot, server):
    robot.run("systemctl restart docker")
    wait_until(lambda: robot.state() == "running")
    robot.host.reboot()
    wait_until(lambda: robot.state() == "running")
    wait_until(lambda: server.robot(robot.name)["online"])


def test_a_person_reboots_it_from_afar_once_and_between_episodes(robot, server):
    wait_until(lambda: robot.state() == "running")
    interrupted = sum(episode["interrupted"] for episode in robot.episodes())
    before, file = robot.host.started(), "/run/lefleet/agent/reboot"
    with server.person() as http:
        http.post(f"/api/v1/robots/{robot.name}/reboot", json={"reason": "a test"}).raise_for_status()
        wait_until(lambda: robot.host.started() != before)
        robot.host.wait()
        wait_until(lambda: robot.state() == "running")
        wait_until(lambda: http.get(f"/api/v1/robots/{robot.name}").json()["reboot"]["heard"])
    assert not robot.host.exists(file)
    assert sum(episode["interrupted"] for episode in robot.episodes()) == interrupted
    after = robot.host.started()
    robot.run("systemctl restart lefleet-courier")  # which hears of the same word again
    wait_until(lambda: server.robot(robot.name)["online"])
    assert robot.host.started() == after and not robot.host.exists(file)


def test_a_host_that_may_not_be_rebooted_from_afar_is_not(apply, robot, server):
    done = apply(agent_reboots=False)
    assert done.rc == 0 and done.changed[robot.name] > 0
    assert not robot.host.exists("/etc/systemd/system/lefleet-reboot.path")
    with server.person() as http:
        wait_until(lambda: server.robot(robot.name)["online"])

        def refused() -> bool:
            answer = http.post(f"/api/v1/robots/{robot.name}/reboot")
            return answer.status_code == 409 and "takes no reboots" in answer.text

        wait_until(refused)
    assert apply().rc == 0
    assert robot.run("systemctl is-enabled lefleet-reboot.path").strip() == "enabled"


def test_cut_off_it_goes_on_and_catches_up_when_it_is_back(robot):
    wait_until(lambda: robot.waiting() == 0)
    robot.host.cut()
    wait_until(lambda: robot.waiting() >= 2)
    assert robot.state() in {"running", "idle", "resetting"}
    robot.host.join()
    wait_until(lambda: robot.waiting() == 0)


def test_only_the_robot_that_is_named_leaves_the_fleet(apply, robot):
    done = apply(plays="decommission.yml")
    assert done.rc != 0 and f"{robot.name} is not taken out of the fleet" in done.output
    assert robot.state() in {"running", "idle", "resetting"}


def test_a_robot_whose_episodes_the_server_lacks_does_not_leave(apply, robot, server):
    wait_until(lambda: robot.waiting() == 0)
    server.off()
    wait_until(lambda: robot.waiting() >= 1)
    done = apply("-e", f"decommission_confirm={robot.name}", plays="decommission.yml", agent_decommission_wait_s=5)
    said = " ".join(done.output.split())
    assert done.rc != 0 and "still wait for the server" in said and "rests and keeps its credential" in said
    assert robot.host.exists(f"{STATE}/credential.json")
    wait_until(lambda: robot.state() == "drained")


def test_decommissioning_goes_on_where_it_stopped_and_leaves_nothing_that_speaks_for_the_robot(apply, robot, server):
    server.on()
    done = apply("-e", f"decommission_confirm={robot.name}", plays="decommission.yml")
    assert done.rc == 0
    assert server.robot(robot.name)["state"] == "retired"
    for gone in (f"{STATE}/credential.json", "/etc/lefleet/agent", "/usr/local/bin/lefleet-agent"):
        assert not robot.host.exists(gone)
    assert robot.run("docker ps --quiet") == ""
    episodes = robot.episodes()
    assert episodes and all(episode["state"] != "waiting" for episode in episodes)
    assert robot.host.exists(f"{STATE}/spool/{episodes[-1]['file']}")
    again = apply("-e", f"decommission_confirm={robot.name}", plays="decommission.yml")
    assert again.rc == 0 and again.changed[robot.name] == 0


def test_a_robot_that_left_comes_back_with_a_credential_of_its_own(apply, robot, server):
    assert apply().rc == 0
    assert server.robot(robot.name)["online"] and robot.state() in {"running", "idle", "resetting", "loading"}
