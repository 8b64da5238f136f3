"""Taking over with real drivers: two emulated arms, a leader's thread, the loop on the system's clock."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from arm import Lab
from sts3215 import TORQUE
from test_control_loop import ListSink

from lefleet_agent.config import AgentSettings
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.safety import Freshness
from lefleet_agent.episode import EpisodeInfo, Frame
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.requests import emergency_stop, takeover
from lefleet_agent.wiring import build_limits, build_robot
from lefleet_agent.wiring_teleop import build_driver, build_leader

HZ = 30.0


@pytest.fixture
def arms(tmp_path) -> Iterator[tuple[Lab, Lab]]:
    with Lab.plugged(tmp_path / "follower") as follower, Lab.plugged(tmp_path / "leader") as leader:
        yield follower, leader


class At(ListSink):
    """Does what `acts` has for a tick, when that tick has been recorded."""

    def __init__(self, acts) -> None:
        super().__init__()
        self.acts = acts

    def add(self, frame: Frame) -> bool:
        super().add(frame)
        self.acts.get(len(self.frames), lambda: None)()
        return True


def episode(arms, state_dir: Path, acts, seconds: float) -> tuple[Ended, list[Frame]]:
    follower, leader_lab = arms
    port = {"port": str(leader_lab.bus.link), "calibration_id": "so101", "calibration_dir": leader_lab.folder}
    settings = AgentSettings(
        robot_id="robot-1",
        server_url="http://127.0.0.1",
        state_dir=state_dir,
        robot=follower.settings(),
        leader={"type": "so101_leader", "join_s": 0.5, **port},
    )
    robot, leader, sink = build_robot(settings), None, At(acts)
    try:
        robot.connect()
        leader = build_leader(settings, robot.info)
        leader.start()
        driver = build_driver(settings, leader, InlineRunner(ScriptedPolicy(hz=HZ, amplitude=3)))
        operator = Operator(emergency_stop(state_dir), state_dir / "run", Event())
        pace = Pace(HZ, hold_limit_s=1.0)
        loop = ControlLoop(
            robot, build_limits(robot.info, settings), Freshness(1.0, 1.0), sink, SystemClock(), pace, operator
        )
        info = EpisodeInfo("e" * 32, robot.info, None, "wave", HZ, "test", 0, 0)
        return loop.run(info, driver, seconds, None), sink.frames
    finally:
        robot.disconnect()
        if leader:
            leader.stop()


def test_a_person_leads_the_real_driver_and_hands_back(arms, tmp_path):
    follower, leader = arms
    hand = takeover(tmp_path)

    def grasp() -> None:
        leader.bus.servos[1].position += 400
        hand.request("pedal")

    ended, frames = episode(arms, tmp_path, {20: grasp, 80: lambda: hand.withdraw("pedal")}, 4)
    assert not ended.interrupted, ended.reason
    led = [frame.intervention for frame in frames]
    assert led == [20 <= tick < 80 for tick in range(len(frames))]
    pan = np.array([frame.sent[0] for frame in frames])
    assert pan[79] == pytest.approx(400 * 360 / 4095, abs=0.2)
    assert np.abs(np.diff(pan)).max() < 6
    assert np.abs(pan[80:] - pan[79]).max() < 5, "the policy goes on from there"
    assert not [each for each in leader.bus.writes(TORQUE) if each.value]
    assert [each.value for each in follower.bus.writes(TORQUE)] == [1] * 6


def test_a_leader_that_is_unplugged_makes_the_arm_hold_and_ends_the_episode(arms, tmp_path):
    hand = takeover(tmp_path)
    acts = {10: lambda: hand.request("pedal"), 50: arms[1].bus.unplug}
    ended, frames = episode(arms, tmp_path, acts, 10)
    assert ended.cause is Cause.LEADER and ended.interrupted and "leader arm" in ended.reason
    assert frames[-1].held and frames[-1].intervention
    assert len({tuple(frame.sent) for frame in frames if frame.held}) == 1
