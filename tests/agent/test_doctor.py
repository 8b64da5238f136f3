"""What the doctor sees, and that whatever is not good comes with a remedy."""

import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from arm import JOINTS, Lab

from lefleet_agent.doctor import arm, fleet, machine
from lefleet_agent.doctor.finding import Finding, Verdict
from lefleet_agent.episode import ArmHealth, MotorHealth, Outcome
from lefleet_agent.release import ReleaseStore
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.spool import Spool

CHECKPOINT = Path(__file__).parents[2] / "agent" / "demo" / "checkpoint"
MOTOR = MotorHealth(35.0, 12.1, 0.1, 0.2, ())
HEALTH = ArmHealth(dict.fromkeys(JOINTS, MOTOR), {}, 1000, 0, 0)


def verdicts(findings) -> dict[str, Finding]:
    found = {finding.part: finding for finding in findings}
    assert all(finding.remedy for finding in found.values() if finding.verdict in (Verdict.WARNING, Verdict.BAD))
    return found


def test_a_disk_with_room_is_good_and_one_that_is_gone_is_bad(tmp_path):
    assert verdicts(machine.disk(tmp_path, 10**6))["disk"].verdict is Verdict.GOOD
    gone = verdicts(machine.disk(tmp_path / "gone", 10**6))["disk"]
    assert gone.verdict is Verdict.BAD and "No such file" in gone.what


def test_a_budget_larger_than_the_disk_is_a_warning(tmp_path):
    assert verdicts(machine.disk(tmp_path, 10**18))["disk"].verdict is Verdict.WARNING


@pytest.mark.parametrize(("available_kb", "verdict"), [(4_000_000, Verdict.GOOD), (200_000, Verdict.BAD)])
def test_memory_is_judged_by_what_is_available(available_kb, verdict):
    meminfo = f"MemTotal: 7800000 kB\nMemAvailable: {available_kb} kB\nSwapTotal: 8000000 kB\nSwapFree: 7000000 kB\n"
    found = verdicts(machine.memory(meminfo))["memory"]
    assert found.verdict is verdict and "1.0 GB swapped out" in found.what


@pytest.mark.parametrize(("celsius", "verdict"), [(50, Verdict.GOOD), (90, Verdict.WARNING), (98, Verdict.BAD)])
def test_the_hottest_zone_counts_and_one_that_is_off_is_passed_over(tmp_path, celsius, verdict):
    for number, (kind, reading) in enumerate([("cpu-thermal", f"{celsius}000"), ("gpu-thermal", "40000"), ("cv0", "")]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(reading)
    found = verdicts(machine.temperatures(tmp_path))["temperature"]
    assert found.verdict is verdict and found.what == f"cpu-thermal {celsius} °C, the hottest of 2"


@pytest.mark.parametrize(
    ("offset_s", "verdict", "said"),
    [(None, Verdict.UNKNOWN, "did not answer"), (1.0, Verdict.GOOD, "within"), (90.0, Verdict.WARNING, "90 s behind")],
)
def test_the_clock_is_held_against_the_servers(offset_s, verdict, said):
    found = verdicts(machine.clock(offset_s))["clock"]
    assert found.verdict is verdict and said in found.what


def test_a_policy_is_good_when_every_file_is_what_was_installed(tmp_path):
    store = ReleaseStore(tmp_path)
    assert verdicts(machine.policy(store))["policy"].verdict is Verdict.BAD
    store.install(CHECKPOINT, "lefleet/demo", "1")
    assert verdicts(machine.policy(store))["policy"].verdict is Verdict.GOOD
    (tmp_path / "active" / "config.json").write_text("{}")
    assert "config.json is not the file" in verdicts(machine.policy(store))["policy"].what


def test_the_device_is_tried_and_one_that_is_not_there_is_bad():
    assert verdicts(machine.device("cpu"))["device"].what.startswith("cpu: ")
    missing = verdicts(machine.device("xpu"))["device"]
    assert missing.verdict is Verdict.BAD and "cannot compute on xpu" in missing.what


def test_the_spool_says_what_waits_and_what_was_refused(tmp_path):
    spool = Spool(tmp_path)
    about = {"sha256": "a" * 64, "size_bytes": 900, "outcome": Outcome.FAILURE, "interrupted": False}
    spool.add("e" * 32, "e.h5", ended_wall_ns=1, **about)
    assert verdicts(fleet.spool(spool, 10**6))["spool"].verdict is Verdict.GOOD
    assert verdicts(fleet.spool(spool, 1000))["spool"].verdict is Verdict.WARNING
    spool.refuse("e" * 32, "no such robot")
    found = verdicts(fleet.spool(spool, 10**6))["spool"]
    assert f"refused 1, which stay here: {'e' * 32}: no such robot" in found.what
    assert "retry-refused" in found.remedy


@pytest.mark.parametrize(
    ("motor", "verdict"),
    [
        (MOTOR, Verdict.GOOD),
        (replace(MOTOR, temperature_celsius=58), Verdict.WARNING),
        (replace(MOTOR, temperature_celsius=66), Verdict.BAD),
        (replace(MOTOR, alarms=("overload",)), Verdict.BAD),
    ],
)
def test_a_motor_is_judged_by_its_heat_and_by_what_it_reports(motor, verdict):
    health = replace(HEALTH, motors=HEALTH.motors | {"elbow_flex": motor})
    assert verdicts(arm.motors(health))["motor elbow_flex"].verdict is verdict


def test_a_bus_that_loses_answers_names_the_joint_with_most():
    found = verdicts(arm.motors(replace(HEALTH, reads_failed=60, errors={"wrist_roll": 9, "gripper": 44})))["bus"]
    assert found.verdict is Verdict.WARNING and "gripper (44)" in found.what and "gripper" in found.remedy


@pytest.mark.parametrize(("measured", "verdict"), [(29.5, Verdict.GOOD), (14, Verdict.WARNING), (0, Verdict.BAD)])
def test_a_camera_is_judged_by_the_rate_it_gives(measured, verdict):
    assert arm.camera_rate("front", measured, 30).verdict is verdict


def test_a_motor_that_says_nothing_is_named():
    found = verdicts(arm.motors(HEALTH, [*HEALTH.motors, "wrist_roll_2"]))
    assert found["motor wrist_roll_2"].verdict is Verdict.UNKNOWN
    assert not [each for each in verdicts(arm.motors(replace(HEALTH, motors={}), ["gripper"])) if "motor" in each]


def test_an_arm_is_asked_itself_and_goes_on_holding(tmp_path):
    with Lab.plugged(tmp_path) as lab:
        lab.bus.servos[3].temperature_c = 61
        found = verdicts(arm.own(lab.robot()))
        assert found["arm"].verdict is Verdict.GOOD
        assert "readings failed, 0 targets withheld" in found["bus"].what  # how many is the emulation's own pace
        assert found["motor elbow_flex"].verdict is Verdict.WARNING
        assert len(found["calibration"].what) > 20
        lab.bus.unplug()
        assert verdicts(arm.own(lab.robot()))["arm"].verdict is Verdict.BAD


def test_while_control_runs_its_own_words_are_read_and_pictures_counted():
    count = iter((100, 200))

    def metrics() -> str:
        return f'lefleet_camera_frames_total{{camera="front",result="new"}} {next(count)}.0\n'

    robot = FakeRobot("robot-1", cameras=("front", "wrist")).info
    found = verdicts(arm.told({"state": "running", "arm": asdict(HEALTH)}, metrics, robot))
    assert found["camera front"].verdict is Verdict.GOOD and found["camera wrist"].verdict is Verdict.BAD
    assert found["motor gripper"].verdict is Verdict.GOOD


def test_the_command_prints_findings_for_people_and_json_for_scripts_and_says_by_its_status(tmp_path, agent_command):
    config = tmp_path / "agent.yml"
    values = {"robot_id": "robot-1", "server_url": "http://127.0.0.1:9", "state_dir": str(tmp_path)}
    config.write_text(yaml.safe_dump(values | {"policy": {"device": "cpu"}}))
    command = agent_command("doctor", "--config", config)
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=180, check=False)
    found = {each["part"]: each for each in json.loads(told.stdout)}
    assert told.returncode == 1
    assert found["server"]["verdict"] == "bad" and "not enrolled" in found["server"]["what"]
    assert found["arm"]["verdict"] == found["disk"]["verdict"] == "good"
