"""The real LeRobot leader on emulated motors: read without torque, refused when it is another arm, never in the way."""

import dataclasses
import io
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from arm import JOINTS, Lab, eventually
from sts3215 import GOAL, OFFSET, RETURN_DELAY, TORQUE

from lefleet_agent.config import AgentSettings, ConfigError
from lefleet_agent.config_robots import So101Leader
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.following import Following
from lefleet_agent.leader import Leader, LeaderError
from lefleet_agent.robots.fake import FakeLeader, FakeRobot
from lefleet_agent.robots.so101_leader import JOINTS as LEADER_JOINTS
from lefleet_agent.wiring_teleop import build_leader


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with Lab.plugged(tmp_path) as lab:
        yield lab


def settings(lab: Lab, **changes) -> AgentSettings:
    leader = So101Leader(
        type="so101_leader", port=str(lab.bus.link), calibration_id="so101", calibration_dir=lab.folder, **changes
    )
    return AgentSettings(robot_id="r", server_url="http://127.0.0.1", state_dir=lab.folder, leader=leader)


@pytest.fixture
def leader(lab) -> Iterator[Leader]:
    leader = build_leader(settings(lab), FakeRobot().info)
    leader.start()
    yield leader
    leader.stop()


def trouble(leader: Leader) -> str:
    try:
        leader.pose()
    except LeaderError as error:
        return str(error)
    return ""


def gives_poses(leader: Leader) -> bool:
    return eventually(lambda: not trouble(leader))


def test_its_joints_are_read_as_the_robots_own_would_be(lab, leader):
    assert gives_poses(leader)
    lab.bus.servos[1].position += 200
    lab.bus.servos[6].position = 2030
    expected = [200 * 360 / 4095, 0, 0, 0, 0, 0]
    assert eventually(lambda: np.allclose(leader.pose().joints, expected, atol=0.1))
    assert leader.pose().joints.dtype == np.float32
    seen_ns = leader.pose().read_monotonic_ns
    assert eventually(lambda: leader.pose().read_monotonic_ns > seen_ns)


def test_a_person_can_move_it(lab):
    for servo in lab.bus.servos.values():
        servo.put(TORQUE, 1, 1)
        servo.put(GOAL, round(servo.position), 2)
    leader = build_leader(settings(lab), FakeRobot().info)
    leader.start()
    assert gives_poses(leader)
    leader.stop()
    assert [each.value for each in lab.bus.writes(TORQUE)] == [0] * 6
    assert not lab.bus.writes(GOAL)
    assert all(servo.get(RETURN_DELAY, 1) == 0 for servo in lab.bus.servos.values())


def test_another_arm_on_its_port_is_refused_before_its_torque_is_taken(lab, monkeypatch):
    class Nobody(io.StringIO):
        def readline(self, *_):
            raise AssertionError("standard input was read")

    monkeypatch.setattr(sys, "stdin", Nobody())
    for servo in lab.bus.servos.values():
        servo.put(TORQUE, 1, 1)
    lab.bus.servos[3].put(OFFSET, 99, 2)
    leader = build_leader(settings(lab), FakeRobot().info)
    leader.start()
    assert eventually(lambda: "elbow_flex (id 3) does not match" in trouble(leader))
    leader.stop()
    assert "lerobot-calibrate --teleop.type=so101_leader --teleop.port=" in trouble(leader)
    assert not lab.bus.written


def test_a_missing_calibration_names_the_file_and_the_remedy(lab):
    (lab.folder / "so101.json").unlink()
    leader = build_leader(settings(lab), FakeRobot().info)
    leader.start()
    assert eventually(lambda: "so101.json: there is no such calibration file" in trouble(leader))
    assert "--teleop.id=so101" in trouble(leader)
    leader.stop()


def test_a_leader_that_is_not_there_hinders_nobody_and_is_found_when_it_comes(lab):
    lab.bus.unplug()
    leader = build_leader(settings(lab), FakeRobot().info)
    leader.start()
    assert eventually(lambda: "there is no such port" in trouble(leader))
    lab.bus.plug()
    assert gives_poses(leader)
    lab.bus.unplug()
    assert eventually(lambda: bool(trouble(leader)))
    lab.bus.plug()
    assert gives_poses(leader)
    leader.stop()


def test_a_motor_that_falls_silent_is_named(lab):
    leader = build_leader(settings(lab, bus_silence_s=0.1), FakeRobot().info)
    leader.start()
    assert gives_poses(leader)
    lab.bus.missing = {5, 6}
    assert eventually(lambda: "wrist_roll (id 5), motor gripper (id 6) do not answer" in trouble(leader), 15)
    lab.bus.missing = set()
    assert gives_poses(leader)
    leader.stop()


def test_lost_answers_are_passed_over(lab, leader):
    assert gives_poses(leader)
    lab.bus.garbled_packets = lab.bus.silent_packets = 3
    assert eventually(lambda: lab.bus.garbled_packets == lab.bus.silent_packets == 0)
    before = leader.pose().read_monotonic_ns
    assert eventually(lambda: leader.pose().read_monotonic_ns > before)


def test_a_robot_with_other_joints_cannot_be_led(lab):
    info = dataclasses.replace(FakeRobot().info, joint_names=("base",))
    with pytest.raises(ConfigError, match=r"leader\.type = so101_leader has the joints.*the robot has base"):
        build_leader(settings(lab), info)
    assert LEADER_JOINTS == JOINTS


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_every_leader_is_followed_and_its_loss_is_a_sentence(lab, leader, kind):
    each: Leader = FakeLeader() if kind == "fake" else leader
    if kind == "fake":
        each.start()
    following = Following(each, SystemClock(), 50.0, 0.1, 5.0)
    seen, last = FakeRobot().observe(), np.zeros(6, np.float32)
    assert eventually(lambda: following.next(seen, last).action is not None)
    if kind == "fake":
        each.lost = "unplugged"
    else:
        lab.bus.unplug()
    assert eventually(lambda: bool(following.next(seen, last).why))
