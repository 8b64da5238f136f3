"""The whole fleet, from bare hosts: `site.yml` as an operator runs it, then everything that goes wrong on a floor.

The tests of this module follow one another on the same four hosts: three robots and a server.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from floor import REGISTRY_PORT, Floor, bring_up, elsewhere

SITE = "site.yml"


@pytest.fixture(scope="module")
def floor(fleet: Any, playbook: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """Three robots and a server as bare as they come, and the inventory of them."""
    return bring_up(fleet, playbook, tmp_path_factory.mktemp("floor"))


def test_a_dry_run_on_bare_hosts_lists_what_it_would_do_and_does_none_of_it(floor: Floor) -> None:
    before = {host.name: floor.state(host) for host in floor.hosts}
    dry = floor.play(SITE, "--check", "--diff")
    assert dry.rc == 0
    assert all(dry.changed[host.name] > 10 for host in floor.hosts)
    assert {host.name: floor.state(host) for host in floor.hosts} == before


def test_a_run_that_is_killed_in_the_middle_is_finished_by_the_next(floor: Floor) -> None:
    """Killed while the drives are being made and Docker installed; the next run brings bare hosts to work."""
    floor.play_killed(SITE, after_task="Docker | ")
    done = floor.play(SITE)
    assert done.rc == 0
    assert not any(done.failed.values()) and not any(done.unreachable.values())


def test_every_robot_runs_the_demo_policy_in_a_container_and_its_episodes_reach_postgresql(floor: Floor) -> None:
    floor.wait(lambda: all(floor.episodes(robot.name) >= 1 for robot in floor.robots), 600, "no episode arrived")
    for robot in floor.robots:
        names = robot.run("docker ps --format '{{.Names}}'").stdout.split()
        assert sorted(names) == ["lefleet-control", "lefleet-courier"]
    assert len({floor.agent_image(robot) for robot in floor.robots}) == 1


def test_the_dashboard_answers_through_tls_with_the_fleets_own_authority(floor: Floor) -> None:
    page = floor.https("/login")
    assert page.startswith("200")
    assert "LeFleet" in page
    assert floor.https("/readyz").startswith("200")
    assert floor.https("/login", trusted=False).startswith("000")  # curl: no connection without the authority


def test_people_get_in_by_a_link_of_the_servers_command(floor: Floor) -> None:
    link = json.loads(floor.server.run("lefleet-server login-link --user alex --json").stdout)["url"]
    assert link.startswith(f"https://{floor.server.domain}/login?code=")
    assert floor.https(link.removeprefix(f"https://{floor.server.domain}")).startswith(("200", "303"))


def test_the_server_reaches_prometheus_whose_alerts_it_shows(floor: Floor) -> None:
    settings = yaml.safe_load((floor.inventory / "group_vars" / "servers.yml").read_text())["server_settings"]
    ask = f"import urllib.request as web; print(web.urlopen('{settings['prometheus_url']}/api/v1/alerts').status)"
    assert floor.server.run(f'docker exec lefleet-api-1 python3 -c "{ask}"').stdout.strip() == "200"


def test_a_second_run_changes_nothing(floor: Floor) -> None:
    again = floor.play(SITE)
    assert again.rc == 0
    assert again.changed == {host.name: 0 for host in floor.hosts}


def test_a_dry_run_of_a_finished_fleet_finds_no_difference(floor: Floor) -> None:
    dry = floor.play(SITE, "--check", "--diff")
    assert dry.rc == 0
    assert dry.changed == {host.name: 0 for host in floor.hosts}


def test_make_reaches_looks_and_provisions_the_hosts_that_are_named(floor: Floor) -> None:
    named = "LIMIT=server,robot-2"
    everything = [floor.make("ping", named), floor.make("check", named, "TAGS=swap")]
    everything.append(floor.make("provision", named, "TAGS=swap", "MITOGEN=0"))
    for said in everything:
        assert "2 hosts: 2 ok" in said and "robot-1" not in said


def test_drift_names_the_host_and_the_role_that_differ(floor: Floor) -> None:
    floor.robots[1].run("echo vm.swappiness=99 > /etc/sysctl.d/99-somebody.conf; sysctl -q vm.swappiness=99")
    floor.robots[1].run("systemctl set-default graphical.target")
    report = floor.drift()
    assert report["robot-2"]["base"] is True
    assert report["robot-1"]["base"] is False
    assert 'lefleet_drift{role="base"} 1' in floor.measured(floor.robots[1])
    assert 'lefleet_drift{role="base"} 0' in floor.measured(floor.robots[0])
    floor.robots[1].run("rm /etc/sysctl.d/99-somebody.conf")
    assert floor.play(SITE, "--limit", "robot-2").rc == 0
    assert not any(role for roles in floor.drift().values() for role in roles.values())


def test_a_robot_that_is_cut_off_goes_on_recording_and_catches_up(floor: Floor) -> None:
    robot = floor.robots[0]
    before = floor.episodes(robot.name)
    robot.cut()
    try:
        # One that is being recorded or on its way when the network goes may count, and one may be on its way again.
        floor.wait(lambda: floor.waiting(robot) >= 3, 600, "the robot did not go on recording")
    finally:
        robot.join()
    floor.wait(lambda: floor.waiting(robot) <= 1, 600, "the robot did not catch up")
    assert floor.episodes(robot.name) >= before + 2


def test_one_unreachable_robot_stops_no_other_and_the_run_says_so(floor: Floor) -> None:
    floor.robots[2].cut()
    try:
        run = floor.play(SITE, "--tags", "base")
    finally:
        floor.robots[2].join()
    assert run.rc != 0
    assert run.unreachable["robot-3"] == 1
    assert not run.unreachable["robot-1"] and not run.failed["robot-1"] and not run.failed["server"]
    assert "robot-3" in run.output.split("unreachable", 1)[1]


def test_everything_returns_by_itself_when_the_server_has_rebooted(floor: Floor) -> None:
    before = {robot.name: floor.episodes(robot.name) for robot in floor.robots}
    floor.server.reboot()
    floor.wait(lambda: floor.https("/readyz").startswith("200"), 600, "the server did not return")
    floor.wait(
        lambda: all(floor.episodes(robot.name) > before[robot.name] for robot in floor.robots),
        600,
        "the robots did not find the server again",
    )


def test_a_robot_goes_on_by_itself_after_a_power_cut(floor: Floor) -> None:
    robot = floor.robots[1]
    before = floor.episodes(robot.name)
    robot.power_cut()
    floor.wait(lambda: floor.episodes(robot.name) > before, 600, "the robot did not return to work")
    assert robot.run("findmnt -no OPTIONS /mnt/lefleet").stdout.strip().startswith("rw,noatime")


def test_a_wrong_variable_stops_before_anything_changes(floor: Floor) -> None:
    run = floor.play(SITE, "-e", "swap_size_mb=much")
    assert run.rc != 0
    assert "swap_size_mb" in run.output and "much" in run.output
    assert run.changed == {host.name: 0 for host in floor.hosts}


def test_the_images_lie_in_the_fleets_own_registry_by_digest(floor: Floor) -> None:
    names = floor.https("/v2/_catalog", port=REGISTRY_PORT)
    assert "lefleet/agent" in names
    assert "@sha256:" in floor.agent_image(floor.robots[0])


def test_a_robot_leaves_the_fleet_and_its_credential_with_it(floor: Floor) -> None:
    robot = floor.robots[2]
    done = floor.play("decommission.yml", "--limit", robot.name, "-e", f"decommission_confirm={robot.name}")
    assert done.rc == 0
    assert not robot.exists("/mnt/lefleet/agent/credential.json")
    assert robot.run("docker ps -q").stdout == ""
    rows = json.loads(floor.server.run("lefleet-server robots --json").stdout)["items"]
    assert {row["id"]: row["state"] for row in rows}[robot.name] == "retired"
    assert floor.waiting(robot) == 0


def test_a_robot_of_a_server_elsewhere_enrols_by_hand(floor: Floor) -> None:
    robot = floor.robots[2]
    alone, before = elsewhere(floor, robot), floor.episodes(robot.name)
    asked = alone.play(SITE)
    assert asked.rc != 0
    assert f"Run `lefleet-server enrol-code {robot.name}` on that server" in " ".join(asked.output.split())
    code = json.loads(floor.server.run(f"lefleet-server enrol-code {robot.name} --json").stdout)["code"]
    robot.run(f"lefleet-agent enrol <<< {code}")
    assert alone.play(SITE).rc == 0
    floor.wait(lambda: floor.episodes(robot.name) > before, 600, "no episode arrived")
