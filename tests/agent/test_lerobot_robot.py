"""The real LeRobot driver on emulated motors: what must hold when all is well, and what is refused."""

import gc
import hashlib
import io
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from arm import JOINTS, Lab, eventually
from sts3215 import D_GAIN, GOAL, I_GAIN, LOCK, MAX_TORQUE, OFFSET, P_GAIN, PHASE, TORQUE, TORQUE_LIMIT

from lefleet_agent.config import AgentSettings
from lefleet_agent.config_robots import JointRange, LeRobotRobot
from lefleet_agent.episode import Outcome
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.lerobot import RealArm
from lefleet_agent.robots.so101_follower import FeetechArm
from lefleet_agent.wiring import build_arm, build_robot


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with Lab.plugged(tmp_path) as lab:
        yield lab


@pytest.fixture
def robot(lab):
    with lab.connected() as robot:
        yield robot


def test_lerobots_own_driver_finds_an_arm_here(lab):
    """The emulated motors are good enough for LeRobot as it is, so what we build on them holds."""
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    for servo in lab.bus.servos.values():  # its `connect` lets motors go where their goal register says: to zero
        servo.put(GOAL, round(servo.position), 2)
    config = SO101FollowerConfig(port=str(lab.bus.link), id="so101", calibration_dir=lab.folder)
    arm = SO101Follower(config)
    arm.connect(calibrate=False)
    assert arm.is_calibrated
    theirs = arm.get_observation()
    arm.send_action({"elbow_flex.pos": 10.0})
    assert eventually(lambda: abs(arm.get_observation()["elbow_flex.pos"] - 10) < 0.2)
    arm.disconnect()
    ours = lab.robot()
    ours.connect()
    seen = ours.observe().joints
    ours.disconnect()
    expected = [10.0 if joint == "elbow_flex" else theirs[f"{joint}.pos"] for joint in JOINTS]
    assert seen == pytest.approx(expected, abs=0.1)


def test_it_is_known_before_it_is_connected(lab):
    robot = lab.robot()
    info = robot.info
    assert info.joint_names == JOINTS
    assert info.joint_units == ("degrees",) * 5 + ("percent",)
    assert info.joint_limits[0] == pytest.approx((-117.8, 117.8), abs=0.1)
    assert info.joint_limits[5] == (0.0, 100.0)
    assert not info.simulated and info.type == "so101_follower"
    file = lab.folder / "so101.json"
    assert info.calibration_fingerprint == hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(RobotDisconnected, match="connect"):
        robot.observe()


def test_the_settings_kind_chooses_the_robot(lab):
    values = {"robot_id": "robot-1", "server_url": "http://127.0.0.1", "state_dir": lab.folder, "robot": lab.settings()}
    assert isinstance(build_robot(AgentSettings(**values)), RealArm)


def test_it_reads_what_it_sent_and_says_what_the_motors_got(robot, lab):
    target = np.array([20, -30.03, 15, 0, 5, 80], np.float32)
    sent = robot.send(target)
    assert sent == pytest.approx(target, abs=0.05) and not np.array_equal(sent, target)
    assert eventually(lambda: lab.bus.writes(GOAL, 1)[-1].value == round(20 * 4095 / 360 + 2100))
    assert eventually(lambda: np.abs(robot.observe().joints - sent).max() < 0.1)
    beyond = robot.send(np.array([500, 0, 0, 0, 0, 300], np.float32))
    assert beyond[0] == pytest.approx(robot.info.joint_limits[0][1]) and beyond[5] == 100


def test_a_reading_is_at_hand_and_fresh(robot):
    ages_ns, waits_ns = [], []
    for _ in range(30):
        time.sleep(0.01)
        start_ns = time.monotonic_ns()
        seen = robot.observe()
        waits_ns.append(time.monotonic_ns() - start_ns)
        ages_ns.append(start_ns - seen.read_monotonic_ns)
    assert np.median(ages_ns) < 30e6
    assert np.median(waits_ns) < 1e6


def test_no_motor_moves_when_torque_comes_on(lab):
    """Fresh from power-on the goal register holds zero: torque alone would swing every joint there."""
    for number, servo in lab.bus.servos.items():
        servo.position += 37 * number
    before = {number: servo.position for number, servo in lab.bus.servos.items()}
    robot = lab.robot()
    robot.connect()
    for number in lab.bus.servos:
        on = lab.bus.writes(TORQUE, number)
        goals = [each for each in lab.bus.writes(GOAL, number) if each.monotonic_s < on[0].monotonic_s]
        assert goals[-1].value == round(before[number])
        assert on[0].value == 1
    time.sleep(0.1)
    for number, servo in lab.bus.servos.items():
        servo.move()
        assert servo.position == pytest.approx(before[number], abs=1)
    robot.disconnect()


def test_an_arm_that_holds_goes_on_holding_through_disconnect_and_connect(lab):
    robot = lab.robot()
    robot.connect()
    robot.send(np.array([10, 10, 10, 10, 10, 10], np.float32))
    robot.disconnect()
    again = lab.robot()
    again.connect()
    again.disconnect()
    assert [each.value for each in lab.bus.writes(TORQUE)] == [1] * 6


def test_a_driver_that_is_forgotten_lets_nothing_fall(lab):
    """LeRobot's destructor disconnects, and its `disconnect` would let go."""
    driver = FeetechArm(lab.settings(), "robot-1")
    driver.open()
    del driver
    gc.collect()
    assert [each.value for each in lab.bus.writes(TORQUE)] == [1] * 6


def test_the_arm_is_let_go_only_when_the_settings_say_so(lab):
    robot = lab.robot(torque_off_on_disconnect=True)
    robot.connect()
    robot.disconnect()
    assert [each.value for each in lab.bus.writes(TORQUE)] == [1] * 6 + [0] * 6


def test_gains_and_torque_limits_are_the_settings_and_are_written_once(lab):
    lab.bus.servos[2].put(PHASE, 0x1C, 1)
    robot = lab.robot(p_gain=12, d_gain=20, torque_limit_percent=80)
    robot.connect()
    robot.disconnect()
    for number, servo in lab.bus.servos.items():
        assert (servo.get(P_GAIN, 1), servo.get(I_GAIN, 1), servo.get(D_GAIN, 1)) == (12, 0, 20)
        limit = 500 if number == 6 else 800
        assert servo.get(MAX_TORQUE, 2) == servo.get(TORQUE_LIMIT, 2) == limit
        assert servo.get(LOCK, 1) == 1
    assert lab.bus.servos[2].get(PHASE, 1) == 0x0C
    before = len(lab.bus.written)
    robot.connect()
    robot.disconnect()
    assert len(lab.bus.written) == before, "an EEPROM wears with each write"


def test_defaults_are_lerobots(lab):
    from lerobot.robots.so_follower import SO101FollowerConfig

    theirs, ours = SO101FollowerConfig(port=""), lab.settings()
    gains = (theirs.position_p_coefficient, theirs.position_i_coefficient, theirs.position_d_coefficient)
    assert (ours.p_gain, ours.i_gain, ours.d_gain) == gains


def test_nobody_is_asked_anything(lab, monkeypatch):
    class Nobody(io.StringIO):
        def readline(self, *_):
            raise AssertionError("standard input was read")

    monkeypatch.setattr(sys, "stdin", Nobody())
    lab.bus.servos[3].put(OFFSET, 99, 2)
    with pytest.raises(RobotError):
        lab.robot().connect()
    lab.bus.servos[3].power_cycle()
    robot = lab.robot()
    robot.connect()
    robot.disconnect()


def test_a_missing_calibration_is_refused_with_the_file_and_the_remedy(lab):
    (lab.folder / "so101.json").unlink()
    with pytest.raises(RobotError, match=r"so101\.json: there is no such.*lerobot-calibrate"):
        _ = lab.robot().info


def test_the_calibration_of_another_robot_is_refused(lab):
    file = lab.folder / "so101.json"
    file.write_text(file.read_text().replace('"gripper"', '"claw"'))
    with pytest.raises(RobotError, match="joint gripper is missing"):
        lab.robot().connect()


def test_a_joint_far_outside_of_its_range_is_refused_before_torque_comes_on(lab):
    lab.bus.servos[2].position = 100
    with pytest.raises(RobotError, match=r"shoulder_lift \(id 2\) stands 66 degrees outside"):
        lab.robot().connect()
    assert not lab.bus.writes(TORQUE, 2)


def test_motors_tell_how_they_are(robot, lab):
    lab.bus.servos[1].temperature_c, lab.bus.servos[1].current_a, lab.bus.servos[1].load = 44, 0.52, -123
    assert eventually(lambda: len(robot.health().motors) == 6, 8)
    health = robot.health()
    first = lab.bus.servos[1]
    assert eventually(lambda: robot.health().motors["shoulder_pan"].temperature_celsius == first.temperature_c, 8)
    state = robot.health().motors["shoulder_pan"]
    assert state.current_amperes == pytest.approx(0.52) and state.load_ratio == pytest.approx(-0.123)
    assert state.voltage_volts == 12.1 and state.alarms == ()
    assert health.reads > 10 and health.reads_failed < health.reads  # on a busy machine the emulation may be late


def test_reset_moves_nothing_and_the_outcome_is_unknown(robot, lab):
    before = len(lab.bus.written)
    robot.reset(3)
    assert robot.outcome() is Outcome.UNKNOWN
    assert len(lab.bus.written) == before


PLUGIN = """
from dataclasses import dataclass
import numpy as np
from lerobot.robots import Robot, RobotConfig

@RobotConfig.register_subclass("wobble")
@dataclass
class WobbleConfig(RobotConfig):
    asks: bool = False
    disable_torque_on_disconnect: bool = True

class Wobble(Robot):
    config_class = WobbleConfig
    name = "wobble"
    observation_features = {"base.pos": float, "eye": (4, 5, 3)}
    action_features = {"base.pos": float}
    is_connected = False
    is_calibrated = True
    def __init__(self, config):
        super().__init__(config)
        self.config, self.position, self.rgb = config, 0.0, np.zeros((4, 5, 3), np.uint8)
    def connect(self, calibrate=True):
        assert calibrate is False
        if self.config.asks:
            input("Move it to the middle and press ENTER")
        self.is_connected = True
    def calibrate(self): input()
    def configure(self): pass
    def get_observation(self): return {"base.pos": self.position, "eye": self.rgb}
    def send_action(self, action):
        self.position = min(action["base.pos"], 45.0)
        return {"base.pos": self.position}
    def disconnect(self): self.is_connected = False
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("plugins")
    package, metadata = folder / "lerobot_robot_wobble", folder / "lerobot_robot_wobble-1.0.dist-info"
    for each in (package, metadata):
        each.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lerobot_robot_wobble\nVersion: 1.0\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def wobble(tmp_path, joints=True, **config):
    ranges = {"base": JointRange(low=-90, high=90)} if joints else {}
    settings = LeRobotRobot(
        type="lerobot", lerobot_type="wobble", calibration_dir=tmp_path, config=config, joints=ranges
    )
    return build_arm(settings, "robot-1")


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_found_and_driven(tmp_path):
    robot = wobble(tmp_path)
    info = robot.info
    assert (info.type, info.joint_names, info.joint_limits) == ("wobble", ("base",), ((-90.0, 90.0),))
    assert (info.cameras["eye"].height, info.cameras["eye"].width) == (4, 5)
    robot.connect()
    assert robot.send(np.array([60], np.float32)) == pytest.approx([45])
    assert eventually(lambda: robot.observe().joints[0] == 45)
    assert robot.observe().images["eye"].seq == 1, "the same picture again is no new one"
    robot.disconnect()


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_asks_a_question_is_refused_instead_of_waiting(tmp_path):
    with pytest.raises(RobotError, match="wobble asked a question"):
        wobble(tmp_path, asks=True).connect()


@pytest.mark.usefixtures("plugin")
def test_a_robot_without_ranges_is_refused_with_the_joints_it_has(tmp_path):
    with pytest.raises(RobotError, match=r"robot\.joints must give the range of base"):
        _ = wobble(tmp_path, joints=False).info


def test_an_unknown_robot_is_refused_with_those_there_are(tmp_path):
    settings = LeRobotRobot(type="lerobot", lerobot_type="hexapod", calibration_dir=tmp_path)
    with pytest.raises(RobotError, match=r"no robot hexapod; it knows .*koch_follower.*so101_follower"):
        _ = build_arm(settings, "robot-1").info


def test_a_wrong_setting_of_lerobots_is_refused(tmp_path):
    settings = LeRobotRobot(type="lerobot", lerobot_type="koch_follower", config={"prot": "x"}, joints={})
    with pytest.raises(RobotError, match=r"koch_follower of .*prot"):
        _ = build_arm(settings, "robot-1").info
