"""Role docker on a simulated Jetson: its data is moved without losing any of it, wherever the move is interrupted.

The tests build on each other: one host gets Docker, then data, then loses its power at every step of a move.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

SERIAL = "DKA1"
DRIVE = f"/dev/disk/by-id/nvme-Simulated_NVMe_{SERIAL}"
FIRST, SECOND, THIRD = "/var/lib/docker", "/mnt/lefleet/docker", "/mnt/lefleet/docker-2"
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
VARIABLES = {
    "nvme_storage_min_gb": 1,
    "docker_packages": ["docker.io"],
    "docker_data_root": FIRST,
    "docker_registries": [{"host": "registry.fleet.test:5443", "ca": CA}],
    "docker_users": ["operator"],
}
# A shell and what the containers here need, as an image.
IMAGE = (
    "ldd /bin/sh /bin/sleep | grep -o '/[^ :]*' | sed 's|^/||' | sort -u "
    "| xargs tar --create --dereference --directory / | "
)
WRITE = "while :; do echo line >> /data/log; sleep 0.1; done"
CONTENT = f"""
set -e
{IMAGE}docker import - tiny
docker run --detach --name writer --restart unless-stopped --volume data:/data tiny /bin/sh -c '{WRITE}' >/dev/null
docker run --detach --name passing --rm --volume /scratch tiny /bin/sleep 1d >/dev/null
docker create --name idle --volume other:/other tiny /bin/sh >/dev/null
cd {FIRST}/volumes/other/_data
truncate --size 100M sparse; echo x > first; ln first second; chown 1234:2345 first; chmod 4751 first; mkfifo pipe
touch --date '2001-02-03 04:05:06.789' first; ln --symbolic nowhere link
"""


@pytest.fixture(scope="module")
def host(fleet: Any) -> Any:
    return fleet.host("docker", drives=[(3000, SERIAL)])


@pytest.fixture(scope="module")
def apply(play: Callable[..., Any], host: Any) -> Callable[..., Any]:
    def run(variables: dict[str, Any] | None = None, roles: tuple[str, ...] = ("docker",), **options: Any) -> Any:
        return play(list(roles), [host], {**VARIABLES, **(variables or {})}, **options)

    return run


def words(play: Any) -> str:
    """What a run said, however its lines were broken."""
    return " ".join(play.output.split())


def info(host: Any, what: str) -> str:
    return host.run(f"docker info --format '{{{{{what}}}}}'").stdout.strip()


def contents(host: Any) -> dict[str, set[str]]:
    """What the engine has, but for what ends with it."""
    asked = {
        "images": "docker image ls --all --quiet --no-trunc",
        "containers": "docker container ls --all --format '{{.Names}}' | sed /passing/d",
        "volumes": "docker volume ls --quiet | sed -E '/^[0-9a-f]{64}$/d'",
    }
    return {name: set(host.run(command).stdout.split()) for name, command in asked.items()}


def facts_of_files(host: Any, root: str) -> str:
    """Modes, owners, links, times and blocks of the files in a volume."""
    return host.run(f"cd {root}/volumes/other/_data && find . -printf '%P %y %m %U %G %n %s %b %T@ %l\n' | sort").stdout


def lines(host: Any, root: str) -> int:
    return int(host.run(f"wc --lines < {root}/volumes/data/_data/log").stdout)


def writes(host: Any, root: str) -> bool:
    """Whether the container writes to its volume, as far as this machine's other work lets it."""
    before = lines(host, root)
    for _ in range(30):
        time.sleep(1)
        if lines(host, root) > before:
            return True
    print(host.run("docker ps --all; docker inspect writer; journalctl --unit docker | tail -50").stdout)
    return False


@contextlib.contextmanager
def held(host: Any, program: str, when: str, first: str = ":") -> Iterator[None]:
    """A program of the host that, when the shell condition holds, says so and waits for the power cut."""
    path = f"/usr/local/bin/{program}"
    host.write(
        path,
        f'#!/bin/bash\nif {when}; then {first}; touch /run/held; sleep 600; fi\nexec /usr/bin/{program} "$@"\n',
    )
    host.run(f"chmod +x {path}")
    try:
        yield
    finally:
        host.run(f"rm -f {path}")


def cut_power_at(host: Any, apply: Callable[..., Any], variables: dict[str, Any], program: str, **options: str) -> None:
    """Run the role until it calls a program as described, and cut the host's power there."""
    killed: list[Any] = []
    with held(host, program, **options):
        run = threading.Thread(target=lambda: killed.append(apply(variables)))
        run.start()
        end = time.monotonic() + 300
        while not host.exists("/run/held") and run.is_alive() and time.monotonic() < end:
            time.sleep(0.3)
        assert host.exists("/run/held"), "it was never called"
    host.power_cut()
    run.join()
    assert killed[0].rc != 0


def test_check_mode_on_a_bare_host_says_what_it_would_do(host: Any, apply: Any) -> None:
    bare = apply(roles=("nvme_storage", "docker"), check=True, diff=True)
    assert bare.rc == 0, bare.output
    assert "Would install docker.io" in words(bare)
    assert '"default-runtime": "nvidia"' in words(bare)
    assert not host.exists("/etc/docker")


def test_docker_is_installed_held_and_configured_and_a_second_run_changes_nothing(host: Any, apply: Any) -> None:
    assert apply(roles=("nvme_storage", "docker")).rc == 0
    assert apply(roles=("nvme_storage", "docker")).changed == {"docker": 0}
    assert "docker.io" in host.run("apt-mark showhold").stdout
    assert info(host, ".DockerRootDir") == FIRST
    assert info(host, ".DefaultRuntime") == "nvidia"
    settings = json.loads(host.read("/etc/docker/daemon.json"))
    assert settings["log-opts"] == {"max-size": "10m", "max-file": "3"}
    assert host.read("/etc/docker/certs.d/registry.fleet.test:5443/ca.crt") == CA
    assert "docker" in host.run("id --name --groups operator").stdout.split()
    assert "nvidia-container-runtime" in host.read("/var/log/stand-ins.log")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"docker_data_root": "/docker"}, "docker_data_root=/docker must be"),
        ({"docker_daemon_options": {"data-root": "/x"}}, "must hold none of data-root"),
        (
            {"docker_packages": ["docker-ce"]},
            "docker.io is installed, and docker_packages=['docker-ce'] would remove it",
        ),
        ({"docker_registries": [{"host": "r:1", "ca": "/no/such.crt"}]}, "docker_registries: `r:1` must be"),
        ({"docker_data_root": "/etc/ssh"}, "docker_data_root=/etc/ssh holds files that are not Docker's"),
    ],
)
def test_wrong_variables_are_refused_with_a_sentence(apply: Any, variables: dict[str, Any], said: str) -> None:
    refused = apply(variables, tasks_from="preflight")
    assert refused.rc != 0
    assert said in words(refused)


def test_settings_change_while_containers_go_on(host: Any, apply: Any) -> None:
    host.run(CONTENT)
    process = host.run("docker inspect -f '{{.State.Pid}}' writer").stdout
    assert apply({"docker_log_max_files": 5}).rc == 0
    assert host.run("docker inspect -f '{{.State.Pid}}' writer").stdout == process
    assert apply().rc == 0


def test_a_move_without_room_or_onto_other_data_is_refused_before_anything_stops(host: Any, apply: Any) -> None:
    process = host.run("docker inspect -f '{{.State.Pid}}' writer").stdout
    moved = {"docker_data_root": SECOND}
    host.run("fallocate --length 2400M /mnt/lefleet/large")
    full = apply(moved)
    host.run(f"rm /mnt/lefleet/large; mkdir -p {SECOND}/volumes/theirs")
    both = apply(moved)
    host.run(f"rm -r {SECOND}; mkdir {SECOND}.part; touch {SECOND}.part/file")
    blocked = apply(moved)
    host.run(f"rm -r {SECOND}.part; umount /mnt/lefleet")
    unmounted = apply(moved)
    host.run("mount /mnt/lefleet")

    assert "must stay so" in words(full)
    assert "cannot be joined" in words(both)
    assert f"{SECOND}.part is in the way" in words(blocked)
    assert "/mnt/lefleet must be mounted" in words(unmounted)
    assert [it.rc != 0 for it in (full, both, blocked, unmounted)] == [True] * 4
    assert host.run("docker inspect -f '{{.State.Pid}}' writer").stdout == process


def test_data_moves_with_a_running_container_through_a_power_cut_and_a_failed_copy(host: Any, apply: Any) -> None:
    moved = {"docker_data_root": SECOND}
    before, files, written = contents(host), facts_of_files(host, FIRST), lines(host, FIRST)

    cut_power_at(host, apply, moved, "rsync", when="true", first='timeout -s KILL 0.3 /usr/bin/rsync "$@"')
    assert info(host, ".DockerRootDir") == FIRST  # the robot works on
    assert writes(host, FIRST)

    with held(host, "rsync", when="false"):
        host.write("/usr/local/bin/rsync", "#!/bin/sh\nexit 11\n")
        failed = apply(moved)
    assert failed.rc != 0
    assert "Docker's data was not moved" in words(failed)
    assert info(host, ".DockerRootDir") == FIRST
    assert writes(host, FIRST)

    assert apply(moved).rc == 0
    assert apply(moved).changed == {"docker": 0}
    assert info(host, ".DockerRootDir") == SECOND
    assert contents(host) == {**before, "images": contents(host)["images"]}
    assert before["images"] <= contents(host)["images"]
    assert facts_of_files(host, SECOND) == files
    assert lines(host, SECOND) > written
    assert writes(host, SECOND)
    assert host.run(f"ls -A {FIRST}").stdout.split() == [".moved"]
    assert host.exists(f"{FIRST}/.moved/volumes/data/_data/log")


def test_a_power_cut_between_copy_and_switch_loses_nothing_written_since(host: Any, apply: Any) -> None:
    before = contents(host)
    moved = {"docker_data_root": THIRD}
    cut_power_at(host, apply, moved, "sync", when=f'[[ "$*" == *{THIRD} ]]')
    assert host.exists(THIRD)
    assert info(host, ".DockerRootDir") == SECOND
    assert writes(host, SECOND)
    host.run("docker volume create since >/dev/null")

    assert apply(moved).rc == 0
    assert contents(host) == {**before, "volumes": before["volumes"] | {"since"}}
    assert writes(host, THIRD)
    assert not host.exists(SECOND)
    assert host.exists(f"{SECOND}.moved")


def test_a_power_cut_before_the_old_data_is_put_away_is_continued(host: Any, apply: Any) -> None:
    before = contents(host)
    moved = {"docker_data_root": SECOND}
    cut_power_at(host, apply, moved, "docker", when='[[ "$*" == "image ls --quiet --all"* ]]')
    assert info(host, ".DockerRootDir") == SECOND
    assert host.exists(THIRD)

    host.run("docker rm --force idle >/dev/null")
    refused = apply(moved)
    assert refused.rc != 0
    assert "lacks what" in words(refused)
    assert host.exists(f"{THIRD}/volumes")

    host.run("docker create --name idle --volume other:/other tiny /bin/sh >/dev/null")
    host.run(f"mv {THIRD} {THIRD}.moved")
    assert apply({**moved, "docker_remove_old_data": True}).rc == 0
    assert not host.exists(f"{THIRD}.moved")
    assert apply({**moved, "docker_remove_old_data": True}).changed == {"docker": 0}
    assert contents(host) == before


def test_docker_does_not_start_on_the_empty_folder_of_a_missing_drive(host: Any, apply: Any) -> None:
    drives = host.read("/etc/simulated-drives")
    host.run("systemctl stop docker.socket docker.service && umount -R /mnt/lefleet && : > /etc/simulated-drives")
    for _ in range(50):
        if not host.exists(DRIVE):
            break
        time.sleep(0.1)
    assert host.run("systemctl start docker.service", check=False).returncode != 0
    assert host.run("ls -A /mnt/lefleet").stdout == ""
    refused = apply({"docker_data_root": SECOND})
    assert refused.rc != 0
    assert "/mnt/lefleet must be mounted" in words(refused)

    host.write("/etc/simulated-drives", drives)
    host.power_cut()
    assert info(host, ".DockerRootDir") == SECOND
    assert writes(host, SECOND)


def test_a_host_set_up_anew_takes_the_data_of_its_drive(host: Any, apply: Any) -> None:
    before = contents(host)
    host.run(
        "systemctl stop docker.socket docker.service; rm -r /etc/docker /etc/systemd/system/docker.service.d "
        f"{FIRST}/.moved; systemctl daemon-reload; systemctl start docker.service"
    )
    assert contents(host)["volumes"] == set()
    assert apply({"docker_data_root": SECOND}).rc == 0
    assert contents(host) == before
    assert writes(host, SECOND)


@pytest.mark.parametrize(
    ("damage", "mend", "said"),
    [
        (
            "sed -i s/json-file/local/ /etc/docker/daemon.json; systemctl restart docker",
            'sed -i \'s/"local"/"json-file"/\' /etc/docker/daemon.json; systemctl restart docker',
            "logs by local",
        ),
        ("apt-mark -q unhold docker.io", "apt-mark -q hold docker.io", "must be held"),
        ("systemctl disable --quiet docker.service", "systemctl enable --quiet docker.service", "must be enabled"),
        ("mv /usr/bin/nvidia-container-runtime /root", "mv /root/nvidia-container-runtime /usr/bin", "Run a container"),
    ],
)
def test_verify_sees_what_is_broken(host: Any, apply: Any, damage: str, mend: str, said: str) -> None:
    variables = {"docker_data_root": SECOND}
    host.run(damage)
    try:
        broken = apply(variables, tags=["docker_verify"])
    finally:
        host.run(mend)
    assert broken.rc != 0
    assert said in words(broken)
