"""What the fleet's and the robot's pages compute: health, changed cells, success, and where the arm is drawn."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lefleet_agent.metrics import RecorderMetrics, exposition
from lefleet_agent.robots.so101_model import scene_file
from lefleet_server.alerts import Alert
from lefleet_server.dashboard import so101_pose
from lefleet_server.dashboard.fleet_feed import FIELDS, FleetFeed, compare, row
from lefleet_server.dashboard.robot_queries import Rate
from lefleet_server.robots import fleet, motors, orders
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.stops import Stop, StopState

AT = datetime(2026, 11, 25, tzinfo=UTC)
WELL = {
    "loop": {"hz": 29.98, "lateness_ms_p99": 3.44},
    "spool": {"episodes": 2, "bytes": 10, "budget_bytes": 100},
    "disk": {"free_bytes": 50, "total_bytes": 100},
    "policy": {"repo": "lab/act", "commit": "1" * 40, "type": "act"},
}


def state_of(said=WELL, metrics="", **changes) -> RobotState:
    values = {
        "id": "robot-1", "site": "", "state": "running", "online": True, "seen_at": AT, "cameras": (("front", True),),
        "stop": Stop(StopState.FREE), "said": said, "arm": motors.read(metrics), "now": AT,
    }  # fmt: skip
    return RobotState(**values | changes)


def temperature(celsius: float) -> str:
    return f'lefleet_motor_temperature_celsius{{joint="gripper"}} {celsius}\n'


def heat(celsius: float) -> dict:
    return WELL | {"temperature": {"zone": "cpu-thermal", "celsius": celsius}}


def courier(trouble: dict | None, offset_s: float | None = None) -> dict:
    return WELL | {"courier": {"trouble": trouble, "clock_offset_s": offset_s}}


def drift(*roles: str) -> dict:
    return WELL | {"drift": {"roles": list(roles), "checked_unix_s": int((AT - timedelta(hours=3)).timestamp())}}


@pytest.mark.parametrize(
    ("state", "health", "texts"),
    [
        (state_of(), "good", []),
        (state_of(state="offline", online=False), "bad", ["Offline"]),
        (state_of(state="offline", online=False, seen_at=None, said={}), "bad", ["Never heard of"]),
        (state_of(state="retired", online=False), "off", []),
        (state_of(state="fault"), "bad", ["Fault"]),
        (state_of(stop=Stop(StopState.STOPPING, 1, "user:ada", AT)), "bad", ["Emergency stop"]),
        (state_of(state="estopped", stop=Stop(StopState.STOPPED)), "bad", ["Emergency stop"]),
        (state_of(WELL | {"loop": {"hz": 30, "lateness_ms_p99": 12.04}}), "warn", ["Late by 12.0 ms"]),
        (state_of(WELL | {"spool": {"bytes": 85, "budget_bytes": 100}}), "warn", ["Spool 85 % full"]),
        (state_of(WELL | {"disk": {"free_bytes": 4, "total_bytes": 100}}), "bad", ["Disk 96 % full"]),
        (state_of({"spool": {"lost_episodes": 3, "error": "away"}}), "bad", ["Spool: away", "3 episodes lost"]),
        (
            state_of(WELL | {"spool": {"refused_episodes": 2}}),
            "warn",
            ["2 episodes refused: lefleet-agent doctor names them"],
        ),
        (state_of(metrics=temperature(54)), "good", []),
        (state_of(metrics=temperature(55)), "warn", ["gripper at 55 °C"]),
        (state_of({}, temperature(65)), "bad", ["gripper at 65 °C"]),
        (state_of(heat(84.4)), "good", []),
        (state_of(heat(85)), "warn", ["Host at 85 °C (cpu-thermal)"]),
        (state_of(heat(97.4)), "bad", ["Host at 97 °C (cpu-thermal)"]),
        (state_of(courier({})), "good", []),
        (state_of(courier(None)), "good", []),
        (
            state_of(courier({"upload": "507: the disk is full", "spool": "away"})),
            "warn",
            ["Upload: 507: the disk is full"],
        ),
        (state_of(courier({}, 4.9)), "good", []),
        (state_of(courier({}, 90.0)), "warn", ["Clock 2 minutes behind the server's"]),
        (state_of(courier({}, -5.1)), "warn", ["Clock 5 seconds ahead of the server's"]),
        (state_of(drift()), "good", []),
        (state_of(drift("swap", "docker")), "warn", ["Differs from its roles: swap, docker (compared 3 hours ago)"]),
        (
            state_of(drift("swap"), now=AT - timedelta(hours=4)),  # clocks differ
            "warn",
            ["Differs from its roles: swap (compared just now)"],
        ),
        (state_of(alerts=[Alert("ArmSlow", "warning", "", AT)]), "warn", ["Alert ArmSlow"]),
        (
            state_of(drift("swap"), alerts=[Alert("Hot", "critical", "too hot", AT)]),
            "bad",
            ["Alert Hot: too hot", "Differs from its roles: swap (compared 3 hours ago)"],
        ),
        (
            state_of(heat(99) | drift("a"), online=False, state="offline", alerts=[Alert("Far", "critical", "", AT)]),
            "bad",
            ["Offline", "Alert Far"],
        ),
        (
            state_of({"disk": {"free_bytes": 15, "total_bytes": 100}}, temperature(66)),
            "bad",
            ["gripper at 66 °C", "Disk 85 % full"],
        ),
    ],
)  # fmt: skip
def test_health_names_what_a_person_should_see_to_the_worst_first(state, health, texts):
    assert (state.health, [issue.text for issue in state.issues]) == (health, texts)


def test_motors_are_read_from_what_the_agent_writes():
    registry = CollectorRegistry()
    metrics = RecorderMetrics(registry)
    motor = {
        "temperature_celsius": 41,
        "voltage_volts": 5.1,
        "load_ratio": -0.25,
        "current_amperes": 0.13,
        "alarms": [],
    }
    arm = {
        "motors": {"elbow_flex": motor},
        "errors": {"elbow_flex": 2},
        "reads": 90,
        "reads_failed": 3,
        "goals_withheld": 0,
    }
    metrics.arm(arm)
    found = motors.read(exposition(registry))
    assert found.motors == {"elbow_flex": motors.Motor(41, 5.1, 0.13, -0.25, 2)}
    assert found.hottest == ("elbow_flex", 41) and found.reads_failed == 3
    assert motors.read('lefleet_motor_load_ratio{joint="a"} NaN\n') == motors.Arm()


def test_a_row_says_how_hot_the_host_is_and_nothing_of_an_older_agent():
    place = FIELDS.index("host")
    assert row(state_of(heat(85.4)))[place] == [85, "warn"]
    assert row(state_of())[place] is None
    assert row(state_of(heat(85), online=False))[place] is None, "that was a while ago"
    assert state_of().drift is None and state_of(drift()).drift == []


def test_only_changed_cells_are_told_and_noise_is_no_change():
    before = {each.id: row(each) for each in (state_of(), state_of(id="robot-2"), state_of(id="robot-3"))}
    quieter = WELL | {"loop": {"hz": 30.01, "lateness_ms_p99": 3.38}, "disk": {"free_bytes": 50, "total_bytes": 100}}
    after = {
        each.id: row(each)
        for each in (state_of(quieter), state_of(id="robot-2", state="fault"), state_of(id="robot-4"))
    }
    told = compare(before, after)
    assert told["gone"] == ["robot-3"] and [new[0] for new in told["new"]] == ["robot-4"]
    changed = {name: {FIELDS[place]: value for place, value in cells.items()} for name, cells in told["cells"].items()}
    assert changed == {"robot-2": {"state": "fault", "health": "bad", "issues": [["bad", "Fault"]]}}
    assert compare(after, after) == {}
    assert len(FIELDS) == len(row(state_of()))


async def test_many_viewers_cause_one_look_and_those_behind_get_every_change(services, robot, enrol):
    other = await enrol("robot-2")
    feed = FleetFeed(services)
    first = await feed.fleet()
    assert (await feed.fleet()) is first and set(first.robots) == {"robot-1", "robot-2"}
    for client, state in ((robot, "fault"), (other, "running")):
        await client.heartbeat(state=state)
        feed.changed()
        await feed.fleet()
    newest = await feed.fleet()
    assert newest.version == first.version + 2
    told = [json.loads(each)["cells"] for each in feed.since(first.version)]
    assert [list(each) for each in told] == [["robot-1"], ["robot-2"]]
    assert feed.since(newest.version) == []
    assert feed.since(first.version - 9) is None, "so far behind one gets all of it"


async def test_what_no_row_shows_is_on_a_robots_page_at_once(services, robot):
    await robot.heartbeat()
    feed = FleetFeed(services)
    first = await feed.fleet()
    async with services.db.transaction() as session:
        await orders.say(session, "user:ada", "robot-1", orders.Kind.REST, True, "a new gripper")
    feed.changed()
    newest = await feed.fleet()
    assert newest.robots["robot-1"].rest.reason == "a new gripper"
    assert newest.version == first.version, "the fleet's page has nothing to draw"


async def test_a_heartbeat_that_is_known_is_not_read_again(services, robot, monkeypatch):
    await robot.heartbeat(metrics=temperature(40))
    feed, read = FleetFeed(services), []
    monkeypatch.setattr(fleet, "motors", SimpleNamespace(read=lambda text: read.append(text) or motors.read(text)))
    for _ in range(3):
        feed.changed()
        assert (await feed.fleet()).robots["robot-1"].arm.hottest == ("gripper", 40)
    assert len(read) == 1


async def test_the_api_says_of_a_robots_health_what_the_fleet_page_says(services, robot, enrol, operator):
    names = ["robot-1", "robot-2", "robot-3", "robot-4"]
    others = [await enrol(name) for name in names[1:]]
    await robot.heartbeat(state="running", disk={"free_bytes": 4, "total_bytes": 100}, metrics=temperature(56))
    await others[0].heartbeat(state="running", task="stack")
    (await operator.put("/api/v1/robots/robot-2/rest", json={"reason": "a new gripper"})).raise_for_status()
    await others[0].heartbeat(state="drained", detail="resting")
    await others[1].heartbeat(state="running")
    page = {each[0]: dict(zip(FIELDS, each, strict=True)) for each in (await FleetFeed(services).fleet()).rows.values()}
    told = {each["id"]: each for each in (await operator.get("/api/v1/robots")).raise_for_status().json()["items"]}
    assert list(page) == list(told) == names
    for name in names:
        one = (await operator.get(f"/api/v1/robots/{name}")).raise_for_status().json()
        for said in (told[name], one):
            assert (said["health"], said["line"]) == (page[name]["health"], page[name]["line"])
            assert [[issue["tone"], issue["text"]] for issue in said["issues"]] == page[name]["issues"]
    assert [told[name]["health"] for name in names] == ["bad", "warn", "good", "bad"]
    assert told["robot-1"]["arm"]["motors"]["gripper"]["temperature_celsius"] == 56
    assert told["robot-2"]["issues"][0]["text"] == "Resting: a new gripper"
    for each in others:
        await each.http.aclose()


@pytest.mark.parametrize(
    ("successes", "judged", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_success_has_wilsons_interval(successes, judged, low, high):
    """Values of statsmodels' proportion_confint(method="wilson")."""
    assert Rate(successes, judged).interval == pytest.approx((low, high), abs=1e-4)
    assert Rate(0, 0).interval is None


def test_the_arm_is_drawn_where_mujocos_model_has_it():
    model = mujoco.MjModel.from_xml_path(str(scene_file()))
    data = mujoco.MjData(model)
    rng = np.random.default_rng(5)
    for _ in range(20):
        angles = {joint.name: float(rng.uniform(-1.6, 1.6)) for joint in so101_pose.JOINTS}
        for name, angle in angles.items():
            data.joint(name).qpos[0] = angle
        mujoco.mj_kinematics(model, data)
        tip = so101_pose.place(angles, "wrist_roll", so101_pose.FIXED_JAW_TIP)
        assert tip == pytest.approx(data.site("gripperframe").xpos, abs=1e-4)
        jaw = so101_pose.place(angles, "gripper", so101_pose.MOVING_JAW_TIP)
        assert jaw == pytest.approx(data.geom("moving_jaw_pad").xpos, abs=1e-4)


def test_joints_become_angles_or_the_arm_is_not_an_so101():
    names = [joint.name for joint in so101_pose.JOINTS]
    units = ["degrees"] * 5 + ["percent"]
    angles = so101_pose.radians(names, units, [0, 90, 0, 0, 0, 100])
    assert angles["shoulder_lift"] == pytest.approx(np.pi / 2) and angles["gripper"] == pytest.approx(1.74533)
    assert so101_pose.radians(["waist"], ["degrees"], [1.0]) is None
    assert so101_pose.radians(names, ["furlongs"] * 6, [0.0] * 6) is None
    assert so101_pose.drawn("so101_follower") and so101_pose.drawn("so101_sim")
    assert not so101_pose.drawn("so100_follower") and not so101_pose.drawn("")


@pytest.mark.parametrize(
    ("robot_type", "begins"),
    [
        ("so101_sim", ""),
        ("so101_follower", ""),
        ("", ""),
        ("so100_follower", "SO-100 drawn as SO-101:"),
        ("koch", "koch "),
    ],
)
def test_an_arm_that_is_drawn_as_another_one_is_said_to_be(robot_type, begins):
    said = so101_pose.stand_in(robot_type)
    assert said.startswith(begins) and bool(said) == bool(begins)


def test_a_silent_robot_shows_no_rate():
    silent = state_of(online=False, state="offline", seen_at=AT - timedelta(hours=1))
    assert silent.hz is None and silent.lateness_ms is None and silent.waiting == 2
