"""Server and robot on one Jetson: by hand with `docker compose`, as docker/compose.yml says, then by the roles."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fleet import run
from floor import Floor, describe
from images import build

REPO = Path(__file__).resolve().parents[2]
NAME = "one"
FOLDER = "/home/operator/docker"
# What docker/ calls the images, and what stands in for them here.
IMAGES = {
    "lefleet/agent:0.1.0": "agent",
    "lefleet/server:0.1.0": "server",
    "postgres:17-bookworm": "postgres",
    "caddy:2.10": "caddy",
    "registry:2.8.3": "registry",
}
PASSWORD = "only-for-this-test-1"


@pytest.fixture(scope="module")
def host(fleet: Any) -> Any:
    """A Jetson on which somebody installed Docker, with the images and a copy of docker/."""
    made = fleet.host(NAME, drives=[(24_000, "ONE1")])
    made.run("apt-get install --yes --no-install-recommends docker.io", timeout_s=600)
    for name, image in IMAGES.items():
        with build.archive(image).open("rb") as file:
            run("docker", "exec", "-i", made.container, "docker", "load", "--quiet", stdin=file)
        made.run(f"docker tag {build.reference(image)} {name}")
    run("docker", "cp", REPO / "docker", f"{made.container}:{FOLDER}")
    return made


@pytest.fixture(scope="module")
def floor(host: Any, playbook: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Floor:
    return Floor(host, [host], describe(tmp_path_factory.mktemp("one") / "inventory", host, [host]), playbook)


def commands(name: str) -> list[str]:
    """The commands in the comment at the head of one of docker/'s files."""
    head = (REPO / "docker" / name).read_text().partition("\nname: ")[0]
    return [line for line in re.findall(r"^#   (.+)$", head, re.MULTILINE) if not line.startswith("...")]


def by_hand(host: Any, command: str) -> None:
    """Type a command, and the password as often as it is asked for."""
    host.run(f"cd {FOLDER} && printf '{PASSWORD}\\n{PASSWORD}\\n' | {{ {command}\n}}", timeout_s=900)


def test_the_commands_in_dockers_folder_bring_it_up_by_hand(host: Any, floor: Floor) -> None:
    for command in commands("compose.server.yml"):
        if command.startswith("docker compose"):
            break
        by_hand(host, command)
    for command in commands("compose.yml"):
        by_hand(host, command)
    floor.wait(lambda: floor.episodes("robot-1") >= 1, 300, "no episode arrived")
    root = f"{FOLDER}/state/caddy/caddy/pki/authorities/local/root.crt"
    trust = f"ssl.create_default_context(cafile='{root}')"
    ask = f"import ssl, urllib.request as web; print(web.urlopen('https://localhost/login', context={trust}).status)"
    assert host.run(f'python3 -c "{ask}"').stdout.strip() == "200"
    health = host.run(f"cd {FOLDER} && docker compose run --rm -T agent health").stdout
    assert "control is alive" in health and "courier is alive" in health


def test_people_get_in_by_the_commands_of_the_servers_file(host: Any) -> None:
    people = [command for command in commands("compose.server.yml") if " exec " in command]
    assert people
    said = [host.run(f"cd {FOLDER} && {command.replace(' exec ', ' exec -T ')}").stdout for command in people]
    assert "https://localhost/login?code=" in said[-1]


def test_everything_returns_after_a_power_cut(host: Any, floor: Floor) -> None:
    before = floor.episodes("robot-1")
    host.power_cut()
    floor.wait(lambda: floor.episodes("robot-1") > before, 300, "the robot did not return to work")


def test_the_roles_make_the_same_of_it(host: Any, floor: Floor) -> None:
    """Docker's data moves to the drive with all its images; what was tried by hand is put away first."""
    host.run(f"cd {FOLDER} && docker compose down", timeout_s=300)
    first = floor.play("site.yml")
    assert first.rc == 0
    floor.wait(lambda: floor.episodes(NAME) >= 1, 240, "no episode arrived")
    assert host.run("docker info --format '{{.DockerRootDir}}'").stdout.strip() == "/mnt/lefleet/docker"
    assert host.exists("/mnt/lefleet/server/postgres")
    assert floor.https("/login").startswith("200")


def test_a_second_run_changes_nothing(host: Any, floor: Floor) -> None:
    again = floor.play("site.yml")
    assert (again.rc, again.changed) == (0, {NAME: 0})
