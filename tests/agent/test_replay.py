"""Playing a recorded episode: read from a real file, held against the robot, and driven by the real loop."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from threading import Event

import h5py
import numpy as np
import pytest
import yaml
from arm import Lab

from lefleet_agent.config import AgentSettings
from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.ended import Cause
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.episode import EpisodeInfo
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.recorded import RecordedPolicy
from lefleet_agent.recording.episode_file import build, read_episode
from lefleet_agent.recording.recorded import EpisodeFileError, RecordedEpisode
from lefleet_agent.replay import Comparison, Plan, ReplayError, check, start_position, travel_limit_s
from lefleet_agent.requests import emergency_stop
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.wiring_replay import Wish, replay_episode

HZ = 50.0


@pytest.fixture
def make_file(make_journal, tmp_path):
    def make(**arguments) -> Path:
        path = tmp_path / "episode.h5"
        build(make_journal(**arguments), path)
        return path

    return make


def test_an_episode_is_read_as_it_was_recorded(make_file, make_frames, make_info, robot):
    info, frames = make_info(), make_frames(10)
    episode = read_episode(make_file(info=info, frames=frames))
    np.testing.assert_array_equal(episode.sent, [each.sent for each in frames])
    np.testing.assert_array_equal(episode.requested, [each.requested for each in frames])
    np.testing.assert_array_equal(episode.joints, [each.observation.joints for each in frames])
    assert (episode.episode_id, episode.fps, episode.seed) == (info.episode_id, 30.0, 7)
    assert (episode.joint_names, episode.joint_units) == (robot.joint_names, robot.joint_units)


def test_a_file_that_is_no_episode_is_named(tmp_path):
    (tmp_path / "notes.h5").write_text("none")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["time"] = 1
    for name in ("notes.h5", "other.h5"):
        with pytest.raises(EpisodeFileError, match=name):
            read_episode(tmp_path / name)


def recorded(ticks: int = 20, **changes) -> RecordedEpisode:
    about = FakeRobot("robot-1").info
    sent = np.linspace(0, 10, ticks, dtype=np.float32)[:, None] + np.arange(6, dtype=np.float32)
    due = np.arange(ticks) * round(1e9 / HZ)
    episode = RecordedEpisode("e" * 32, "robot-1", about.joint_names, about.joint_units, "fake", "wave", HZ, None, True,
                              np.vstack([sent[:1], sent[:-1]]), sent, sent + 1, due)  # fmt: skip
    return replace(episode, **changes)


def test_a_row_stays_for_the_ticks_that_were_dropped_after_it():
    due = np.array([0, 1, 4, 5]) * round(1e9 / HZ)
    assert recorded(4, deadlines_ns=due).rows().tolist() == [0, 1, 1, 1, 2, 3]


def test_an_episode_of_another_robot_is_refused_with_what_differs():
    robot = FakeRobot("robot-1").info
    assert check(recorded(), robot, force=False) is None
    with pytest.raises(ReplayError, match="joints left, right"):
        check(recorded(joint_names=("left", "right")), robot, force=True)
    with pytest.raises(ReplayError, match="units rad"):
        check(recorded(joint_units=("rad",) * 6), robot, force=True)


def test_another_calibration_needs_force_and_is_a_warning_then():
    robot = FakeRobot("robot-1").info
    other = recorded(calibration_fingerprint="other")
    with pytest.raises(ReplayError, match="say --force"):
        check(other, robot, force=False)
    assert "calibration other, this robot has fake" in check(other, robot, force=True)


def test_numbers_that_are_not_finite_are_refused_before_anything_moves():
    broken = recorded()
    broken.requested[3, 1] = np.nan
    with pytest.raises(ReplayError, match="shoulder_lift at tick 3 is nan"):
        check(broken, FakeRobot("robot-1").info, force=True)


def play(tmp_path, plan: Plan, slew: float = 1e9, before=lambda stop, state: None):
    robot, stop, seen = FakeRobot("robot-1"), Event(), Comparison(plan)
    robot.reset(1)
    low, high = np.array(robot.info.joint_limits, np.float32).T
    limits = Limits(low, high, np.full(6, slew, np.float32))
    before(stop, tmp_path)
    operator = Operator(emergency_stop(tmp_path), tmp_path / "run", stop)
    pace = Pace(200.0)
    loop = ControlLoop(robot, limits, Freshness(10, 10), seen, SystemClock(), pace, operator)
    assert loop.move(start_position(plan, low, high), 1e6, 1.0) or stop.is_set()
    robot.sent.clear()
    info = EpisodeInfo("f" * 32, robot.info, None, "wave", 200.0, "test", 0, 0)
    player = Player(InlineRunner(RecordedPolicy(plan.actions)), Mode.SYNC, 200.0, 0.0, SystemClock())
    ended = loop.run(info, player, len(plan.actions) / 200.0, None)
    return robot, seen, ended


@pytest.mark.parametrize("requested", [False, True])
def test_every_action_is_sent_again_in_its_order(tmp_path, requested):
    episode = recorded()
    robot, seen, ended = play(tmp_path, Plan.of(episode, requested))
    np.testing.assert_allclose(robot.sent, episode.requested if requested else episode.sent, atol=1e-4)
    rms, largest = seen.deviation()
    assert (seen.played, seen.held, seen.clamped, ended.interrupted) == (20, 0, 0, False)
    # A fake robot is at once where it was sent: one above at each tick but the first.
    np.testing.assert_allclose(largest, 1.0 if requested else 0.0, atol=1e-4)
    np.testing.assert_allclose(rms, (19 / 20) ** 0.5 if requested else 0.0, atol=1e-4)


def test_range_and_slew_limit_hold_for_a_replay_too(tmp_path):
    far = recorded(sent=np.full((20, 6), 500, np.float32))
    robot, seen, _ = play(tmp_path, Plan.of(far, requested=False), slew=2.0)
    assert np.abs(np.diff(robot.sent, axis=0)).max() <= 2.0 + 1e-4 and seen.clamped == 20
    assert np.max(robot.sent) <= 180


def test_the_way_to_the_start_is_given_the_time_it_takes():
    here, there = np.zeros(6, np.float32), np.array([0, 90, 0, 0, 0, -30], np.float32)
    assert travel_limit_s(here, there, 30.0) == pytest.approx(3 + 5)


def test_stopping_ends_it_as_interrupted_and_an_emergency_stop_as_well(tmp_path):
    _, seen, ended = play(tmp_path, Plan.of(recorded(), False), before=lambda stop, _: stop.set())
    assert (ended.cause, ended.interrupted, seen.played) == (Cause.STOPPED, True, 0)


@pytest.fixture
def settings(tmp_path) -> AgentSettings:
    return AgentSettings(robot_id="robot-1", server_url="http://127.0.0.1:9", state_dir=tmp_path / "state")


def test_an_emergency_stop_and_ctrl_c_hold_the_arm_where_it_is_before_it_starts(robot_side):
    side = robot_side("http://127.0.0.1:9")
    path = side.settings.state_dir / "spool" / f"{side.record(ticks=10)}.h5"
    stop, wish = Event(), Wish(1.0, False, True)
    with pytest.raises(ReplayError, match="first position: stopped"):
        replay_episode(side.settings, path, wish, lambda _: stop.set(), stop)
    emergency_stop(side.settings.state_dir).request("operator")
    with pytest.raises(ReplayError, match="emergency stop, asked by operator"):
        replay_episode(side.settings, path, wish, lambda _: None, Event())


def test_the_command_plays_an_episode_on_the_simulator_and_refuses_one_of_another_calibration(
    robot_side, agent_command
):
    side = robot_side("http://127.0.0.1:9")
    path = side.settings.state_dir / "spool" / f"{side.record(ticks=20)}.h5"

    def run(*words: str) -> subprocess.CompletedProcess:
        command = agent_command("replay", path, "--config", side.config, "--json", *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)

    refused = run()
    assert refused.returncode == 1 and "say --force" in refused.stderr and not refused.stdout
    done = run("--force", "--speed", "0.5")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and "warning: the episode was recorded" in done.stderr
    assert (found["played"], found["ticks"], found["interrupted"]) == (20, 20, False)
    assert found["joints"]["elbow_flex"]["unit"] == "degrees"


def test_it_plays_on_the_motors_of_a_real_bus(tmp_path, settings, robot_side):
    side = robot_side("http://127.0.0.1:9")
    path = side.settings.state_dir / "spool" / f"{side.record(ticks=20)}.h5"
    with Lab.plugged(tmp_path) as lab:
        values = yaml.safe_load(side.config.read_text()) | {"robot": lab.settings().model_dump(mode="json")}
        found = replay_episode(AgentSettings(**values), path, Wish(1.0, False, True), lambda _: None, Event())
    assert found["ticks"] == 20 and found["played"] + found["held"] == 20 and not found["interrupted"]
    torque_enable = 40  # address in Feetech's table of registers
    assert all(servo.registers[torque_enable] == 1 for servo in lab.bus.servos.values()), "the arm goes on holding"
