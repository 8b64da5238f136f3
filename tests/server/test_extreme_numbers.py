"""No number that one robot tells keeps people from seeing the others."""

import copy
import json
from collections.abc import Iterator

import pytest

from lefleet_server.dashboard import so101_pose as pose
from lefleet_server.dashboard.fleet_feed import FleetFeed
from lefleet_server.robots import motors
from lefleet_server.robots.schemas import Heartbeat
from lefleet_server.units import size

BEAT = {
    "state": "running",
    "loop": {"hz": 30, "lateness_ms_p50": 1, "lateness_ms_p99": 2, "lateness_ms_max": 3, "ticks": 300, "late": 0},
    "spool": {"episodes": 1, "bytes": 2, "budget_bytes": 3, "lost_episodes": 0},
    "disk": {"free_bytes": 1, "total_bytes": 2},
    "temperature": {"zone": "cpu", "celsius": 50},
    "drift": {"roles": ["swap"], "checked_unix_s": 1_800_000_000},
    "estop": {"wish": 1, "holds": False},
    "orders": {"rest": 1, "task": 1, "reboot": 1, "rests": False},
    "joints": {
        "names": [joint.name for joint in pose.JOINTS],
        "units": ["degrees", "radians", "degrees", "degrees", "degrees", "percent"],
        "values": [1, 2, 3, 4, 5, 6],
    },
    "uptime_s": 1000,
    "wall_ns": 1_800_000_000_000_000_000,
}
LARGEST = 1.7976931348623157e308
NUMBERS = (LARGEST, -LARGEST, 5e-324, 2**63, 2**63 - 1, 2**53 - 2, -1, 10**400, float("inf"), float("nan"))
TEXTS = ("1.7e308", "-1.7e308", "9223372036854775808", "-1", "5e-324", "NaN", "+Inf", "9" * 400)


def leaves(part, *path) -> Iterator[tuple]:
    """The places of all numbers."""
    if isinstance(part, int) and not isinstance(part, bool):
        yield path
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in items:
        yield from leaves(value, *path, name)


def changed(path: tuple, value: float) -> str:
    beat = copy.deepcopy(BEAT)
    *above, last = path
    place = beat
    for name in above:
        place = place[name]
    place[last] = value
    return json.dumps(beat)


def told(text: str) -> str:
    names = ("temperature_celsius", "voltage_volts", "current_amperes", "load_ratio", "errors_total")
    lines = [f'lefleet_motor_{name}{{joint="gripper"}} {text}' for name in names]
    lines += [f'lefleet_arm_reads_total{{result="{result}"}} {text}' for result in ("ok", "failed")]
    return "\n".join(lines) + "\n"


async def seen(services, operator) -> dict:
    """Both of people's ways to look at the fleet show all robots; what the feed has."""
    feed = FleetFeed(services)
    fleet = await feed.fleet()
    json.loads(fleet.whole)
    listed = (await operator.get("/api/v1/robots")).raise_for_status().json()["items"]
    assert [each["id"] for each in listed] == list(fleet.rows)
    return fleet.robots


async def test_no_number_of_a_heartbeat_hides_the_fleet(services, enrol, operator):
    places = list(leaves(BEAT))
    robots = [await enrol(f"robot-{place}") for place in range(len(places))]
    headers = {"Content-Type": "application/json"}
    for number in NUMBERS:
        for robot, path in zip(robots, places, strict=True):
            beat = changed(path, number)
            answer = await robot.http.post("/api/v1/robot/heartbeat", content=beat, headers=headers)
            assert answer.status_code in {200, 422}, (path, answer.text)
        fleet = await seen(services, operator)
        for robot in robots:
            shown(fleet[robot.id])
            (await operator.get(f"/api/v1/robots/{robot.id}")).raise_for_status()
    for robot in robots:
        await robot.http.aclose()


def shown(state) -> None:
    """What the robot's page makes of it, beside what the fleet's page does."""
    assert state.compared and size(state.disk_free_bytes)
    if joints := state.said.get("joints"):
        angles = pose.radians(joints["names"], joints["units"], joints["values"])
        assert all(pose.rotation(joint, angles[joint.name]) for joint in pose.JOINTS)


async def test_no_number_of_its_metrics_hides_the_fleet(services, enrol, operator):
    robots = [await enrol(f"robot-{place}") for place in range(len(TEXTS))]
    for robot, text in zip(robots, TEXTS, strict=True):
        assert (await robot.heartbeat(metrics=told(text))).status_code == 200
    fleet = await seen(services, operator)
    assert len(fleet) == len(TEXTS)
    for robot in robots:
        (await operator.get(f"/api/v1/robots/{robot.id}")).raise_for_status()
        await robot.http.aclose()


@pytest.mark.parametrize("text", ["1.7e308", "-1.7e308", "NaN", "+Inf", "9" * 400])
def test_a_metric_that_cannot_be_counts_as_not_told(text):
    assert motors.read(told(text)) == motors.Arm()


def test_a_part_of_a_heartbeat_that_cannot_be_counts_as_not_told():
    for part, path in (
        ("loop", ("loop", "hz")),
        ("temperature", ("temperature", "celsius")),
        ("joints", ("joints", "values", 5)),
    ):
        beat = Heartbeat.model_validate_json(changed(path, -LARGEST))
        assert getattr(beat, part) is None
        assert beat.model_dump(exclude={part}) == Heartbeat.model_validate(BEAT).model_dump(exclude={part})


def test_no_more_motors_are_read_than_a_robot_names_joints():
    text = "".join(f'lefleet_motor_load_ratio{{joint="{joint}"}} 0.5\n' for joint in range(1000))
    assert len(motors.read(text).motors) == motors.MOST_MOTORS
