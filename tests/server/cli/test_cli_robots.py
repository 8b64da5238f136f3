"""`lefleet robots`, `emergency-stop` and `clear`: what the robots say, and what they are told."""

import asyncio
from contextlib import asynccontextmanager

from sqlalchemy import insert, update

from lefleet_server.accounts.models import Role
from lefleet_server.cli import look
from lefleet_server.robots.models import Robot


@asynccontextmanager
async def obeys(robot, seen: list | None = None):
    """The robot's courier and arm: it takes wishes and says so in its heartbeats, until the block ends."""

    async def live() -> None:
        held = {"wish": 0, "holds": False}
        while True:
            wish = (await robot.http.get("/api/v1/robot/wishes")).json()["estop"]
            if wish["number"] > held["wish"]:
                held = {"wish": wish["number"], "holds": wish["wanted"]}
            await robot.heartbeat(state="estopped" if held["holds"] else "running", estop=held)
            await asyncio.sleep(0.1)

    await robot.heartbeat()
    task = asyncio.create_task(live())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def states(done) -> dict[str, str]:
    return {item["robot_id"]: item["state"] for item in done.items}


async def test_a_stop_waits_for_the_robots_word_and_a_release_for_its_end(robot, enrol, with_token):
    second = await enrol("robot-2")
    script = await with_token()
    async with obeys(robot), obeys(second):
        assert states(await script.ok("emergency-stop", "robot-1", "--json")) == {"robot-1": "stopped"}
        assert states(await script.ok("estop", "--all", "--json")) == {"robot-1": "stopped", "robot-2": "stopped"}
        assert "stopped" in (await script.ok("robots", "list")).out
        asked = await script("clear", "--all")
        assert (asked.status, "--yes" in asked.err, "stopped by user:operator-" in asked.err) == (2, True, True)
        assert states(await script.ok("clear", "robot-2", "--yes", "--json")) == {"robot-2": "free"}
        assert states(await script.ok("clear", "--all", "--yes", "--json")) == {"robot-1": "free"}
        again = await script.ok("clear", "robot-1", "--yes", "--json")
        assert "nobody stopped it through the server" in again.err
        assert states(again) == {"robot-1": "free"}, "whoever is named is told of"
        none = await script.ok("clear", "--all", "--yes", "--json")
        assert (none.items, "nobody stopped a robot" in none.err) == ([], True)
    await second.http.aclose()


async def test_a_robot_that_has_not_obeyed_is_exit_status_3_and_told(robot, enrol, with_token):
    away = await enrol("robot-2")  # never said anything
    script = await with_token()
    async with obeys(robot):
        done = await script("emergency-stop", "robot-1", "robot-2")
        assert done.status == 3
        assert "robot-1  stopped" in done.out
        assert "robot-2  stopping  it is offline" in done.out
    assert (await script("emergency-stop", "robot-2")).status == 3
    done = await script("emergency-stop", "robot-9", "robot-2", "--json")
    assert (done.status, states(done), "no robot 'robot-9'" in done.err) == (3, {"robot-2": "stopping"}, True)
    unknown = await script("clear", "robot-9", "--yes")
    assert unknown.status == 1 and "no robot 'robot-9'" in unknown.err
    await away.http.aclose()


async def test_one_that_answers_but_does_not_hold_is_waited_for_and_told(robot, with_token):
    await robot.heartbeat()
    done = await (await with_token())("emergency-stop", "robot-1", "--wait", "0.5", "--json")
    assert (done.status, states(done)) == (3, {"robot-1": "stopping"})
    assert (await (await with_token())("emergency-stop", "robot-9")).status == 1


async def test_robots_are_listed_and_shown(robot, enrol, with_token):
    other = await enrol("robot-2", site="lab")
    await robot.heartbeat(
        task="lift\x1b[2Jthe block",
        policy={"repo": "lab/act", "commit": "c0ffee", "digest": "", "type": "act"},
        spool={"episodes": 3, "bytes": 5_000_000, "budget_bytes": 10**9},
        disk={"free_bytes": 42 * 10**9, "total_bytes": 10**11},
        loop={"hz": 30.0, "ticks": 1, "late": 0} | {f"lateness_ms_{name}": 1.0 for name in ("p50", "p99", "max")},
    )
    script = await with_token(Role.VIEWER)
    listed = (await script.ok("robots", "list")).out
    assert "lab/act" in listed and "42.0 GB" in listed and len(listed.splitlines()) == 4
    for words, expected in {
        (): ["robot-1", "robot-2"],
        ("--state", "offline"): ["robot-2"],
        ("--site", "lab"): ["robot-2"],
        ("--state", "fault"): [],
    }.items():
        found = await script.ok("robots", "list", "--json", *words)
        assert [item["id"] for item in found.items] == expected
    shown = (await script.ok("robots", "show", "robot-1")).out
    assert "3 episodes (5.0 MB of 1.0 GB)" in shown and "lift\N{REPLACEMENT CHARACTER}[2Jthe block" in shown
    assert (await script.ok("robots", "show", "robot-1", "--json")).item["heartbeat"]["task"] == "lift\x1b[2Jthe block"
    for name in ("../users", "..", ""):
        missing = await script("robots", "show", name)
        assert missing.status == 2 and f"robot_id: {name!r}: is no name" in missing.err
    assert "no robot 'robot 9?'" in (await script("robots", "show", "robot 9?")).err
    await other.http.aclose()


async def test_heat_drift_and_versions_are_shown_and_in_json(robot, with_token):
    told = {"temperature": {"zone": "gpu-thermal", "celsius": 61.7}}
    told |= {"drift": {"roles": ["swap", "docker"], "checked_unix_s": 1_780_000_000}}
    told |= {"versions": {"lerobot": "0.6.1", "torch": "", "jetson_linux": "36.4.3", "kernel": "5.15.148-tegra"}}
    script = await with_token(Role.VIEWER)
    await robot.heartbeat()
    before = (await script.ok("robots", "show", "robot-1")).out
    assert "host at" not in before and "drift" not in before and "alerts" not in before
    await robot.heartbeat(**told)
    shown = (await script.ok("robots", "show", "robot-1")).out
    assert "62 °C (gpu-thermal)" in shown and "swap, docker (compared 2026-0" in shown
    assert all(version in shown for version in ("0.6.1", "36.4.3", "5.15.148-tegra"))
    said = (await script.ok("robots", "list", "--json")).items[0]["heartbeat"]
    assert {name: said[name] for name in told} == told


def test_alerts_are_named_once_each_and_unknown_ones_are_said_to_be():
    twice = [{"name": name} for name in ("Drift", "MotorHot", "MotorHot")]
    assert look._alerts({"alerts": twice}) == "Drift, MotorHot"
    for nothing in ({}, {"alerts": None}, {"alerts": [], "alerts_unknown_since": None}):
        assert look._alerts(nothing) == look._unknown(nothing) == ""
    unknown = {"alerts": None, "alerts_unknown_since": "2026-11-27T12:00:00Z"}
    assert look._unknown(unknown).startswith("unknown since 2026-11-27 ")


async def test_health_and_servos_are_shown_as_the_dashboard_shows_them(robot, enrol, with_token):
    other = await enrol("robot-10", site="lab")
    joint = '{joint="wrist_roll"}'
    metrics = (
        f"lefleet_motor_temperature_celsius{joint} 66\nlefleet_motor_voltage_volts{joint} 5.1\n"
        f"lefleet_motor_current_amperes{joint} 0.13\nlefleet_motor_load_ratio{joint} -0.25\n"
        'lefleet_arm_reads_total{result="ok"} 87\nlefleet_arm_reads_total{result="failed"} 3\n'
    )
    joints = {"names": ["wrist_roll"], "units": ["degrees"], "values": [12.34]}
    await robot.heartbeat(metrics=metrics, joints=joints, uptime_s=7200.0, disk={"free_bytes": 15, "total_bytes": 100})
    await other.heartbeat(state="drained")
    script = await with_token(Role.VIEWER)
    listed = (await script.ok("robots", "list")).out
    assert "wrist_roll at 66 °C; Disk 85 % full" in listed and "Resting" in listed
    for words, expected in {
        ("--health", "bad"): ["robot-1"],
        ("--health", "warn"): ["robot-10"],
        ("--health", "good"): [],
        ("--sort", "health"): ["robot-1", "robot-10"],
        ("--sort", "-name"): ["robot-10", "robot-1"],
        ("--sort", "disk"): ["robot-1", "robot-10"],
        ("--search", "LAB drained"): ["robot-10"],
    }.items():
        found = await script.ok("robots", "list", "--json", *words)
        assert [item["id"] for item in found.items] == expected, words
    shown = (await script.ok("robots", "show", "robot-1")).out
    assert all(each in shown for each in ("wrist_roll 12.3 degrees", "2 hours", "66 °C", "5.1 V", "0.13 A", "-25%"))
    assert "3 of 90 readings" in (await script.ok("robots", "show", "robot-1")).err
    assert "66 °C" not in (await script.ok("robots", "show", "robot-10")).out
    wrong = await script("robots", "list", "--sort", "colour")
    assert wrong.status == 2 and "'colour'" in wrong.err and "celsius" in wrong.err
    await other.http.aclose()


async def test_what_happened_to_a_robot_is_listed_for_everybody(robot, with_token):
    await robot.heartbeat(state="running")
    await (await with_token()).ok("robots", "rest", "robot-1", "--reason", "a new gripper")
    events = await (await with_token(Role.VIEWER)).ok("robots", "events", "robot-1", "--json", "-n", "2")
    assert [each["what"] for each in events.items] == ["Rest asked for", "State"]
    shown = (await (await with_token(Role.VIEWER)).ok("robots", "events", "robot-1")).out
    assert "a new gripper" in shown and "Enrolled" in shown


async def test_more_robots_than_a_page_has_are_listed_counted_and_found(services, with_token):
    ids = [f"many-{number:04}" for number in range(1203)]
    async with services.db.transaction() as session:
        rows = [{"id": id_, "token_hash": id_.encode(), "hw": "", "agent_version": ""} for id_ in ids]
        await session.execute(insert(Robot), rows)
        await session.execute(update(Robot).where(Robot.id == ids[-1]).values(site="lab"))
    script = await with_token()
    assert [item["id"] for item in (await script.ok("robots", "list", "--json")).items] == ids
    assert [item["id"] for item in (await script.ok("robots", "list", "--site", "lab", "--json")).items] == ids[-1:]
    assert (await script.ok("status", "--json")).item["robots"] == {"offline": 1203}
    assert (await script("emergency-stop", ids[-1], "--json")).item["robot_id"] == ids[-1]
    wrong = await script("robots", "list", "--state", "No word")
    assert wrong.status == 1 and "state" in wrong.err


async def test_a_picture_is_written_whole_or_not_at_all(robot, with_token, tmp_path):
    jpeg = b"\xff\xd8\xff" + b"p" * 100 + b"\xff\xd9"
    await robot.http.put("/api/v1/robot/cameras/wrist", content=jpeg, headers={"Content-Type": "image/jpeg"})
    script = await with_token(Role.VIEWER)
    await script.ok("robots", "picture", "robot-1", "wrist", "--to", tmp_path / "wrist.jpg")
    assert (tmp_path / "wrist.jpg").read_bytes() == jpeg
    none = await script("robots", "picture", "robot-1", "front", "--to", tmp_path / "front.jpg")
    assert none.status == 1 and not (tmp_path / "front.jpg").exists()
    nowhere = await script("robots", "picture", "robot-1", "wrist", "--to", tmp_path / "none" / "x.jpg")
    assert nowhere.status == 1 and "cannot be written" in nowhere.err


async def test_credentials_are_given_changed_and_taken(with_token, connect, anonymous):
    script = await with_token(Role.ADMIN)
    code = (await script.ok("robots", "register", "robot-7", "--site", "lab")).out.strip()

    async def enrol(code: str) -> str:
        body = {"code": code, "robot_id": "robot-7", "agent_version": "0.1.0"}
        return (await anonymous.post("/api/v1/robots/enrol", json=body)).raise_for_status().json()["token"]

    async def is_known(token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        return (await anonymous.post("/api/v1/robot/heartbeat", json={"state": "idle"}, headers=headers)).is_success

    first = await enrol(code)
    again = await script("robots", "register", "robot-7")
    assert again.status == 1 and "lefleet robots rotate robot-7" in again.err
    made = (await script.ok("robots", "rotate", "robot-7", "--json")).item
    assert await is_known(first)
    shown = (await script.ok("robots", "credential", "robot-7")).out
    assert "rotating" in shown and "code valid until" in shown
    second = await enrol(made["code"])
    assert (await is_known(first), await is_known(second)) == (False, True)
    assert (await script.ok("robots", "show", "robot-7", "--json")).item["site"] == "lab"
    state = (await script.ok("robots", "credential", "robot-7", "--json")).item
    assert state["since"] and state["used_at"] and (state["renewed_at"], state["code_until"]) == (None, None)
    assert (await script("robots", "revoke", "robot-7")).status == 2
    assert (await script.ok("robots", "revoke", "robot-7", "--yes", "--json")).item["changed"] is True
    assert not await is_known(second)
    assert "retired already" in (await script.ok("robots", "revoke", "robot-7", "--yes")).out
    assert "revoked" in (await script.ok("robots", "credential", "robot-7")).out
    assert (await script("robots", "credential", "robot-8")).status == 1
    await script.ok("robots", "register", "robot-7")
    assert (await script("robots", "rotate", "robot-8")).status == 1
    viewer = await with_token(Role.VIEWER)
    assert "role admin" in (await viewer("robots", "register", "robot-9")).err


async def test_robots_are_rested_resumed_and_given_a_task(robot, enrol, with_token):
    second, script = await enrol("robot-2"), await with_token()
    await robot.heartbeat(task="stack")

    async def heard(of, kind: str):
        params = {"rest_since": 0, "task_since": 0}
        return (await of.http.get("/api/v1/robot/wishes", params=params)).json()[kind]

    done = await script.ok("robots", "rest", "--all", "--json")
    assert [(item["robot_id"], item["wanted"]) for item in done.items] == [("robot-1", True), ("robot-2", True)]
    assert (await heard(second, "rest"))["wanted"]
    assert "asked for by user:operator-" in (await script.ok("robots", "show", "robot-1")).out
    asked = await script("robots", "resume", "robot-1")
    assert asked.status == 2 and "--yes" in asked.err and (await heard(robot, "rest"))["wanted"]
    assert (await script.ok("robots", "resume", "robot-1", "--yes")).out == "robot-1 goes on\n"
    assert not (await heard(robot, "rest"))["wanted"] and (await heard(second, "rest"))["wanted"]
    told = await script.ok("robots", "task", "robot-1", "--text", "Sort the bolts")
    assert told.out == "robot-1: Sort the bolts\n"
    assert (await heard(robot, "task"))["text"] == "Sort the bolts"
    shown = (await script.ok("robots", "show", "robot-1")).out
    assert "stack" in shown and "Sort the bolts (user:operator-" in shown
    await script.ok("robots", "task", "robot-1", "--default")
    assert (await heard(robot, "task"))["text"] is None
    partly = await script("robots", "rest", "robot-1", "robot-9")
    assert partly.status == 3 and "no robot 'robot-9'" in partly.err
    assert (await script("robots", "task", "robot-1")).status == 2
    await second.http.aclose()


async def test_hosts_are_rebooted_after_a_yes_and_those_that_would_not_are_named(robot, enrol, with_token):
    second, script = await enrol("robot-2"), await with_token()
    await robot.heartbeat(orders={"reboot": 0})
    asked = await script("robots", "reboot", "robot-1")
    assert asked.status == 2 and "--yes" in asked.err
    done = await script("robots", "reboot", "robot-1", "robot-2", "--reason", "the GPU hangs", "--yes", "--json")
    assert done.status == 3 and "robot-2 is offline" in done.err
    assert (done.item["robot_id"], done.item["state"], done.item["reason"]) == ("robot-1", "asked", "the GPU hangs")
    shown = (await script.ok("robots", "show", "robot-1")).out
    assert "asked by user:operator-" in shown and "the GPU hangs" in shown
    wishes = (await robot.http.get("/api/v1/robot/wishes", params={"reboot_since": 0})).json()
    assert wishes["reboot"]["number"] > 0
    await second.http.aclose()
